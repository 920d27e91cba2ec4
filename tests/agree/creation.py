"""BPF_MAP_CREATE of every map type, attribute by attribute, at and around each limit.

One case for each type. What would make the live kernel allocate much is left out: either the maps are small, or they
are so large that it refuses at once.
"""

import functools
import os
import struct
from typing import NamedTuple

import wire
from btf_bytes import array, blob, integer, record, to
from wire import Buffer

MIB = 1 << 20
SMALL = 8 * MIB  # bytes of a map that may be allocated
NO_PREALLOC, NUMA_NODE, MMAPABLE = 1, 4, 1 << 10
KMALLOC_MAX = 4 * MIB


class Usual(NamedTuple):
    """Attributes that the type takes."""

    number: int
    key: int = 4
    value: int = 4
    entries: int = 4
    flags: int = 0
    btf: bool = False
    inner: bool = False
    vmlinux_type: int = 0
    slow: bool = False  # the live kernel waits for grace periods, or builds page tables, for each refused map


TYPES = {
    "HASH": Usual(1, value=8),
    "ARRAY": Usual(2, value=8),
    "PROG_ARRAY": Usual(3),
    "PERF_EVENT_ARRAY": Usual(4),
    "PERCPU_HASH": Usual(5, value=8),
    "PERCPU_ARRAY": Usual(6, value=8),
    "STACK_TRACE": Usual(7, value=16),
    "CGROUP_ARRAY": Usual(8),
    "LRU_HASH": Usual(9, value=8),
    "LRU_PERCPU_HASH": Usual(10, value=8),
    "LPM_TRIE": Usual(11, key=8, value=8, flags=NO_PREALLOC),
    "ARRAY_OF_MAPS": Usual(12, inner=True),
    "HASH_OF_MAPS": Usual(13, inner=True),
    "DEVMAP": Usual(14, slow=True),
    "SOCKMAP": Usual(15, slow=True),
    "CPUMAP": Usual(16, entries=1, slow=True),
    "XSKMAP": Usual(17, slow=True),
    "SOCKHASH": Usual(18, slow=True),
    "CGROUP_STORAGE": Usual(19, key=8, value=8, entries=0),
    "REUSEPORT_SOCKARRAY": Usual(20, value=8),
    "PERCPU_CGROUP_STORAGE": Usual(21, key=8, value=8, entries=0),
    "QUEUE": Usual(22, key=0, value=8),
    "STACK": Usual(23, key=0, value=8),
    "SK_STORAGE": Usual(24, entries=0, flags=NO_PREALLOC, btf=True, slow=True),
    "DEVMAP_HASH": Usual(25, slow=True),
    "STRUCT_OPS": Usual(26, entries=1, vmlinux_type=1),  # type 1 of vmlinux is an integer: no struct_ops
    "RINGBUF": Usual(27, key=0, value=0, entries=4096),
    "INODE_STORAGE": Usual(28, entries=0, flags=NO_PREALLOC, btf=True, slow=True),
    "TASK_STORAGE": Usual(29, entries=0, flags=NO_PREALLOC, btf=True, slow=True),
    "BLOOM_FILTER": Usual(30, key=0, value=8),
    "USER_RINGBUF": Usual(31, key=0, value=0, entries=4096),
    "CGRP_STORAGE": Usual(32, entries=0, flags=NO_PREALLOC, btf=True, slow=True),
    "ARENA": Usual(33, key=0, value=0, entries=1, flags=MMAPABLE, slow=True),
}
KEYS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 16, 17, 20, 32, 255, 256, 257, 260, 261, 264, 265, 511, 512, 513, 4096)
KEYS += (65535, 65536, KMALLOC_MAX - 100, KMALLOC_MAX - 48, KMALLOC_MAX, KMALLOC_MAX + 1, 1 << 31, (1 << 32) - 1)
VALUES = (0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 16, 24, 31, 32, 33, 64, 128, 255, 256, 512, 1008, 1016, 1017, 1024, 4064, 4096)
VALUES += (8128, 32760, 32767, 32768, 32769, 65407, 65408, 65535, 65536, KMALLOC_MAX - 600, KMALLOC_MAX - 64)
VALUES += (KMALLOC_MAX - 56, KMALLOC_MAX - 52, KMALLOC_MAX - 48, KMALLOC_MAX - 8, KMALLOC_MAX, KMALLOC_MAX + 1)
VALUES += ((1 << 31) - 8, (1 << 31) - 1, 1 << 31, (1 << 31) + 1, (1 << 32) - 9, (1 << 32) - 8, (1 << 32) - 1)
ENTRIES = (0, 1, 2, 3, 4, 5, 7, 8, 16, 255, 511, 512, 513, 1024, 4095, 4096, 4097, 8192, 12288, 65535, 65536, 65537)
ENTRIES += (MIB - 1, MIB, MIB + 1, 1 << 27, 1 << 28, 1 << 30, (1 << 31) - 1, 1 << 31, (1 << 31) + 1)
ENTRIES += ((1 << 31) + 4096, (1 << 32) - 4096, (1 << 32) - 2, (1 << 32) - 1)
EXTRAS = (1, 2, 15, 16, 4095, 4096, 4097, 0xFFFFF000, 1 << 32, (1 << 32) - 1, 1 << 63, (1 << 64) - 4096)


def btf_types():
    """An int, a long, structs with one and two members, and what else may name a key or a value."""
    return blob(
        integer(),
        integer(64, 8, name="long"),
        record(16, ("a", 2, 0), ("b", 1, 64), name="key"),
        record(16, ("a", 1, 0), ("b", 2, 64), name="key"),
        to("typedef", 1, "key"),
        to("ptr", 1),
        array(1, 1, 2),
        record(4, ("a", 1, 0), name="key"),
        to("const", 2),
    )


BTF_SIZES = (0, 4, 8, 16, 16, 4, 8, 8, 4, 8, 0)


@functools.cache
def memory_bytes():
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


class Creator:
    """Creates maps of one type on one side, each with one attribute that is not as usual."""

    def __init__(self, side, usual):
        self.side, self.usual = side, usual
        self.inner = side.map_create(2, 4, 8, 2) if usual.inner else 0
        raw = Buffer(btf_types())
        attr = bytearray(wire.ATTR_SIZE)
        struct.pack_into("<QQI", attr, 0, raw.address, 0, raw.size)
        self.btf = side.call("BTF_LOAD", wire.BTF_LOAD, attr, fd=True)

    def is_harmless(self, key, value, entries):
        """Nothing large is really allocated: refused before that, small, or more than the machine has."""
        kind = self.usual.number
        if kind in (27, 31):  # max_entries are bytes
            return entries <= SMALL or entries & (entries - 1) != 0
        if kind == 33:
            return entries <= 4096 or entries > MIB
        if kind in (11, 19, 21, 24, 26, 28, 29, 32):  # elements are allocated when they come
            return True
        if key > KMALLOC_MAX or (value > KMALLOC_MAX and (kind != 2 or value >= 1 << 31)):
            return True
        hashed = kind in (1, 5, 7, 9, 10, 13, 18, 25)
        if hashed and entries > 1 << 31:
            return True
        each = max(key, 1) + max(value, 1) * (wire.possible_cpus() if kind in (5, 6, 10) else 1)
        first = 16 if hashed else value if kind in (2, 22, 23) else 8
        return entries * max(each, 16) <= SMALL or entries * first >= 2 * memory_bytes()

    def create(self, what, **changed):
        usual = self.usual
        get = {"key": usual.key, "value": usual.value, "entries": usual.entries, "flags": usual.flags, "extra": 0}
        get |= {"inner": self.inner, "numa": 0, "ifindex": 0, "btf": self.btf if usual.btf else 0}
        get |= {"key_type": int(usual.btf), "value_type": int(usual.btf), "vmlinux_type": usual.vmlinux_type}
        get |= {"module_btf": 0} | changed
        if not self.is_harmless(get["key"], get["value"], get["entries"]):
            return
        attr = bytearray(wire.ATTR_SIZE)
        words = (usual.number, get["key"], get["value"], get["entries"], get["flags"], get["inner"], get["numa"])
        struct.pack_into("<7I", attr, 0, *(word & 0xFFFFFFFF for word in words))
        words = get["ifindex"], get["btf"], get["key_type"], get["value_type"], get["vmlinux_type"]
        struct.pack_into("<5I", attr, 44, *(word & 0xFFFFFFFF for word in words))
        struct.pack_into("<Qi", attr, 64, get["extra"], get["module_btf"])
        shown = {name: value for name, value in changed.items() if name not in ("inner", "btf", "module_btf")}
        fd = self.side.call(f"create {what} {shown}", wire.MAP_CREATE, attr, fd=True)
        if fd >= 0:
            self.side.close(fd)


def matrix(usual):
    """A case: every attribute by turns."""

    def run(side):
        maker = Creator(side, usual)
        maker.create("as usual")
        one = usual.entries if usual.number in (27, 31) else min(usual.entries, 1)
        for key in KEYS:
            maker.create("key", key=key, entries=one)
        for value in VALUES:
            maker.create("value", value=value, entries=one)
        for entries in ENTRIES:
            maker.create("entries", entries=entries)
        for bit in range(32):
            maker.create("flag alone", flags=1 << bit)
            maker.create("flag beside the usual", flags=usual.flags ^ 1 << bit)
        for flags in (24, 384, 65, 1025, 3, 66, 5, 1 << 13 | 1 << 15, 1 << 17 | 1 << 10, 1 << 18 | 1 << 10):
            maker.create("flags", flags=usual.flags | flags)
        for numa in (0, 1, 77, 0x7FFFFFFF, 0xFFFFFFFF):
            maker.create("numa", flags=usual.flags | NUMA_NODE, numa=numa)
            maker.create("numa without its flag", numa=numa)
        for extra in EXTRAS:
            maker.create("extra", extra=extra)
        for inner in (0, 9999, -1, maker.btf):
            maker.create(f"inner {'BTF' if inner == maker.btf else inner}", inner=inner)
        maker.create("ifindex", ifindex=0x7FFFFFF0)
        btf_matrix(maker)

    run.__name__ = "create_" + next(name for name, row in TYPES.items() if row is usual)
    return run


def btf_matrix(maker):
    usual = maker.usual
    every = range(len(BTF_SIZES))
    pairs = [(key, value) for key in every for value in every]
    few = [(0, 1), (1, 1), (1, 2), (2, 1), (3, 2), (5, 8), (6, 1), (10, 1), (1, 10)]
    for fd, name in ((9999, "9999"), (-1, "-1")):
        for key_type, value_type in few[: 3 if usual.slow else None]:
            maker.create(f"with {name}", btf=fd, key_type=key_type, value_type=value_type)
    for key_type, value_type in few if usual.slow else pairs:
        types = {"btf": maker.btf, "key_type": key_type, "value_type": value_type}
        maker.create("with BTF", **types)
        maker.create("as large as its types", key=BTF_SIZES[key_type], value=BTF_SIZES[value_type], **types)
    for vmlinux_type in (0, 1) if usual.slow else (0, 1, 5, 0xFFFFFFF0):
        for key_type, value_type in ((0, 0), (1, 0), (1, 1)):
            types = {"vmlinux_type": vmlinux_type, "key_type": key_type, "value_type": value_type}
            maker.create("vmlinux", btf=maker.btf, **types)
            maker.create("vmlinux without BTF", **types)
    for module, what in ((9999, "nothing"), (-1, "-1"), (maker.btf, "BTF"), (maker.inner, "inner")):
        flags = usual.flags | 1 << 15
        maker.create(f"module {what}", module_btf=module, flags=flags)
        maker.create(f"module {what}, its flag missing", module_btf=module)


CASES = [matrix(usual) for usual in TYPES.values()]
