"""bpf(2) command by command: the same calls on both sides, the same results, errnos and bytes.

A case is a function that makes calls through a ``Side``; each call writes a line into the side's transcript, and the
two transcripts must be equal. Descriptors differ between the sides, so a line names what the call returned only when
that is not a descriptor. Nothing is attached or pinned, and a Side closes what it opened.
"""

import random
import struct

import contexts
import wire
from btf_bytes import with_header
from wire import Buffer

HASH, ARRAY, PROG_ARRAY, PERCPU_HASH, PERCPU_ARRAY = 1, 2, 3, 5, 6
LRU_HASH, LRU_PERCPU_HASH, LPM_TRIE, ARRAY_OF_MAPS, HASH_OF_MAPS, QUEUE, STACK = 9, 10, 11, 12, 13, 22, 23
RINGBUF, BLOOM_FILTER, USER_RINGBUF = 27, 30, 31
MODELLED = (HASH, ARRAY, PROG_ARRAY, PERCPU_HASH, PERCPU_ARRAY, LRU_HASH, LRU_PERCPU_HASH, LPM_TRIE, ARRAY_OF_MAPS)
MODELLED += (HASH_OF_MAPS, QUEUE, STACK, RINGBUF, BLOOM_FILTER, USER_RINGBUF)
NETWORK = (14, 15, 16, 17, 18, 20, 25)  # DEVMAP, SOCKMAP, CPUMAP, XSKMAP, SOCKHASH, REUSEPORT_SOCKARRAY, DEVMAP_HASH
PERF_EVENT_ARRAY, STACK_TRACE, CGROUP_ARRAY = 4, 7, 8
MODELLED += (*NETWORK, PERF_EVENT_ARRAY, STACK_TRACE, CGROUP_ARRAY)
# Whose values of 4 bytes name something: here nothing has the number that is tried, so the slots stay empty.
DESCRIPTORS = (PROG_ARRAY, ARRAY_OF_MAPS, HASH_OF_MAPS, PERF_EVENT_ARRAY, CGROUP_ARRAY, *NETWORK)
PER_CPU = (PERCPU_HASH, PERCPU_ARRAY, LRU_PERCPU_HASH)
NO_PREALLOC, NO_COMMON_LRU, NUMA_NODE, RDONLY, WRONLY, ZERO_SEED, RDONLY_PROG, WRONLY_PROG = (
    1,
    2,
    4,
    8,
    16,
    64,
    128,
    256,
)
MMAPABLE, PRESERVE_ELEMS, INNER_MAP = 1 << 10, 1 << 11, 1 << 12
LOOKUP_BATCH, TAKE_BATCH, UPDATE_BATCH, DELETE_BATCH = 24, 25, 26, 27
LINK_CREATE, LINK_UPDATE, ITER_CREATE, LINK_DETACH, PROG_BIND_MAP = 28, 29, 33, 34, 35
CPUS = wire.possible_cpus()
RETURN_2 = bytes.fromhex("b7000000020000009500000000000000")


class Side:
    """One task and what it answered."""

    def __init__(self, task):
        self.task, self.transcript, self.open = task, [], []

    def note(self, text):
        self.transcript.append(text)

    def call(self, what, cmd, attr, size=None, *, fd=False):
        result = self.task.sys_bpf(cmd, attr, size)
        if fd and result >= 0:
            self.open.append(result)
        self.note(f"{what}: {'a descriptor' if fd and result >= 0 else wire.name(result)}")
        return result

    def map_create(self, map_type, key, value, entries, flags=0, *, extra=0, inner=0, numa=0, name=b"", size=None):
        attr = bytearray(wire.ATTR_SIZE)
        struct.pack_into("<7I16s", attr, 0, map_type, key, value, entries, flags, inner, numa, name)
        struct.pack_into("<Q", attr, 64, extra)
        what = f"MAP_CREATE type={map_type} key={key} value={value} entries={entries} flags={flags:#x} extra={extra:#x}"
        return self.call(f"{what} name={name} size={size}", wire.MAP_CREATE, attr, size, fd=True)

    def element(self, what, cmd, fd, pair, *, flags=0, shows=False):
        """Each of the commands over one element: pair is key and value, bytes or None for NULL."""
        key, value = pair
        keys = Buffer(key) if key is not None else None
        values = Buffer(value) if value is not None else None
        attr = bytearray(wire.ATTR_SIZE)
        pointers = (keys.address if keys else 0, values.address if values else 0)
        struct.pack_into("<IIQQQ", attr, 0, fd & 0xFFFFFFFF, 0, *pointers, flags)
        shown = f"{what} key={key.hex() if key is not None else None} flags={flags:#x}"
        result = self.call(shown, cmd, attr)
        if shows and values:
            self.note(f"  {bytes(values).hex()}")
        return result, bytes(values) if values else None

    def lookup(self, fd, key, size, flags=0):
        return self.element("LOOKUP", wire.MAP_LOOKUP_ELEM, fd, (key, b"\xee" * size), flags=flags, shows=True)

    def update(self, fd, key, value, flags=0):
        what = f"UPDATE value={value.hex() if value is not None else None}"
        return self.element(what, wire.MAP_UPDATE_ELEM, fd, (key, value), flags=flags)

    def delete(self, fd, key, flags=0):
        return self.element("DELETE", wire.MAP_DELETE_ELEM, fd, (key, None), flags=flags)

    def take(self, fd, key, size, flags=0):
        what = "LOOKUP_AND_DELETE"
        return self.element(what, wire.MAP_LOOKUP_AND_DELETE_ELEM, fd, (key, b"\xee" * size), flags=flags, shows=True)

    def next_key(self, fd, key, size):
        return self.element("GET_NEXT_KEY", wire.MAP_GET_NEXT_KEY, fd, (key, b"\xee" * size), shows=True)

    def batch(self, cmd, fd, count, sizes, **given):
        """A batch command: sizes of key, value and token; given: token, keys, values (bytes, or an int that is an
        address), out (False for NULL), elem_flags, flags. Returns (result, count, token)."""
        key_size, value_size, token_size = sizes
        room = min(count, 64)

        def pointer(name, size):
            data = given.get(name, b"\xee" * (size * room))
            return (None, data) if isinstance(data, int) else (Buffer(data), None)

        keys, values = pointer("keys", key_size), pointer("values", value_size)
        token, out = given.get("token"), Buffer(b"\xee" * token_size)
        before = Buffer(token) if token is not None else None
        attr = bytearray(wire.ATTR_SIZE)
        addresses = [one.address if one else address for one, address in (keys, values)]
        out_address = out.address if given.get("out", True) else 0
        struct.pack_into("<QQQQ", attr, 0, before.address if before else 0, out_address, *addresses)
        struct.pack_into("<IIQQ", attr, 32, count, fd & 0xFFFFFFFF, given.get("elem_flags", 0), given.get("flags", 0))
        shown = {name: value.hex() if isinstance(value, bytes) else value for name, value in given.items()}
        result = self.call(f"batch command {cmd} count={count} {shown}", cmd, attr)
        done = struct.unpack_from("<I", attr, 32)[0]
        self.note(f"  done {done} token {bytes(out).hex()}")
        if cmd in (LOOKUP_BATCH, TAKE_BATCH):
            self.note(f"  keys {bytes(keys[0] or b'').hex()} values {bytes(values[0] or b'').hex()}")
        return result, done, bytes(out)

    def walk(self, fd, size, limit=300):
        """The order of all keys."""
        key = None
        for _ in range(limit):
            result, key = self.next_key(fd, key, size)
            if result:
                break

    def prog_load(self, what, code=RETURN_2, prog_type=wire.SOCKET_FILTER, size=None, **fields):
        """fields: offset of a field in bpf_attr, as at28=..., or insns, license, count."""
        insns, license_text = Buffer(code), Buffer(b"GPL\0")
        attr = bytearray(wire.ATTR_SIZE)
        count = fields.pop("count", len(code) // 8)
        pointers = fields.pop("insns", insns.address), fields.pop("license", license_text.address)
        struct.pack_into("<IIQQ", attr, 0, prog_type, count, *pointers)
        for field, value in fields.items():
            if isinstance(value, bytes):
                attr[int(field[2:]) : int(field[2:]) + len(value)] = value
            else:
                struct.pack_into("<I", attr, int(field[2:]), value & 0xFFFFFFFF)
        return self.call(f"PROG_LOAD {what}", wire.PROG_LOAD, attr, size, fd=True)

    def prog_test_run(self, what, fd, data=bytes(64), room=None, *, size=None, ctx=None, ctx_room=None, **fields):
        """room, ctx_room: the size of data_out and ctx_out, None for none."""
        data_in, out = Buffer(data or b""), Buffer(b"\xee" * (room or 0))
        ctx_in, ctx_out = Buffer(ctx or b""), Buffer(b"\xee" * (ctx_room or 0))
        attr = bytearray(wire.ATTR_SIZE)
        struct.pack_into("<IIII", attr, 0, fd & 0xFFFFFFFF, 0, len(data or b""), room or 0)
        struct.pack_into("<QQ", attr, 16, data_in.address if data is not None else 0, out.address if room else 0)
        struct.pack_into("<IIII", attr, 32, fields.get("repeat", 0), 0, len(ctx or b""), ctx_room or 0)
        struct.pack_into("<QQ", attr, 48, ctx_in.address if ctx is not None else 0, ctx_out.address if ctx_room else 0)
        struct.pack_into("<III", attr, 64, fields.get("flags", 0), fields.get("cpu", 0), fields.get("batch", 0))
        for offset, value in fields.get("at", {}).items():
            struct.pack_into("<Q", attr, offset, value)
        self.call(f"TEST_RUN {what}", wire.PROG_TEST_RUN, attr, size)
        retval, data_out_size = struct.unpack_from("<I4xI", attr, 4)
        self.note(
            f"  retval {retval:#x} data_size_out {data_out_size} ctx_size_out {struct.unpack_from('<I', attr, 44)[0]}"
        )
        self.note(f"  data {bytes(out).hex()} ctx {bytes(ctx_out).hex()}")

    def info(self, what, fd, length, tail=b"", hide=()):
        """OBJ_GET_INFO_BY_FD; hide: (from, to) of fields that differ by nature, such as ids."""
        raw = Buffer((bytes(length) + tail) if tail else bytes(max(length, 1)))
        attr = bytearray(wire.ATTR_SIZE)
        struct.pack_into("<IIQ", attr, 0, fd & 0xFFFFFFFF, length + len(tail), raw.address)
        self.call(f"OBJ_GET_INFO {what} length={length} tail={tail.hex()}", wire.OBJ_GET_INFO_BY_FD, attr)
        shown = bytearray(bytes(raw))
        for start, end in hide:
            shown[start:end] = b"\xcc" * (min(end, len(shown)) - min(start, len(shown)))
        self.note(f"  info_len {struct.unpack_from('<I', attr, 4)[0]}: {shown.hex()}")

    def close(self, fd=None):
        for one in [fd] if fd is not None else list(self.open):
            if one in self.open:
                self.open.remove(one)
                self.task.close(one)


# ---- written cases ----


def map_create_limits(s):
    """Every type with every size, count and flag by turns."""
    for kind in MODELLED:
        key, value, entries, flags = usual(kind)
        inner = s.map_create(ARRAY, 4, 8, 2) if kind in (ARRAY_OF_MAPS, HASH_OF_MAPS) else 0
        for size in (0, 1, 2, 3, 4, 5, 8, 12, 16, 255, 260, 261, 264, 265, 512, 513, 4096, 1 << 22, (1 << 32) - 1):
            s.close(s.map_create(kind, size, value, entries, flags, inner=inner))
        for size in (0, 1, 2, 3, 4, 5, 7, 8, 255, 4096, 32767, 32768, 32769, 1 << 22, 1 << 31, (1 << 32) - 1):
            s.close(s.map_create(kind, key, size, entries, flags, inner=inner))
        for count in (0, 1, 2, 3, 5, 4095, 4096, 4097, 8192, 12288, 65536):
            s.close(s.map_create(kind, key, value, count, flags, inner=inner))
        for bit in range(32):
            s.close(s.map_create(kind, key, value, entries, flags ^ 1 << bit, inner=inner))
        for pair in (24, 384, 65, 1025, 3, 66, 4096 | 1024, 128 | 1024, 8 | 256):
            s.close(s.map_create(kind, key, value, entries, flags | pair, inner=inner))
        for extra in (1, 3, 15, 16, 1 << 32):
            s.close(s.map_create(kind, key, value, entries, flags, extra=extra, inner=inner))
        s.close(s.map_create(kind, key, value, entries, flags | NUMA_NODE, numa=0, inner=inner))
        s.close(s.map_create(kind, key, value, entries, flags | NUMA_NODE, numa=77, inner=inner))
        s.close(s.map_create(kind, key, value, entries, flags, inner=9999))
        s.close()


def map_create_names_and_sizes(s):
    for name in (b"a", b"a.b_c9", b"a b", b"a-b", b"\xff", b"0123456789abcde", b"0123456789abcdef", b"a\0b"):
        s.close(s.map_create(ARRAY, 4, 8, 1, name=name))
    for size in (0, 4, 12, 15, 16, 20, 28, 44, 72, 80, 120, 144, 152, 168):
        s.close(s.map_create(ARRAY, 4, 8, 1, size=size))
    for kind in (0, 34, 35, 99, (1 << 32) - 1):
        s.close(s.map_create(kind, 4, 8, 1))


def usual(kind):
    """key_size, value_size, max_entries, flags that this type takes."""
    if kind in (QUEUE, STACK, BLOOM_FILTER):
        return 0, 8, 4, 0
    if kind in (RINGBUF, USER_RINGBUF):
        return 0, 0, 4096, 0
    if kind == LPM_TRIE:
        return 8, 8, 8, NO_PREALLOC
    if kind in (HASH, PERCPU_HASH, LRU_HASH, LRU_PERCPU_HASH):
        return 4, 8, 4, ZERO_SEED
    return 4, 4 if kind in DESCRIPTORS else 8, 4, 0


def value_room(kind, value):
    return (value + 7) // 8 * 8 * CPUS if kind in PER_CPU else value


def element_flags(s):
    """Every element command of every type, with each flag, NULL pointers, and pointers to nowhere."""
    for kind in MODELLED:
        key_size, value_size, entries, flags = usual(kind)
        inner = s.map_create(ARRAY, 4, 8, 2) if kind in (ARRAY_OF_MAPS, HASH_OF_MAPS) else 0
        fd = s.map_create(kind, key_size, value_size, entries, flags, inner=inner)
        key = struct.pack("<II", 32, 1) if kind == LPM_TRIE else struct.pack("<I", 1)[: key_size or 0] or None
        room = value_room(kind, value_size) or 8
        value = bytes(range(1, 9)) * (room // 8) if kind not in DESCRIPTORS else b"\x0f\x27\0\0"
        for mode in (0, 1, 2, 3, 4, 5, 8, 16, 1 << 32, 1 << 63):
            s.update(fd, key, value, mode)
            s.lookup(fd, key, room, mode)
            s.take(fd, key, room, mode)
            s.delete(fd, key, mode)
        for one in (key, None, bytes(key_size or 4)):
            s.update(fd, one, value)
            s.update(fd, one, None)
            s.lookup(fd, one, room)
            s.next_key(fd, one, key_size or 8)
            s.take(fd, one, room)
            s.delete(fd, one)
        for cmd in (1, 2, 3, 4, 21, 22):
            attr = bytearray(wire.ATTR_SIZE)
            struct.pack_into("<IIQQ", attr, 0, fd & 0xFFFFFFFF, 0, 16, 24)
            s.call(f"type {kind} command {cmd} with pointers to nowhere", cmd, attr)
            attr[40] = 1
            s.call(f"type {kind} command {cmd} with a byte too many", cmd, attr)
        s.close()


def filled_and_walked(s):
    """Maps until they are full, their keys in order, one key after a key that is not there."""
    for kind in (HASH, ARRAY, PERCPU_HASH, PERCPU_ARRAY, LRU_HASH, LRU_PERCPU_HASH):
        for flags in (0, NO_PREALLOC, NO_COMMON_LRU):
            if kind in (HASH, PERCPU_HASH, LRU_HASH, LRU_PERCPU_HASH):
                flags |= ZERO_SEED  # noqa: PLW2901 the order of keys must not depend on the machine's seed
            for key_size in (4, 8, 3, 13):
                fd = s.map_create(kind, key_size, 8, 20, flags)
                if fd < 0:
                    continue
                for number in range(24):
                    s.update(
                        fd, number.to_bytes(4, "little").ljust(key_size, b"\x05")[:key_size], bytes(value_room(kind, 8))
                    )
                s.walk(fd, key_size)
                s.next_key(fd, b"\x77" * key_size, key_size)
                for number in range(0, 24, 3):
                    s.delete(fd, number.to_bytes(4, "little").ljust(key_size, b"\x05")[:key_size])
                s.walk(fd, key_size)
                s.close(fd)
    for kind in (QUEUE, STACK):
        fd = s.map_create(kind, 0, 4, 3)
        for number in range(5):
            s.update(fd, None, bytes([number] * 4))
        s.update(fd, None, b"last", 2)
        s.lookup(fd, None, 4)
        for _ in range(5):
            s.take(fd, None, 4)
        s.lookup(fd, None, 4)
        s.close(fd)


HASHES = (HASH, PERCPU_HASH, LRU_HASH, LRU_PERCPU_HASH, HASH_OF_MAPS)


def batch_sizes(kind, key_size, value_size):
    """What a batch over such a map copies for an element, and how long its token is."""
    return key_size, value_room(kind, value_size), 4 if kind in HASHES else max(key_size, 1)


def batches(s):
    """Every batch command on every type: flags, counts, tokens, pointers to nowhere, what a frozen map says."""
    for kind in MODELLED:
        key_size, value_size, entries, flags = usual(kind)
        inner = s.map_create(ARRAY, 4, 8, 2) if kind in (ARRAY_OF_MAPS, HASH_OF_MAPS) else 0
        flags |= ZERO_SEED if kind == HASH_OF_MAPS else 0
        fd = s.map_create(kind, key_size, value_size, entries, flags, inner=inner)
        sizes = batch_sizes(kind, key_size, value_size)
        if kind == LPM_TRIE:
            keys = b"".join(struct.pack("<II", 32, number) for number in range(entries))
        else:
            keys = b"".join(struct.pack("<I", number)[:key_size] for number in range(entries))
        # No program and no map has this descriptor here: the slots of arrays and hashes of maps stay empty.
        values = b"\x0f\x27\0\0" if kind in DESCRIPTORS else bytes(range(1, 9))
        values = values * (sizes[1] * entries // len(values))
        for cmd in (UPDATE_BATCH, LOOKUP_BATCH, TAKE_BATCH, DELETE_BATCH):
            mine = dict(keys=keys, values=values) if cmd in (UPDATE_BATCH, DELETE_BATCH) else {}
            fill = dict(keys=keys, values=values)
            for count in (0, 1, 2, entries, entries + 1):
                s.batch(UPDATE_BATCH, fd, min(count, entries), sizes, **fill)
                if cmd in (UPDATE_BATCH, DELETE_BATCH):
                    count = min(count, entries)  # noqa: PLW2901 the keys end there
                s.batch(cmd, fd, count, sizes, **mine)
            for bits in (1, 2, 3, 4, 8, 16, 1 << 32, 1 << 63):
                s.batch(cmd, fd, 1, sizes, elem_flags=bits, **mine)
                s.batch(cmd, fd, 1, sizes, flags=bits, **mine)
                s.batch(cmd, fd, 0, sizes, elem_flags=bits, **mine)
            for nowhere in (0, 16):
                s.batch(UPDATE_BATCH, fd, entries, sizes, **fill)
                s.batch(cmd, fd, entries, sizes, **(mine | dict(keys=nowhere)))
                s.batch(cmd, fd, entries, sizes, **(mine | dict(values=nowhere)))
            s.batch(UPDATE_BATCH, fd, entries, sizes, **fill)
            s.batch(cmd, fd, entries, sizes, out=False, **mine)
            for token in (0, 1, 3, 4, 0xFFFFFFFF):
                s.batch(UPDATE_BATCH, fd, entries, sizes, **fill)
                s.batch(cmd, fd, entries, sizes, token=struct.pack("<IIII", token, 0, 0, 0), **mine)
            attr = bytearray(wire.ATTR_SIZE)
            struct.pack_into("<QQQQII", attr, 0, 16, 16, 16, 16, 1, fd & 0xFFFFFFFF)
            s.call(f"type {kind} command {cmd} with pointers to nowhere", cmd, attr)
            attr[56] = 1
            s.call(f"type {kind} command {cmd} with a byte too many", cmd, attr)
            for who in (9999, -1):
                s.batch(cmd, who, 1, sizes, **mine)
        attr = bytearray(wire.ATTR_SIZE)
        struct.pack_into("<I", attr, 0, fd & 0xFFFFFFFF)
        s.call("FREEZE", wire.MAP_FREEZE, attr)
        for cmd in (UPDATE_BATCH, LOOKUP_BATCH, TAKE_BATCH, DELETE_BATCH):
            s.batch(cmd, fd, 1, sizes)
        s.close()
        for access in (RDONLY, WRONLY):
            inner = s.map_create(ARRAY, 4, 8, 2) if kind in (ARRAY_OF_MAPS, HASH_OF_MAPS) else 0
            fd = s.map_create(kind, key_size, value_size, entries, flags | access, inner=inner)
            for cmd in (UPDATE_BATCH, LOOKUP_BATCH, TAKE_BATCH, DELETE_BATCH):
                s.batch(cmd, fd, 1, sizes)
            s.close()


def batches_of_maps(s):
    """Maps of maps that hold maps: each batch command, the ids of the inner maps hidden."""
    for kind in (ARRAY_OF_MAPS, HASH_OF_MAPS):
        inner = [s.map_create(ARRAY, 4, 8, 2) for _ in range(3)]
        fd = s.map_create(kind, 4, 4, 4, ZERO_SEED if kind == HASH_OF_MAPS else 0, inner=inner[0])
        keys = struct.pack("<3I", 0, 1, 3)
        sizes = batch_sizes(kind, 4, 4)
        s.note("the three maps")
        for bad in (3, 2, 1, 0):
            fds = inner[:bad] + [9999] * (3 - bad)
            attr_values = struct.pack("<3I", *(one & 0xFFFFFFFF for one in fds))
            before = len(s.transcript)
            s.batch(UPDATE_BATCH, fd, 3, sizes, keys=keys, values=attr_values)
            s.transcript[before] = f"UPDATE_BATCH, {bad} of 3 are maps: {s.transcript[before].rsplit(': ', 1)[1]}"
            before = len(s.transcript)
            s.batch(LOOKUP_BATCH if bad % 2 else TAKE_BATCH, fd, 4, sizes)
            s.transcript[before + 2] = s.transcript[before + 2].split(" values ")[0]
        s.batch(DELETE_BATCH, fd, 3, sizes, keys=keys)
        s.batch(LOOKUP_BATCH, fd, 4, sizes, keys=16)
        s.close()


def access_flags_and_freeze(s):
    for flags in (0, RDONLY, WRONLY, RDONLY_PROG, WRONLY_PROG, MMAPABLE):
        fd = s.map_create(ARRAY, 4, 8, 2, flags)
        for _ in range(2):
            s.update(fd, bytes(4), bytes(8))
            s.lookup(fd, bytes(4), 8)
            s.delete(fd, bytes(4))
            s.next_key(fd, None, 4)
            attr = bytearray(wire.ATTR_SIZE)
            struct.pack_into("<I", attr, 0, fd & 0xFFFFFFFF)
            s.call("FREEZE", wire.MAP_FREEZE, attr)
    for fd in (9999, -1, 0, 1, 2):  # the last three are files that are not BPF's
        s.lookup(fd, bytes(4), 8)


def info_truncation(s):
    for length in (0, 1, 3, 4, 8, 20, 24, 40, 80, 88, 96, 100, 104, 112, 200):
        fd = s.map_create(ARRAY, 4, 8, 2, 0, name=b"info")
        s.info("map", fd, length, hide=[(4, 8), (48, 64)])
        s.info("map", fd, length, tail=bytes(8), hide=[(4, 8), (48, 64)])
        s.info("map", fd, length, tail=b"\0\0\0\1", hide=[(4, 8), (48, 64)])
        s.close(fd)
    fd = s.map_create(HASH, 4, 8, 2, ZERO_SEED | NO_PREALLOC)
    s.info("map", fd, 104, hide=[(4, 8)])
    s.info("nothing", 9999, 80)
    prog = s.prog_load("for info", at48=b"named")
    jit, xlated, times, more = (16, 20), (20, 24), (40, 52), (80, 232)
    for length in (0, 4, 16, 40, 64, 80, 104, 128, 192, 200, 224, 228, 232, 240):
        s.info("prog", prog, length, hide=[(4, 8), jit, xlated, times, more])
    s.info("prog", prog, 300, tail=b"\1", hide=[(0, 301)])
    s.info("prog", prog, 5000, hide=[(0, 5000)])


def ids(s):
    for cmd in (wire.PROG_GET_NEXT_ID, wire.MAP_GET_NEXT_ID, wire.BTF_GET_NEXT_ID, wire.LINK_GET_NEXT_ID):
        for start in (0x7FFFFFFE, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF):
            for at in (4, 8, 12, 16):
                attr = bytearray(wire.ATTR_SIZE)
                struct.pack_into("<I", attr, at, 1)
                struct.pack_into("<I", attr, 0, start)
                s.call(f"next id: command {cmd} start {start:#x} byte {at} set", cmd, attr)
    for cmd in (wire.PROG_GET_FD_BY_ID, wire.MAP_GET_FD_BY_ID, wire.BTF_GET_FD_BY_ID, wire.LINK_GET_FD_BY_ID):
        for number in (0, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF):
            for at, value in ((0, number), (4, 1), (8, 0), (8, 8), (8, 16), (8, 24), (8, 1), (12, 1), (16, 1)):
                attr = bytearray(wire.ATTR_SIZE)
                struct.pack_into("<I", attr, 0, number)
                struct.pack_into("<I", attr, at, value)
                s.call(f"fd by id: command {cmd} id {number:#x} at {at}: {value}", cmd, attr, fd=True)


def prog_load_refusals(s):
    """What is refused before the verifier looks at the program."""
    load = s.prog_load
    for prog_type in (0, 33, 34, 99, (1 << 32) - 1):
        load(f"type {prog_type}", prog_type=prog_type)
    for count in (0, 1, 1_000_001, (1 << 32) - 1):
        load(f"count {count}", count=count)
    for bit in range(32):
        load(f"flag {1 << bit:#x}", at44=1 << bit)
    for value in (1, 5, 37, 38, 55, 99, 0xFFFFFFFF):
        load(f"socket filter, expected_attach_type {value}", at68=value)
        load(f"XDP, expected_attach_type {value}", prog_type=wire.XDP, at68=value)
    for at in range(40, 168, 4):
        for value in (1, 0xFFFFFFFF):
            load(f"{value:#x} at {at}", **{f"at{at}": value})
    for level in (1, 2, 4, 7, 8, 15, 16, 0xFFFFFFFF):
        load(f"log level {level} without a buffer", at24=level)
        load(f"log level {level}, buffer nowhere", at24=level, at28=1 << 12, at32=16)
        load(f"log level {level}, size alone", at24=level, at28=1 << 12)
    for size in (0, 8, 47, 48, 64, 72, 116, 120, 128, 152, 168):
        load(f"size {size}", size=size)
    load("insns nowhere", insns=16)
    load("license nowhere", license=16)
    load("insns NULL", insns=0)
    load("license NULL", license=0)
    for name in (b"ok", b"a b", b"\xff", b"0123456789abcde", b"0123456789abcdef"):
        load(f"name {name}", at48=name)
    for kind in (1, 3, 6):
        load(f"license empty, type {kind}", license=Buffer(b"\0").address, prog_type=kind)


def log_buffers(s):
    """Buffers of all sizes: what fits, what is lost, log_true_size."""
    code = bytes.fromhex("b700000001000000" * 12 + "9500000000000000")
    for level in (1, 2, 3, 4, 6, 9, 10, 12):
        for size in (1, 2, 7, 64, 127, 128, 129, 300, 1000, 5000):
            insns, text, log = Buffer(code), Buffer(b"GPL\0"), Buffer(b"\xee" * size)
            attr = bytearray(wire.ATTR_SIZE)
            struct.pack_into("<IIQQIIQ", attr, 0, 1, 13, insns.address, text.address, level, size, log.address)
            s.call(f"PROG_LOAD log level {level} size {size}", wire.PROG_LOAD, attr, fd=True)
            if level & 4 == 0:  # level 4 tells the time it took
                s.note(f"  true size {struct.unpack_from('<I', attr, 140)[0]} {bytes(log)}")
            s.close()


def prog_test_run(s):
    progs = {kind: s.prog_load(f"type {kind}", prog_type=kind) for kind in (wire.SOCKET_FILTER, 3, wire.XDP)}
    for kind, fd in progs.items():
        for length in (0, 1, 13, 14, 15, 64, 1500, 3000, 4096, 9000, 65536):
            s.prog_test_run(
                f"type {kind} {length} bytes", fd, bytes(range(256)) * (length // 256) + bytes(range(length % 256))
            )
        for room in (1, 13, 64, 65, 100):
            s.prog_test_run(f"type {kind} room {room}", fd, bytes(range(64)), room)
        for repeat in (0, 1, 2, 1000):
            s.prog_test_run(f"type {kind} repeat {repeat}", fd, repeat=repeat)
        for flags in (1, 2, 3, 4, 8, 1 << 31):
            s.prog_test_run(f"type {kind} flags {flags}", fd, flags=flags)
        s.prog_test_run(f"type {kind} cpu", fd, cpu=1)
        s.prog_test_run(f"type {kind} batch", fd, batch=1)
        s.prog_test_run(f"type {kind} no data", fd, None)
        s.prog_test_run(f"type {kind} data nowhere", fd, at={16: 16})
        s.prog_test_run(f"type {kind} out nowhere", fd, room=64, at={24: 16})
        for length in (1, 4, 8, 12, 20, 24, 48, 80, 168, 184, 192, 200):
            s.prog_test_run(f"type {kind} ctx {length}", fd, ctx=bytes(length))
            s.prog_test_run(f"type {kind} ctx {length} set", fd, ctx=b"\1" * length)
            s.prog_test_run(f"type {kind} ctx out {length}", fd, ctx=bytes(24), ctx_room=length)
        for data, end in ((0, 64), (8, 64), (4, 64), (3, 64), (0, 63), (16, 10), (40, 64), (32, 64)):
            ctx = struct.pack("<6I", data, end, 0, 0, 0, 0)
            s.prog_test_run(f"type {kind} ctx data {data}..{end}", fd, ctx=ctx, ctx_room=24, room=64)
        for size in (8, 32, 64, 72, 80, 88, 168):
            s.prog_test_run(f"type {kind} size {size}", fd, size=size)
    s.prog_test_run("no descriptor", 9999)
    s.prog_test_run("a map", s.map_create(ARRAY, 4, 8, 1))
    s.close(s.prog_load("kprobe", prog_type=2))


def prog_test_run_of_each_type(s):
    for kind, (attach_type, flags) in wire.WITHOUT_TARGET.items():
        fd = s.prog_load(f"type {kind}", contexts.RETURN_1, kind, at44=flags, at68=attach_type)
        s.prog_test_run(f"type {kind}", fd, room=64)
        s.prog_test_run(f"type {kind} without data", fd, None)
        for bit in (1, 4, 8):  # 2 is for live frames, which prog_test_run asks about
            s.prog_test_run(f"type {kind} flags {bit}", fd, flags=bit)
        s.prog_test_run(f"type {kind} cpu", fd, None, cpu=1)
        for length in (8, 16, 64, 200):
            s.prog_test_run(f"type {kind} ctx {length}", fd, None, ctx=bytes(length), ctx_room=length)
        s.prog_test_run(f"type {kind} data and ctx", fd, ctx=bytes(64), ctx_room=64)
        s.close(fd)


def btf_load(s):
    def load(what, data, size=None, log=True):
        raw, text = Buffer(data), Buffer(bytes(8192))
        attr = bytearray(wire.ATTR_SIZE)
        struct.pack_into(
            "<QQII", attr, 0, raw.address, text.address if log else 0, len(data) if size is None else size, 8192
        )
        struct.pack_into("<I", attr, 24, 1 if log else 0)
        if not log:
            struct.pack_into("<I", attr, 20, 0)
        s.call(f"BTF_LOAD {what}", wire.BTF_LOAD, attr, fd=True)
        lines = bytes(text).split(b"\0")[0].decode(errors="replace").splitlines()
        s.note(f"  {lines[-1] if lines else ''}")
        s.close()

    def kind(number, name=0, size=0, vlen=0, more=b"", *, flag=0):
        return struct.pack("<III", name, flag << 31 | number << 24 | vlen, size) + more

    names = b"\0int\0s\0m\0a b\0"
    integer = kind(1, 1, 4, more=struct.pack("<I", 1 << 24 | 32))
    load("int", with_header(integer, names))
    load("int, no log", with_header(integer, names), log=False)
    load("empty", b"", size=0)
    for length in (1, 8, 23, 24, 40):
        load(f"cut to {length}", with_header(integer, names)[:length])
    for field, values in {
        "magic": (0, 0x9FEB),
        "version": (0, 2),
        "flags": (1,),
        "hdr_len": (0, 8, 23, 25, 28, 4096),
        "type_off": (1, 4, 100),
        "type_len": (0, 3, 12, 100),
        "str_off": (0, 15, 17, 100),
        "str_len": (0, 1, 12, 14, 1 << 24),
    }.items():
        for value in values:
            load(f"{field} {value}", with_header(integer, names, **{field: value}))
    load("strings do not begin with NUL", with_header(integer, b"xint\0"))
    load("strings do not end with NUL", with_header(integer, b"\0int"))
    for number in range(21):
        for flag in (0, 1):
            load(f"kind {number} alone, flag {flag}", with_header(kind(number, flag=flag), names))
            load(f"kind {number} named, flag {flag}", with_header(integer + kind(number, 1, 1, flag=flag), names))
            load(
                f"kind {number}, one member, flag {flag}",
                with_header(integer + kind(number, 5, 4, 1, struct.pack("<III", 7, 1, 0), flag=flag), names),
            )
            load(
                f"kind {number}, two words, flag {flag}",
                with_header(integer + kind(number, 5, 4, 1, struct.pack("<II", 7, 1), flag=flag), names),
            )
    for bits in (0, 1, 8, 31, 33, 64, 128, 129):
        load(f"int of {bits} bits", with_header(kind(1, 1, 4, more=struct.pack("<I", bits)), names))
    for encoding in range(16):
        load(f"int encoding {encoding}", with_header(kind(1, 1, 4, more=struct.pack("<I", encoding << 24 | 32)), names))
    for size in (0, 1, 2, 3, 4, 8, 16, 17):
        load(f"int of {size} bytes", with_header(kind(1, 1, size, more=struct.pack("<I", min(size * 8, 255))), names))
    for name in (0, 1, 2, 5, 9, 13, 14, 1000):
        load(f"int named {name}", with_header(kind(1, name, 4, more=struct.pack("<I", 32)), names))
    for target in range(5):
        load(f"ptr to {target}", with_header(integer + kind(2, 0, target), names))
        load(f"const {target}, volatile", with_header(integer + kind(10, 0, target) + kind(9, 0, 2), names))
        load(f"typedef {target}", with_header(integer + kind(8, 5, target), names))
        load(f"array of {target}", with_header(integer + kind(3, 0, 0, 0, struct.pack("<III", target, 1, 3)), names))
        load(f"array by {target}", with_header(integer + kind(3, 0, 0, 0, struct.pack("<III", 1, target, 3)), names))
        load(f"struct of {target}", with_header(integer + kind(4, 5, 4, 1, struct.pack("<III", 7, target, 0)), names))
    for offset in (0, 1, 8, 16, 32, 1 << 24, 1 << 24 | 8):
        load(f"member at {offset}", with_header(integer + kind(4, 5, 4, 1, struct.pack("<III", 7, 1, offset)), names))
        load(
            f"bitfield at {offset}",
            with_header(integer + kind(4, 5, 4, 1, struct.pack("<III", 7, 1, offset), flag=1), names),
        )


def other_attr(s):
    """Numbers that are no command, and sizes no command takes."""
    for cmd in (-1, 39, 40, 99, 1 << 30):
        s.call(f"command {cmd}", cmd, bytearray(wire.ATTR_SIZE))
    for size in (169, 176, 4096, 4097, 8192):
        for last in (0, 1):
            attr = bytearray(max(size, wire.ATTR_SIZE))
            struct.pack_into("<IIII", attr, 0, ARRAY, 4, 8, 1)
            attr[-1] = last
            s.call(f"MAP_CREATE in {size} bytes, the last {last}", wire.MAP_CREATE, attr, size, fd=True)


def refused_before_they_attach(s):
    """Pins, links and bindings that must not come about: wrong descriptors, paths, flags, devices."""
    fd, prog, xdp = s.map_create(ARRAY, 4, 8, 1), s.prog_load("filter"), s.prog_load("XDP", prog_type=wire.XDP)

    def words(what, cmd, *numbers, size=None):
        attr = bytearray(wire.ATTR_SIZE)
        struct.pack_into(f"<{len(numbers)}I", attr, 0, *(number & 0xFFFFFFFF for number in numbers))
        s.call(what, cmd, attr, size, fd=cmd in (wire.OBJ_GET, LINK_CREATE, ITER_CREATE))

    nowhere = Buffer(b"/sys/fs/bpf/nothing of this name\0")
    low, high = nowhere.address & 0xFFFFFFFF, nowhere.address >> 32
    for flags in (0, 1, 8, 16, 24, 32, 1 << 14):
        words(f"OBJ_GET flags {flags}", wire.OBJ_GET, low, high, 0, flags)
        words(f"OBJ_PIN no descriptor, flags {flags}", wire.OBJ_PIN, low, high, 9999, flags)
    words("OBJ_GET path nowhere", wire.OBJ_GET, 16, 0)
    words("OBJ_GET with a descriptor", wire.OBJ_GET, low, high, 5)
    words("OBJ_PIN path nowhere", wire.OBJ_PIN, 16, 0, fd)
    for one, what in ((9999, "no descriptor"), (fd, "a map"), (prog, "a filter"), (xdp, "XDP")):
        for attach_type in (0, 25, 36, 37, 38, 41, 99):
            for device in (0, 0x7FFFFFF0):
                words(f"LINK_CREATE {what}, type {attach_type}, on {device}", LINK_CREATE, one, device, attach_type)
        words(f"LINK_CREATE {what}, flags", LINK_CREATE, one, 0x7FFFFFF0, 37, 1 << 7)
        for cmd in (LINK_UPDATE, LINK_DETACH, ITER_CREATE):
            words(f"command {cmd} {what}", cmd, one, one)
        words(f"PROG_BIND_MAP {what} and a map", PROG_BIND_MAP, one, fd)
        words(f"PROG_BIND_MAP {what} and none", PROG_BIND_MAP, one, 9999)
        words(f"PROG_BIND_MAP {what}, flags", PROG_BIND_MAP, one, fd, 1)
        words(f"MAP_FREEZE {what}", wire.MAP_FREEZE, one)
        words(f"MAP_LOOKUP_ELEM {what}", wire.MAP_LOOKUP_ELEM, one)
        words(f"PROG_TEST_RUN {what}", wire.PROG_TEST_RUN, one)
        s.info(what, one, 0)


WRITTEN = (
    map_create_limits,
    map_create_names_and_sizes,
    element_flags,
    filled_and_walked,
    access_flags_and_freeze,
    batches,
    batches_of_maps,
    info_truncation,
    ids,
    prog_load_refusals,
    log_buffers,
    prog_test_run,
    prog_test_run_of_each_type,
    btf_load,
    other_attr,
    refused_before_they_attach,
)


# ---- random sequences ----


def random_batch(rng, s, shape, key):
    """One batch command, or a walk through the whole map in batches of one size."""
    kind, fd, key_size, value_size, entries = shape
    sizes = batch_sizes(kind, key_size, value_size)
    count = rng.choice((1, 1, 2, 3, entries, entries + 3))
    keys = b"".join(key() or b"" for _ in range(count))
    values = b"".join(bytes([rng.randrange(256)]) * sizes[1] for _ in range(count))
    pick = rng.random()
    if pick < 0.3:
        s.batch(UPDATE_BATCH, fd, count, sizes, keys=keys, values=values)
    elif pick < 0.5:
        s.batch(DELETE_BATCH, fd, count, sizes, keys=keys)
    elif pick < 0.7:
        token = rng.choice((None, keys[:key_size].ljust(4, b"\0"), struct.pack("<I", rng.randrange(40))))
        s.batch(rng.choice((LOOKUP_BATCH, TAKE_BATCH)), fd, count, sizes, token=token and token.ljust(key_size, b"\0"))
    else:
        cmd, token = rng.choice((LOOKUP_BATCH, LOOKUP_BATCH, TAKE_BATCH)), None
        for _ in range(40):
            result, done, token = s.batch(cmd, fd, count, sizes, token=token)
            if result or not done:
                break


def sequence(seed, number):
    """A case: map commands by chance over one map; which ones depends on seed and number alone."""

    def run(s):
        rng = random.Random(seed * 1_000_003 + number)
        kind = rng.choice(
            (HASH, ARRAY, PERCPU_ARRAY, PERCPU_HASH, QUEUE, STACK, LRU_HASH, LRU_PERCPU_HASH, LPM_TRIE, BLOOM_FILTER)
        )
        key_size, _, _, flags = usual(kind)
        if kind in (HASH, PERCPU_HASH, LRU_HASH, LRU_PERCPU_HASH):
            key_size = rng.choice((1, 2, 4, 8, 12, 16, 20))
            flags |= rng.choice((0, NO_PREALLOC if kind in (HASH, PERCPU_HASH) else NO_COMMON_LRU))
        elif kind == LPM_TRIE:
            key_size = 4 + rng.choice((1, 2, 4, 8))
        value_size = rng.choice((1, 4, 8, 12, 64))
        entries = rng.choice((1, 2, 3, 5, 8, 17))
        fd = s.map_create(kind, key_size, value_size, entries, flags)
        if fd < 0:
            return
        room = value_room(kind, value_size)

        def key():
            if kind == LPM_TRIE:
                bits = (key_size - 4) * 8
                length = rng.choice((0, 1, 4, 7, 8, bits, bits, bits + 1))
                return struct.pack("<I", length) + bytes(rng.choice((0, 0, 0x80, 0xFF, 1)) for _ in range(key_size - 4))
            if kind in (QUEUE, STACK, BLOOM_FILTER):
                return None if rng.random() < 0.97 else bytes(4)
            return rng.randrange(entries + 3).to_bytes(16, "little").ljust(20, b"\0")[:key_size]

        for _ in range(rng.choice((20, 60, 120))):
            pick = rng.random()
            mode = rng.choice((0, 0, 0, 0, 1, 2, 2 if kind in (QUEUE, STACK) else 0, rng.choice((3, 4, 8))))
            if pick < 0.45:
                value = bytes([rng.randrange(256)]) * room
                if kind == BLOOM_FILTER:
                    value = bytes([rng.randrange(6)]) * room
                s.update(fd, key(), value, mode)
            elif pick < 0.62 and kind != BLOOM_FILTER:
                s.lookup(fd, key(), room, 0 if rng.random() < 0.95 else mode)
            elif pick < 0.74:
                s.delete(fd, key())
            elif pick < 0.84 and kind != BLOOM_FILTER:
                s.take(fd, key(), room)
            elif pick < 0.92:
                s.next_key(fd, key() if rng.random() < 0.8 else None, max(key_size, 1))
            elif pick < 0.95:
                s.walk(fd, max(key_size, 1), 40)
            else:
                random_batch(rng, s, (kind, fd, key_size, value_size, entries), key)

    return run


def compare(sim, live, case):
    """(calls made, [(the call before, ours, theirs)] for each call that differs, with the bytes it showed)."""
    sides = Side(sim), Side(live)
    for side in sides:
        try:
            case(side)
        finally:
            side.close()
    return differences(*(side.transcript for side in sides))


def differences(ours, theirs):
    """Of two transcripts, as compare() tells it."""
    ours, theirs = calls_of(ours), calls_of(theirs)
    differ, before = [], "(the first call)"
    for at in range(max(len(ours), len(theirs))):
        mine = ours[at] if at < len(ours) else "(nothing)"
        its = theirs[at] if at < len(theirs) else "(nothing)"
        if mine != its:
            differ.append((before, mine, its))
        before = mine
    return len(ours), differ


def calls_of(transcript):
    """A call and the lines that say what it wrote, as one."""
    calls = []
    for line in transcript:
        if line.startswith(" ") and calls:
            calls[-1] += line
        else:
            calls.append(line)
    return calls
