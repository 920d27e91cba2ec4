"""Who gives a wrong argument reads which one it is, what is wanted and what came; nothing of pybind11's own words."""

import bpfsim
import pytest

WRONG = [
    ("task.mkdir(None)", "mkdir(): path must be a str, is None"),
    ("task.mkdir()", "mkdir(): path is missing: a str"),
    ("task.mkdir('/a', 'b')", "mkdir(): mode must be an int, is 'b'"),
    ("task.mkdir('/a', path='/b')", "mkdir(): path came twice, by its place and by its name"),
    ("task.mkdir('/a', 1, 2)", "mkdir(): 3 arguments came; it takes path, [mode]"),
    ("task.close('a')", "close(): fd must be an int, is 'a'"),
    ("task.close(1.5)", "close(): fd must be an int, is 1.5"),
    ("task.close(2**40)", "close(): fd is out of range: 1099511627776"),
    ("task.sys_bpf(0, 'text')", "sys_bpf(): attr must be bytes or another buffer, is 'text'"),
    ("task.sys_bpf(0, bytes(8), 'x')", "sys_bpf(): size must be an int or None, is 'x'"),
    ("task.set_caps('CAP_BPF')", "set_caps(): names must be a list of str, is 'CAP_BPF'"),
    ("task.socket([])", "a socket's family must be a name or a number, is []"),
    ("task.socket(2**40)", "a socket's family is out of range: 1099511627776"),
    ("task.socketpair(1.5)", "a socket's type must be a name or a number, is 1.5"),
    ("task.perf_event_open({})", "a perf event's type must be a name or a number, is {}"),
    ("task.perf_event_open(1, -1)", "a perf event's config is out of range: -1"),
    ("k.spawn(uid='x')", "spawn(): uid must be an int, is 'x'"),
    ("k.spawn(nme='x')", "spawn(): it has no argument 'nme'; it takes [comm], [uid], [caps]"),
    ("k.rcu_hold(3)", "rcu_hold(): it takes no arguments"),
    ("k.net_device(3)", "net_device(): name must be a str, is 3"),
    ("k.remove_net_device(eth0)", "remove_net_device(): name must be a str, is of type NetDevice"),
    ("k.history.fork_from(None)", "a step is a number, not None"),
    ("k.history['a']", "a step is a number, not 'a'"),
    ("k.history.cursor('a')", "a step is a number, not 'a'"),
    ("k.history.film('a')", "a step is a number, not 'a'"),
    (
        "k.history.watch(k)",
        "an object is a handle, its .object or its number in the order of birth, not of type Kernel",
    ),
    ("k.break_on('m')", "an object is a handle, its .object or its number in the order of birth, not 'm'"),
    ("eth0.receive('text')", "receive(): packet must be bytes or another buffer, is 'text'"),
    ("bpfsim.Kernel(6.18)", "Kernel(): version must be a str, is 6.18"),
    ("bpfsim.Kernel(vrsion='6.1')", "Kernel(): it has no argument 'vrsion'; did you mean 'version'?"),
    ("bpfsim.Kernel(seed=-1)", "Kernel(): seed is out of range: -1"),
    ("bpfsim.Kernel(config=['a'])", "Kernel(): config must be a dict of names to True or False, is of type list"),
    ("bpfsim.assemble(b'a' * 3 + bytes(60), 3)", "assemble(): 2 arguments came; it takes source"),
    ("bpfsim.open_object(3)", "an object file is a path or its bytes, not 3"),
    ("task.load(3)", "an ObjectFile is wanted (bpfsim.open_object makes one), not 3"),
    ("task.prog_load('xdp', 3)", "insns must be assembler text, bytes or a Program, is 3"),
    ("task.prog_load('xdp', None)", "insns must be assembler text, bytes or a Program, is None"),
    ("task.prog_load(None, 'exit')", "prog_type must be a name or a number, is None"),
    ("task.prog_load('xdp', 'exit', name=5)", "prog_name must be a str, is 5"),
    ("task.prog_load('xdp', 'exit', log_level='a')", "log_level must be an int, is 'a'"),
    ("task.prog_load('xdp', 'exit', maps=[m])", "maps is a dict of names to Map objects, not of type list"),
    ("task.map_create(3.5)", "map_type must be a name or a number, is 3.5"),
    ("task.bpf(None)", "a command is a name such as 'MAP_CREATE' or a number, not None"),
    ("task.bpf('OBJ_PIN', pathname=1.5)", "pathname must be bytes, a buffer or an address, is 1.5"),
    ("task.link_create(None, eth0)", "the program must be a Prog, is of type NoneType"),
    (
        "task.link_create(prog, 1.5)",
        "a hook is a network device, its name, a path, a descriptor or a Map, not of type float",
    ),
    ("task.rtnl_setlink_xdp(3, prog)", "device must be a NetDevice or its name, is 3"),
    ("m[object()]", "a key is an int or bytes, not of type object"),
    ("m[1.5]", "a key is an int or bytes, not 1.5"),
    ("m[None]", "a key is an int or bytes, not None"),
    ("m.update(1, 'x' * 60)", "a value is an int or bytes, not 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx ..., of type str"),
    ("prog.test_run('text')", "a packet is bytes, not 'text'"),
    ("m.view('x')", "map_inside(): limit must be an int, is 'x'"),
    ("m.on(k)", "descriptors are a task's: a Task is wanted, not of type Kernel"),
    ("m.push(3)", "a BPF_MAP_TYPE_HASH has keys: write it as m[key] = value"),
    ("m.peek()", "a BPF_MAP_TYPE_HASH has keys: read it as m[key]"),
    ("m.update(0, prog)", "a value is an int or bytes: of a Prog give its .fd"),
    ("task.prog_load('xdp', 'exit', license=None)", "license must be a str such as 'GPL', is None"),
]

UNFIT = [
    (
        "task.link_create(prog, None)",
        "this program goes onto a network device: target must be one, its name or its ifindex, is None",
    ),
    ("task.prog_load('xdp', 'exit', log_size=-1)", "log_size is the room for the log in bytes, not -1"),
    ("task.prog_load('xdp', bytes(7))", "instructions have 8 bytes each, and insns has 7: the last one is not whole"),
    ("task.map_create('hash', key_size=-4)", "key_size is not negative, is -4"),
    ("k.history.watch(-1)", "objects are numbered from 0 in the order of birth, there is no -1"),
]


@pytest.mark.parametrize(("call", "says"), WRONG, ids=[call for call, _ in WRONG])
def test_a_wrong_argument_is_named(call, says):
    k = bpfsim.Kernel()
    task = k.spawn()
    names = {"bpfsim": bpfsim, "k": k, "task": task, "eth0": k.net_device("eth0"), "m": task.map_create("hash")}
    names["prog"] = task.prog_load("xdp", "r0 = 2\nexit")
    with pytest.raises(TypeError) as raised:
        eval(call, names)
    assert str(raised.value) == says


@pytest.mark.parametrize(("call", "says"), UNFIT, ids=[call for call, _ in UNFIT])
def test_a_value_that_cannot_be_is_named(call, says):
    k = bpfsim.Kernel()
    task = k.spawn()
    with pytest.raises(ValueError, match=".") as raised:
        eval(call, {"k": k, "task": task, "prog": task.prog_load("xdp", "r0 = 2\nexit")})
    assert str(raised.value) == says


def test_an_argument_that_raises_when_it_is_looked_at_changes_nothing_else():
    class Shy:
        @property
        def __class__(self):
            raise RuntimeError("do not look")

    with pytest.raises((TypeError, RuntimeError)):
        bpfsim.Kernel().spawn().mkdir(Shy())


def test_a_typeerror_of_a_callback_stays_as_it_is():
    class Types:
        def map_lookup_elem(map, key):
            raise TypeError("mine")

    k = bpfsim.Kernel()
    k.register_map_type("own", Types)
    with pytest.raises(TypeError, match="^mine$"):
        k.spawn().map_create("own", key_size=4, value_size=4)[1]


def test_a_descriptor_of_something_else_is_no_handle():
    task = bpfsim.Kernel().spawn()
    m = task.map_create("hash")
    with pytest.raises(ValueError, match="leads to a map, not to a prog"):
        bpfsim.Prog(task, m.fd)


def test_a_buffer_that_the_kernel_writes_to_must_be_writable():
    with pytest.raises(BufferError, match="may be written is wanted, such as a bytearray"):
        bpfsim.Kernel().spawn().sys_bpf(0, bytes(168))
