"""What is seen of an object beside its commands: /proc/PID/fdinfo, mapped pages. Cases as in commands.py."""

import re
import struct

import wire
from btf_bytes import blob, integer
from commands import (
    ARRAY,
    ARRAY_OF_MAPS,
    BLOOM_FILTER,
    HASH,
    HASH_OF_MAPS,
    LOOKUP_BATCH,
    LPM_TRIE,
    MMAPABLE,
    MODELLED,
    NO_COMMON_LRU,
    NO_PREALLOC,
    NUMA_NODE,
    PROG_ARRAY,
    QUEUE,
    RDONLY,
    RDONLY_PROG,
    RETURN_2,
    RINGBUF,
    STACK,
    USER_RINGBUF,
    WRONLY,
    WRONLY_PROG,
    ZERO_SEED,
    usual,
    value_room,
)
from network import insn
from wire import Buffer

# Lines that differ by nature: ids, the mount and inode of a boot, whether a program was compiled.
BY_NATURE = re.compile(r"^((?:map|prog|btf|link)_id|mnt_id|ino|prog_jited|owner_jited):\t\d+$", re.M)
READ, WRITE, EXEC = 1, 2, 4
ARENA = 33
SHARED, PRIVATE, VALIDATE = 1, 2, 3
PAGE = 4096


def fdinfo(s, what, fd):
    try:
        s.note(f"fdinfo of {what}: " + repr(BY_NATURE.sub(r"\1:\t#", s.task.fdinfo(fd))))
    except OSError:
        s.note(f"fdinfo of {what}: nothing")


def fdinfo_of_maps(s):
    """Every type, with sizes and flags that change its memory, empty and with elements."""
    for kind in MODELLED:
        key_size, value_size, entries, flags = usual(kind)
        inner = s.map_create(ARRAY, 4, 8, 2) if kind in (ARRAY_OF_MAPS, HASH_OF_MAPS) else 0
        sizes = [(key_size, value_size)]
        if kind in (QUEUE, STACK, BLOOM_FILTER):
            sizes += [(0, 1), (0, 12), (0, 100)]
        elif kind == LPM_TRIE:
            sizes += [(5, 1), (20, 100), (260, 3)]
        elif key_size and kind not in (PROG_ARRAY, ARRAY_OF_MAPS, HASH_OF_MAPS):
            sizes += [(4, 1), (4, 12), (4, 100)] + ([(1, 8), (9, 8), (13, 4096)] if kind != ARRAY else [])
        counts = (4096, 8192, 65536) if kind in (RINGBUF, USER_RINGBUF) else (1, 2, 3, 7, 64, 100, 1000)
        for bits in (0, NO_PREALLOC, NO_COMMON_LRU, MMAPABLE, NUMA_NODE, RDONLY, WRONLY, RDONLY_PROG, WRONLY_PROG):
            for key, value in sizes:
                if value > 1000 and bits == NO_PREALLOC:
                    continue  # the live kernel runs out of such large elements now and then: ENOMEM
                for count in counts:
                    fd = s.map_create(kind, key, value, count, flags | bits, inner=inner)
                    fdinfo(s, f"type {kind}", fd)
                    for number in range(3):
                        if kind == LPM_TRIE:
                            name = struct.pack("<I", 8 * number).ljust(key, b"\1")
                        else:
                            name = struct.pack("<I", number).ljust(key, b"\0")[:key] or None
                        of_maps = kind in (ARRAY_OF_MAPS, HASH_OF_MAPS)
                        data = struct.pack("<I", inner & 0xFFFFFFFF) if of_maps else b"\1" * value_room(kind, value)
                        s.update(fd, name, data)
                        s.transcript.pop() if of_maps else None  # it shows a descriptor's number
                    fdinfo(s, f"type {kind} with elements", fd)
                    s.close(fd)
        for extra in range(1, 16):
            if kind == BLOOM_FILTER:
                for count in (1, 10, 1000, 100_000):
                    fd = s.map_create(kind, 0, 8, count, extra=extra)
                    fdinfo(s, f"bloom filter, {extra} hash functions", fd)
                    s.close(fd)
        s.close()


def fdinfo_of_others(s):
    """Programs of several sizes, BTF, a frozen map, a prog array with an owner, a second descriptor."""
    for count in (2, 3, 500, 501, 502, 1012, 1013, 4000):
        fd = s.prog_load(f"of {count} instructions", RETURN_2[:8] * (count - 1) + RETURN_2[8:])
        fdinfo(s, f"{count} instructions", fd)
        s.close(fd)
    raw = Buffer(blob(integer()))
    attr = bytearray(wire.ATTR_SIZE)
    struct.pack_into("<QQI", attr, 0, raw.address, 0, raw.size)
    fdinfo(s, "BTF", s.call("BTF_LOAD", wire.BTF_LOAD, attr, fd=True))
    slots = s.map_create(PROG_ARRAY, 4, 4, 3)
    prog = s.prog_load("XDP", prog_type=wire.XDP)
    for what, fd in (("prog array", slots), ("XDP", prog), ("nothing", 9999)):
        fdinfo(s, what, fd)
    key, value = Buffer(bytes(4)), Buffer(struct.pack("<I", prog & 0xFFFFFFFF))
    attr = bytearray(wire.ATTR_SIZE)
    struct.pack_into("<IIQQ", attr, 0, slots & 0xFFFFFFFF, 0, key.address, value.address)
    s.call("a program into the array", wire.MAP_UPDATE_ELEM, attr)
    fdinfo(s, "prog array with a program", slots)
    frozen = s.map_create(HASH, 4, 8, 3)
    attr = bytearray(wire.ATTR_SIZE)
    struct.pack_into("<I", attr, 0, frozen & 0xFFFFFFFF)
    s.call("FREEZE", wire.MAP_FREEZE, attr)
    fdinfo(s, "a frozen map", frozen)
    second = s.task.dup(frozen)
    s.open.append(second)
    fdinfo(s, "its second descriptor", second)


class Pages:
    """mmap and munmap on either side."""

    def __init__(self, s):
        self.s, self.mapped = s, []
        self.live = not hasattr(s.task, "mmap")

    def map(self, what, fd, length=PAGE, *, prot=READ | WRITE, flags=SHARED, offset=0, address=0):  # noqa: PLR0913
        shown = f"mmap of {what}: {length} bytes from {offset}, prot {prot}, flags {flags:#x}"
        try:
            if self.live:
                pages = wire.LivePages(fd, length, prot, flags, offset, address)
            else:
                pages = self.s.task.mmap(fd, length, prot, flags, offset % (1 << 64), address)
        except OSError as error:
            self.s.note(f"{shown}: {error.errno}")
            return None
        self.s.note(f"{shown}: mapped")
        self.mapped.append(pages)
        return pages

    def unmap(self, what, address, length):
        try:
            wire.unmap_live(address, length) if self.live else self.s.task.munmap(address, length)
            self.s.note(f"munmap {what}: 0")
        except OSError as error:
            self.s.note(f"munmap {what}: {error.errno}")

    def close(self):
        for pages in self.mapped:
            pages.munmap()
        self.mapped.clear()


def mmap_refusals(s):
    """Each kind of descriptor with every length, offset, protection and flag by turns."""
    pages = Pages(s)
    inner = s.map_create(ARRAY, 4, 8, 2)
    created = [(f"type {kind}", s.map_create(kind, *usual(kind), inner=inner)) for kind in MODELLED]
    created = [(what, fd) for what, fd in created if fd >= 0]
    for bits in (0, RDONLY, WRONLY, RDONLY_PROG, WRONLY_PROG):
        for value, entries in ((8, 2), (8, 512), (8, 513), (100, 200)):
            what = f"an array of {entries} times {value}, flags {bits:#x}"
            created.append((what, s.map_create(ARRAY, 4, value, entries, MMAPABLE | bits)))
    created.append(("a ring of 16384", s.map_create(RINGBUF, 0, 0, 16384)))
    created.append(("a user ring of 16384", s.map_create(USER_RINGBUF, 0, 0, 16384)))
    created += [("a program", s.prog_load("for mmap")), ("nothing", 9999), ("less than nothing", -1)]
    for what, fd in created:
        for prot in (0, READ, WRITE, READ | WRITE, EXEC, READ | EXEC, 8):
            for flags in (SHARED, PRIVATE):
                pages.map(what, fd, prot=prot, flags=flags)
        for prot in (READ, READ | WRITE):
            for length in (
                0,
                1,
                PAGE,
                PAGE + 1,
                3 * PAGE,
                8 * PAGE,
                10 * PAGE,
                11 * PAGE,
                1 << 46,
                1 << 47,
                -1 % (1 << 64),
            ):
                for offset in (0, PAGE, 2 * PAGE, 3 * PAGE, 100, -PAGE, 1 << 62):
                    pages.map(what, fd, length, prot=prot, offset=offset)
                    pages.close()
        for flags in (
            0,
            VALIDATE,
            4,
            8,
            SHARED | 0x100,
            SHARED | 0x2000,
            VALIDATE | 0x8000,
            SHARED | 0x40000,
            VALIDATE | 1 << 21,
        ):
            pages.map(what, fd, prot=READ, flags=flags)
        pages.close()
    for address, length in (
        (1 << 16, PAGE),
        (65537, PAGE),
        (1 << 16, 0),
        (1 << 16, 100),
        (1 << 63, PAGE),
        (1 << 16, 1 << 63),
    ):
        pages.unmap(f"{length} bytes at {address:#x}", address, length)


def mmap_and_freeze(s):
    """A writable mapping keeps a map from being frozen, with or without its descriptor; each part of it does."""
    pages = Pages(s)

    def freeze(fd, what):
        attr = bytearray(wire.ATTR_SIZE)
        struct.pack_into("<I", attr, 0, fd & 0xFFFFFFFF)
        s.call(f"FREEZE {what}", wire.MAP_FREEZE, attr)

    fd = s.map_create(ARRAY, 4, 8, 2048, MMAPABLE)
    whole = pages.map("four pages", fd, 4 * PAGE)
    pages.map("the first again, to read", fd, prot=READ)
    freeze(fd, "while mapped")
    pages.unmap("the second page", whole.address + PAGE, PAGE)
    freeze(fd, "with three pages left")
    pages.unmap("the second page again", whole.address + PAGE, PAGE)
    pages.unmap("the last two pages", whole.address + 2 * PAGE, 2 * PAGE)
    freeze(fd, "with one page left")
    pages.unmap("the first page", whole.address, 1)
    freeze(fd, "with a mapping to read")
    pages.map("a frozen map, to write", fd, PAGE)
    pages.map("a frozen map, to read", fd, prot=READ)
    pages.mapped.remove(whole)
    s.update(fd, bytes(4), bytes(8))
    pages.close()


def mmap_of_an_array(s):
    """What one side writes, the other reads; a pointer of bpf(2) may point into a mapping."""
    pages = Pages(s)
    for value, entries in ((8, 100), (12, 700), (1, 5)):
        fd = s.map_create(ARRAY, 4, value, entries, MMAPABLE)
        stride = (value + 7) // 8 * 8
        size = (entries * stride + PAGE - 1) // PAGE * PAGE
        view = pages.map("all of it", fd, size)
        for index in (0, 1, entries - 1):
            s.update(fd, struct.pack("<I", index), bytes(range(1, value + 1)))
            s.note(f"  page shows {view[index * stride : index * stride + stride].hex()}")
            view[index * stride : index * stride + value] = bytes([index & 255]) * value
            s.lookup(fd, struct.pack("<I", index), value)
        key = Buffer(bytes(4))
        for cmd, name in ((wire.MAP_UPDATE_ELEM, "UPDATE"), (wire.MAP_LOOKUP_ELEM, "LOOKUP")):
            for offset in (0, stride, size - value):
                attr = bytearray(wire.ATTR_SIZE)
                struct.pack_into("<IIQQ", attr, 0, fd, 0, key.address, view.address + offset)
                s.call(f"{name} with a value in the mapping, from {offset}", cmd, attr)
        s.note(f"all: {view[0:size].hex()}")
        pages.close()


def mmap_of_an_arena(s):
    """It is mapped whole, at the address that the first mapping got, and goes whole."""
    pages = Pages(s)
    fd = s.map_create(ARENA, 0, 0, 4, MMAPABLE)
    whole = pages.map("the arena", fd, 4 * PAGE)
    for first, count in ((0, 1), (1, 2), (3, 1), (2, 4)):
        pages.unmap(f"{count} pages of it from {first}", whole.address + first * PAGE, count * PAGE)
    pages.map("a page of it", fd)
    pages.map("all of it once more", fd, 4 * PAGE)
    pages.map("more than all of it", fd, 5 * PAGE)
    pages.unmap("all of it", whole.address, 4 * PAGE)
    pages.mapped.remove(whole)
    pages.map("all of it, its old address not named", fd, 4 * PAGE)
    pages.close()


def arenas_where_they_are_wanted(s):
    """A place is taken where twice the arena fits into a task; it is rounded down to a page, and up to the lowest."""
    pages, task_end = Pages(s), (1 << 47) - PAGE
    there = (0, 1 << 16, 15 << 12, (1 << 16) + 100, 0x7E0000000000, task_end, 1 << 47, 1 << 62, 0xFFFF800000000000)
    for count in (1, 3):
        for extra in (*there, task_end - count * PAGE, task_end - (2 * count - 1) * PAGE, task_end - 2 * count * PAGE):
            attr = bytearray(wire.ATTR_SIZE)
            struct.pack_into("<5I", attr, 0, ARENA, 0, 0, count, MMAPABLE)
            struct.pack_into("<Q", attr, 64, extra)
            for wanted in (extra, extra + 1, extra + PAGE - 1, extra + PAGE, 0):
                fd = s.call(f"an arena at {extra:#x}", wire.MAP_CREATE, attr, fd=True)
                if fd < 0:
                    continue
                found = pages.map(f"it, wanted at {wanted:#x}", fd, count * PAGE, address=wanted)
                if found and extra:
                    s.note(f"  at {found.address:#x}")
                pages.close()
                s.close(fd)
    for wanted in (0x7E0000000000 - PAGE, 0x7E0000000000 - 2 * PAGE, 0x7E00FFFFF000):
        fd = s.map_create(ARENA, 0, 0, 2, MMAPABLE)
        found = pages.map(f"an arena of two pages, wanted at {wanted:#x}", fd, 2 * PAGE, address=wanted)
        s.note(f"  at {found.address:#x}")
        pages.close()


def answers_over_the_end_of_memory(s):
    """What lies before the end is written, though the call is EFAULT; what is not 0 there is E2BIG."""
    page = wire.LastPage()
    fd = s.map_create(HASH, 8, 24, 4, ZERO_SEED)
    keys = [bytes([number]) * 8 for number in range(3)]
    for key in keys:
        s.update(fd, key, key * 3)
    for room in (0, 1, 7, 8, 9, 23, 24):
        key, other = Buffer(keys[1]), Buffer(bytes(24 * 3))
        for cmd, name in ((wire.MAP_LOOKUP_ELEM, "LOOKUP"), (wire.MAP_GET_NEXT_KEY, "GET_NEXT_KEY")):
            attr = bytearray(wire.ATTR_SIZE)
            struct.pack_into("<IIQQ", attr, 0, fd, 0, key.address, page.fill(b"\xee" * room))
            s.call(f"{name} into the last {room} bytes", cmd, attr)
            s.note(f"  {page.last(24).hex()}")
        for places in ((other.address, page.fill(b"\xee" * room)), (page.fill(b"\xee" * room), other.address)):
            attr = bytearray(wire.ATTR_SIZE)
            struct.pack_into("<QQQQII", attr, 0, 0, key.address, *places, 3, fd)
            s.call(f"LOOKUP_BATCH into the last {room} bytes", LOOKUP_BATCH, attr)
            s.note(f"  done {struct.unpack_from('<I', attr, 32)[0]} {page.last(24).hex()}")
    for known in (100, 104):
        for tail in (b"", bytes(3), b"\0\1", bytes(64), bytes(80) + b"\1"):
            attr = bytearray(wire.ATTR_SIZE)
            struct.pack_into("<IIQ", attr, 0, fd, known + len(tail) + 8, page.fill(bytes(known) + tail))
            s.call(
                f"OBJ_GET_INFO with {len(tail)} bytes behind {known}, and 8 that are not there",
                wire.OBJ_GET_INFO_BY_FD,
                attr,
            )
    page.close()


def what_an_info_held_before(s):
    """OBJ_GET_INFO into bytes that are not 0: which of them it leaves alone."""
    for name in (b"", b"short", b"fifteen_letters"):
        for kind in (ARRAY, HASH, QUEUE):
            fd = s.map_create(kind, *usual(kind), name=name)
            for length in (24, 25, 32, 40, 44, 80, 88):
                raw = Buffer(b"\xa5" * length)
                attr = bytearray(wire.ATTR_SIZE)
                struct.pack_into("<IIQ", attr, 0, fd, length, raw.address)
                s.call(f"OBJ_GET_INFO of {name} type {kind}, {length} bytes", wire.OBJ_GET_INFO_BY_FD, attr)
                s.note(f"  {bytes(raw)[:4].hex()} {bytes(raw)[8:].hex()}")


def rings_that_wrap(s):
    """Records over the end of a ring; the program writes their first bytes only, so the others stay as they were."""
    pages = Pages(s)
    for size in (504, 1000, 2040):
        ring = s.map_create(RINGBUF, 0, 0, PAGE)
        consumer = pages.map("the consumer's page", ring)
        data = pages.map("the producer's page and the data", ring, 3 * PAGE, prot=READ, offset=PAGE)
        for number in range(12):
            code = insn(0x18, 1, 1, imm=ring) + insn(0) + insn(0xB7, 2, imm=size) + insn(0xB7, 3) + insn(0x85, imm=131)
            code += insn(0x15, 0, off=4) + insn(0x7A, 0, imm=number + 1) + insn(0xBF, 1, 0) + insn(0xB7, 2)
            prog = s.prog_load(f"record {number} of {size}", code + insn(0x85, imm=132) + RETURN_2)
            s.prog_test_run(f"record {number}", prog)
            consumer[0:8] = data[0:8]
            s.note(f"  {data[0 : 3 * PAGE].hex()}")
            s.close(prog)
        pages.close()


def numa_nodes(s):
    """The node that a map asks for, with the flag and without, and what cannot lie on one node."""
    for kind in MODELLED:
        key, value, entries, flags = usual(kind)
        inner = s.map_create(ARRAY, 4, 8, 2) if kind in (ARRAY_OF_MAPS, HASH_OF_MAPS) else 0
        for bits in (0, NUMA_NODE, NUMA_NODE | NO_COMMON_LRU, NUMA_NODE | NO_PREALLOC):
            for node in (0, 1, 63, 64, 1023, 1024, (1 << 31) - 1, 1 << 31, (1 << 32) - 2, (1 << 32) - 1):
                before = len(s.transcript)
                fd = s.map_create(kind, key, value, entries, flags | bits, inner=inner, numa=node)
                s.transcript[before] = f"node {node:#x}, " + s.transcript[before]
                s.close(fd)
        s.close()


WRITTEN = (
    numa_nodes,
    fdinfo_of_maps,
    fdinfo_of_others,
    mmap_refusals,
    mmap_and_freeze,
    mmap_of_an_array,
    mmap_of_an_arena,
    arenas_where_they_are_wanted,
    answers_over_the_end_of_memory,
    what_an_info_held_before,
    rings_that_wrap,
)
