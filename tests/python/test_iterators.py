"""Iterators over what is in a map, and over sockets, files, cgroups: what a program is shown, and who holds what."""

from __future__ import annotations

import errno
import struct

import bpfsim
import pytest
from bpfsim import _core
from bpfsim.attr import bpf

# For each element: the 8 bytes that `value` leaves in r3, when the argument at `shown` is there.
WRITES = """
r6 = r1
r3 = *(u64 *)(r6 + {shown})
if r3 == 0 goto end
{value}
*(u64 *)(r10 - 8) = r3
r1 = *(u64 *)(r6 + 0)
r1 = *(u64 *)(r1 + 0)
r2 = r10
r2 += -8
r3 = 8
call bpf_seq_write
end:
r0 = 0
exit
"""
INT = bytes.fromhex("9feb0100180000000000000010000000100000000500000001000000000000010400000020000001") + b"\0int\0"


@pytest.fixture
def task():
    k = bpfsim.Kernel()
    yield k.spawn("reader")
    assert _core.graph_disagreements(k) == []
    for one in list(k.tasks):
        one.exit()
    assert k.leaks() == []


def program(task, target, shown=8, value="r3 = *(u32 *)(r3 + 0)", code=None):
    return task.prog_load(
        "tracing",
        code or WRITES.format(shown=shown, value=value),
        expected_attach_type="trace_iter",
        attach_btf_id=task.kernel.btf_id(f"bpf_iter_{target}"),
    )


def link_of(task, prog, *words):
    """words: of union bpf_iter_link_info."""
    info = struct.pack(f"<{len(words)}I", *words)
    return task.link_create(prog, **{"iter_info": info, "iter_info_len": len(info)} if words else {}).fd


def read(task, link, size=4096):
    fd, pieces = bpf(task, "ITER_CREATE", link_fd=link), []
    while piece := task.read(fd, size):
        pieces.append(piece)
    task.close(fd)
    text = b"".join(pieces)
    return list(struct.unpack(f"<{len(text) // 8}Q", text))


def bound(task, port):
    fd = task.socket("inet", "dgram")
    task.bind(fd, "127.0.0.1", port)
    return fd


def test_sockets_of_a_map_are_shown_with_their_keys(task):
    socks = task.map_create("sockmap", key_size=4, value_size=4, max_entries=3)
    socks[1] = bound(task, 7000)
    before = socks.refcnt
    keys = link_of(task, program(task, "sockmap", 16), socks.fd)
    assert socks.refcnt == before + 1, "the link holds the map"
    assert read(task, keys) == [0, 1, 2], "slots without a socket too"
    ports = link_of(task, program(task, "sockmap", 24, "r3 = *(u16 *)(r3 + 14)"), socks.fd)
    assert read(task, ports) == [7000]
    opened = bpf(task, "ITER_CREATE", link_fd=ports)
    assert socks.refcnt == before + 3, "and so does each open iteration"
    assert f"map_id:\t{socks.id}" in task.fdinfo(ports)
    task.close(opened)


def test_a_new_read_begins_a_bucket_of_a_sockhash_again(task):
    """The kernel remembers the bucket only: what was shown of it is shown once more."""
    keys = program(task, "sockmap", 16)
    socks = task.map_create("sockhash", key_size=4, value_size=4, max_entries=1)
    socks[5] = bound(task, 7000)
    assert read(task, link_of(task, keys, socks.fd), 8) == [5], "that was all: the end is seen in the same read"
    socks = task.map_create("sockhash", key_size=4, value_size=4, max_entries=2)
    socks[0] = bound(task, 7001)
    for key in range(1, 64):  # one that shares the bucket of key 0, and is shown first
        socks[key] = bound(task, 7100 + key)
        fd = bpf(task, "ITER_CREATE", link_fd=link_of(task, keys, socks.fd))
        pieces = [task.read(fd, 8) for _ in range(3)]
        if pieces == [struct.pack("<Q", key)] * 3:
            return
        del socks[key]
    raise AssertionError("no two keys share a bucket")


def test_values_of_sockets_are_shown_and_may_be_written(task):
    ints = bpf(task, "BTF_LOAD", btf=INT, btf_size=len(INT))
    kept = bpf(
        task,
        "MAP_CREATE",
        map_type="sk_storage",
        key_size=4,
        value_size=4,
        map_flags=1,
        btf_fd=ints,
        btf_key_type_id=1,
        btf_value_type_id=1,
    )
    for number, port in enumerate((7000, 7001)):
        key, value = struct.pack("<I", bound(task, port)), struct.pack("<I", 10 + number)
        bpf(task, "MAP_UPDATE_ELEM", map_fd=kept, key=key, value=value)
    adds = "r4 = r3\nr3 = *(u32 *)(r4 + 0)\nr3 += 5\n*(u32 *)(r4 + 0) = r3"
    link = link_of(task, program(task, "bpf_sk_storage_map", 24, adds), kept)
    assert sorted(read(task, link)) == [15, 16]
    assert sorted(read(task, link, 8)) == [20, 21]
    with pytest.raises(OSError) as refused:
        link_of(task, program(task, "bpf_sk_storage_map", 24, "r3 = *(u32 *)(r3 + 4)"), kept)
    assert refused.value.errno == errno.EACCES


def test_a_socket_iterator_shows_what_a_packet_could_reach(task):
    listener, client = task.socket(), task.socket()
    task.bind(listener, "127.0.0.1", 8080)
    task.listen(listener)
    task.connect(client, "127.0.0.1", 8080)
    task.socket()  # neither bound nor connected
    bound(task, 9000)
    states = link_of(task, program(task, "tcp", 8, "r3 = *(u8 *)(r3 + 18)"))
    assert read(task, states) == [10, 1, 1], "the listener, then both ends of the connection"
    assert read(task, link_of(task, program(task, "udp", 8, "r3 = *(u16 *)(r3 + 14)"))) == [9000]
    one, _ = task.socketpair("dgram")
    types = link_of(task, program(task, "unix", 8, "r3 = *(u64 *)(r3 + 872)\nr3 = *(u16 *)(r3 + 534)"))
    assert read(task, types) == [2, 2], "each through its peer"
    task.close(one)
    for target in ("netlink", "ipv6_route", "kmem_cache", "dmabuf"):
        assert read(task, link_of(task, program(task, target, value=""))) == []


def test_files_and_mappings_of_one_task(task):
    other = task.kernel.spawn("other")
    ring = other.map_create("array", key_size=4, value_size=8, max_entries=1, map_flags=1 << 10)
    other.mmap(ring.fd, 4096)
    fds = link_of(task, program(task, "task_file", 24, "r3 = *(u64 *)(r6 + 16)"), 0, other.pid)
    assert read(task, fds) == sorted(other.fds)
    assert "task_type:\tPID" in task.fdinfo(fds)
    maps = link_of(task, program(task, "task_vma", 16, "r3 = *(u64 *)(r3 + 8)"), 0, other.pid)
    assert len(read(task, maps)) == 1
    pids = program(task, "task", 8, "r3 = *(u32 *)(r3 + 1264)")
    assert read(task, link_of(task, pids)) == [task.pid, other.pid]
    assert read(task, link_of(task, pids, 0, other.pid)) == [other.pid]
    with pytest.raises(OSError) as refused:
        link_of(task, pids, 1, other.pid)
    assert refused.value.errno == errno.EINVAL


def test_a_walk_over_cgroups_is_one_read(task):
    for path in ("a", "a/b"):
        task.mkdir(f"/sys/fs/cgroup/{path}")
    levels = program(task, "cgroup", 8, "r3 = *(u32 *)(r3 + 216)")
    for order, expected in ((2, [0, 1, 2]), (3, [2, 1, 0]), (1, [0])):
        assert read(task, link_of(task, levels, order)) == expected
    with pytest.raises(OSError) as refused:
        read(task, link_of(task, levels, 2), 8)
    assert refused.value.errno == errno.EOPNOTSUPP
    below = task.open("/sys/fs/cgroup/a/b")
    up = link_of(task, levels, 4, below)
    assert "cgroup_path:\t/a/b\norder: ancestors_up" in task.fdinfo(up)
    assert read(task, up) == [2, 1, 0]
    task.rmdir("/sys/fs/cgroup/a/b")
    task.close(below)
    assert any("aux.start" in line for line in task.object_at(up).holders()) or read(task, up) == []


def test_the_end_is_told_in_the_read_that_finds_it(task):
    """With nothing left to show the program is run once more, though the reader asked for no more than the last one."""
    code = WRITES.format(shown=8, value="r3 = 1").replace("if r3 == 0 goto end\n", "")
    task.map_create("array", key_size=4, value_size=4, max_entries=1)
    fd = bpf(task, "ITER_CREATE", link_fd=link_of(task, program(task, "bpf_map", code=code)))
    assert (len(task.read(fd, 8)), len(task.read(fd, 8)), len(task.read(fd, 8))) == (8, 8, 0)


def test_the_symbols_are_the_functions_that_can_be_probed(task):
    first = read(task, link_of(task, program(task, "ksym", 8, "r3 = *(u64 *)(r3 + 32)")))
    assert len(first) > 3 and first == sorted(first)


def test_what_a_kernel_struct_has_elsewhere_is_said_to_be_missing(task):
    with pytest.raises(OSError) as refused:
        program(task, "tcp", 8, "r3 = *(u64 *)(r3 + 40)")
    assert "not modelled yet: what struct sock_common has at offset 40" in refused.value.log
