"""What bpf(2) of the long-term kernels 5.4, 5.10 and 5.15 answers otherwise than 6.18's: command by command."""

from __future__ import annotations

import errno
import struct

import bpfsim
import pytest
from answers import answer

RETURN_1 = "r0 = 1\nexit"
E = errno


def made(version, map_type, **fields):
    return answer(bpfsim.Kernel(version).spawn().map_create, map_type, **fields)


BIG = 1 << 30  # entries
# What, map type and attributes, then (version, answer), each holding until the next.
CREATED = [
    ("a key of 512", "hash", {"key_size": 512}, [("5.4", 0), ("5.10", 0), ("6.18", 0)]),
    ("a key of 513", "hash", {"key_size": 513}, [("5.4", E.E2BIG), ("5.10", E.E2BIG), ("5.11", 0), ("5.15", 0)]),
    ("a key of 513", "lru_hash", {"key_size": 513}, [("5.10", E.E2BIG), ("5.15", 0)]),
    ("4 MiB less a key", "hash", {"value_size": (4 << 20) - 560, "max_entries": 1},
     [("5.4", E.E2BIG), ("5.10", E.E2BIG), ("5.15", 0)]),
    ("4 MiB less more", "hash", {"value_size": (4 << 20) - 561, "max_entries": 1}, [("5.4", 0), ("5.15", 0)]),
    ("a value of 4 MiB", "array", {"value_size": 4 << 20, "max_entries": 1}, [("5.4", 0), ("5.15", 0), ("6.18", 0)]),
    ("and of more", "array", {"value_size": (4 << 20) + 1, "max_entries": 1},
     [("5.4", E.E2BIG), ("5.15", E.E2BIG), ("5.19", E.E2BIG), ("6.0", 0)]),
    ("32 KiB per CPU", "percpu_array", {"value_size": 32768, "max_entries": 1}, [("5.4", 0), ("6.18", 0)]),
    ("and more", "percpu_array", {"value_size": 32769, "max_entries": 1},
     [("5.4", E.ENOMEM), ("5.15", E.ENOMEM), ("6.1", E.E2BIG), ("6.18", E.E2BIG)]),
    ("and more", "percpu_hash", {"value_size": 32769, "max_entries": 1}, [("5.4", E.ENOMEM), ("6.1", E.E2BIG)]),
    ("and more, made later", "percpu_hash", {"value_size": 32769, "max_entries": 1, "map_flags": 1},
     [("5.4", 0), ("6.1", E.E2BIG)]),
    ("4 GiB", "array", {"value_size": 4, "max_entries": BIG},
     [("5.2", E.ENOMEM), ("5.3", E.E2BIG), ("5.10", E.E2BIG), ("5.11", E.ENOMEM), ("5.15", E.ENOMEM)]),
    ("4 GiB", "queue", {"key_size": 0, "value_size": 4, "max_entries": BIG}, [("5.10", E.E2BIG), ("5.15", E.ENOMEM)]),
    ("4 GiB", "hash", {"max_entries": BIG >> 4, "map_flags": 1}, [("5.4", E.E2BIG), ("5.10", E.E2BIG)]),
    ("4 GiB", "lpm_trie", {"key_size": 8, "value_size": 4, "max_entries": BIG, "map_flags": 1},
     [("5.4", E.E2BIG), ("5.10", E.E2BIG), ("5.11", 0), ("5.15", 0)]),
    ("4 GiB", "xskmap", {"key_size": 4, "value_size": 4, "max_entries": BIG}, [("5.10", E.E2BIG), ("5.15", E.ENOMEM)]),
    ("4 GiB", "devmap", {"key_size": 4, "value_size": 4, "max_entries": BIG}, [("5.10", E.EINVAL), ("5.15", E.ENOMEM)]),
    ("a page", "cgroup_storage", {"key_size": 16, "value_size": 4096, "max_entries": 0}, [("5.4", 0), ("5.15", 0)]),
    ("and more", "cgroup_storage", {"key_size": 16, "value_size": 4097, "max_entries": 0},
     [("5.4", E.E2BIG), ("5.10", E.E2BIG), ("5.14", E.E2BIG), ("5.15", 0)]),
]  # fmt: skip


@pytest.mark.parametrize(("what", "map_type", "fields", "answers"), CREATED, ids=lambda one: str(one)[:20])
def test_how_large_a_map_may_be(what, map_type, fields, answers):
    assert [(version, made(version, map_type, **fields)) for version, _ in answers] == answers


def test_a_large_value_per_cpu_that_is_made_later_has_no_room():
    task = bpfsim.Kernel("5.15").spawn()
    m = task.map_create("percpu_hash", value_size=32769, max_entries=1, map_flags=1)
    value = bytes(32776 * task.kernel.cpus)
    assert answer(task.bpf, "MAP_UPDATE_ELEM", map_fd=m.fd, key=bytes(4), value=value) == E.ENOMEM


@pytest.mark.parametrize(("map_type", "size"), [("reuseport_sockarray", 5), ("sk_storage", 0)])
def test_types_that_look_at_their_attributes_before_they_ask_who(map_type, size):
    for version in ("5.4", "5.15", "6.1", "6.18"):
        k = bpfsim.Kernel(version)
        if version > "6":
            k.sysctl["kernel.unprivileged_bpf_disabled"] = 0
        task = k.spawn(uid=1000)
        wrong = {"key_size": 4, "value_size": size, "max_entries": 1}
        assert answer(task.map_create, map_type, **wrong) == E.EINVAL, version
    assert answer(task.map_create, "reuseport_sockarray", **(wrong | {"value_size": 8})) == E.EPERM


def test_lookup_and_delete_reads_since():
    def take(version, flags, bad=False):
        task = bpfsim.Kernel(version).spawn()
        m = task.map_create("queue", key_size=0, value_size=4, max_entries=1)
        task.bpf("MAP_UPDATE_ELEM", map_fd=m.fd, value=bytes(4))
        fd = task.bpf("MAP_GET_FD_BY_ID", map_id=m.id, open_flags=flags)
        return answer(task.bpf, "MAP_LOOKUP_AND_DELETE_ELEM", map_fd=fd, value=8 if bad else bytearray(4))

    wronly, rdonly = 16, 8
    assert [take(version, wronly) for version in ("5.4", "5.6", "5.7", "5.10", "6.18")] == [0, 0, *[E.EPERM] * 3]
    assert [take(version, rdonly) for version in ("5.4", "5.10")] == [E.EPERM] * 2
    assert [take(version, 0, bad=True) for version in ("5.4", "5.6", "5.7", "6.18")] == [0, 0, E.EFAULT, E.EFAULT]


def test_a_trie_heeds_flags_since():
    def update(version, entries, *flags):
        task = bpfsim.Kernel(version).spawn()
        m = task.map_create("lpm_trie", key_size=8, value_size=4, max_entries=entries, map_flags=1)
        key = struct.pack("<I4s", 32, b"\x0a\0\0\1")
        return [answer(task.bpf, "MAP_UPDATE_ELEM", map_fd=m.fd, key=key, value=bytes(4), flags=f) for f in flags]

    for version in ("5.4", "5.10", "5.15"):
        assert update(version, 2, 2, 1) == [0, 0]
        assert update(version, 1, 0, 0) == [0, E.ENOSPC]
        assert update(version, 1, 3) == [E.EINVAL]
    for version in ("6.1", "6.18"):
        assert update(version, 2, 2, 0, 1) == [E.ENOENT, 0, E.EEXIST]
        assert update(version, 1, 0, 0) == [0, 0]


ASKED_FIRST = [
    ("PROG_ATTACH", {"attach_type": 999}, "5.4", E.EPERM), ("PROG_ATTACH", {"attach_type": 999}, "5.8", E.EINVAL),
    ("PROG_DETACH", {"attach_type": 999}, "5.7", E.EPERM), ("PROG_DETACH", {"attach_type": 999}, "5.10", E.EINVAL),
    ("LINK_CREATE", {"prog_fd": 999}, "5.7", E.EPERM), ("LINK_CREATE", {"prog_fd": 999}, "5.8", E.EBADF),
    ("LINK_UPDATE", {"link_fd": 999}, "5.7", E.EPERM), ("LINK_UPDATE", {"link_fd": 999}, "5.10", E.EBADF),
    ("PROG_TEST_RUN", {"prog_fd": 999}, "5.4", E.EPERM), ("PROG_TEST_RUN", {"prog_fd": 999}, "5.8", E.EBADF),
]  # fmt: skip


@pytest.mark.parametrize(("command", "fields", "version", "said"), ASKED_FIRST)
def test_who_may_attach_was_asked_first_before_5_8(command, fields, version, said):
    k = bpfsim.Kernel(version)
    assert answer(k.spawn(uid=1000).bpf, command, **fields) == said
    assert answer(k.spawn().bpf, command, **fields) == (E.EINVAL if "attach_type" in fields else E.EBADF)


def test_the_license_was_read_first_before_6_5():
    def load(version):
        task = bpfsim.Kernel(version).spawn()
        return answer(task.bpf, "PROG_LOAD", prog_type=6, insns=bytes(8), insn_cnt=0, license=8)

    assert [load(version) for version in ("5.4", "5.15", "6.1", "6.4")] == [E.EFAULT] * 4
    assert [load(version) for version in ("6.5", "6.18")] == [E.E2BIG] * 2


def test_what_attach_prog_fd_may_be():
    def load(version, prog_type, fd):
        task = bpfsim.Kernel(version).spawn()
        m = task.map_create("array", value_size=4, max_entries=1)
        fields = {"expected_attach_type": "trace_fentry"} if prog_type == "tracing" else {}
        return answer(task.prog_load, prog_type, RETURN_1, attach_prog_fd=fd or m.fd, **fields)

    assert [load(version, "tracing", 999) for version in ("5.5", "5.10", "5.11", "5.15")] == [
        E.EBADF, E.EBADF, E.EINVAL, E.EINVAL]  # fmt: skip
    assert [load(version, "tracing", 0) for version in ("5.10", "5.15")] == [E.EINVAL] * 2
    assert [load(version, "xdp", 999) for version in ("5.10", "5.15")] == [E.EINVAL] * 2


def test_a_tracing_program_is_attached_again_since():
    def again(version):
        k = bpfsim.Kernel(version)
        task = k.spawn()
        fields = {"expected_attach_type": "trace_fentry", "attach_btf_id": k.btf_id("do_exit")}
        prog = task.prog_load("tracing", "r0 = 0\nexit", **fields)
        task.close(task.bpf("RAW_TRACEPOINT_OPEN", prog_fd=prog.fd))
        return answer(task.bpf, "RAW_TRACEPOINT_OPEN", prog_fd=prog.fd)

    assert [again(version) for version in ("5.10", "5.12", "5.13", "5.15", "6.18")] == [E.ENOENT, E.ENOENT, 0, 0, 0]


TARGETS = {
    "5.8": ["bpf_map", "task", "task_file", "netlink", "ipv6_route"],
    "5.9": ["bpf_map_elem", "bpf_prog", "bpf_sk_storage_map", "tcp", "udp"],
    "5.10": ["sockmap"], "5.12": ["task_vma"], "5.15": ["unix"], "5.19": ["bpf_link"], "6.0": ["ksym"],
    "6.1": ["cgroup"], "6.13": ["kmem_cache"], "6.16": ["dmabuf"],
}  # fmt: skip


@pytest.mark.parametrize("version", ["5.7", "5.8", "5.9", "5.10", "5.11", "5.12", "5.15", "5.19", "6.1", "6.18"])
def test_what_iterators_walk_in_each_version(version):
    def number(text):
        return tuple(int(part) for part in text.split("."))

    task = bpfsim.Kernel(version).spawn()
    for since, targets in TARGETS.items():
        for target in targets:
            function = task.kernel.btf_id(f"bpf_iter_{target}")
            load = {"expected_attach_type": 28, "attach_btf_id": function}
            said = answer(task.prog_load, "tracing", "r0 = 0\nexit", **load)
            assert (said == 0) == (number(version) >= number(since)), target
            if said and number(version) >= (5, 8):
                with pytest.raises(bpfsim.VerifierError, match=f"it came with Linux {since}"):
                    task.prog_load("tracing", "r0 = 0\nexit", **load)


def test_how_long_iter_info_is():
    def link(version, at):
        task = bpfsim.Kernel(version).spawn()
        function = task.kernel.btf_id("bpf_iter_bpf_map")
        prog = task.prog_load("tracing", "r0 = 0\nexit", expected_attach_type=28, attach_btf_id=function)
        info = bytearray(24)
        info[at] = 1
        return answer(task.bpf, "LINK_CREATE", prog_fd=prog.fd, attach_type=28, iter_info=info, iter_info_len=24)

    assert [link(version, 4) for version in ("5.10", "5.15", "6.0", "6.1")] == [E.E2BIG, E.E2BIG, E.E2BIG, 0]
    assert [link(version, 16) for version in ("5.15", "6.1", "6.18")] == [E.E2BIG] * 3


def test_a_link_is_opened_whole_since():
    def opened(version):
        task = bpfsim.Kernel(version).spawn()
        function = task.kernel.btf_id("bpf_iter_bpf_map")
        prog = task.prog_load("tracing", "r0 = 0\nexit", expected_attach_type=28, attach_btf_id=function)
        link = task.bpf("LINK_CREATE", prog_fd=prog.fd, attach_type=28)
        path = b"/sys/fs/bpf/link\0"
        task.bpf("OBJ_PIN", pathname=path, bpf_fd=link)
        return answer(task.bpf, "OBJ_GET", pathname=path, file_flags=8)

    assert [opened(version) for version in ("5.10", "5.11", "5.12", "5.15")] == [0, 0, E.EINVAL, E.EINVAL]


def test_a_cgroup_storage_was_for_one_program_before_5_5():
    def load_two(version, between):
        task = bpfsim.Kernel(version).spawn()
        m = task.map_create("cgroup_storage", key_size=16, value_size=8, max_entries=0)
        text = "r1 = map[m]\nr0 = 1\nexit"
        first = task.prog_load("cgroup_skb", text, maps={"m": m})
        if between:
            first.close()
        return answer(task.prog_load, "cgroup_skb", text, maps={"m": m})

    assert [load_two(version, False) for version in ("5.4", "5.5", "5.10", "6.18")] == [E.EBUSY, 0, 0, 0]
    assert load_two("5.4", True) == 0


def test_which_sockets_a_map_takes():
    def sockets(task):
        listener = task.socket()
        task.bind(listener, "127.0.0.1", 80)
        task.listen(listener)
        client = task.socket()
        task.connect(client, "127.0.0.1", 80)
        datagram = task.socket("inet", "dgram")
        task.bind(datagram, "127.0.0.1", 90)
        return client, listener, datagram, task.socketpair()[0]

    def take(version, map_type):
        task = bpfsim.Kernel(version).spawn()
        m = task.map_create(map_type, key_size=4, value_size=4, max_entries=8)
        return [
            answer(task.bpf, "MAP_UPDATE_ELEM", map_fd=m.fd, key=bytes(4), value=struct.pack("<I", fd))
            for fd in sockets(task)
        ]

    no = E.EOPNOTSUPP
    for map_type in ("sockmap", "sockhash"):
        assert take("5.4", map_type) == take("5.6", map_type) == [0, no, no, no]
        assert take("5.7", map_type) == take("5.10", map_type) == take("5.14", map_type) == [0, 0, 0, no]
        assert take("5.15", map_type) == take("6.18", map_type) == [0, 0, 0, 0]


def test_a_map_of_sockets_gives_up_its_program():
    def detach(version, **fields):
        task = bpfsim.Kernel(version).spawn()
        m = task.map_create("sockmap", key_size=4, value_size=4, max_entries=1)
        prog = task.prog_load("sk_msg", RETURN_1)
        task.bpf("PROG_ATTACH", target_fd=m.fd, attach_bpf_fd=prog.fd, attach_type=7)
        return answer(task.bpf, "PROG_DETACH", target_fd=m.fd, attach_type=7, **fields)

    assert [detach(version, attach_bpf_fd=999) for version in ("5.4", "5.7", "5.8", "5.15")] == [0, 0, E.EBADF, E.EBADF]
    assert [detach(version) for version in ("5.4", "5.10")] == [0, E.EINVAL]


def test_a_section_without_variables():
    def load(version):
        strings = b"\0.bss\0"
        body = struct.pack("<3I", 1, 15 << 24, 4)
        header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(body), len(body), len(strings))
        btf = header + body + strings
        return answer(bpfsim.Kernel(version).spawn().bpf, "BTF_LOAD", btf=btf, btf_size=len(btf))

    assert [load(version) for version in ("5.4", "5.10", "5.11", "5.12", "5.15")] == [*[E.EINVAL] * 3, 0, 0]
