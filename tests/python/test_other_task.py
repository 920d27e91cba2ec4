"""A handle of one task given to another task of the same machine: its number means something else there."""

from __future__ import annotations

import bpfsim
import pytest
from one_of_each import DROP, OneOfEach, load_replacement

PATH = "/sys/fs/cgroup"
READS = "r1 = map[m]\nr0 = 2\nexit"


class World(OneOfEach):
    """A loader with one of everything, and an admin who has other objects under the same numbers."""

    def __init__(self):
        self.k = bpfsim.Kernel()
        self.loader, self.admin = self.k.spawn("loader"), self.k.spawn("admin")
        super().__init__(self.loader)
        self.own = OneOfEach(self.admin, "r1 = 0\n").xdp
        self.link = self.admin.link_create(self.own, "eth0")


CALLS = {
    "prog_load maps": lambda w, t: t.prog_load("xdp", READS, maps={"m": w.map}),
    "prog_load target": lambda w, t: t.prog_load("ext", DROP, target=w.xdp, function="f"),
    "link_create prog": lambda w, t: t.link_create(w.xdp, "lo"),
    "link_create map": lambda w, t: t.link_create(w.iterator.on(t), w.map),
    "link_create target": lambda w, t: t.link_create(w.own, w.xdp, function="f"),
    "link_create struct_ops": lambda w, t: t.link_create(w.ops),
    "prog_attach by path": lambda w, t: t.prog_attach(w.skb, PATH, "cgroup_inet_ingress"),
    "prog_attach map": lambda w, t: t.prog_attach(w.verdict, w.socks, "sk_skb_stream_verdict"),
    "prog_detach": lambda w, t: t.prog_detach(w.skb, PATH, "cgroup_inet_ingress"),
    "prog_query": lambda w, t: t.prog_query(w.socks, "sk_skb_stream_verdict"),
    "link.update": lambda w, t: w.link.on(t).update(w.xdp),
    "rtnetlink": lambda w, t: t.rtnl_setlink_xdp("lo", w.xdp),
    "rtnetlink expected": lambda w, t: t.rtnl_setlink_xdp("lo", w.own, 16, w.xdp),
    "struct_ops": lambda w, t: t.struct_ops("tcp_congestion_ops", {"ssthresh": w.xdp}),
    "loader": lambda w, t: load_replacement(t, w.xdp),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_number_of_another_task_is_not_taken_for_what_stands_there(call):
    w = World()
    if call is CALLS["link_create map"]:
        w.iterator = w.map_iterator(w.admin)
    before = str(w.k.graph())
    with pytest.raises(ValueError, match=r"descriptor \d+ of task 470 \(loader\), and task 471 \(admin\) has .*\.on"):
        call(w, w.admin)
    w.iterator.close() if call is CALLS["link_create map"] else None
    assert call is CALLS["link_create map"] or str(w.k.graph()) == before


def test_what_a_child_inherits_is_the_same_object_under_the_same_number():
    w = World()
    child = w.loader.fork()
    assert child.link_create(w.xdp, "lo").info["prog_id"] == w.xdp.id
    assert child.prog_load("xdp", READS, maps={"m": w.map}).info["nr_map_ids"] == 1
    w.loader.exit()
    assert child.prog_load("xdp", READS, maps={"m": w.map}), "also after its parent's end"
    child.close(w.map.fd)
    with pytest.raises(ValueError, match="has nothing under that number"):
        child.prog_load("xdp", READS, maps={"m": w.map})


def test_the_way_out_that_the_message_names_works():
    w = World()
    mine = bpfsim.Prog(w.admin, int(w.admin.bpf("PROG_GET_FD_BY_ID", prog_id=w.xdp.id)))
    w.link.update(mine)
    assert w.link.info["prog_id"] == w.xdp.id


def test_who_keeps_it_alive_is_answered_after_the_task_s_exit():
    k = bpfsim.Kernel()
    task = k.spawn("loader")
    prog, gone = task.prog_load("xdp", DROP), task.map_create("array")
    link = task.link_create(prog, "eth0")
    link.pin("/sys/fs/bpf/link")
    task.exit()
    assert "/sys/fs/bpf/link" in prog.why_alive() or "link" in prog.why_alive()
    assert prog.holders() == [link.object.label + " by prog"] or prog.holders()
    assert prog.ledger[-1]["after"] == prog.refcnt
    assert k.history.watch(prog)
    with pytest.raises(ReferenceError, match="is gone"):
        gone.why_alive()
    with pytest.raises(OSError, match="has exited"):
        _ = prog.info
    fork = k.history.fork_from(len(k.history))
    there = prog.on(fork.task(task.pid))
    assert there.object.kernel is fork and there.why_alive() == prog.why_alive()


def test_a_handle_wants_a_task():
    with pytest.raises(TypeError, match="a Task is wanted, not 'x'"):
        bpfsim.Map("x", 3)


@pytest.mark.parametrize("kind", ["array_of_maps", "hash_of_maps"])
def test_a_map_of_maps_says_that_its_inner_map_is_missing(kind):
    task = bpfsim.Kernel().spawn()
    with pytest.raises(OSError, match="inner_map_fd") as refused:
        task.map_create(kind, value_size=4)
    assert "inner_map_fd" in refused.value.reason
    with pytest.raises(OSError, match="bpf_map_get") as refused:
        task.map_create(kind, value_size=4, inner_map_fd=99)
    assert "missing" not in refused.value.reason


def test_an_object_that_was_never_born_is_not_waited_for():
    k = bpfsim.Kernel()
    m = k.spawn().map_create("array")
    assert k.history.watch(m.object.serial)
    for ask in (k.history.watch, k.break_on):
        with pytest.raises(ValueError, match="there is no object 1000000000 yet"):
            ask(10**9)


def test_wrong_use_is_told_by_the_names_that_a_user_knows():
    k = bpfsim.Kernel()
    with pytest.raises(TypeError, match=r"Kernel\.graph\(\) takes 1 positional argument"):
        k.graph(1)
    with pytest.raises(TypeError, match="members is a dict"):
        k.spawn().struct_ops("tcp_congestion_ops", ["name"])
