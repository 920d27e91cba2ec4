"""Which bpf(2) call is refused by which check of Linux 6.1, and whether a machine of that version refuses it there.

``errno_6_1.tsv`` has a row for each check of 6.1's bpf(2) paths that answers an errno: the function, its line in
6.1.192, the errno, the command, and a verdict: ``case`` (CASES below holds a call that runs into it; the last column
names our function where another than the kernel's refuses), a reason why no call can, or ``missing``.
``python tests/syscall/errno_6_1.py`` counts them; ``--missing`` names those without a verdict.
"""

import csv
import ctypes
import mmap
import struct
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

TABLE = Path(__file__).with_suffix(".tsv")
RETURN_2 = bytes.fromhex("b7000000020000009500000000000000")
INT = bytes.fromhex("9feb0100180000000000000010000000100000000500000001000000000000010400000020000001") + b"\0int\0"
WIDE_INT = INT[:32] + bytes.fromhex("0800000040000001") + INT[40:]
EMPTY_STRUCT = bytes.fromhex("9feb010018000000000000001c0000001c00000005000000") + INT[24:40]
EMPTY_STRUCT += bytes.fromhex("000000000000000400000000") + INT[40:]
NOWHERE, NO_FD = 16, 9999
KEY, VALUE = bytes(4), bytes(8)


class Row(NamedTuple):
    area: str
    function: str
    line: str
    errno: str
    command: str
    verdict: str
    refuses: str  # our function, where it is not the one of the same name


def rows():
    with TABLE.open(newline="") as file:
        return [Row(*line) for line in csv.reader(file, delimiter="\t") if line and not line[0].startswith("#")]


class World:
    """A 6.1 machine with a task, and calls in one line each. Those that must succeed are asserted."""

    def __init__(self, bpfsim, **options):
        self.kernel = bpfsim.Kernel("6.1", **options)
        self.root = self.task = self.kernel.spawn("root")

    def become(self, *caps):
        """From here on a user with these capabilities calls, who sees the files of root, as after fork and setuid."""
        self.task = self.root.fork()
        self.task.set_caps(list(caps))
        return self

    def nobody(self):
        """The same without a capability, on a machine that lets such users call bpf(2)."""
        self.kernel.sysctl_write("kernel.unprivileged_bpf_disabled", 0)
        return self.become()

    def bpf(self, command, size=None, *, raw=None, **fields):
        return bpf(Bent(self.task, raw or {}), command, size, **fields)

    def map(self, kind="array", key_size=4, value_size=8, max_entries=4, **more):
        if kind in ("queue", "stack", "bloom_filter"):
            key_size = 0
        if kind in ("prog_array", "array_of_maps", "hash_of_maps"):
            value_size = 4
        if kind == "lpm_trie":
            key_size, more = 8, {"map_flags": 1} | more
        if kind in ("ringbuf", "user_ringbuf"):
            key_size, value_size, max_entries = 0, 0, 4096
        return self.create(kind, key_size, value_size, max_entries, **more)

    def create(self, kind, key_size=4, value_size=8, max_entries=4, **more):
        fields = {"map_type": kind, "key_size": key_size, "value_size": value_size, "max_entries": max_entries}
        return self.bpf("MAP_CREATE", **fields | more)

    def prog(self, kind="socket_filter", insns=RETURN_2, **more):
        return self.bpf("PROG_LOAD", **{"prog_type": kind, "insns": insns, "license": "GPL"} | more)

    def btf(self, raw=INT, **more):
        return self.bpf("BTF_LOAD", **{"btf": raw, "btf_size": len(raw)} | more)

    def lookup(self, fd, key=KEY, value=None, **more):
        return self.bpf(
            "MAP_LOOKUP_ELEM", map_fd=fd, key=key, value=bytearray(4096) if value is None else value, **more
        )

    def update(self, fd, key=KEY, value=VALUE * 64, flags=0, **more):
        return self.bpf("MAP_UPDATE_ELEM", map_fd=fd, key=key, value=value, flags=flags, **more)

    def delete(self, fd, key=KEY, **more):
        return self.bpf("MAP_DELETE_ELEM", map_fd=fd, key=key, **more)

    def next(self, fd, key=KEY, following=None, **more):
        room = bytearray(4096) if following is None else following
        return self.bpf("MAP_GET_NEXT_KEY", map_fd=fd, key=key, next_key=room, **more)

    def take(self, fd, key=KEY, value=None, **more):
        room = bytearray(4096) if value is None else value
        return self.bpf("MAP_LOOKUP_AND_DELETE_ELEM", map_fd=fd, key=key, value=room, **more)

    def batch(self, command, fd, keys=None, values=None, count=1, **more):
        keys, values, token = keys or bytearray(64), values or bytearray(4096), bytearray(64)
        fields = {"map_fd": fd, "keys": keys, "values": values, "count": count, "out_batch": token}
        if command in ("UPDATE", "DELETE"):
            del fields["out_batch"]
        if command == "DELETE":
            del fields["values"]
        return self.bpf(f"MAP_{command}_BATCH", **fields | more)

    def info(self, fd, room=None, **more):
        room = bytearray(232) if room is None else room
        return self.bpf("OBJ_GET_INFO_BY_FD", **{"bpf_fd": fd, "info_len": len(room), "info": room} | more)

    def run(self, fd=None, **more):
        return self.bpf("PROG_TEST_RUN", prog_fd=fd or self.prog(), **more)

    def link(self):
        return self.bpf("LINK_CREATE", prog_fd=self.prog("xdp"), target_ifindex=2, attach_type="xdp")

    def filled(self, kind="hash", count=4, **more):
        fd = self.map(kind, **more)
        for number in range(count):
            self.update(fd, None if kind in ("queue", "stack") else struct.pack("<I", number))
        return fd


class Bent:
    """A task whose attrs get some bytes set, past what the command's names reach."""

    def __init__(self, task, raw):
        self.task, self.raw = task, raw

    def sys_bpf(self, cmd, attr, size=None):
        if size and size > len(attr):
            attr = attr + bytearray(size - len(attr))
        for offset, value in self.raw.items():
            attr[offset : offset + (8 if value > 255 else 1)] = value.to_bytes(8 if value > 255 else 1, "little")
        return self.task.sys_bpf(cmd, attr, size)

    @property
    def last_refusal(self):
        return self.task.last_refusal


def bpf(*words, **fields):
    from bpfsim.attr import bpf as call

    return call(*words, **fields)


def prog_info(words, pointer_at, length_at, length=1):
    """An info struct that asks for an array at an address that is nowhere."""
    room = bytearray(232)
    struct.pack_into("<I", room, length_at, length)
    struct.pack_into("<Q", room, pointer_at, NOWHERE)
    return lambda w: w.info(w.prog(**words), room)


def read_only():
    """The address of a page that can be read and not written."""
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    return libc.mmap(None, ctypes.c_size_t(4096), 1, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, ctypes.c_long(0))


def tail(command, at=120):
    """A byte set past the last field that the command reads."""
    return lambda w: w.bpf(command, raw={at: 1})


LOCK, RDONLY, WRONLY, ZERO_SEED, RDONLY_PROG, WRONLY_PROG, MMAPABLE = 4, 8, 16, 64, 128, 256, 1024

CASES = {
    # ---- the door ----
    "bpf_check_uarg_tail_zero:89": lambda w: w.bpf("MAP_CREATE", 4097),
    "bpf_check_uarg_tail_zero:102": lambda w: w.bpf("MAP_CREATE", 200, raw={190: 1}),
    "__sys_bpf:5058": lambda w: w.become().map(),
    "__sys_bpf:5189": lambda w: w.bpf(77),
    # ---- MAP_CREATE ----
    "find_and_alloc_map:120": lambda w: w.create(99),
    "find_and_alloc_map:124": lambda w: w.create(0),
    "map_create:1125": lambda w: w.map(raw={72: 1}),
    "map_create:1130": lambda w: w.map(btf_vmlinux_value_type_id=1),
    "map_create:1132": lambda w: w.map(btf_key_type_id=1),
    "map_create:1137": lambda w: w.map(map_extra=1),
    "map_create:1146": lambda w: w.map(map_flags=4, numa_node=77),
    "bpf_get_file_flag:904": lambda w: w.map(map_flags=RDONLY | WRONLY),
    "bpf_obj_name_cpy:933": lambda w: w.map(map_name="a b"),
    "bpf_obj_name_cpy:939": lambda w: w.map(raw={28 + n: 120 for n in range(16)}),
    "map_check_btf:1041": lambda w: w.map(value_size=4, btf_fd=w.btf(), btf_key_type_id=9, btf_value_type_id=1),
    "map_check_btf:1045": lambda w: w.map("hash", value_size=4, btf_fd=w.btf(), btf_value_type_id=1),
    "map_check_btf:1050": lambda w: w.map(value_size=8, btf_fd=w.btf(), btf_key_type_id=1, btf_value_type_id=1),
    "map_check_no_btf:949": lambda w: w.map(
        "array_of_maps", inner_map_fd=w.map(), btf_fd=w.btf(), btf_key_type_id=1, btf_value_type_id=1
    ),
    "array_map_alloc_check:63": lambda w: w.create("array", 5),
    "array_map_alloc_check:67": lambda w: w.create("percpu_array", map_flags=MMAPABLE),
    "array_map_alloc_check:71": lambda w: w.create("array", map_flags=1 << 11),
    "array_map_alloc_check:75": lambda w: w.create("array", value_size=1 << 31),
    "array_map_alloc_check:78": lambda w: w.create("percpu_array", value_size=32769),
    "array_map_check_btf:511": lambda w: w.map(value_size=4, btf_fd=w.btf(), btf_value_type_id=1),
    "array_map_check_btf:514": lambda w: w.map(value_size=4, max_entries=1, btf_fd=w.btf(), btf_value_type_id=1),
    "fd_array_map_alloc_check:785": lambda w: w.create("prog_array", 4, 8),
    "fd_array_map_alloc_check:788": lambda w: w.map("prog_array", map_flags=RDONLY_PROG),
    "htab_map_alloc_check:424": lambda w: w.nobody().map("lru_hash"),
    "queue_stack_map_alloc_check:50": lambda w: w.nobody().map("queue"),
    "trie_alloc:567": lambda w: w.nobody().map("lpm_trie"),
    "bloom_map_alloc:115": lambda w: w.nobody().map("bloom_filter"),
    "bpf_prog_load:2552": lambda w: w.nobody().prog("xdp"),
    "htab_map_alloc_check:428": lambda w: w.become("CAP_BPF").map("hash", map_flags=ZERO_SEED),
    "htab_map_alloc_check:432": lambda w: w.map("hash", map_flags=MMAPABLE),
    "htab_map_alloc_check:435": lambda w: w.map("hash", map_flags=2),
    "htab_map_alloc_check:438": lambda w: w.map("lru_hash", map_flags=1),
    "htab_map_alloc_check:441": lambda w: w.map("percpu_hash", map_flags=4),
    "htab_map_alloc_check:448": lambda w: w.create("hash", 0),
    "htab_map_alloc_check:457": lambda w: w.create("hash", 4, 1 << 22),
    "htab_map_alloc_check:460": lambda w: w.create("percpu_hash", 4, 32769),
    "fd_htab_map_alloc_check:2448": lambda w: w.create("hash_of_maps", 4, 8, inner_map_fd=w.map()),
    "queue_stack_map_alloc_check:57": lambda w: w.create("queue", 4, 8),
    "queue_stack_map_alloc_check:63": lambda w: w.create("queue", 0, (1 << 22) + 1),
    "trie_alloc:578": lambda w: w.create("lpm_trie", 8),
    "trie_check_btf:738": lambda w: w.create(
        "lpm_trie", 8, 8, map_flags=1, btf_fd=w.btf(WIDE_INT), btf_key_type_id=1, btf_value_type_id=1
    ),
    "ringbuf_map_alloc:191": lambda w: w.map("ringbuf", map_flags=1),
    "ringbuf_map_alloc:196": lambda w: w.create("ringbuf", 0, 0, 4095),
    "bloom_map_alloc_check:102": lambda w: w.create("bloom_filter", 0, (1 << 22) + 1),
    "bloom_map_alloc:125": lambda w: w.create("bloom_filter", 4, 8),
    "bloom_map_check_btf:204": lambda w: w.create(
        "bloom_filter", 0, 4, btf_fd=w.btf(EMPTY_STRUCT), btf_key_type_id=2, btf_value_type_id=1
    ),
    "bpf_map_meta_alloc:24": lambda w: w.map(
        "array_of_maps", inner_map_fd=w.map("array_of_maps", inner_map_fd=w.map())
    ),
    "bpf_map_meta_alloc:29": lambda w: w.map("array_of_maps", inner_map_fd=w.map("prog_array")),
    # ---- the element commands ----
    "__bpf_map_get:1248": lambda w: w.lookup(NO_FD),
    "__bpf_map_get:1251": lambda w: w.lookup(w.prog()),
    "___bpf_copy_key:1349": lambda w: w.update(w.map("queue")),
    "__bpf_copy_key:1338": lambda w: w.lookup(w.map("queue")),
    "map_lookup_elem:1369": lambda w: w.lookup(w.map(), raw={40: 1}),
    "map_lookup_elem:1372": lambda w: w.lookup(w.map(), flags=1),
    "map_lookup_elem:1379": lambda w: w.lookup(w.map(map_flags=WRONLY)),
    "map_lookup_elem:1385": lambda w: w.lookup(w.map(), flags=LOCK),
    "map_lookup_elem:1416": lambda w: w.lookup(w.map(), value=NOWHERE),
    "map_update_elem:1444": lambda w: w.update(w.map(), raw={40: 1}),
    "map_update_elem:1452": lambda w: w.update(w.map(map_flags=RDONLY)),
    "map_update_elem:1458": lambda w: w.update(w.map(), flags=LOCK),
    "map_delete_elem:1498": lambda w: w.delete(w.map(), flags=1),
    "map_delete_elem:1506": lambda w: w.delete(w.map(map_flags=RDONLY)),
    "map_get_next_key:1554": lambda w: w.next(w.map(), flags=1),
    "map_get_next_key:1561": lambda w: w.next(w.map(map_flags=WRONLY)),
    "map_get_next_key:1594": lambda w: w.next(w.map(), following=NOWHERE),
    "map_lookup_and_delete_elem:1836": lambda w: w.take(w.map("hash"), raw={40: 1}),
    "map_lookup_and_delete_elem:1839": lambda w: w.take(w.map("hash"), flags=1),
    "map_lookup_and_delete_elem:1848": lambda w: w.take(w.map("hash", map_flags=RDONLY)),
    "map_lookup_and_delete_elem:1855": lambda w: w.take(w.map("queue"), None, flags=LOCK),
    "map_lookup_and_delete_elem:1861": lambda w: w.take(w.map("hash"), flags=LOCK),
    "map_lookup_and_delete_elem:1899": lambda w: w.take(w.filled(), value=NOWHERE),
    "map_freeze:1924": tail("MAP_FREEZE", 8),
    "map_freeze:1943": lambda w: [w.bpf("MAP_FREEZE", map_fd=fd) for fd in [w.map()] * 2],
    "map_freeze:1947": lambda w: w.map() and w.become("CAP_NET_ADMIN").bpf("MAP_FREEZE", map_fd=3),
    "array_map_get_next_key:306": lambda w: w.next(w.map(), struct.pack("<I", 3)),
    "array_map_update_elem:330": lambda w: w.update(w.map(), flags=3),
    "array_map_update_elem:334": lambda w: w.update(w.map(), struct.pack("<I", 4)),
    "array_map_update_elem:338": lambda w: w.update(w.map(), flags=1),
    "array_map_delete_elem:402": lambda w: w.delete(w.map()),
    "bpf_percpu_array_copy:275": lambda w: w.lookup(w.map("percpu_array"), struct.pack("<I", 4)),
    "bpf_percpu_array_update:371": lambda w: w.update(w.map("percpu_array"), flags=3),
    "bpf_percpu_array_update:375": lambda w: w.update(w.map("percpu_array"), struct.pack("<I", 4)),
    "bpf_percpu_array_update:379": lambda w: w.update(w.map("percpu_array"), flags=1),
    "bpf_fd_array_map_update_elem:838": lambda w: w.update(
        w.map("prog_array"), value=struct.pack("<I", w.prog()), flags=1
    ),
    "bpf_fd_array_map_update_elem:841": lambda w: w.update(
        w.map("prog_array"), struct.pack("<I", 4), struct.pack("<I", w.prog())
    ),
    "fd_array_map_delete_elem:869": lambda w: w.delete(w.map("prog_array"), struct.pack("<I", 4)),
    "fd_array_map_delete_elem:884": lambda w: w.delete(w.map("prog_array")),
    "prog_fd_array_get_ptr:900": lambda w: [
        w.update(fd, struct.pack("<I", n), struct.pack("<I", w.prog(kind)))
        for fd in [w.map("prog_array")]
        for n, kind in enumerate(("xdp", "socket_filter"))
    ],
    "htab_map_get_next_key:871": lambda w: w.next(w.map("hash"), None),
    "alloc_htab_elem:1005": lambda w: w.update(w.filled(), struct.pack("<I", 9)),
    "alloc_htab_elem:1016": lambda w: w.update(w.filled(map_flags=1), struct.pack("<I", 9)),
    "check_flags:1066": lambda w: w.update(w.filled(), flags=1),
    "check_flags:1070": lambda w: w.update(w.map("hash"), flags=2),
    "htab_map_update_elem:1090": lambda w: w.update(w.map("hash"), flags=3),
    "htab_lru_map_update_elem:1206": lambda w: w.update(w.map("lru_hash"), flags=3),
    "__htab_percpu_map_update_elem:1274": lambda w: w.update(w.map("percpu_hash"), flags=3),
    "__htab_lru_percpu_map_update_elem:1328": lambda w: w.update(w.map("lru_percpu_hash"), flags=3),
    "bpf_percpu_hash_copy:2344": lambda w: w.lookup(w.map("percpu_hash")),
    "__queue_map_get:116": lambda w: w.take(w.map("queue"), None),
    "__stack_map_get:153": lambda w: w.take(w.map("stack"), None),
    "queue_stack_map_push_elem:212": lambda w: w.update(w.map("queue"), None, flags=1),
    "queue_stack_map_push_elem:223": lambda w: w.update(w.filled("queue"), None),
    "queue_stack_map_delete_elem:258": lambda w: w.delete(w.map("queue"), None),
    "queue_stack_map_get_next_key:265": lambda w: w.next(w.map("queue"), None),
    "trie_update_elem:330": lambda w: w.update(w.map("lpm_trie"), struct.pack("<II", 8, 1), flags=3),
    "trie_update_elem:333": lambda w: w.update(w.map("lpm_trie"), struct.pack("<II", 33, 1)),
    "trie_update_elem:386": lambda w: [
        w.update(fd, struct.pack("<II", 8, 1), flags=flags) for fd in [w.map("lpm_trie")] for flags in (0, 1)
    ],
    "trie_check_add_elem:308": lambda w: w.update(w.map("lpm_trie"), struct.pack("<II", 8, 1), flags=2),
    "trie_check_add_elem:310": lambda w: [
        w.update(fd, struct.pack("<II", 32, n)) for fd in [w.map("lpm_trie")] for n in range(5)
    ],
    "trie_delete_elem:464": lambda w: w.delete(w.map("lpm_trie"), struct.pack("<II", 33, 1)),
    "trie_delete_elem:493": lambda w: w.delete(w.map("lpm_trie"), struct.pack("<II", 8, 1)),
    "trie_get_next_key:658": lambda w: w.next(w.map("lpm_trie"), None),
    "ringbuf_map_lookup_elem:246": lambda w: w.lookup(w.map("ringbuf"), None),
    "ringbuf_map_update_elem:252": lambda w: w.update(w.map("ringbuf"), None),
    "ringbuf_map_delete_elem:257": lambda w: w.delete(w.map("ringbuf"), None),
    "ringbuf_map_get_next_key:263": lambda w: w.next(w.map("ringbuf"), None),
    "bloom_map_peek_elem:53": lambda w: w.lookup(w.map("bloom_filter"), None, bytearray(b"\1" * 8)),
    "bloom_map_push_elem:66": lambda w: w.update(w.map("bloom_filter"), None, flags=1),
    "bloom_map_delete_elem:87": lambda w: w.delete(w.map("bloom_filter"), None),
    "bloom_map_get_next_key:92": lambda w: w.next(w.map("bloom_filter"), None),
    # ---- batches ----
    "bpf_map_do_batch:4609": lambda w: w.batch("LOOKUP", w.map(), raw={60: 1}),
    "bpf_map_do_batch:4619": lambda w: w.batch("LOOKUP", w.map(map_flags=WRONLY)),
    "bpf_map_do_batch:4623": lambda w: w.batch("UPDATE", w.map(map_flags=RDONLY)),
    "generic_map_delete_batch:1617": lambda w: w.batch("DELETE", w.map("lpm_trie"), elem_flags=1),
    "generic_map_delete_batch:1621": lambda w: w.batch("DELETE", w.map("lpm_trie"), elem_flags=LOCK),
    "generic_map_update_batch:1677": lambda w: w.batch("UPDATE", w.map(), elem_flags=1),
    "generic_map_update_batch:1681": lambda w: w.batch("UPDATE", w.map(), elem_flags=LOCK),
    "generic_map_lookup_batch:1741": lambda w: w.batch("LOOKUP", w.map(), elem_flags=1),
    "generic_map_lookup_batch:1745": lambda w: w.batch("LOOKUP", w.map(), elem_flags=LOCK),
    "generic_map_lookup_batch:1769": lambda w: w.batch("LOOKUP", w.map(), in_batch=NOWHERE),
    "generic_map_lookup_batch:1792": lambda w: w.batch("LOOKUP", w.map(), keys=NOWHERE),
    "generic_map_lookup_batch:1796": lambda w: w.batch("LOOKUP", w.map(), values=NOWHERE),
    "__htab_map_lookup_and_delete_batch:1707": lambda w: w.batch("LOOKUP", w.map("hash"), elem_flags=1),
    "__htab_map_lookup_and_delete_batch:1711": lambda w: w.batch("LOOKUP", w.map("hash"), flags=1),
    "__htab_map_lookup_and_delete_batch:1722": lambda w: w.batch("LOOKUP", w.map("hash"), in_batch=NOWHERE),
    "__htab_map_lookup_and_delete_batch:1725": lambda w: w.batch(
        "LOOKUP", w.map("hash"), in_batch=struct.pack("<I", 99)
    ),
    "__htab_map_lookup_and_delete_batch:1893": lambda w: w.batch("LOOKUP", w.filled(), keys=NOWHERE, count=64),
    "__htab_map_lookup_and_delete_batch:1901": lambda w: w.batch("LOOKUP", w.filled(), count=64),
    # ---- PROG_LOAD's object side ----
    "find_prog_type:1974": lambda w: w.prog(99),
    "find_prog_type:1978": lambda w: w.prog(0),
    "bpf_prog_load_check_attach:2369": lambda w: w.prog("tracing", attach_btf_id=0x100000),
    "bpf_prog_load_check_attach:2381": lambda w: w.prog("xdp", attach_btf_id=1),
    "bpf_prog_load_check_attach:2401": lambda w: w.prog("cgroup_sock", expected_attach_type=99),
    "bpf_prog_load_check_attach:2419": lambda w: w.prog("cgroup_sock_addr", expected_attach_type=99),
    "bpf_prog_load_check_attach:2427": lambda w: w.prog("cgroup_skb", expected_attach_type=99),
    "bpf_prog_load_check_attach:2435": lambda w: w.prog("cgroup_sockopt", expected_attach_type=99),
    "bpf_prog_load_check_attach:2440": lambda w: w.prog("sk_lookup", expected_attach_type=1),
    "bpf_prog_load_check_attach:2447": lambda w: w.prog("sk_reuseport", expected_attach_type=1),
    "bpf_prog_load_check_attach:2452": lambda w: w.prog("syscall", expected_attach_type=1),
    "bpf_prog_load:2521": lambda w: w.prog(raw={140: 1}),
    "bpf_prog_load:2529": lambda w: w.prog(prog_flags=1 << 30),
    "bpf_prog_load:2540": lambda w: w.prog(license=NOWHERE),
    "bpf_prog_load:2548": lambda w: w.prog(insn_cnt=0, insns=0),
    "bpf_prog_load:2555": lambda w: w.become("CAP_BPF").prog("xdp"),
    "bpf_prog_load:2557": lambda w: w.become("CAP_BPF").prog("kprobe"),
    "bpf_prog_load:2568": lambda w: w.prog("tracing", attach_prog_fd=NO_FD),
    "bpf_prog_load:2574": lambda w: w.prog("tracing", attach_prog_fd=w.btf()),
    "bpf_prog_load:2595": lambda w: w.prog("sk_lookup", expected_attach_type=1),
    "bpf_prog_load:2627": lambda w: w.prog(insns=NOWHERE, insn_cnt=2),
    "____bpf_prog_get:2237": lambda w: w.run(NO_FD),
    "____bpf_prog_get:2240": lambda w: w.run(w.map()),
    # ---- pins ----
    "bpf_obj_pin:2710": lambda w: w.bpf("OBJ_PIN", pathname="/sys/fs/bpf/a", bpf_fd=w.map(), file_flags=1),
    "bpf_obj_get:2719": lambda w: w.bpf("OBJ_GET", pathname="/sys/fs/bpf/a", bpf_fd=3),
    "bpf_fd_probe_obj:92": lambda w: w.bpf("OBJ_PIN", pathname="/sys/fs/bpf/a", bpf_fd=w.btf()),
    "bpf_lookup:380": lambda w: w.bpf("OBJ_PIN", pathname="/sys/fs/bpf/a.b", bpf_fd=w.map()),
    "bpf_obj_do_pin:459": lambda w: w.bpf("OBJ_PIN", pathname="/sys/fs/a", bpf_fd=w.map()),
    "bpf_inode_type:140": lambda w: w.bpf("OBJ_GET", pathname="/sys/fs/bpf"),
    "bpf_obj_get_user:550": lambda w: [
        w.bpf("OBJ_PIN", pathname="/sys/fs/bpf/l", bpf_fd=w.link()),
        w.bpf("OBJ_GET", pathname="/sys/fs/bpf/l", file_flags=RDONLY),
    ],
    # ---- links ----
    "bpf_link_get_from_fd:2976": lambda w: w.bpf("LINK_DETACH", link_fd=NO_FD),
    "bpf_link_get_from_fd:2979": lambda w: w.bpf("LINK_DETACH", link_fd=w.map()),
    "link_create:4650": tail("LINK_CREATE"),
    "link_create:4681": lambda w: w.bpf("LINK_CREATE", prog_fd=w.prog("xdp"), target_ifindex=2, attach_type=0),
    "link_update:4760": tail("LINK_UPDATE"),
    "link_update:4764": lambda w: w.bpf("LINK_UPDATE", link_fd=w.link(), new_prog_fd=w.prog("xdp"), flags=1),
    "link_update:4784": lambda w: w.bpf("LINK_UPDATE", link_fd=w.link(), new_prog_fd=w.prog("xdp"), old_prog_fd=3),
    "link_detach:4811": tail("LINK_DETACH"),
    "bpf_link_by_id:4837": lambda w: w.bpf("LINK_GET_FD_BY_ID", link_id=0),
    "bpf_link_get_fd_by_id:4885": tail("LINK_GET_FD_BY_ID"),
    "bpf_link_get_fd_by_id:4888": lambda w: w.become("CAP_BPF").bpf("LINK_GET_FD_BY_ID", link_id=1),
    # ---- raw tracepoints ----
    "bpf_raw_tracepoint_open:3461": tail("RAW_TRACEPOINT_OPEN"),
    # ---- test_run ----
    "bpf_prog_test_run:3733": tail("PROG_TEST_RUN"),
    "bpf_prog_test_run:3737": lambda w: w.run(ctx_size_in=8),
    "bpf_prog_test_run:3741": lambda w: w.run(ctx_size_out=8),
    # ---- ids ----
    "bpf_obj_get_next_id:3765": tail("MAP_GET_NEXT_ID"),
    "bpf_obj_get_next_id:3768": lambda w: w.become("CAP_BPF").bpf("MAP_GET_NEXT_ID"),
    "bpf_prog_by_id:3827": lambda w: w.bpf("PROG_GET_FD_BY_ID", prog_id=0),
    "bpf_prog_get_fd_by_id:3846": tail("PROG_GET_FD_BY_ID"),
    "bpf_prog_get_fd_by_id:3849": lambda w: w.become("CAP_BPF").bpf("PROG_GET_FD_BY_ID", prog_id=1),
    "bpf_map_get_fd_by_id:3873": lambda w: w.bpf("MAP_GET_FD_BY_ID", map_id=1, open_flags=1),
    "bpf_map_get_fd_by_id:3876": lambda w: w.become("CAP_BPF").bpf("MAP_GET_FD_BY_ID", map_id=1),
    "bpf_btf_get_fd_by_id:4457": tail("BTF_GET_FD_BY_ID"),
    "bpf_btf_get_fd_by_id:4460": lambda w: w.become("CAP_BPF").bpf("BTF_GET_FD_BY_ID", btf_id=1),
    "bpf_btf_load:4444": tail("BTF_LOAD"),
    "bpf_btf_load:4447": lambda w: w.become("CAP_NET_ADMIN").btf(),
    # ---- info ----
    "bpf_obj_get_info_by_fd:4415": tail("OBJ_GET_INFO_BY_FD"),
    "bpf_obj_get_info_by_fd:4419": lambda w: w.info(NO_FD),
    "bpf_prog_get_info_by_fd:4033": lambda w: w.info(w.prog(), info=NOWHERE),
    "bpf_prog_get_info_by_fd:4057": lambda w: prog_info({"insns": holds(w.map())}, 56, 52)(w),
    "bpf_prog_get_info_by_fd:4104": prog_info({}, 32, 20, 16),
    "bpf_prog_get_info_by_fd:4289": prog_info({}, 184, 180),
    "bpf_prog_get_info_by_fd:4296": lambda w: w.info(w.prog(), info=read_only()),
    "bpf_map_get_info_by_fd:4341": lambda w: w.info(w.map(), info=read_only(), info_len=88),
    "bpf_link_get_info_by_fd:4380": lambda w: w.info(w.link(), info=NOWHERE, info_len=56),
    "bpf_link_get_info_by_fd:4399": lambda w: w.info(w.link(), info=read_only(), info_len=56),
    # ---- the rest ----
    "bpf_task_fd_query:4525": tail("TASK_FD_QUERY"),
    "bpf_task_fd_query:4528": lambda w: w.become("CAP_BPF").bpf("TASK_FD_QUERY"),
    "bpf_task_fd_query:4531": lambda w: w.bpf("TASK_FD_QUERY", raw={8: 1}),
    "bpf_task_fd_query:4537": lambda w: w.bpf("TASK_FD_QUERY", raw={0: 77}),
    "bpf_enable_stats:4941": tail("ENABLE_STATS"),
    "bpf_enable_stats:4944": lambda w: w.become("CAP_BPF").bpf("ENABLE_STATS"),
    "bpf_enable_stats:4952": lambda w: w.bpf("ENABLE_STATS", type=1),
    "bpf_prog_bind_map:4988": tail("PROG_BIND_MAP"),
    "bpf_prog_bind_map:4991": lambda w: w.bpf("PROG_BIND_MAP", flags=1),
}


def holds(fd):
    """A program that mentions a map."""
    return struct.pack("<BBhi", 0x18, 0x11, 0, fd) + bytes(8) + RETURN_2


def counts(table=None):
    found = Counter()
    for row in table or rows():
        found[row.verdict if row.verdict in ("case", "missing") else "explained"] += 1
    return found


if __name__ == "__main__":
    table = rows()
    print(f"{len(table)} checks of 6.1: {', '.join(f'{n} {what}' for what, n in counts(table).most_common())}")
    for area in dict.fromkeys(row.area for row in table):
        here = counts([row for row in table if row.area == area])
        print(f"  {area:16} {here['case']:4} case {here['explained']:4} explained {here['missing']:4} missing")
    if "--missing" in sys.argv:
        for row in table:
            if row.verdict == "missing":
                print(f"{row.area}\t{row.function}:{row.line}\t{row.errno}")
