"""Contexts on both sides: every offset and width of each, read and written, as a program of three instructions."""

import struct

import wire

# Program type: (size of its context, attach types that it may expect).
CONTEXTS = {
    8: (192, (0, 1)),
    9: (80, (2, 12, 13, 34)),
    10: (192, (0,)),
    12: (192, (0,)),
    19: (192, (0,)),
    32: (16, (45,)),
    13: (224, (0,)),
    14: (192, (0,)),
    15: (16, (0,)),
    16: (80, (0,)),
    18: (72, (8, 9, 10, 11, 14, 15, 19, 20, 29, 32, 49)),
    21: (56, (39,)),
    22: (192, (0,)),
    23: (8, (0,)),
    25: (40, (21, 22)),
    30: (72, (36,)),
}
WIDTHS = {1: 0x10, 2: 0x08, 4: 0x00, 8: 0x18}
RETURN_1 = struct.pack("<BBhi", 0xB7, 0, 0, 1) + struct.pack("<BBhi", 0x95, 0, 0, 0)
CGROUP_SKB, FAMILY, LOCAL_PORT_END, TSTAMP = 8, 88, 140, 152


def known(prog_type, offset, write):
    """__sk_buff's addresses of the socket, and writing its time: not modelled, and the simulator says so."""
    return prog_type == CGROUP_SKB and (FAMILY <= offset < LOCAL_PORT_END or (write and offset == TSTAMP))


def accesses(prog_type):
    size, attach_types = CONTEXTS[prog_type]
    for attach_type in attach_types:
        for offset in range(size + 4):
            for width, bits in WIDTHS.items():
                for write in (False, True):
                    code = struct.pack("<BBhi", (0x62 if write else 0x61) | bits, 0x01 if write else 0x12, offset, 0)
                    yield (attach_type, offset, width, write), code + RETURN_1


def answer(task, code, prog_type, attach_type):
    insns, license_text = wire.Buffer(code), wire.Buffer(b"GPL\0")
    attr = bytearray(wire.ATTR_SIZE)
    struct.pack_into("<IIQQ", attr, 0, prog_type, len(code) // 8, insns.address, license_text.address)
    struct.pack_into("<I", attr, 68, attach_type)
    result = task.sys_bpf(wire.PROG_LOAD, attr)
    if result >= 0:
        task.close(result)
    return min(result, 0)
