"""Attach, detach, query and links on both sides: cgroups, tcx and XDP on a device, network namespaces, sockmaps.

A case is a function of a Side whose box (sandbox.py) is a cgroup and a network namespace of its own. Ids differ
between the sides, so a transcript names programs and links by the order in which the case made them.
"""

import random
import struct

import wire
from commands import Side
from wire import Buffer

CGROUP_SKB, CGROUP_SOCK, SOCK_OPS, SK_SKB, CGROUP_DEVICE, SK_MSG, CGROUP_SOCK_ADDR = 8, 9, 13, 14, 15, 16, 18
SK_REUSEPORT, FLOW_DISSECTOR, CGROUP_SYSCTL, CGROUP_SOCKOPT, SK_LOOKUP, SCHED_CLS = 21, 22, 23, 25, 30, 3
INGRESS, EGRESS, SOCK_CREATE, AT_SOCK_OPS, AT_DEVICE, AT_FLOW, AT_SYSCTL, AT_SK_LOOKUP = 0, 1, 2, 3, 6, 17, 18, 36
AT_XDP, TCX_INGRESS, TCX_EGRESS, NETKIT = 37, 46, 47, 54
OVERRIDE, MULTI, REPLACE, BEFORE, AFTER, ID, PREORDER, LINK = 1, 2, 4, 8, 16, 32, 64, 1 << 13
LINK_CREATE, LINK_UPDATE, LINK_DETACH = 28, 29, 34
LINK_GET_FD_BY_ID = 30
LO = 1


def returns(number):
    return struct.pack("<BBhi", 0xB7, 0, 0, number) + struct.pack("<BBhi", 0x95, 0, 0, 0)


class AttachSide(Side):
    """A Side with a sandbox, which knows the programs and links it made."""

    def __init__(self, task, box):
        super().__init__(task)
        self.box, self.names, self.made = box, {}, []

    def cgroup(self, path=""):
        fd = self.box.open_cgroup(path)
        self.open.append(fd)
        return fd

    def netns(self):
        fd = self.box.open_netns()
        self.open.append(fd)
        return fd

    def directory(self, what, path):
        try:
            getattr(self.box, what)(path)
            self.note(f"{what} {path}")
        except OSError as error:
            self.note(f"{what} {path}: {wire.name(-error.errno)}")

    def id_of(self, fd, kind):
        raw = Buffer(bytes(64))
        attr = bytearray(wire.ATTR_SIZE)
        struct.pack_into("<IIQ", attr, 0, fd & 0xFFFFFFFF, 64, raw.address)
        if self.task.sys_bpf(wire.OBJ_GET_INFO_BY_FD, attr) < 0:
            return 0
        number = struct.unpack_from("<I", bytes(raw), 4)[0]
        self.names.setdefault((kind, number), f"{kind}{len(self.names)}")
        return number

    def prog(self, prog_type=CGROUP_SKB, expected=0, answer=1):
        what = f"type={prog_type} expected={expected} returns {answer}"
        fd = self.prog_load(what, returns(answer), prog_type, at68=expected)
        self.id_of(fd, "prog")
        return fd

    def name(self, kind, number):
        return self.names.get((kind, number), "0" if number == 0 else f"another {kind}")

    def attach(self, target, prog, at, flags=0, *, replace=0, relative=0, revision=0, cmd=wire.PROG_ATTACH):
        attr = bytearray(wire.ATTR_SIZE)
        numbers = [n & 0xFFFFFFFF for n in (target, prog, at, flags, replace, relative)]
        struct.pack_into("<6IQ", attr, 0, *numbers, revision)
        verb = "ATTACH" if cmd == wire.PROG_ATTACH else "DETACH"
        return self.call(f"{verb} at={at} flags={flags:#x} revision={revision}", cmd, attr)

    def detach(self, target, prog, at, flags=0, **order):
        return self.attach(target, prog, at, flags, cmd=wire.PROG_DETACH, **order)

    def query(self, target, at, flags=0, *, room=70, arrays=15, attach_flags=0):
        """arrays: bits 1 prog_ids, 2 prog_attach_flags, 4 link_ids, 8 link_attach_flags."""
        buffers = [Buffer(b"\xee" * 4 * 70) for _ in range(4)]
        ids, prog_flags, links, link_flags = (b.address if arrays & 1 << i else 0 for i, b in enumerate(buffers))
        attr = bytearray(wire.ATTR_SIZE)
        struct.pack_into("<4I", attr, 0, target & 0xFFFFFFFF, at, flags, attach_flags)
        struct.pack_into("<QIIQQQQ", attr, 16, ids, room, 0, prog_flags, links, link_flags, 0)
        self.call(f"QUERY at={at} flags={flags} room={room} arrays={arrays}", wire.PROG_QUERY, attr)
        count, revision = struct.unpack_from("<I", attr, 24)[0], struct.unpack_from("<Q", attr, 56)[0]
        told = [struct.unpack("<70I", bytes(b)) for b in buffers]
        told[0] = [self.name("prog", n) if n != 0xEEEEEEEE else "-" for n in told[0]]
        told[2] = [self.name("link", n) if n != 0xEEEEEEEE else "-" for n in told[2]]
        shown = " ".join(f"{list(row[: min(count, 70) + 1])}" for row in told)
        self.note(
            f"  attach_flags {struct.unpack_from('<I', attr, 12)[0]:#x} count {count} revision {revision} {shown}"
        )

    def link(self, prog, target, at, flags=0, *, relative=0, revision=0):
        attr = bytearray(wire.ATTR_SIZE)
        numbers = [n & 0xFFFFFFFF for n in (prog, target, at, flags, relative)]
        struct.pack_into("<5I4xQ", attr, 0, *numbers, revision)
        fd = self.call(f"LINK_CREATE at={at} flags={flags:#x} revision={revision}", LINK_CREATE, attr, fd=True)
        if fd >= 0:
            self.id_of(fd, "link")
        return fd

    def update(self, link, prog, flags=0, old=0):
        attr = bytearray(wire.ATTR_SIZE)
        struct.pack_into("<4I", attr, 0, link & 0xFFFFFFFF, prog & 0xFFFFFFFF, flags, old & 0xFFFFFFFF)
        return self.call(f"LINK_UPDATE flags={flags:#x}", LINK_UPDATE, attr)

    def link_detach(self, link):
        attr = bytearray(wire.ATTR_SIZE)
        struct.pack_into("<I", attr, 0, link & 0xFFFFFFFF)
        return self.call("LINK_DETACH", LINK_DETACH, attr)

    def link_info(self, fd):
        """Of the numbers that are the host's own (a cgroup's id, a namespace's inode) only whether they are 0."""
        raw = Buffer(bytes(64))
        attr = bytearray(wire.ATTR_SIZE)
        struct.pack_into("<IIQ", attr, 0, fd & 0xFFFFFFFF, 64, raw.address)
        self.call("OBJ_GET_INFO link", wire.OBJ_GET_INFO_BY_FD, attr)
        kind, number, prog = struct.unpack_from("<3I", bytes(raw))
        rest, hidden = bytes(raw)[16:32], {3: 8, 5: 4, 14: 4}.get(kind, 0)  # ids of cgroup, namespace, map
        rest = (b"\1" if any(rest[:hidden]) else b"\0") + rest[hidden:]
        self.note(f"  type {kind} {self.name('link', number)} of {self.name('prog', prog)}: {rest.hex()}")
        self.fdinfo(fd)

    def fdinfo(self, fd):
        own = ("pos", "flags", "mnt_id", "ino", "link_id", "prog_id", "prog_tag", "cgroup_id", "netns_ino", "map_id")
        lines = [line.split(":\t", 1) for line in self.box.fdinfo(fd).splitlines()]
        kept = [f"{key}={'*' if key in own and value != '0' else value}" for key, value in lines]
        self.note("  " + " ".join(k for k in kept if not k.startswith(("mnt_id", "ino", "flags"))))

    def show(self, target, *attach_types):
        for at in attach_types:
            self.query(target, at)
            self.query(target, at, flags=1, arrays=1)


# ---- written cases ----


def cgroup_alone_override_multi(s):
    s.directory("mkdir", "a")
    s.directory("mkdir", "a/b")
    for first in (0, OVERRIDE, MULTI):
        top, below = s.cgroup("a"), s.cgroup("a/b")
        one, two, three = s.prog(), s.prog(), s.prog()
        s.attach(top, one, INGRESS, first)
        s.show(top, INGRESS)
        s.show(below, INGRESS)
        for second in (0, OVERRIDE, MULTI, OVERRIDE | MULTI, REPLACE, MULTI | REPLACE, PREORDER, MULTI | PREORDER):
            s.attach(top, two, INGRESS, second, replace=one)
            s.show(top, INGRESS)
            s.attach(below, three, INGRESS, second, replace=one)
            s.show(below, INGRESS)
            s.detach(below, three, INGRESS)
        s.attach(top, two, INGRESS, first)
        for prog in (three, one, two, 0, one):
            s.detach(top, prog, INGRESS)
            s.show(top, INGRESS)
            s.show(below, INGRESS)
        s.close()


def cgroup_order(s):
    top = s.cgroup()
    progs = [s.prog(CGROUP_DEVICE) for _ in range(6)]
    ids = [s.id_of(p, "prog") for p in progs]
    s.attach(top, progs[0], AT_DEVICE, MULTI, revision=2)
    s.attach(top, progs[0], AT_DEVICE, MULTI | BEFORE | AFTER, revision=1)
    s.attach(top, progs[0], AT_DEVICE, MULTI)
    s.attach(top, progs[1], AT_DEVICE, MULTI | BEFORE)
    s.attach(top, progs[2], AT_DEVICE, MULTI | BEFORE, relative=progs[0])
    s.attach(top, progs[3], AT_DEVICE, MULTI | AFTER | ID, relative=ids[2])
    s.show(top, AT_DEVICE)
    for flags in (
        0,
        ID,
        LINK,
        BEFORE | AFTER,
        BEFORE | ID,
        AFTER | LINK,
        BEFORE | ID | LINK,
        PREORDER,
        PREORDER | BEFORE,
    ):
        for relative in (0, ids[3], ids[5], 999999) if flags & ID else (0, progs[0], progs[5], 9999):
            s.attach(top, progs[4], AT_DEVICE, MULTI | flags, relative=relative)
            s.query(top, AT_DEVICE)
            s.detach(top, progs[4], AT_DEVICE)
    s.attach(top, progs[4], AT_DEVICE, MULTI | REPLACE, replace=progs[3], revision=1)
    s.attach(top, progs[4], AT_DEVICE, MULTI | REPLACE | BEFORE, replace=progs[3])
    s.attach(top, progs[4], AT_DEVICE, MULTI | REPLACE, replace=progs[3])
    s.attach(top, progs[4], AT_DEVICE, MULTI | REPLACE, replace=progs[4])
    s.attach(top, progs[4], AT_DEVICE, MULTI | REPLACE, replace=progs[5])
    s.attach(top, progs[5], AT_DEVICE, MULTI | REPLACE, replace=9999)
    s.detach(top, progs[0], AT_DEVICE, revision=3)
    s.show(top, AT_DEVICE)
    for room in (0, 1, 2, 3, 4, 5):
        s.query(top, AT_DEVICE, room=room)
        s.query(top, AT_DEVICE, flags=1, room=room, arrays=1)
    for arrays in (0, 2, 3, 5, 15):
        s.query(top, AT_DEVICE, arrays=arrays)
        s.query(top, AT_DEVICE, flags=1, arrays=arrays)
    s.query(top, AT_DEVICE, flags=2)
    s.query(top, AT_DEVICE, attach_flags=1)


def cgroup_links(s):
    s.directory("mkdir", "a")
    s.directory("mkdir", "a/b")
    top, below = s.cgroup("a"), s.cgroup("a/b")
    one, two, other = s.prog(), s.prog(), s.prog(CGROUP_DEVICE)
    for flags in (0, 1, 2, 4, BEFORE, AFTER, ID, PREORDER, LINK, 128, 1 << 31):
        s.close(s.link(one, top, INGRESS, flags))
    first = s.link(one, top, INGRESS)
    second = s.link(two, top, INGRESS, BEFORE | LINK, relative=first)
    third = s.link(one, top, INGRESS, AFTER | LINK | ID, relative=s.id_of(second, "link"))
    s.link(one, top, INGRESS, BEFORE, relative=one)
    s.link(one, top, INGRESS, revision=77)
    s.show(top, INGRESS)
    s.show(below, INGRESS)
    for link in (first, second, third):
        s.link_info(link)
    s.attach(top, one, INGRESS, MULTI)
    s.attach(top, one, INGRESS, 0)
    s.detach(top, two, INGRESS)
    s.show(top, INGRESS)
    s.update(first, two)
    s.update(first, other)
    s.update(first, two, REPLACE, one)
    s.update(first, one, REPLACE, two)
    s.update(first, one, 0, two)
    s.update(first, one, 8)
    s.update(first, 9999)
    s.show(top, INGRESS)
    s.link_detach(second)
    s.link_detach(second)
    s.link_info(second)
    s.update(second, one)
    s.close(first)
    s.show(below, INGRESS)
    inherited = s.link(two, below, INGRESS, PREORDER)
    s.show(below, INGRESS)
    s.directory("rmdir", "a")
    s.directory("rmdir", "a/b")
    s.link_info(inherited)
    s.update(inherited, one)
    s.link_detach(inherited)
    s.query(below, INGRESS)
    s.attach(below, one, INGRESS)
    s.detach(below, one, INGRESS)
    s.link(one, below, INGRESS)
    s.directory("rmdir", "a")
    s.link_info(third)


def cgroup_limits_and_targets(s):
    top, one = s.cgroup(), s.prog()
    for target in (0, 1, 9999, one, s.netns()):
        s.attach(target, one, INGRESS)
        s.detach(target, one, INGRESS)
        s.query(target, INGRESS)
        s.link(one, target, INGRESS)
    for prog in (9999, top):
        s.attach(top, prog, INGRESS)
        s.detach(top, prog, INGRESS)
        s.link(prog, top, INGRESS)
    for _ in range(66):
        s.attach(top, s.prog(answer=0), EGRESS, MULTI)
    s.link(one, top, EGRESS)
    s.query(top, EGRESS)
    s.query(top, EGRESS, flags=1, arrays=1)


def expected_attach_types(s):
    """Which program goes where, by its type and what it said at load."""
    top = s.cgroup()
    kinds = [(CGROUP_SKB, 0, 1), (CGROUP_SKB, 1, 1), (CGROUP_SKB, 1, 3), (CGROUP_SKB, 5, 1), (SK_REUSEPORT, 0, 1)]
    kinds += [(CGROUP_SOCK, 0, 1), (CGROUP_SOCK, 12, 1), (CGROUP_SOCK, 34, 1), (CGROUP_SOCK, 3, 1), (SOCK_OPS, 0, 1)]
    kinds += [(CGROUP_SOCK_ADDR, 8, 1), (CGROUP_SOCK_ADDR, 19, 1), (CGROUP_SOCK_ADDR, 0, 1), (CGROUP_DEVICE, 0, 1)]
    kinds += [(CGROUP_SYSCTL, 0, 1), (CGROUP_SOCKOPT, 21, 1), (CGROUP_SOCKOPT, 22, 1), (CGROUP_SOCKOPT, 0, 1)]
    kinds += [(SCHED_CLS, 0, 1), (wire.XDP, 0, 1), (wire.SOCKET_FILTER, 0, 1), (SK_LOOKUP, 36, 1), (SK_LOOKUP, 0, 1)]
    kinds += [(FLOW_DISSECTOR, 0, 0), (CGROUP_SOCK, 2, 2), (CGROUP_SOCK_ADDR, 49, 1), (SK_MSG, 0, 1), (SK_SKB, 0, 1)]
    for kind, expected, answer in kinds:
        prog = s.prog(kind, expected, answer)
        for at in range(59):
            if kind in (SK_MSG, SK_SKB) and at in (4, 5, 7, 38):
                continue
            s.attach(top, prog, at)
            if at not in (17, 36, 46, 47):
                s.detach(top, prog, at)
            if kind not in (SK_MSG, SK_SKB, wire.XDP):
                s.close(s.link(prog, top, at))
        s.close(prog)
    for at in list(range(60)) + [1000, 0xFFFFFFFF]:
        if at not in (4, 5, 7, 38):
            s.query(top, at)


def tcx_order(s):
    progs = [s.prog(SCHED_CLS) for _ in range(5)]
    ids = [s.id_of(p, "prog") for p in progs]
    other = s.prog(wire.SOCKET_FILTER)
    s.query(LO, TCX_INGRESS)
    s.detach(LO, progs[0], TCX_INGRESS)
    for flags in (OVERRIDE, MULTI, PREORDER, BEFORE | AFTER, REPLACE, ID, LINK, BEFORE | LINK, 128):
        s.attach(LO, progs[0], TCX_INGRESS, flags)
        s.query(LO, TCX_INGRESS)
        s.detach(LO, progs[0], TCX_INGRESS)
    s.attach(LO, progs[0], TCX_INGRESS, revision=2)
    s.attach(LO, progs[0], TCX_INGRESS, revision=1)
    s.attach(LO, progs[0], TCX_INGRESS)
    s.attach(LO, progs[1], TCX_INGRESS, BEFORE)
    s.attach(LO, progs[2], TCX_INGRESS, BEFORE, relative=progs[0])
    for flags in (
        0,
        BEFORE,
        AFTER,
        BEFORE | AFTER,
        BEFORE | ID,
        AFTER | ID,
        AFTER | LINK,
        REPLACE,
        REPLACE | BEFORE,
        LINK,
    ):
        for relative in (0, ids[2], ids[4], 999999) if flags & ID else (0, progs[0], progs[4], other, 9999):
            s.attach(LO, progs[3], TCX_INGRESS, flags, replace=progs[2], relative=relative)
            s.query(LO, TCX_INGRESS)
            s.detach(LO, progs[3], TCX_INGRESS)
            s.attach(LO, progs[2], TCX_INGRESS, BEFORE, relative=progs[0])
    for flags in (0, BEFORE, AFTER, BEFORE | AFTER, AFTER | ID, REPLACE, LINK):
        for prog in (0, progs[1], progs[4], other):
            s.detach(LO, prog, TCX_INGRESS, flags, relative=ids[0] if flags & ID else 0)
            s.query(LO, TCX_INGRESS)
    s.attach(77, progs[0], TCX_INGRESS)
    s.query(77, TCX_INGRESS)
    s.query(LO, TCX_INGRESS, flags=1)
    s.query(LO, NETKIT)
    s.attach(LO, progs[0], NETKIT)
    s.detach(LO, progs[0], NETKIT)
    s.link(progs[0], LO, NETKIT)


def tcx_links(s):
    one, two, three, other = s.prog(SCHED_CLS), s.prog(SCHED_CLS), s.prog(SCHED_CLS), s.prog(wire.XDP)
    for flags in (1, 2, REPLACE, BEFORE, ID, LINK, 128):
        s.close(s.link(one, LO, TCX_EGRESS, flags))
    first = s.link(one, LO, TCX_EGRESS)
    s.link(one, LO, TCX_EGRESS)
    s.link(two, LO, TCX_EGRESS, revision=9)
    second = s.link(two, LO, TCX_EGRESS, BEFORE | LINK, relative=first)
    s.attach(LO, three, TCX_EGRESS, BEFORE, relative=two)
    s.attach(LO, one, TCX_EGRESS)
    s.attach(LO, one, TCX_EGRESS, REPLACE, replace=one)
    s.query(LO, TCX_EGRESS)
    for room in (0, 1, 2, 3):
        s.query(LO, TCX_EGRESS, room=room)
    s.detach(LO, one, TCX_EGRESS)
    s.detach(LO, 0, TCX_EGRESS, AFTER)
    s.link_info(first)
    s.link_info(second)
    s.update(first, two)
    s.update(first, one)
    s.update(first, other)
    s.update(first, s.prog(SCHED_CLS), REPLACE, one)
    s.update(first, one, REPLACE, one)
    s.query(LO, TCX_EGRESS)
    s.link_detach(first)
    s.link_info(first)
    s.update(first, one)
    s.close(second)
    s.query(LO, TCX_EGRESS)
    s.detach(LO, three, TCX_EGRESS)
    s.query(LO, TCX_EGRESS)
    for _ in range(66):
        s.attach(LO, s.prog(SCHED_CLS), TCX_INGRESS)
    s.query(LO, TCX_INGRESS)


def network_namespace(s):
    net, flow, other = s.netns(), s.prog(FLOW_DISSECTOR, answer=0), s.prog(FLOW_DISSECTOR, answer=0)
    for target, flags in ((net, 0), (0, 1), (0, MULTI), (0, REPLACE), (0, 0), (0, 0)):
        s.attach(target, flow, AT_FLOW, flags)
        s.query(net, AT_FLOW)
    s.close(s.link(flow, net, AT_FLOW))
    s.attach(0, other, AT_FLOW)
    for target in (net, 9999, flow):
        s.query(target, AT_FLOW)
        s.query(target, AT_SK_LOOKUP)
    s.query(net, AT_FLOW, room=0)
    s.query(net, AT_FLOW, flags=1)
    for prog in (flow, other, other, 9999, net):
        s.detach(0, prog, AT_FLOW)
    s.detach(net, flow, AT_FLOW)
    link = s.link(flow, net, AT_FLOW)
    s.link(other, net, AT_FLOW)
    s.link(other, net, AT_FLOW, 1)
    s.attach(0, other, AT_FLOW)
    s.detach(0, flow, AT_FLOW)
    s.link_info(link)
    s.update(link, other)
    s.update(link, s.prog())
    s.update(link, flow, REPLACE, flow)
    s.query(net, AT_FLOW)
    s.link_detach(link)
    s.link_detach(link)
    s.link_info(link)
    s.update(link, flow)
    s.query(net, AT_FLOW)
    look = s.prog(SK_LOOKUP, AT_SK_LOOKUP)
    s.attach(0, look, AT_SK_LOOKUP)
    s.detach(0, look, AT_SK_LOOKUP)
    links = [s.link(look, net, AT_SK_LOOKUP) for _ in range(66)]
    s.query(net, AT_SK_LOOKUP)
    s.query(net, AT_SK_LOOKUP, room=10)
    s.close(links[1])
    s.query(net, AT_SK_LOOKUP)


def links_of_programs_with_storages(s):
    """A program holds at most one cgroup storage of each kind, and a link takes one with the same in its place."""
    shared, percpu = 19, 21
    maps = [s.map_create(kind, 8, 8, 0) for kind in (shared, shared, percpu, percpu)]
    top, progs = s.cgroup(), []
    for used in ((), (0,), (1,), (2,), (0, 2), (2, 0), (0, 0), (0, 1), (2, 3), (3, 0, 2)):
        loads = b"".join(struct.pack("<BBhi8x", 0x18, 0x11, 0, maps[one]) for one in used)
        progs.append(s.prog_load(f"with maps {used}", loads + returns(1), CGROUP_SKB))
    progs = [prog for prog in progs if prog >= 0]
    for prog in progs:
        s.id_of(prog, "prog")
    for one in progs:
        link = s.link(one, top, EGRESS)
        for other in (*progs, one):
            s.update(link, other)
        s.query(top, EGRESS)
        s.close(link)
    for fd in (*progs, *maps):
        s.close(fd)


NET_ADMIN, SYS_ADMIN, PERFMON, BPF = 12, 21, 38, 39


def with_capabilities(*kept):
    """A case: what a task with these capabilities alone may load, attach, query and look up."""

    def case(s):
        group, kinds = s.cgroup(), {8: 0, 9: 2, 3: 0, 6: 0, 1: 0, 15: 0, 30: 36, 17: 0}
        progs = {kind: s.prog(kind, expected) for kind, expected in kinds.items()}
        link = s.link(progs[8], group, INGRESS)
        ids = {"prog": s.id_of(progs[8], "prog"), "link": s.id_of(link, "link")}
        s.box.keep_caps(*kept)
        for kind, expected in kinds.items():
            s.close(s.prog(kind, expected))
        for at, kind in ((INGRESS, 8), (EGRESS, 8), (SOCK_CREATE, 9), (AT_DEVICE, 15)):
            for target in (group, 9999):
                s.attach(target, progs[kind], at, MULTI)
                s.query(target, at)
                s.detach(target, progs[kind], at)
                s.close(s.link(progs[kind], target, at))
        for target, at, kind in ((LO, TCX_INGRESS, 3), (9999, AT_XDP, 6), (s.netns(), AT_SK_LOOKUP, 30)):
            s.query(target, at)
            s.close(s.link(progs[kind], target, at))
        for kind, fd in progs.items():
            s.prog_test_run(f"type {kind}", fd)
        for cmd, kind in ((wire.PROG_GET_FD_BY_ID, "prog"), (LINK_GET_FD_BY_ID, "link")):
            attr = bytearray(struct.pack("<I", ids[kind]).ljust(wire.ATTR_SIZE, b"\0"))
            s.call(f"a {kind} by id", cmd, attr, fd=True)
        s.update(link, progs[8])
        s.link_detach(link)

    case.__name__ = f"with_capabilities_{'_'.join(map(str, kept)) or 'none'}"
    return case


WRITTEN = (
    *map(
        lambda kept: with_capabilities(*kept),
        ((), (SYS_ADMIN,), (BPF,), (NET_ADMIN,), (BPF, NET_ADMIN), (BPF, PERFMON)),
    ),
    cgroup_alone_override_multi,
    cgroup_order,
    cgroup_links,
    cgroup_limits_and_targets,
    expected_attach_types,
    tcx_order,
    tcx_links,
    network_namespace,
    links_of_programs_with_storages,
)


# ---- random sequences ----


def sequence(seed, number, steps=80):
    """A case of random steps over three groups and both directions of a device."""

    def case(s):
        r = random.Random(f"attach {seed} {number}")
        for path in ("a", "a/b", "c"):
            s.directory("mkdir", path)
        groups = [s.cgroup(path) for path in ("", "a", "a/b", "c")]
        skb, cls = [s.prog() for _ in range(4)], [s.prog(SCHED_CLS) for _ in range(4)]
        ids = {fd: s.id_of(fd, "prog") for fd in skb + cls}
        links = []
        for _ in range(steps):
            tcx = r.random() < 0.4
            target, at = (LO, r.choice((TCX_INGRESS, TCX_EGRESS))) if tcx else (r.choice(groups), r.choice((0, 1)))
            prog = r.choice(cls if tcx else skb)
            flags = r.choice((0, 0, BEFORE, AFTER, BEFORE | ID, AFTER | ID, BEFORE | AFTER, REPLACE))
            relative = r.choice((0, 0, r.choice(cls if tcx else skb)))
            if flags & ID:
                relative = ids[r.choice(cls if tcx else skb)]
            revision = r.choice((0, 0, 0, 0, 1, 2, 3))
            if not tcx:
                flags |= r.choice((MULTI, MULTI, MULTI, MULTI, MULTI | PREORDER, 0, OVERRIDE))
            step = r.randrange(9)
            if step < 3:
                other = r.choice(cls if tcx else skb)
                s.attach(target, prog, at, flags, replace=other, relative=relative, revision=revision)
            elif step == 3:
                place = flags & (BEFORE | AFTER | ID) if tcx else 0
                s.detach(target, prog, at, place, relative=relative if tcx else 0, revision=revision)
            elif step == 4:
                if links and r.random() < 0.5:
                    flags, relative = r.choice((BEFORE, AFTER)) | LINK, r.choice(links)
                flags &= ~(MULTI | OVERRIDE | REPLACE)
                links.append(s.link(prog, target, at, flags, relative=relative, revision=revision))
                links = [fd for fd in links if fd >= 0]
            elif step == 5 and links:
                s.update(r.choice(links), r.choice(skb + cls), *r.choice(((0, 0), (0, prog), (REPLACE, prog))))
            elif step == 6 and links:
                link = r.choice(links)
                if r.random() < 0.5:
                    s.link_detach(link)
                else:
                    links.remove(link)
                    s.close(link)
            elif step == 7 and r.random() < 0.1:
                s.directory("rmdir", r.choice(("a", "a/b", "c")))
            s.query(target, at)
            if not tcx:
                for group in groups:
                    s.query(group, at, flags=1, arrays=1)
        for link in links:
            s.link_info(link)

    return case


# Attach type, program type, what the program expects at load; by what they are attached to.
CGROUP_FAMILIES = (
    *((at, CGROUP_SKB, 0) for at in (INGRESS, EGRESS)),
    *((at, CGROUP_SOCK, at) for at in (SOCK_CREATE, 12, 13, 34)),
    (AT_SOCK_OPS, SOCK_OPS, 0),
    (AT_DEVICE, CGROUP_DEVICE, 0),
    *((at, CGROUP_SOCK_ADDR, at) for at in (8, 9, 10, 11, 14, 15, 19, 20, 29, 32, 49, 53)),
    (AT_SYSCTL, CGROUP_SYSCTL, 0),
    *((at, CGROUP_SOCKOPT, at) for at in (21, 22)),
)
DEVICE_FAMILIES = ((TCX_INGRESS, SCHED_CLS, 0), (TCX_EGRESS, SCHED_CLS, 0), (AT_XDP, wire.XDP, 0))
NETNS_FAMILIES = ((AT_FLOW, FLOW_DISSECTOR, 0), (AT_SK_LOOKUP, SK_LOOKUP, AT_SK_LOOKUP))
SOCKMAP_FAMILIES = (
    *((at, SK_SKB, expected) for at in (4, 5, 38) for expected in (0, at)),
    (7, SK_MSG, 0),
)


def sequence_of_all(seed, number, steps=60):
    """A case of random steps over everything that takes a program by bpf(2), with a few families at a time."""

    def case(s):
        r = random.Random(f"attach all {seed} {number}")
        for path in ("a", "a/b"):
            s.directory("mkdir", path)
        groups, net = [s.cgroup(path) for path in ("", "a", "a/b")], s.netns()
        maps = [s.map_create(kind, 4, 4, 4) for kind in (15, 18)]
        places = ((groups, CGROUP_FAMILIES), ([LO, LO, 77], DEVICE_FAMILIES), ([net], NETNS_FAMILIES))
        places += ((maps, SOCKMAP_FAMILIES),)
        chosen = [(targets, r.choice(families)) for targets, families in r.choices(places, (4, 2, 2, 1), k=4)]
        progs = {family: [s.prog(family[1], family[2]) for _ in range(3)] for _, family in chosen}
        every = [fd for row in progs.values() for fd in row] + [9999]
        ids = {fd: s.id_of(fd, "prog") for fd in every}
        links = []
        for _ in range(steps):
            targets, family = r.choice(chosen)
            target, at, prog = r.choice(targets), family[0], r.choice(progs[family])
            if r.random() < 0.08:
                prog = r.choice(every)
            if r.random() < 0.04:
                target = r.choice((*groups, net, *maps, prog, 9999))
            flags = r.choice(
                (0,) * 8 + (MULTI, MULTI, MULTI, OVERRIDE, BEFORE, AFTER, REPLACE, MULTI | REPLACE, 2, 4, 1)
            )
            relative = r.choice((0, 0, 0, r.choice(every)))
            if r.random() < 0.1:
                flags, relative = flags | ID, ids[r.choice(every)]
            step = r.randrange(10)
            place = 0 if at in (AT_FLOW, AT_SK_LOOKUP) and step < 5 else target  # attached to the task's own namespace
            if step < 3:
                s.attach(place, prog, at, flags, replace=r.choice(every), relative=relative)
            elif step < 5:
                flags &= BEFORE | AFTER | ID  # with the last one, relative is an id
                s.detach(place, r.choice((0, prog, prog)), at, flags, relative=relative)
            elif step < 7:
                made = s.link(prog, target, at, flags & ~MULTI, relative=relative)
                links += [made] if made >= 0 else []
            elif step == 7 and links:
                s.update(r.choice(links), r.choice(every), *r.choice(((0, 0), (0, prog), (REPLACE, prog))))
            elif step == 8 and links:
                link = r.choice(links)
                if r.random() < 0.4:
                    s.link_detach(link)
                else:
                    links.remove(link)
                    s.close(link)
            elif step == 9 and r.random() < 0.1:
                s.directory("rmdir", r.choice(("a", "a/b")))
            elif step == 9 and links:
                s.link_info(r.choice(links))
            if at != AT_XDP or r.random() < 0.1:
                s.query(target, at, r.choice((0, 0, 1)) if target in groups else 0, arrays=r.choice((1, 3, 15)))
        for link in links:
            s.link_info(link)

    return case


def transcript(task, box, case):
    """What one side answers: its lines, and the words of an error where the case itself failed."""
    side = AttachSide(task, box)
    try:
        case(side)
    finally:
        side.close()
    return side.transcript
