"""STRUCT_OPS of tcp_congestion_ops on both sides: maps, what fills them, programs for the members.

Cases as in attach.py, run by test_attach.py. Nothing is ever registered on the live kernel: only a map with BPF_F_LINK
is filled, which by itself registers nothing, and no link is made of one that is filled.
"""

import re
import struct

import attach
import links
import wire
from creation import ENTRIES, EXTRAS, KEYS, VALUES
from links import STRUCT_OPS, op
from wire import Buffer

MAP_STRUCT_OPS, F_LINK, F_MODULE_BTF, AT_STRUCT_OPS = 26, 1 << 13, 1 << 15, 44
SIZES = {"tcp_congestion_ops": 256, "bpf_dummy_ops": 128}
KEY = bytes(4)
# Where the members lie in the value of a map, and which of them are functions.
MEMBERS = ("ssthresh", "cong_avoid", "set_state", "cwnd_event", "in_ack_event", "pkts_acked", "min_tso_segs")
MEMBERS += ("cong_control", "undo_cwnd", "sndbuf_expand", "get_info", "name", "owner", "list", "key", "flags")
MEMBERS += ("init", "release")
FUNCTIONS = {name: 64 + 8 * at for at, name in enumerate(MEMBERS[:11])} | {"init": 200, "release": 208}
NAME, OWNER, LIST, A_KEY, FLAGS = 152, 168, 176, 192, 196
LOAD, W, MOV, CALL, EXIT = 0x79, 0x61, op(0xB7), 0x85, op(0x95)


class Kernel:
    """What a side's own BTF says: ids are asked for once."""

    def __init__(self, s):
        self.s, self.ids = s, {}

    def type_id(self, name):
        if name not in self.ids:
            self.ids[name] = links.btf_struct(self.s, name)
        return self.ids[name]


def btf(s):
    raw = Buffer(
        bytes.fromhex("9feb010018000000000000001000000010000000050000000100000000000001040000002000000100696e7400")
    )
    attr = bytearray(wire.ATTR_SIZE)
    struct.pack_into("<QQI", attr, 0, raw.address, 0, raw.size)
    return s.call("BTF_LOAD", wire.BTF_LOAD, attr, fd=True)


def create(s, kernel, name, flags=F_LINK, *, size=None, types=None):
    attr = bytearray(wire.ATTR_SIZE)
    struct.pack_into("<5I", attr, 0, MAP_STRUCT_OPS, 4, SIZES[name] if size is None else size, 1, flags)
    struct.pack_into("<I", attr, 48, btf(s) if types is None else types)
    struct.pack_into("<I", attr, 60, kernel.type_id(f"bpf_struct_ops_{name}"))
    return s.call(f"MAP_CREATE of {name} flags {flags:#x} size {size}", wire.MAP_CREATE, attr, fd=True)


def struct_ops_creation(s):
    """Each attribute by turns, as creation.py does it for the other types."""
    kernel, types = Kernel(s), btf(s)
    places = {"key": 4, "value": 8, "entries": 12, "flags": 16, "inner": 20, "numa": 24, "ifindex": 44, "btf": 48}
    places |= {"key_type": 52, "value_type": 56, "extra": 64, "module": 72, "hash": 80, "hash_size": 88}
    tried = {"key": KEYS, "value": VALUES, "entries": ENTRIES, "extra": [one & 0xFFFFFFFF for one in EXTRAS]}
    tried |= {"flags": [1 << bit for bit in range(32)] + [F_LINK | 1 << bit for bit in range(32)]}
    tried |= {"inner": (0, 1, 9999), "numa": (0, 1, 77), "key_type": (0, 1, 2), "value_type": (0, 1, 2)}
    tried |= {"btf": (0xFFFFFFFF, 9999, types), "module": (types, 9999), "hash": (1,), "hash_size": (1, 32)}
    for name, size in SIZES.items():
        usual = {"key": 4, "value": size, "entries": 1, "btf": types}
        for what, values in tried.items():
            for one in values:
                attr = bytearray(wire.ATTR_SIZE)
                struct.pack_into("<I", attr, 0, MAP_STRUCT_OPS)
                struct.pack_into("<I", attr, 60, kernel.type_id(f"bpf_struct_ops_{name}"))
                for field, number in (usual | {what: one}).items():
                    struct.pack_into("<I", attr, places[field], number & 0xFFFFFFFF)
                shown = "a descriptor" if one == types and what in {"btf", "module"} else f"{one:#x}"
                s.close(s.call(f"create {name} with {what} {shown}", wire.MAP_CREATE, attr, fd=True))


def load(s, kernel, label, code, member=0, *, name="tcp_congestion_ops", level=1, **fields):
    log = Buffer(bytes(16384))
    more = {"at24": struct.pack("<IIQ", level, log.size, log.address), "at68": member, "at108": kernel.type_id(name)}
    fd = s.prog_load(f"{label} as member {member}", code, STRUCT_OPS, **more | fields)
    text = bytes(log).split(b"\0")[0].decode()
    s.note("  " + re.sub(r"btf_id=?\s?\d+", "btf_id", text).replace("\n", " | "))
    return fd


def programs(s, kernel):
    """One for each member that takes one, by name."""
    made = {}
    for name in FUNCTIONS:
        made[name] = s.prog_load(
            f"for {name}",
            attach.returns(1),
            STRUCT_OPS,
            at68=MEMBERS.index(name),
            at108=kernel.type_id("tcp_congestion_ops"),
        )
        s.id_of(made[name], "prog")
    return made


def value(members, name=b"bpf_x", flags=0, **words):
    """words: at168=..., 8 bytes each."""
    raw = bytearray(256)
    for member, fd in members.items():
        struct.pack_into("<Q", raw, FUNCTIONS[member], fd & (1 << 64) - 1)
    raw[NAME : NAME + len(name)] = name
    struct.pack_into("<I", raw, FLAGS, flags)
    for at, word in words.items():
        struct.pack_into("<Q", raw, int(at[2:]), word)
    return bytes(raw)


def shown(s, fd, key=KEY):
    """The value as user space reads it, with names for ids of programs."""
    room = Buffer(b"\xee" * 256)
    keys = Buffer(key)
    attr = bytearray(wire.ATTR_SIZE)
    struct.pack_into("<IIQQQ", attr, 0, fd & 0xFFFFFFFF, 0, keys.address, room.address, 0)
    s.call(f"LOOKUP key {key.hex()}", wire.MAP_LOOKUP_ELEM, attr)
    raw = bytearray(bytes(room))
    names = []
    for at in FUNCTIONS.values():
        number = struct.unpack_from("<I", raw, at)[0]
        names.append(s.name("prog", number) if ("prog", number) in s.names else str(number))
        raw[at : at + 4] = bytes(4)
    s.note(f"  {' '.join(names)} {raw.hex()}")


def fill(s, kernel, label, raw, *, flags=0, key=KEY, fd=None):
    """An update of a map with BPF_F_LINK: of a new one, or of one that `create` made so."""
    into = create(s, kernel, "tcp_congestion_ops") if fd is None else fd
    keys, values = Buffer(key), Buffer(raw)
    attr = bytearray(wire.ATTR_SIZE)
    struct.pack_into("<IIQQQ", attr, 0, into & 0xFFFFFFFF, 0, keys.address, values.address, flags)
    s.call(f"UPDATE {label}", wire.MAP_UPDATE_ELEM, attr)
    shown(s, into)
    if fd is None:
        s.close(into)


def struct_ops_maps(s):
    kernel = Kernel(s)
    for name, size in SIZES.items():
        for flags in (0, F_LINK, 1, F_MODULE_BTF, F_LINK | 1 << 12):
            create(s, kernel, name, flags)
        for wrong in (0, size - 1, size + 1, size - 64):
            create(s, kernel, name, size=wrong)
        create(s, kernel, name, types=9999)
        for flags in (0, F_LINK):
            fd = create(s, kernel, name, flags)
            lines = s.box.fdinfo(fd).splitlines()
            s.note(f"  {[line for line in lines if not line.startswith(('map_id', 'mnt_id', 'ino'))]}")
            info = Buffer(bytes(104))
            attr = bytearray(wire.ATTR_SIZE)
            struct.pack_into("<IIQ", attr, 0, fd & 0xFFFFFFFF, 104, info.address)
            s.call("OBJ_GET_INFO", wire.OBJ_GET_INFO_BY_FD, attr)
            raw = bytearray(bytes(info))
            s.note(f"  kernel's BTF {struct.unpack_from('<I', raw, 76)[0] != 0}")
            for at in (4, 44, 64, 76):  # its id; types and BTF, which each side numbers its own way
                raw[at : at + 4] = bytes(4)
            s.note(f"  {raw.hex()}")
            for key in (KEY, b"\1\0\0\0"):
                s.lookup(fd, key, size)
                s.next_key(fd, key, 4)
                s.delete(fd, key)
                s.take(fd, key, size)
            s.next_key(fd, None, 4)
            freeze = bytearray(wire.ATTR_SIZE)
            struct.pack_into("<I", freeze, 0, fd & 0xFFFFFFFF)
            s.call("MAP_FREEZE", wire.MAP_FREEZE, freeze)
            s.link(fd, 0, AT_STRUCT_OPS)  # it is empty
            s.delete(fd, KEY)
    array = s.map_create(2, 4, 8, 1)
    for fd in (array, 9999, -1, btf(s)):
        s.link(fd, 0, AT_STRUCT_OPS)


def struct_ops_values(s):
    kernel = Kernel(s)
    progs = programs(s, kernel)
    few = {name: progs[name] for name in ("ssthresh", "cong_avoid", "undo_cwnd")}

    def of(*names):
        return {name: progs[name] for name in names}

    kept = create(s, kernel, "tcp_congestion_ops")
    for label in ("first", "second"):
        fill(s, kernel, label, value(few), fd=kept)
    fill(s, kernel, "another, wrong", value(few, b""), fd=kept)
    s.delete(kept, KEY)
    s.next_key(kept, KEY, 4)
    shown(s, kept, b"\1\0\0\0")
    by_id = bytearray(wire.ATTR_SIZE)
    struct.pack_into("<I", by_id, 0, s.id_of(kept, "map"))
    s.call("GET_FD_BY_ID", wire.MAP_GET_FD_BY_ID, by_id, fd=True)
    shown(s, kept)
    for label, raw in {
        "nothing": value({}, b""),
        "a name": value({}),
        "all": value({name: fd for name, fd in progs.items() if fd >= 0}),
        "no ssthresh": value(of("cong_avoid", "undo_cwnd")),
        "no undo_cwnd": value(of("cong_avoid", "ssthresh")),
        "neither cong_avoid nor cong_control": value(of("undo_cwnd", "ssthresh")),
        "cong_control": value(of("cong_control", "undo_cwnd", "ssthresh")),
        "the wrong member": value(few | {"set_state": progs["init"]}),
        "get_info": value(few | {"get_info": progs["init"]}),
        "no program there": value(few | {"set_state": 9999}),
        "a map": value(few | {"set_state": kept}),
        "-1": value(few | {"set_state": -1}),
        "0 with high bits": value(few | {"set_state": 5 << 32}),
        "a program with high bits": value(few | {"set_state": progs["set_state"] | 1 << 32}),
        "an owner": value(few, at168=1),
        "an owner, and no name": value(few, b"", at168=1),
        "an owner alone": value({}, at168=1),
        "a list": value(few, at176=1),
        "a key": value(few, at192=1),
        "a name in use": value(few, b"reno"),
        "no name": value(few, b""),
        "15 characters": value(few, b"x" * 15),
        "16 characters": value(few, b"x" * 16),
        "what follows the name": value(few, b"ab\0-/"),
        "a wrong character": value(few, b"a-b"),
        "a dot": value(few, b"a.B_9"),
        "a space": value(few, b"a b"),
        "high letters": value(few, b"\xe4\xd7"),
        "a high letter": value(few, b"\xe4"),
    }.items():
        fill(s, kernel, label, raw)
    for bit in range(32):
        fill(s, kernel, f"flag {1 << bit:#x}", value(few, flags=1 << bit))
    for at in (0, 4, 8, 32, 56, 216, 224, 248):
        fill(s, kernel, f"a word at {at}", value(few, **{f"at{at}": 1}))
    for flags in (1, 2, 3, 4, 8, 1 << 63):
        fill(s, kernel, f"flags {flags}", value(few), flags=flags)
    fill(s, kernel, "another key", value(few), key=b"\1\0\0\0")


TCP = op(LOAD, 6, 1)  # r6 = the first argument
CODE = {
    "returns nothing": EXIT,
    "returns a pointer": op(LOAD, 0, 1) + EXIT,
    "returns 1": attach.returns(1),
    "reads half of the pointer": op(W, 6, 1) + MOV + EXIT,
    "reads the second": op(LOAD, 6, 1, 8) + MOV + EXIT,
    "reads a byte of the second": op(0x71, 6, 1, 8) + MOV + EXIT,
    "reads the third": op(LOAD, 6, 1, 16) + MOV + EXIT,
    "reads the fourth": op(LOAD, 6, 1, 24) + MOV + EXIT,
    "reads the fifth": op(LOAD, 6, 1, 32) + MOV + EXIT,
    "reads at 96": op(LOAD, 6, 1, 96) + MOV + EXIT,
    "reads at 4": op(W, 6, 1, 4) + MOV + EXIT,
    "writes its context": op(0x7A, 1, 0, 0, 1) + MOV + EXIT,
    "reads snd_cwnd": TCP + op(W, 0, 6, 1444) + EXIT,
    "reads beyond snd_cwnd": TCP + op(LOAD, 0, 6, 1444) + EXIT,
    "reads sk_pacing_rate": TCP + op(LOAD, 0, 6, 488) + EXIT,
    "reads skc_family": TCP + op(0x69, 0, 6, 16) + EXIT,
    "reads icsk_ca_priv": TCP + op(LOAD, 0, 6, 1296 + 96) + EXIT,
    "reads past the socket": TCP + op(LOAD, 0, 6, 2304) + EXIT,
    "reads before the socket": TCP + op(LOAD, 0, 6, -8) + EXIT,
    "follows retransmit_skb_hint": TCP + op(LOAD, 7, 6, 1424) + op(W, 0, 7, 112) + EXIT,
    "writes a sample": op(LOAD, 6, 1, 8) + op(0x62, 6, 0, 0, 1) + MOV + EXIT,
    "reads a sample": op(LOAD, 6, 1, 8) + op(W, 0, 6, 8) + EXIT,
    "reads past a sample": op(LOAD, 6, 1, 8) + op(W, 0, 6, 12) + EXIT,
    "reads a rate": op(LOAD, 6, 1, 24) + op(LOAD, 0, 6, 24) + EXIT,
    "adds to snd_cwnd": TCP + op(0xB7, 7, imm=1) + op(0xC3, 6, 7, 1444) + MOV + EXIT,
    "writes at a variable offset": TCP + op(W, 7, 6, 1444) + op(0x57, 7, imm=7) + op(0x0F, 6, 7) + EXIT,
    "stores a register": TCP + op(W, 7, 6, 1444) + op(0x63, 6, 7, 1492) + MOV + EXIT,
    "calls a helper": op(CALL, imm=5) + EXIT,
    "calls another helper": op(CALL, imm=4) + EXIT,
    "calls no helper": op(CALL, imm=9999) + EXIT,
    "reads a missing register": op(0xBF, 0, 7) + EXIT,
}


def struct_ops_programs(s):
    kernel = Kernel(s)
    for member in range(20):
        load(s, kernel, "returns 1", attach.returns(1), member)
        load(s, kernel, "sleepable", attach.returns(1), member, at44=16)
    for member in (0xFFFF, 0xFFFFFFFF):
        load(s, kernel, "no such member", attach.returns(1), member)
    for label, code in CODE.items():
        for member in (0, 1, 2, 5, 7, 17):
            load(s, kernel, label, code, member)
        load(s, kernel, f"{label}, in full", code, 3, level=2)
        load(s, kernel, f"{label}, sleepable", code, 16, at44=16)
    not_gpl = Buffer(b"MIT\0")
    load(s, kernel, "not GPL", attach.returns(0), license=not_gpl.address)
    load(s, kernel, "a map of it", b"", name="bpf_struct_ops_tcp_congestion_ops")
    for other in ("tcp_sock", "ack_sample", "bpf_struct_ops_tcp_congestion_ops"):
        fd = s.prog_load(f"for {other}", attach.returns(0), STRUCT_OPS, at108=kernel.type_id(other))
        s.note(f"  {fd < 0}")
    fd = load(s, kernel, "to run", attach.returns(1))
    s.prog_test_run("a congestion control", fd)
    s.prog_test_run("with a context", fd, None, ctx=bytes(8))
    s.link(fd, 0, AT_STRUCT_OPS)
    s.attach(0, fd, AT_STRUCT_OPS)
    held = create(s, kernel, "tcp_congestion_ops")
    load(s, kernel, "holds a map", op(0x18, 1, 1, 0, held) + op(0) + MOV + EXIT, level=0)


def struct_ops_helpers(s):
    """Which helpers a member may call; whether the call itself is well-formed is not asked."""
    kernel = Kernel(s)
    log, gpl = Buffer(bytes(4096)), Buffer(b"GPL\0")
    for member in ("ssthresh", "init", "release"):
        for helper in range(214):
            code = Buffer(op(CALL, imm=helper) + EXIT)
            attr = bytearray(wire.ATTR_SIZE)
            struct.pack_into("<IIQQIIQ", attr, 0, STRUCT_OPS, 2, code.address, gpl.address, 1, log.size, log.address)
            struct.pack_into("<I", attr, 68, MEMBERS.index(member))
            struct.pack_into("<I", attr, 108, kernel.type_id("tcp_congestion_ops"))
            fd = s.task.sys_bpf(wire.PROG_LOAD, attr)
            if fd >= 0:
                s.task.close(fd)
            text = bytes(log).split(b"\0")[0].decode()
            s.note(f"{member} may not call {helper}: {'cannot use' in text or 'invalid func' in text}")


WRITABLE = (428, 488, 1256, 1296, 1392, 1444, 1492, 1640, 1716, 1932, 1944)


def struct_ops_writes(s):
    """Every offset of a tcp_sock by one byte; by 2, 4 and 8 where something may be written."""
    kernel = Kernel(s)
    near = sorted({at + step for at in WRITABLE for step in range(-2, 10)} | {0, 2296, 2303, 2304})
    for size, code in ((1, 0x72), (2, 0x6A), (4, 0x62), (8, 0x7A)):
        for offset in range(-1, 2306) if size == 1 else near:
            fd = load(s, kernel, f"writes {size} bytes at {offset}", TCP + op(code, 6, 0, offset, 1) + MOV + EXIT)
            s.close(fd)


WRITTEN = (
    struct_ops_creation,
    struct_ops_maps,
    struct_ops_values,
    struct_ops_programs,
    struct_ops_helpers,
    struct_ops_writes,
)
