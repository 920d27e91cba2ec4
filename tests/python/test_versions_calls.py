"""What an older kernel answers to a call of bpf(2): TEST_RUN's limits, lookups, queries, who may sleep."""

from __future__ import annotations

import copy
import errno
import pickle
import struct

import bpfsim
import pytest
from answers import answer

RETURN_1 = "r0 = 1\nexit"


def test_run(version, prog_type, data=bytes(64), expected=0, **fields):
    task = bpfsim.Kernel(version).spawn()
    load = {"expected_attach_type": expected} if expected else {}
    prog = task.prog_load(prog_type, RETURN_1, **load)
    given = {"data_in": data, "data_size_in": len(data)} if data else {}
    return answer(task.bpf, "PROG_TEST_RUN", prog_fd=prog.fd, **given, **fields)


test_run.__test__ = False

# What, program type and further fields, then (version, answer), each holding until the next.
RUNS = [
    ("a raw tracepoint", "raw_tracepoint", {"data": b""}, [("5.9", 524), ("5.10", 0), ("6.18", 0)]),
    ("a writable one", "raw_tracepoint_writable", {"data": b""}, [("5.10", 524), ("6.18", 524)]),
    ("seg6local", "lwt_seg6local", {}, [("4.18", 0), ("6.10", 0), ("6.11", 524), ("6.18", 524)]),
    ("a flow dissector", "flow_dissector", {}, [("5.0", 524), ("5.1", 0)]),
    ("a lookup of sockets", "sk_lookup", {"data": b"", "expected": 36}, [("5.12", 524), ("5.14", errno.EINVAL)]),
    ("flags of a packet", "sched_cls", {"flags": 4}, [("5.10", errno.EINVAL), ("6.10", errno.EINVAL), ("6.11", 0)]),
    ("flags of XDP", "xdp", {"flags": 4}, [("5.10", 0), ("5.17", 0), ("5.18", errno.EINVAL)]),
    ("5000 bytes", "xdp", {"data": bytes(5000)}, [("5.7", errno.EINVAL), ("5.8", errno.EMSGSIZE), ("5.18", 0)]),
    ("3840 bytes", "xdp", {"data": bytes(3840)}, [("5.7", 0), ("5.8", errno.EMSGSIZE), ("5.18", 0)]),
    ("3841 bytes", "xdp", {"data": bytes(3841)}, [("5.7", errno.EINVAL)]),
    ("few bytes", "xdp", {"data": bytes(8)}, [("5.7", 22), ("5.8", 0), ("6.13", 0), ("6.14", 22), ("6.18", 22)]),
    ("half an IP header", "sched_cls", {"data": bytes(12) + b"\x08\x00" + bytes(8)}, [("6.17", 0), ("6.18", 22)]),
]  # fmt: skip


@pytest.mark.parametrize(("what", "prog_type", "fields", "answers"), RUNS, ids=[row[0] for row in RUNS])
def test_a_test_run_has_the_limits_of_its_version(what, prog_type, fields, answers):
    assert [(version, test_run(version, prog_type, **fields)) for version, _ in answers] == answers


@pytest.mark.parametrize(
    ("field", "at", "size", "since"),
    [("mark", 8, 4, "5.6"), ("priority", 32, 4, "5.2"), ("ingress_ifindex", 36, 4, "5.17"), ("cb", 48, 4, "5.2"),
     ("tstamp", 152, 8, "5.5"), ("gso_segs", 164, 4, "5.6"), ("gso_size", 176, 4, "5.7"), ("hwtstamp", 184, 8, "5.17")],
)  # fmt: skip
def test_which_fields_of_the_context_a_test_run_carries(field, at, size, since):
    versions = ["5.2", "5.4", "5.5", "5.6", "5.7", "5.9", "5.15", "5.17", "6.18"]
    taken = []
    for version in versions:
        ctx = bytearray(at + size)
        ctx[at] = 1
        if test_run(version, "sched_cls", ctx_in=ctx, ctx_size_in=len(ctx)) == 0:
            taken.append(version)
    assert taken == versions[versions.index(since) :]


def test_the_context_has_the_size_of_its_version():
    def size(version, prog_type, room=200):
        task = bpfsim.Kernel(version).spawn()
        prog = task.prog_load(prog_type, RETURN_1)
        ctx = struct.pack("<2I", 0, 64) if prog_type == "xdp" else bytes(8)
        reply = task.bpf("PROG_TEST_RUN", prog_fd=prog.fd, data_in=bytes(64), data_size_in=64,
                         ctx_in=ctx, ctx_size_in=8, ctx_out=bytearray(room), ctx_size_out=room)  # fmt: skip
        return reply.ctx_size_out

    versions = ("5.2", "5.7", "5.15", "5.17", "6.18")
    assert [size(version, "sched_cls") for version in versions] == [176, 184, 184, 192, 192]
    assert size("5.15", "xdp") == 24


def test_where_the_metadata_of_xdp_may_lie():
    def taken(version, data, end):
        ctx = struct.pack("<6I", data, end, 0, 0, 0, 0)
        return test_run(version, "xdp", ctx_in=ctx, ctx_size_in=len(ctx)) == 0

    assert [taken(version, 32, 64) for version in ("5.15", "6.7", "6.8", "6.18")] == [True] * 4
    assert [taken(version, 36, 64) for version in ("5.15", "6.7", "6.8", "6.18")] == [False, False, True, True]
    assert [taken(version, 0, 40) for version in ("6.17", "6.18")] == [False, True]


def test_who_may_sleep():
    def sleeps(version, prog_type):
        try:
            bpfsim.Kernel(version).spawn().prog_load(prog_type, RETURN_1, prog_flags=16)
        except bpfsim.VerifierError as error:
            return error.reason
        return True

    only = "Only fentry/fexit/fmod_ret"
    assert sleeps("5.19", "kprobe") == f"{only} and lsm programs can be sleepable"
    assert sleeps("6.0", "kprobe") is True
    assert sleeps("6.2", "xdp") == f"{only}, lsm, and kprobe/uprobe programs can be sleepable"
    assert sleeps("6.3", "xdp") == f"{only}, lsm, iter, uprobe, and struct_ops programs can be sleepable"


@pytest.mark.parametrize(
    ("map_type", "answers"),
    [
        ("sockmap", [("4.14", errno.ENOENT), ("4.20", errno.EOPNOTSUPP), ("5.6", errno.EOPNOTSUPP), ("5.7", 28)]),
        ("xskmap", [("4.19", errno.ENOENT), ("4.20", errno.EOPNOTSUPP), ("6.18", errno.EOPNOTSUPP)]),
    ],
)
def test_a_lookup_in_a_map_of_sockets(map_type, answers):
    def lookup(version):
        task = bpfsim.Kernel(version).spawn()
        m = task.map_create(map_type, key_size=4, value_size=4, max_entries=1)
        return answer(task.bpf, "MAP_LOOKUP_ELEM", map_fd=m.fd, key=bytes(4), value=bytearray(8))

    assert [(version, lookup(version)) for version, _ in answers] == answers


def test_a_stack_trace_is_looked_up_and_deleted_since():
    def take(version):
        task = bpfsim.Kernel(version).spawn()
        m = task.map_create("stack_trace", key_size=4, value_size=8, max_entries=1)
        return answer(task.bpf, "MAP_LOOKUP_AND_DELETE_ELEM", map_fd=m.fd, key=bytearray(4), value=bytearray(8))

    assert (take("6.17"), take("6.18")) == (524, errno.ENOENT)


@pytest.mark.parametrize(
    ("attach_type", "old", "new"), [(5, "5.17", "5.18"), (7, "5.15", "5.18"), (17, "4.20", "5.2"), (36, "5.8", "5.9")]
)
def test_what_prog_query_knows_since(attach_type, old, new):
    def query(version):
        return answer(bpfsim.Kernel(version).spawn().bpf, "PROG_QUERY", target_fd=999, attach_type=attach_type)

    assert (query(old), query(new)) == (errno.EINVAL, errno.EBADF)


def test_effective_programs_came_with_the_flags_of_their_cgroup():
    def flags(version):
        task = bpfsim.Kernel(version).spawn()
        task.mkdir("/sys/fs/cgroup/web")
        group = task.bpf_open("/sys/fs/cgroup/web") if hasattr(task, "bpf_open") else task.open("/sys/fs/cgroup/web")
        prog = task.prog_load("cgroup_skb", RETURN_1)
        task.bpf("PROG_ATTACH", target_fd=group, attach_bpf_fd=prog.fd, attach_type=0, attach_flags=2)
        return task.bpf("PROG_QUERY", target_fd=group, attach_type=0, query_flags=1).attach_flags

    assert (flags("5.15"), flags("6.1")) == (2, 0)


@pytest.mark.parametrize("map_type", ["devmap", "sockmap"])
def test_sys_admin_is_net_admin_since(map_type):
    def make(version):
        task = bpfsim.Kernel(version).spawn(uid=1000, caps=["CAP_SYS_ADMIN"])
        return answer(task.map_create, map_type, key_size=4, value_size=4, max_entries=1)

    assert (make("6.8"), make("6.9")) == (errno.EPERM, 0)


def test_attributes_or_capability_first():
    def make(version):
        k = bpfsim.Kernel(version)
        k.sysctl["kernel.unprivileged_bpf_disabled"] = 0
        task = k.spawn(uid=1000)
        return answer(task.map_create, "lru_hash", key_size=4, value_size=4, max_entries=0)

    assert (make("6.4"), make("6.5")) == (errno.EPERM, errno.EINVAL)


def test_stack_traces_are_walked_since():
    def walk(version):
        task = bpfsim.Kernel(version).spawn()
        m = task.map_create("stack_trace", key_size=4, value_size=8, max_entries=1)
        return answer(task.bpf, "MAP_GET_NEXT_KEY", map_fd=m.fd, key=bytes(4), next_key=bytearray(4))

    assert (walk("4.15"), walk("4.16")) == (errno.EINVAL, errno.ENOENT)


def test_a_refusal_names_the_function_that_refused_and_travels():
    task = bpfsim.Kernel("5.2").spawn()
    with pytest.raises(bpfsim.VerifierError) as caught:
        task.prog_load("xdp", "r0 = 0\nl:\nr0 += 1\nif r0 < 9 goto l\nexit")
    error = caught.value
    assert (error.check, error.reason) == ("check_cfg", "back-edge from insn 2 to 1 (came with Linux 5.3)") or (
        error.check != "bpf_check" and "back-edge" in error.reason
    )
    for other in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):
        assert type(other) is bpfsim.VerifierError and other.trace is None
        assert (other.errno, other.check, other.reason, other.log) == (
            error.errno, error.check, error.reason, error.log)  # fmt: skip


def test_writing_the_time_of_a_packet_is_not_modelled_and_said_so():
    with pytest.raises(bpfsim.VerifierError, match="not modelled yet: writing tstamp") as caught:
        bpfsim.Kernel().spawn().prog_load("sched_cls", "r2 = 0\n*(u64 *)(r1 +152) = r2\nr0 = 1\nexit")
    assert caught.value.errno == errno.EOPNOTSUPP
    with pytest.raises(bpfsim.VerifierError, match="invalid bpf_context access"):
        bpfsim.Kernel("4.20").spawn().prog_load("sched_cls", "r2 = 0\n*(u64 *)(r1 +152) = r2\nr0 = 1\nexit")


def test_the_last_bytes_of_what_info_asks_for_must_be_0():
    task = bpfsim.Kernel().spawn()
    prog = task.prog_load("xdp", RETURN_1)
    for at, said in ((227, 0), (228, errno.E2BIG), (231, errno.E2BIG)):
        info = bytearray(232)
        info[at] = 1
        assert answer(task.bpf, "OBJ_GET_INFO_BY_FD", bpf_fd=prog.fd, info_len=232, info=info) == said
