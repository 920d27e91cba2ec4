"""An object, device, task or step of one machine given to another: each call says so, and none gives a wrong answer."""

from __future__ import annotations

import bpfsim
import pytest
from one_of_each import DROP, OneOfEach, load_replacement

PATH = "/sys/fs/cgroup"


class World(OneOfEach):
    """One machine with one of everything."""

    def __init__(self, k=None):
        self.k = k or bpfsim.Kernel()
        super().__init__(self.k.spawn())
        self.link = self.task.link_create(self.xdp, "eth0")
        self.device = self.k.net_device("eth0")

    def tcp(self):
        return self.task.prog_load(
            "struct_ops", "r0 = 1\nexit", **self.k.struct_ops_member("tcp_congestion_ops", "ssthresh")
        )


# What is given from `there` to `here`.
CALLS = {
    "prog_load maps": lambda a, b: a.task.prog_load("xdp", "r1 = map[m]\nr0 = 1\nexit", maps={"m": b.map}),
    "prog_load target": lambda a, b: a.task.prog_load("ext", DROP, target=b.xdp, function="f"),
    "link_create prog": lambda a, b: a.task.link_create(b.xdp, "eth0"),
    "link_create device": lambda a, b: a.task.link_create(a.xdp, b.device),
    "link_create map": lambda a, b: a.task.link_create(a.iterator, b.map),
    "link_create target": lambda a, b: a.task.link_create(a.xdp, b.xdp, function="f"),
    "link_create struct_ops": lambda a, b: a.task.link_create(b.ops),
    "prog_attach prog": lambda a, b: a.task.prog_attach(b.skb, PATH, "cgroup_inet_ingress"),
    "prog_attach map": lambda a, b: a.task.prog_attach(a.verdict, b.socks, "sk_skb_stream_verdict"),
    "prog_attach device": lambda a, b: a.task.prog_attach(a.skb, b.device, "tcx_ingress"),
    "prog_detach prog": lambda a, b: a.task.prog_detach(b.skb, PATH, "cgroup_inet_ingress"),
    "prog_query map": lambda a, b: a.task.prog_query(b.socks, "sk_skb_stream_verdict"),
    "prog_query device": lambda a, b: a.task.prog_query(b.device, "tcx_ingress"),
    "link.update": lambda a, b: a.link.update(b.xdp),
    "link.update of a map": lambda a, b: a.link.update(b.map),
    "rtnetlink prog": lambda a, b: a.task.rtnl_setlink_xdp("eth0", b.xdp),
    "rtnetlink device": lambda a, b: a.task.rtnl_setlink_xdp(b.device, a.xdp),
    "rtnetlink expected": lambda a, b: a.task.rtnl_setlink_xdp("eth0", a.xdp, 16, b.xdp),
    "struct_ops": lambda a, b: a.task.struct_ops("tcp_congestion_ops", {"ssthresh": b.tcp()}),
    "handle.on": lambda a, b: a.map.on(b.task),
    "watch handle": lambda a, b: a.k.history.watch(b.map),
    "watch object": lambda a, b: a.k.history.watch(b.map.object),
    "watch aux": lambda a, b: a.k.history.watch(b.xdp.aux),
    "break_on handle": lambda a, b: a.k.break_on(b.link),
    "break_on object": lambda a, b: a.k.break_on(b.link.object),
    "history[step]": lambda a, b: a.k.history[b.k.history[0]],
    "fork_from step": lambda a, b: a.k.history.fork_from(b.k.history[0]),
    "graph of a step": lambda a, b: a.k.history.graph(b.k.history[0]),
    "cursor at a step": lambda a, b: a.k.history.cursor(b.k.history[0]),
    "cursor to a step": lambda a, b: a.k.history.cursor().to(b.k.history[0]),
    "film": lambda a, b: a.k.history.film(b.k.history[0]),
    "races": lambda a, b: a.k.races({"a": (a.task, len), "b": (b.task, len)}),
    "loader": lambda a, b: load_replacement(a.task, b.xdp),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_what_is_of_another_machine_is_refused(call):
    here, there = World(), World()
    there.task.map_create("hash", name="shifts")  # so that numbers of the two differ
    with pytest.raises(ValueError, match="another machine|as a task of this machine"):
        call(here, there)
    for k in (here.k, there.k):
        assert not bpfsim._core.graph_disagreements(k)
        assert k.history.check() == ""


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_so_is_what_is_of_a_fork(call):
    """A fork is a machine of its own: only ``on`` goes over to it."""
    here = World()
    there = World(here.k.history.fork_from(0))
    if call is CALLS["handle.on"]:
        assert here.map.on(there.task).object.kernel is there.k
        return
    with pytest.raises(ValueError, match="another machine|as a task of this machine"):
        call(here, there)


def test_a_handle_is_no_value():
    here, there = World(), World()
    table = here.task.map_create("prog_array", value_size=4)
    for prog in (here.xdp, there.xdp):
        with pytest.raises(TypeError, match="of a Prog give its .fd"):
            table[0] = prog


def test_forks_of_forks_are_related_and_others_are_not():
    one = bpfsim.Kernel()
    fork = one.history.fork_from(0)
    again = fork.history.fork_from(0)
    assert bpfsim._core.are_forks(one, again) and bpfsim._core.are_forks(again, fork)
    assert not bpfsim._core.are_forks(one, bpfsim.Kernel())


def test_an_object_tells_its_machine():
    here = World()
    assert here.map.object.kernel is here.k and here.xdp.aux.kernel is here.k
