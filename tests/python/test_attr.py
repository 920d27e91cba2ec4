"""bpf(2) with names: what a wrong name or value is told, and how the bytes come out."""

import struct

import bpfsim
import pytest
from bpfsim import _core
from bpfsim.attr import bpf


class Kept:
    """Takes the place of a task: keeps the bytes of the call, answers as told."""

    def __init__(self, answer=0):
        self.answer, self.cmd, self.attr, self.size = answer, None, b"", None

    def sys_bpf(self, cmd, attr, size=None):
        self.cmd, self.attr, self.size = cmd, bytes(attr), size
        return self.answer


@pytest.mark.parametrize(
    ("command", "fields", "error", "words"),
    [
        (
            "MAP_CREATE",
            {"key_sise": 4},
            TypeError,
            r"BPF_MAP_CREATE has no field 'key_sise'; did you mean 'key_size'\?",
        ),
        ("MAP_CREATE", {"insns": b""}, TypeError, "has no field 'insns'"),
        ("MAP_CREATE", {"map_type": "hsah"}, ValueError, r"no map type is called 'hsah'; did you mean .*hash"),
        ("PROG_LOAD", {"prog_type": "xpd"}, ValueError, r"no program type is called 'xpd'; did you mean .*xdp"),
        ("MAP_CREATE", {"key_size": "four"}, TypeError, "key_size must be an int, is 'four'"),
        ("MAP_CREATE", {"key_size": 1 << 32}, ValueError, "key_size is 32 bits wide, 4294967296 does not fit"),
        ("MAP_CREATE", {"map_name": "x" * 16}, ValueError, "map_name holds at most 15 bytes"),
        ("MAP_CRATE", {}, ValueError, r"no bpf\(2\) command is called 'MAP_CRATE'; did you mean .MAP_CREATE"),
        ("obj_gett", {}, ValueError, r"did you mean 'obj_get'"),
        ("OBJ_GET", {"path": "/sys/fs/bpf/m"}, TypeError, r"BPF_OBJ_GET has no field 'path'; did you mean 'pathname'"),
        ("PROG_LOAD", {"insns": "r0 = 2 +"}, SyntaxError, "line 1, column 8"),
    ],
)
def test_a_wrong_name_or_value_is_told_what_is_meant(command, fields, error, words):
    with pytest.raises(error, match=words):
        bpf(Kept(), command, **fields)


def test_names_become_the_bytes_of_the_union():
    task = Kept()
    bpf(task, "BPF_MAP_CREATE", map_type="BPF_MAP_TYPE_ARRAY", key_size=4, value_size=8, max_entries=3, map_name="abc")
    assert task.cmd == 0
    assert struct.unpack_from("<5I", task.attr) == (2, 4, 8, 3, 0)
    assert task.attr[28:44] == b"abc".ljust(16, b"\0")
    bpf(task, 0, size=20, map_type=1)
    assert task.size == 20 and task.attr[:4] == b"\1\0\0\0"


def test_a_number_may_be_negative_where_it_stands_for_minus_one():
    task = Kept()
    bpf(task, "PROG_BIND_MAP", prog_fd=-1)
    assert task.attr[:4] == b"\xff" * 4


def test_text_of_instructions_counts_itself():
    task = Kept()
    bpf(task, "PROG_LOAD", prog_type="socket_filter", insns="r0 = 0\nexit", license="GPL")
    assert struct.unpack_from("<II", task.attr) == (1, 2)


def test_a_refusal_carries_its_errno_by_name():
    with pytest.raises(OSError, match="Invalid argument") as caught:
        bpf(Kept(-22), "MAP_CREATE")
    assert (caught.value.errno, caught.value.errname, caught.value.check) == (22, "EINVAL", None)


def test_a_simulated_machine_says_which_check_refused():
    task = bpfsim.Kernel().spawn("t")
    with pytest.raises(OSError) as caught:
        task.bpf("MAP_CREATE", map_type="array", key_size=3, value_size=8, max_entries=1)
    assert caught.value.errname == "EINVAL"
    assert caught.value.check and caught.value.reason
    assert task.last_refusal == (caught.value.check, caught.value.reason)


AFTER_EXIT = {
    "map_create": lambda t, m: t.map_create("array"),
    "lookup": lambda t, m: m[0],
    "prog_load": lambda t, m: t.prog_load("xdp", "r0 = 2\nexit"),
    "dup": lambda t, m: t.dup(m.fd),
    "close": lambda t, m: t.close(m.fd),
    "open": lambda t, m: t.open("/sys/fs/bpf"),
    "mkdir": lambda t, m: t.mkdir("/sys/fs/bpf/d"),
    "set_caps": lambda t, m: t.set_caps([]),
    "mmap": lambda t, m: t.mmap(m.fd, 4096),
    "socket": lambda t, m: t.socket("inet"),
    "fork": lambda t, m: t.fork(),
    "object_at": lambda t, m: t.object_at(m.fd),
}


@pytest.mark.parametrize("call", AFTER_EXIT)
def test_whatever_an_exited_task_calls_says_that_it_has_exited(call):
    task = bpfsim.Kernel().spawn()
    m = task.map_create("hash")
    assert m.get(9) is None, "an older refusal"
    task.exit()
    with pytest.raises(OSError, match="No such process") as caught:
        AFTER_EXIT[call](task, m)
    assert caught.value.errname == "ESRCH"
    assert caught.value.check == "task_has_exited"
    assert caught.value.reason == f"task {task.pid} has exited, and makes no more calls"
    assert caught.value.reason in str(caught.value)


LONG = "/sys/fs/bpf/" + "d" * 30 + "/" + "e" * 30 + "/" + "f" * 20


def test_a_reason_has_the_whole_name():
    k = bpfsim.Kernel()
    with pytest.raises(FileNotFoundError, match="did you mean kernel.unprivileged_bpf_disabled"):
        k.sysctl_write("kernel.unprivileged_bpf_disable", 1)
    task = k.spawn()
    task.mkdir(LONG[:42])
    task.mkdir(LONG[:73])
    with pytest.raises(FileNotFoundError) as caught:
        task.unlink(LONG)
    assert LONG[74:] in caught.value.reason
    with pytest.raises(FileNotFoundError) as caught:
        task.unlink("/sys/fs/bpf/" + "g" * 100)
    assert "g" * 100 in caught.value.reason
    with pytest.raises(FileNotFoundError) as caught:
        task.unlink("/sys/fs/bpf/" + "g" * 200)
    assert caught.value.reason.endswith("ggg...")


def test_a_check_has_the_kernel_s_name():
    task = bpfsim.Kernel().spawn()
    m = task.map_create("hash")
    m.freeze()
    with pytest.raises(PermissionError) as frozen:
        m[1] = 2
    assert frozen.value.check == "map_update_elem"
    jumps = task.map_create("prog_array", value_size=4)
    with pytest.raises(OSError) as not_a_program:
        jumps[0] = m.fd
    assert not_a_program.value.check == "__bpf_prog_get"
    old = bpfsim.Kernel("5.15")
    old.sysctl_write("kernel.unprivileged_bpf_disabled", 1)
    with pytest.raises(PermissionError) as outside:
        old.spawn(uid=1000).map_create("array")
    assert outside.value.check == "__sys_bpf"


def test_a_log_that_does_not_fit_is_said():
    task = bpfsim.Kernel().spawn()
    with pytest.raises(bpfsim.VerifierError) as caught:
        task.prog_load("xdp", "r0 = 2\nexit", log_level=2, log_size=128)
    assert caught.value.errname == "ENOSPC"
    assert "the log needs" in caught.value.reason and caught.value.reason.endswith("log_size is 128")
    assert caught.value.reason in str(caught.value) and caught.value.log


def test_a_reply_is_the_number_and_the_fields():
    reply = bpf(Kept(7), "PROG_TEST_RUN", prog_fd=3, repeat=5)
    assert reply == 7 and reply.repeat == 5
    with pytest.raises(AttributeError, match="no field 'nonsense'"):
        _ = reply.nonsense


def test_every_command_has_named_fields():
    unnamed = {"BPF_TOKEN_CREATE", "BPF_TASK_FD_QUERY", "BPF_PROG_STREAM_READ_BY_FD", "BPF_PROG_ASSOC_STRUCT_OPS"}
    for number, name, _ in _core.command_rows():
        assert _core.attr_fields(number) or name in unnamed, name


def test_a_buffer_is_neither_read_nor_written_beyond_its_end():
    task = bpfsim.Kernel().spawn()
    m = task.map_create("percpu_array", key_size=4, value_size=8, max_entries=1)
    for fields, words in (
        ({"key": bytes(4), "value": bytearray(8)}, r"writes \d+ bytes of a buffer of 8"),
        ({"key": bytes(2), "value": bytearray(4096)}, "reads 4 bytes of a buffer of 2"),
    ):
        with pytest.raises(ValueError, match=words):
            task.bpf("MAP_LOOKUP_ELEM", map_fd=m.fd, **fields)
    with pytest.raises(ValueError, match="size is larger than the attr buffer"):
        task.sys_bpf(0, bytearray(8), 168)
    short = bytearray(64)
    struct.pack_into("<I", short, 0, task.open("/sys/fs/cgroup"))
    short[12:] = bytes(range(52))
    assert task.sys_bpf(_core.command_number("PROG_QUERY"), memoryview(short)[:12]) == 0
    assert short[12:] == bytes(range(52)), "what the kernel writes there is lost"


def test_every_byte_that_a_command_reads_has_a_name():
    task = bpfsim.Kernel().spawn()
    for command in range(38):
        rows = sorted((offset, width) for _, offset, width, *_ in _core.attr_fields(command))
        raw = bytearray(168)
        raw[-1] = 1
        task.sys_bpf(command, raw)
        reads_to = (
            task.last_refusal[1].rsplit(" ", 1)[1] if "this command reads up to" in task.last_refusal[1] else None
        )
        end = 0
        for offset, width in rows:
            assert offset <= end or (offset % 8 == 0 and offset - end < 8), (
                f"command {command}: bytes {end} to {offset}"
            )
            end = max(end, offset + width)
        names = [name for name, *_ in _core.attr_fields(command)]
        assert len(names) == len(set(names)), f"command {command}"
        if reads_to:
            assert any(reads_to.split(".")[-1] in name for name in names), f"command {command}: {reads_to}"


def test_a_reply_is_copied_as_a_number_with_fields():
    import copy  # noqa: PLC0415

    reply = bpfsim.Kernel().spawn().bpf("MAP_CREATE", map_type="array", key_size=4, value_size=4, max_entries=1)
    assert copy.copy(reply) == reply and copy.copy(reply).key_size == 4
