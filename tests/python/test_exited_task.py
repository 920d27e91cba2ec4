"""A task that has exited makes no more calls: whatever is asked of it raises the same ESRCH, and changes nothing."""

from __future__ import annotations

import bpfsim
import pytest

DROP = "r0 = 1\nexit"
XDP = """
#include "bpfsim.h"
#include "bpfsim_helpers.h"
SEC("xdp") int drop(struct xdp_md *ctx) { return XDP_DROP; }
char LICENSE[] SEC("license") = "GPL";
"""
GROUP, AT = "/sys/fs/cgroup", "cgroup_inet_ingress"
PIN = "/sys/fs/bpf/x"


@pytest.fixture(scope="module")
def c_object():
    return bpfsim.compile_c(XDP)


class World:
    """A machine with a task that has exited, and the handles that it had."""

    def __init__(self, code=b""):
        self.k = bpfsim.Kernel()
        self.other = self.k.spawn()
        self.task = t = self.k.spawn()
        self.map, self.queue = t.map_create("array", map_flags=1024), t.map_create("queue", key_size=0)
        self.prog, self.skb = t.prog_load("xdp", DROP), t.prog_load("cgroup_skb", DROP)
        self.link = t.link_create(self.prog, "eth0")
        self.elsewhere = self.other.map_create("array")
        self.pages = t.mmap(self.map.fd, 4096)
        self.code = code
        t.exit()


CALLS = {
    "bpf": lambda w, t: t.bpf("MAP_FREEZE", map_fd=3),
    "map_create": lambda w, t: t.map_create("array"),
    "prog_load": lambda w, t: t.prog_load("xdp", DROP),
    "prog_load without a log": lambda w, t: t.prog_load("xdp", DROP, log_level=0),
    "prog_load lsm": lambda w, t: t.prog_load("lsm", DROP, target="file_open"),
    "prog_load ext": lambda w, t: t.prog_load("ext", DROP, target=w.prog, function="f"),
    "load": lambda w, t: t.load(bpfsim.open_object(w.code)),
    "link_create": lambda w, t: t.link_create(w.prog, "eth0"),
    "link_create by path": lambda w, t: t.link_create(w.skb, GROUP, AT),
    "prog_attach": lambda w, t: t.prog_attach(w.skb, GROUP, AT),
    "prog_detach": lambda w, t: t.prog_detach(w.skb, GROUP, AT),
    "prog_query": lambda w, t: t.prog_query(GROUP, AT),
    "prog_query a device": lambda w, t: t.prog_query("eth0", "tcx_ingress"),
    "struct_ops": lambda w, t: t.struct_ops("tcp_congestion_ops"),
    "rtnl_setlink_xdp": lambda w, t: t.rtnl_setlink_xdp("eth0", -1),
    "rtnl_setlink": lambda w, t: t.rtnl_setlink(bytes(64)),
    "open": lambda w, t: t.open(GROUP),
    "close": lambda w, t: t.close(3),
    "open_device": lambda w, t: t.open_device("c", 1, 3),
    "dup": lambda w, t: t.dup(3),
    "fork": lambda w, t: t.fork(),
    "set_caps": lambda w, t: t.set_caps([]),
    "object_at": lambda w, t: t.object_at(3),
    "pidfd_open": lambda w, t: t.pidfd_open(w.other.pid),
    "mkdir": lambda w, t: t.mkdir(PIN),
    "rmdir": lambda w, t: t.rmdir(PIN),
    "unlink": lambda w, t: t.unlink(PIN),
    "rename": lambda w, t: t.rename(PIN, PIN + "y"),
    "chmod": lambda w, t: t.chmod("/sys/fs/bpf", 0o700),
    "listdir": lambda w, t: t.listdir(),
    "stat": lambda w, t: t.stat("/sys/fs/bpf"),
    "join_cgroup": lambda w, t: t.join_cgroup(GROUP),
    "perf_event_open": lambda w, t: t.perf_event_open("software"),
    "read": lambda w, t: t.read(3),
    "ioctl": lambda w, t: t.ioctl(3, 0),
    "socket": lambda w, t: t.socket(),
    "socketpair": lambda w, t: t.socketpair(),
    "bind": lambda w, t: t.bind(3),
    "listen": lambda w, t: t.listen(3),
    "connect": lambda w, t: t.connect(3, "127.0.0.1", 1),
    "accept": lambda w, t: t.accept(3),
    "setsockopt": lambda w, t: t.setsockopt(3, "SO_REUSEPORT", 1),
    "mmap": lambda w, t: t.mmap(3, 4096),
    "munmap": lambda w, t: t.munmap(w.pages.address, 4096),
    "pages.munmap": lambda w, t: w.pages.munmap(),
    "m[0]": lambda w, t: w.map[0],
    "m.update": lambda w, t: w.map.update(0, 1),
    "m.get": lambda w, t: w.map.get(0),
    "in m": lambda w, t: 0 in w.map,
    "list(m)": lambda w, t: list(w.map),
    "m.items": lambda w, t: list(w.map.items()),
    "m.freeze": lambda w, t: w.map.freeze(),
    "m.info": lambda w, t: w.map.info,
    "m.id": lambda w, t: w.map.id,
    "m.pin": lambda w, t: w.map.pin(PIN),
    "m.on": lambda w, t: w.elsewhere.on(t)[0],
    "push": lambda w, t: w.queue.push(1),
    "peek": lambda w, t: w.queue.peek(),
    "pop": lambda w, t: w.queue.pop(),
    "test_run": lambda w, t: w.prog.test_run(bytes(64)),
    "steps": lambda w, t: list(w.prog.steps(bytes(64))),
    "xlated": lambda w, t: w.prog.xlated,
    "detach": lambda w, t: w.link.detach(),
    "link.update": lambda w, t: w.link.update(w.prog),
}


# Looking is no call: it answers as long as the object is there.
LOOKS = {
    "m.object": lambda w, t: w.map.object,
    "m.refcnt": lambda w, t: w.map.refcnt,
    "m.usercnt": lambda w, t: w.map.usercnt,
    "m.holders": lambda w, t: w.map.holders(),
    "m.why_alive": lambda w, t: w.map.why_alive(),
    "m.ledger": lambda w, t: w.map.ledger,
    "m.view": lambda w, t: w.map.view(),
    "m.ops": lambda w, t: w.map.ops,
    "aux": lambda w, t: w.prog.aux,
}


@pytest.mark.parametrize("name", LOOKS)
def test_looking_at_what_has_gone_with_the_task_says_that_it_is_gone(name):
    world = World()
    before = str(world.k.graph())
    if name in ("m.object", "aux"):  # a serial, and what the load left
        assert LOOKS[name](world, world.task) is not None and not world.map.object.alive
    else:
        with pytest.raises(ReferenceError, match="is gone"):
            LOOKS[name](world, world.task)
    assert str(world.k.graph()) == before


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_an_exited_task_makes_no_calls(call, c_object):
    world = World(c_object)
    before = str(world.k.graph())
    with pytest.raises(OSError, match="has exited, and makes no more calls") as refused:
        call(world, world.task)
    assert isinstance(refused.value, ProcessLookupError)  # no VerifierError: no program was judged
    assert refused.value.errname == "ESRCH"
    assert str(world.k.graph()) == before


def test_what_needs_no_call_still_answers():
    w = World()
    assert w.task.sys_bpf(0, bytearray(168)) == -3
    assert w.task.exit() is None and w.task.fds == {} and w.task.exited
    assert repr(w.map) == f"<Map fd {w.map.fd}>"
    assert len(w.prog.stages) > 0
    for handle in (w.map, w.queue, w.prog, w.skb, w.link):
        handle.close()
    with pytest.raises(FileNotFoundError):
        w.task.fdinfo(3)  # a file of /proc, which any task may read


def test_the_methods_of_a_task_are_all_tried():
    """Whoever adds a method to Task adds it here."""
    state = {"pid", "comm", "uid", "exited", "possible_cpus", "kernel", "last_refusal", "fds", "cgroup"}
    tried = {name.split()[0] for name in CALLS} | {"sys_bpf", "exit", "fdinfo"} | state
    assert {name for name in dir(bpfsim._core.Task) if not name.startswith("_")} <= tried
