"""Which programs may meet in a prog array, a devmap or a cpumap, on both sides.

The first program that such a map meets, by a load that names it or by an update, is its owner; the others are put in,
and load with it, by turns. Each pair of kinds has a map of its own.
"""

import struct

import links
import wire
from attach import CGROUP_SKB, CGROUP_SOCK_ADDR, EGRESS, INGRESS, SCHED_CLS
from cgroup_storages import CGROUP_STORAGE, PERCPU_CGROUP_STORAGE
from iterators import Iterators
from links import STRUCT_OPS, op
from network import u32
from pair import TARGETS
from wire import Buffer

PROG_ARRAY, DEVMAP, CPUMAP = 3, 14, 16
XDP, CONNECT4, CONNECT6 = 6, 10, 11
AT_XDP, XDP_DEVMAP, XDP_CPUMAP = 37, 35, 38
FRAGS = 1 << 5
TAIL_CALL = 12
RETURN_1 = op(0xB7, imm=1) + op(0x95)


def names(*maps):
    """Loads of the maps' addresses: a program uses what it names."""
    return b"".join(struct.pack("<BBhiq", 0x18, 0x12, 0, fd, 0) for fd in maps)


def jumps(fd):
    """A tail call through slot 3; r6 is the context."""
    return op(0xBF, 1, 6) + names(fd) + op(0xB7, 3, imm=3) + op(0x85, imm=TAIL_CALL)


def in_function(body):
    """main calls a function of this body."""
    return op(0x85, 0, 1, imm=2) + RETURN_1 + op(0xBF, 6, 1) + body + RETURN_1


def put(s, what, table, prog, head=b""):
    """head: what stands before the descriptor in a value of a devmap or cpumap."""
    key, value = Buffer(bytes(4)), Buffer(head + u32(prog))
    attr = bytearray(wire.ATTR_SIZE)
    struct.pack_into("<IIQQQ", attr, 0, table & 0xFFFFFFFF, 0, key.address, value.address, 0)
    s.call(f"{what} is put in", wire.MAP_UPDATE_ELEM, attr)


def meet(s, kinds, *, map_type=PROG_ARRAY, value=4):
    """kinds: name -> load(what, maps), a program that names these maps. Each pair, as owner and guest."""
    alone = {kind: load(kind, ()) for kind, load in kinds.items()}

    def put_in(what, table, prog):
        put(s, what, table, prog, head=b"" if value == 4 else u32(1))

    for owner, first in kinds.items():
        for guest, second in kinds.items():
            for by_load in (False, True):
                s.note(f"{owner}, then {guest}{' by its load' * by_load}")
                table = s.map_create(map_type, 4, value, 4)
                mine = (first(owner, (table,)) if by_load else put_in(owner, table, alone[owner])) or -1
                put_in(guest, table, alone[guest])
                its = second(guest, (table,))
                for fd in (its, mine, table):
                    s.close(fd)
    for fd in alone.values():
        s.close(fd)


def storages_of_cgroups(s):
    one, other = (s.map_create(CGROUP_STORAGE, 16, 8, 0) for _ in range(2))
    percpu, more = (s.map_create(PERCPU_CGROUP_STORAGE, 16, 8, 0) for _ in range(2))

    def kind(*maps):
        return lambda what, named: s.prog_load(what, names(*maps, *named) + RETURN_1, CGROUP_SKB, at68=INGRESS)

    meet(
        s,
        {
            "no storage": kind(),
            "a storage": kind(one),
            "another": kind(other),
            "a per-CPU one": kind(percpu),
            "another per-CPU one": kind(more),
            "both": kind(one, percpu),
            "both, one of them another": kind(one, more),
        },
    )


def tail_calls_with_storages(s):
    """A program without storage, by where it makes tail calls, in the array of one that has a storage."""
    storage = s.map_create(CGROUP_STORAGE, 16, 8, 0)
    bodies = {
        "none": lambda fd: op(0xBF, 6, 1) + names(fd) + RETURN_1,
        "in main": lambda fd: op(0xBF, 6, 1) + jumps(fd) + RETURN_1,
        "in a function": lambda fd: in_function(jumps(fd)),
        "main calls a function, and then": lambda fd: (
            op(0xBF, 6, 1) + op(0x85, 0, 1, imm=7) + jumps(fd) + RETURN_1 + RETURN_1
        ),
    }
    for what, body in bodies.items():
        for with_storage in (False, True):
            table, own = (s.map_create(PROG_ARRAY, 4, 4, 4) for _ in range(2))
            maps = names(storage)
            s.prog_load("the owner", maps + names(table) + RETURN_1, CGROUP_SKB)
            s.note(f"tail calls: {what}; a storage: {with_storage}")
            code = (maps if with_storage else b"") + body(own)
            put(s, "this one", table, s.prog_load("through its own array", code, CGROUP_SKB))
            s.prog_load("through the owner's array", (maps if with_storage else b"") + body(table), CGROUP_SKB)


def a_storage_that_is_gone(s):
    """Its number is not given to another, so the array takes only programs without a storage from then on."""
    table = s.map_create(PROG_ARRAY, 4, 4, 4)
    for _ in range(3):
        storage = s.map_create(CGROUP_STORAGE, 16, 8, 0)
        prog = s.prog_load("with a storage", names(storage) + RETURN_1, CGROUP_SKB)
        put(s, "the program", table, prog)
        s.delete(table, bytes(4))
        s.close(prog)
        s.close(storage)
    put(s, "a program", table, s.prog_load("without storage", RETURN_1, CGROUP_SKB))


def attach_types(s):
    def kind(prog_type, at):
        return lambda what, named: s.prog_load(what, names(*named) + RETURN_1, prog_type, at68=at)

    meet(
        s,
        {
            "skb ingress": kind(CGROUP_SKB, INGRESS),
            "skb egress": kind(CGROUP_SKB, EGRESS),
            "connect4": kind(CGROUP_SOCK_ADDR, CONNECT4),
            "connect6": kind(CGROUP_SOCK_ADDR, CONNECT6),
            "tc": kind(SCHED_CLS, 0),
            "tc, at 46": kind(SCHED_CLS, 46),
            "xdp": kind(XDP, 0),
            "xdp, at xdp": kind(XDP, AT_XDP),
        },
    )


def frags(s):
    def kind(at, flags):
        return lambda what, named: s.prog_load(what, names(*named) + RETURN_1, XDP, at68=at, at44=flags)

    for map_type, at in ((PROG_ARRAY, AT_XDP), (DEVMAP, XDP_DEVMAP), (CPUMAP, XDP_CPUMAP)):
        kinds = {"plain": kind(at, 0), "frags": kind(at, FRAGS), "plain at xdp": kind(AT_XDP, 0), "at none": kind(0, 0)}
        meet(s, kinds, map_type=map_type, value=4 if map_type == PROG_ARRAY else 8)


def functions_of_iterators(s):
    its = Iterators(s)

    def kind(target, **words):
        return lambda what, named: its.prog(target, names(*named) + op(0xB7) + op(0x95), **words)

    meet(s, {target: kind(target) for target in TARGETS})


def members_of_struct_ops(s):
    members = {"bpf_dummy_ops": (0, 1, 2), "tcp_congestion_ops": (0, 1, 2, 3, 5, 6, 9, 16, 17)}
    types = {name: links.btf_struct(s, name) for name in members}

    def kind(name, member):
        return lambda what, named: s.prog_load(
            what,
            names(*named) + op(0xB7) + op(0x95),
            STRUCT_OPS,
            at68=member,
            at108=types[name],
            at44=16 if (name, member) == ("bpf_dummy_ops", 2) else 0,
        )

    meet(s, {f"{name} {member}": kind(name, member) for name, some in members.items() for member in some})


CASES = (
    storages_of_cgroups,
    tail_calls_with_storages,
    a_storage_that_is_gone,
    attach_types,
    frags,
    functions_of_iterators,
    members_of_struct_ops,
)
