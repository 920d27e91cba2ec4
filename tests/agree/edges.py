"""Where the memory that a command is given ends, and records and dumps that are longer or shorter than the kernel's.

Cases as in commands.py.
"""

import struct

import wire
from btf_bytes import blob, integer, of, proto
from wire import Buffer


class LastBytes(Buffer):
    """The last bytes before a page that nobody may touch."""

    def __init__(self, data):
        self.page, self.size = wire.LastPage(), len(data)
        self.address = self.page.fill(data)

    def __bytes__(self):
        return self.page.last(self.size)

    def __del__(self):
        self.page.close()


TWO_FUNCTIONS = bytes.fromhex("85100000010000009500000000000000b7000000010000009500000000000000")


def function_types(s):
    """A BTF with a function of type 3, and one of type 4."""
    named = (of("func", "main", 2, vlen=1), of("func", "one", 2))
    raw = Buffer(blob(integer(), proto(1), *named))
    attr = bytearray(wire.ATTR_SIZE)
    struct.pack_into("<QQI", attr, 0, raw.address, 0, raw.size)
    return s.call("BTF_LOAD functions", wire.BTF_LOAD, attr, fd=True)


def records_of_other_sizes(s):
    """func_info, line_info and core_relos longer than the kernel's, which tells its size when something is behind."""
    btf = function_types(s)
    insns, text = Buffer(TWO_FUNCTIONS), Buffer(b"GPL\0")
    infos = {
        "func_info": (80, 88, 76, (struct.pack("<II", 0, 3), struct.pack("<II", 2, 4))),
        "line_info": (96, 104, 92, (struct.pack("<4I", 0, 1, 1, 0), struct.pack("<4I", 2, 1, 1, 0))),
        "core_relo": (128, 116, 136, (struct.pack("<4I", 0, 1, 1, 0),)),
    }
    for name, (pointer, count, size, records) in infos.items():
        for longer in (0, 4, 12, 252 - len(records[0]), 256 - len(records[0])):
            for last in (0, 1):
                tail = bytes(longer - 1) + bytes([last]) if longer else b""
                raw = LastBytes(b"".join(one + tail for one in records))
                attr = bytearray(wire.ATTR_SIZE)
                struct.pack_into("<IIQQ", attr, 0, 1, 4, insns.address, text.address)
                struct.pack_into("<I", attr, 72, btf & 0xFFFFFFFF)
                if name != "func_info":
                    functions = Buffer(b"".join(infos["func_info"][3]))
                    struct.pack_into("<QI", attr, 80, functions.address, 2)
                    struct.pack_into("<I", attr, 76, 8)
                struct.pack_into("<Q", attr, pointer, raw.address)
                struct.pack_into("<I", attr, count, len(records))
                struct.pack_into("<I", attr, size, len(records[0]) + longer)
                if name != "core_relo" or longer and last:  # what the kernel makes of a relocation is another question
                    s.call(f"PROG_LOAD {name} {longer} longer, last {last}", wire.PROG_LOAD, attr, fd=True)
                    s.note(f"  size {struct.unpack_from('<I', attr, size)[0]}")
    for many in (1 << 28, (1 << 32) - 1):
        s.prog_load(f"{many} functions", at72=btf, at76=8, at88=many)


def dump_of_functions(s):
    """Calls between functions in a dump: the distance, and the number of the function."""
    backwards = TWO_FUNCTIONS[:8] + bytes.fromhex("950000000000000085100000feffffff") + TWO_FUNCTIONS[-8:]
    forwards = bytes.fromhex("851000000400000085100000010000009500000000000000") + 2 * TWO_FUNCTIONS[-16:]
    for label, code in (("two", TWO_FUNCTIONS), ("recursive", backwards), ("three", forwards)):
        prog = s.prog_load(label, code)
        for room in (0, 8, 12, len(code), 100):
            raw, dump, attr = bytearray(232), Buffer(b"\xee" * room), bytearray(wire.ATTR_SIZE)
            struct.pack_into("<I8xQ", raw, 20, room, dump.address)
            told = Buffer(raw)
            struct.pack_into("<IIQ", attr, 0, prog & 0xFFFFFFFF, 232, told.address)
            s.call(f"OBJ_GET_INFO {label}, room for {room}", wire.OBJ_GET_INFO_BY_FD, attr)
            s.note(f"  {bytes(dump).hex()}")


def memory_that_ends(s):
    """Buffers too short for what is written into them: what was there before the fault, and what is said of it."""
    prog, big = s.prog_load("filter"), Buffer(bytes(256))
    xdp = s.prog_load("XDP", prog_type=wire.XDP)
    for size in (0, 1, 13, 60):
        log = LastBytes(b"\xee" * size)
        for level in (1, 2, 9):
            fields = {"at24": level, "at28": size + 20, "at32": struct.pack("<Q", log.address)}
            s.prog_load(f"log of {size}, level {level}", **fields)
            s.note(f"  {bytes(log)}")
        room = LastBytes(b"\xee" * size)
        for one in (prog, xdp):
            for told in (size + 1, 64, 1 << 31):
                s.prog_test_run(
                    f"data_out of {size} for {told}", one, room=64, at={24: room.address, 8: 64 | told << 32}
                )
                s.note(f"  {bytes(room).hex()}")
            fields = {48: big.address, 40: 24 | (size + 1) << 32, 56: room.address}
            s.prog_test_run(f"ctx_out of {size}", one, at=fields)
            s.note(f"  {bytes(room).hex()}")
        info = LastBytes(bytes(size))
        attr = bytearray(wire.ATTR_SIZE)
        struct.pack_into("<IIQ", attr, 0, prog & 0xFFFFFFFF, 232, info.address)
        s.call(f"OBJ_GET_INFO into {size}", wire.OBJ_GET_INFO_BY_FD, attr)
        for byte in (0, 1):
            tail = LastBytes(bytes(232) + bytes([byte]) * size)
            struct.pack_into("<IIQ", attr, 0, prog & 0xFFFFFFFF, 300, tail.address)
            s.call(f"OBJ_GET_INFO, a tail of {size} times {byte}", wire.OBJ_GET_INFO_BY_FD, attr)
    for size in (0, 64, 4000):
        data = LastBytes(bytes(size))
        for told in (65536, 1 << 20, 1 << 31):
            s.prog_test_run(f"{told} bytes, {size} there", xdp, at={16: data.address, 8: told})


WRITTEN = (records_of_other_sizes, dump_of_functions, memory_that_ends)
