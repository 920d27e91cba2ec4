"""Rules of the state machine about structs of the kernel's functions: maps of them, their programs, what fills them.

Nothing is ever registered: a map of tcp_congestion_ops has BPF_F_LINK, so that filling it registers nothing, and links
are tried only of bpf_dummy_ops, which the kernel itself never registers (pair.py asserts it).
"""

import struct

import commands
import pair
import wire
from hypothesis import strategies as st
from life import STRUCT_OPS, Lifetimes, go, number
from struct_ops import F_LINK, FUNCTIONS, MEMBERS, SIZES, value

CONGESTION_OPS_SIZE, DUMMY_SIZE = (SIZES[name] for name in pair.STRUCT_OPS)
PROG_STRUCT_OPS = 27
NEEDED = ("ssthresh", "cong_avoid", "undo_cwnd")
NAMES = (b"bpf_x", b"bpf_x", b"bpf_y", b"reno", b"", b"a-b", b"n" * 16)


class StructOpsRules(Lifetimes):
    @go(who=number, n=number)
    def struct_ops_map(self, *, who, n):
        self.new_struct_ops(self.task(who), n)

    def new_struct_ops(self, task, n):
        name = pair.STRUCT_OPS[n % 4 == 3]
        kind, size = self.world.structs.get(f"bpf_struct_ops_{name}"), SIZES[name]
        if not kind:
            return -1
        flags = F_LINK if name == "tcp_congestion_ops" else n // 4 % 2 * F_LINK
        attr = bytearray(wire.ATTR_SIZE)
        struct.pack_into("<5I", attr, 0, STRUCT_OPS, 4, size - (n % 16 == 15), 1, flags)
        struct.pack_into("<I", attr, 48, self.int_btf(task) if n % 32 != 31 else self.fd(task, n, "btf"))
        about = {"type": STRUCT_OPS, "key": 4, "value": size, "entries": 1, "flags": flags}
        what = f"MAP_CREATE of struct {name} flags {flags:#x} n {n}"
        fd, _ = self.bpf(task, what, wire.MAP_CREATE, attr, asked=[(60, kind)])
        self.opened(task, fd, "map", about)
        return fd

    @go(who=number, member=st.sampled_from(sorted(FUNCTIONS)), n=number)
    def struct_ops_prog(self, *, who, member, n):
        self.new_member(self.task(who), member, n)

    def new_member(self, task, member, n):
        name = pair.STRUCT_OPS[n % 16 == 15]
        if name not in self.world.structs:
            return -1
        expected = MEMBERS.index(member) if n % 32 != 30 else n
        what, asked = f"struct {name} member {member} n {n}", [(108, self.world.structs[name])]
        return self.loaded(task, what, PROG_STRUCT_OPS, expected, 1, about={"member": member}, asked=asked)

    @go(who=number, which=number, n=number, more=st.sampled_from((*sorted(FUNCTIONS), "", "", "", "")))
    def struct_ops_fill(self, *, who, which, n, more):
        """Mostly with what a congestion control needs; rarely something is missing, or wrong."""
        task = self.task(who)
        fits = [fd for fd, (_, about) in sorted(task.files.items()) if about.get("value") == CONGESTION_OPS_SIZE]
        fits = [fd for fd in fits if task.files[fd][1].get("type") == STRUCT_OPS]
        fd = fits[which % len(fits)] if fits and which % 8 else self.new_struct_ops(task, which % 3)
        if fd < 0:
            return
        progs = {}
        for member in NEEDED[: 2 if n % 8 == 7 else 3] + ((more,) if more else ()):
            made = [one for one, (_, about) in sorted(task.files.items()) if about.get("member") == member]
            progs[member] = made[n % len(made)] if made else self.new_member(task, member, n)
        if n % 16 == 5:
            progs["release"] = self.fd(task, n, "prog")
        raw = value(progs, NAMES[n // 8 % 7 if n % 4 == 3 else 0], flags=(0, 1, 2, 32)[n % 4 if n % 5 == 4 else 0])
        about = task.files[fd][1]
        assert about["flags"] & F_LINK
        self.element(task, f"FILL n {n} more {more}", wire.MAP_UPDATE_ELEM, (fd, about), 0, raw)

    @go(who=number, which=number)
    def struct_ops_link(self, *, who, which):
        task = self.task(who)
        fits = [
            fd
            for fd, (_, about) in sorted(task.files.items())
            if about.get("type") == STRUCT_OPS and about["value"] == DUMMY_SIZE
        ]
        if fits:
            attr = struct.pack("<4I", fits[which % len(fits)], 0, pair.AT_STRUCT_OPS, 0)
            self.bpf(task, "LINK_CREATE of a map of bpf_dummy_ops", commands.LINK_CREATE, attr)
