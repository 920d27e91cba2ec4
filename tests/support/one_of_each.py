"""One object of each kind that a task can have, for tests that give them to whom they do not belong."""

import bpfsim

DROP = "r0 = 1\nexit"
REPLACES = """
#include "bpfsim.h"
#include "bpfsim_helpers.h"
SEC("freplace/verdict") int deny(struct xdp_md *ctx) { return XDP_DROP; }
char LICENSE[] SEC("license") = "GPL";
"""


class OneOfEach:
    """A task and what it has."""

    def __init__(self, task, first=""):
        self.task = task
        self.xdp = task.prog_load("xdp", first + DROP)
        self.skb = task.prog_load("cgroup_skb", DROP)
        self.map = task.map_create("array")
        self.socks = task.map_create("sockmap", max_entries=1)
        self.verdict = task.prog_load("sk_skb", DROP)
        self.iterator = self.map_iterator(task)
        self.ops = task.struct_ops("tcp_congestion_ops", link=True)

    @staticmethod
    def map_iterator(task):
        return task.prog_load("tracing", "r0 = 0\nexit", target="bpf_map_elem", expected_attach_type="trace_iter")


def load_replacement(task, target):
    """Loads in ``task`` a C program that replaces the function ``verdict`` of a program."""
    file = bpfsim.open_object(bpfsim.compile_c(REPLACES))
    file.set_attach_target("deny", target, "verdict")
    return file.load(task)
