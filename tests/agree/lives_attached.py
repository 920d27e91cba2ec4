"""Rules of the state machine about hooks: attach, detach, query and links on cgroups, devices, namespaces, sockmaps.

The cgroups, the network namespace and its devices are the live side's own (live_task.py), and all that is attached
there goes at the end of each life.
"""

import struct

import attach
import commands
import live_task
import wire
from hypothesis import strategies as st
from life import NOWHERE, SOCKHASH, SOCKMAP, Lifetimes, go, number

FAMILIES = {
    "cgroup": attach.CGROUP_FAMILIES,
    "device": attach.DEVICE_FAMILIES,
    "netns": attach.NETNS_FAMILIES,
    "sockmap": attach.SOCKMAP_FAMILIES,
}
DEVICES = (2, 2, 2, 1, 0x7FFFFFF0)
BUSY = ("cgroup", "cgroup", "device", "netns", "sockmap")  # where rules go, by weight
XDP_GENERIC = 2
family = st.tuples(st.sampled_from(BUSY), st.integers(0, 3), number)
flag = st.sampled_from(
    (0,) * 4
    + (2,) * 8
    + (
        1,
        4,
        6,
        attach.BEFORE,
        attach.AFTER | 2,
        attach.BEFORE,
        attach.AFTER,
        attach.BEFORE | attach.ID,
        attach.LINK,
        64,
        128,
    )
)


class AttachRules(Lifetimes):
    def place(self, task, drawn, n, *, link=False):
        """(where, a family there, the target's descriptor or number). Few families each, so that programs meet."""
        where, few, odd = drawn
        row = FAMILIES[where][few % len(FAMILIES[where]) if odd % 8 else odd // 8 % len(FAMILIES[where])]
        if where == "device":
            target = DEVICES[n % len(DEVICES)]
        elif where == "sockmap":
            if not any(about.get("type") in (SOCKMAP, SOCKHASH) for _, about in task.files.values()):
                self.new_map(task, (SOCKMAP, SOCKHASH)[n % 2], 0, 0)
            target = self.map_of(task, n, SOCKMAP, SOCKHASH)
        elif where == "netns" and not link:
            target = 0 if n % 16 else self.some(task, n // 16, "netns")  # the task's own
        else:
            target = self.some(task, n, where)
        return where, row, target

    def program_for(self, task, row, n):
        """A program that fits, else any."""
        fits = [fd for fd, (_, about) in sorted(task.files.items()) if about.get("hook") == row[1:]]
        if len(fits) < 2 and n % 4:
            made = self.new_hook_prog(task, row, n)
            return made if made >= 0 else NOWHERE
        return fits[n % len(fits)] if fits and n % 16 != 15 else self.fd(task, n, "prog")

    def neighbour(self, task, row, flags, n):
        """(flags, relative fd): another program or link to stand beside. Ids differ, so they are in none of these."""
        flags &= ~attach.ID
        if not flags & (attach.BEFORE | attach.AFTER | attach.LINK) or n % 3 == 0:
            return flags, 0
        return flags, self.fd(task, n, "link") if flags & attach.LINK else self.program_for(task, row, n)

    @go(who=number, to=family, n=number)
    def prog_for_hook(self, *, who, to, n):
        self.new_hook_prog(self.task(who), FAMILIES[to[0]][to[1] % len(FAMILIES[to[0]])], n)

    def new_hook_prog(self, task, row, n):
        _, kind, expected = row
        what = f"type {kind} for attach type {expected} returns {n % 2}"
        return self.loaded(task, what, kind, expected, n % 2, about={"hook": (kind, expected)})

    @go(who=number, which=st.sampled_from(live_task.GROUPS), netns=st.integers(0, 3))
    def open_place(self, *, who, which, netns):
        task = self.task(who)
        call, words, kind = ("open_netns", (), "netns") if netns == 0 else ("open_cgroup", (which,), "cgroup")
        self.opened(task, self.world.file_call(task, call, *words), kind)

    @go(who=number, what=st.sampled_from(("mkdir_cgroup", "rmdir_cgroup")), which=st.sampled_from(live_task.GROUPS))
    def make_group(self, *, who, what, which):
        self.world.file_call(self.task(who), what, which)

    @go(who=number, to=family, where=number, which=number, n=number, flags=flag, detach=st.booleans())
    def attach(self, *, who, to, where, which, n, flags, detach):
        task = self.task(who)
        name, row, target = self.place(task, to, where)
        prog = self.program_for(task, row, which)
        if name != "cgroup" and flags & 3 and n % 8:
            flags &= ~3
        if detach:
            flags &= attach.BEFORE | attach.AFTER
        flags, relative = self.neighbour(task, row, flags, n)
        met = self.world.attached
        if detach and met and which % 4:
            name, row, target, prog = met[which % len(met)]
        replace = self.program_for(task, row, n) if flags & attach.REPLACE else 0
        attr = struct.pack("<6IQ", target, prog, row[0], flags, replace, relative, (0, 0, 0, 0, 0, 0, 0, 1)[n % 8])
        what = f"{'DETACH' if detach else 'ATTACH'} {prog} at {name} {target} type {row[0]} flags {flags:#x}"
        cmd = wire.PROG_DETACH if detach else wire.PROG_ATTACH
        done, _ = self.bpf(task, f"{what} beside {relative}", cmd, attr)
        if done == 0 and not detach:
            met.append((name, row, target, prog))  # the descriptors may be closed, or another task's: then it fails

    @go(who=number, to=family, where=number, room=st.sampled_from((16, 16, 16, 0, 1, 2)), flags=st.integers(0, 3))
    def query(self, *, who, to, where, room, flags):
        task = self.task(who)
        name, row, target = self.place(task, to, where, link=True)
        effective = int(name == "cgroup" and flags == 0)
        attr = bytearray(struct.pack("<4IQII", target, row[0], effective, 0, 0, room, 0).ljust(wire.ATTR_SIZE, b"\0"))
        few = effective or flags == 1
        pointers = [(-1, 16, 0)] if few else [(-1, 16, 0), (-1, 32, 1), (-1, 40, 2), (-1, 48, 3)]
        shown = [(part, at, kind) for part, kind in ((0, "prog"), (2, "link")) for at in range(0, 64, 4)]
        what = f"QUERY {name} {target} type {row[0]} effective {effective} room {room} arrays {len(pointers)}"
        self.bpf(task, what, wire.PROG_QUERY, attr, buffers=[bytes(64)] * 4, pointers=pointers, shown=shown)

    @go(who=number, to=family, where=number, which=number, n=number, flags=flag)
    def link_create(self, *, who, to, where, which, n, flags):
        task = self.task(who)
        name, row, target = self.place(task, to, where, link=True)
        prog = self.program_for(task, row, which)
        flags, relative = self.neighbour(task, row, flags, n)
        if row[0] == attach.AT_XDP:
            flags, relative = (XDP_GENERIC if flags == 0 and n % 2 else flags & 6), 0
        elif n % 4:
            flags &= ~7
        what = f"LINK_CREATE program {prog} at {name} {target} type {row[0]} flags {flags:#x} beside {relative}"
        attr = struct.pack("<5I4xQ", prog, target, row[0], flags, relative, (0, 0, 0, 0, 0, 0, 0, 1)[n % 8])
        made, _ = self.bpf(task, what, commands.LINK_CREATE, attr)
        self.opened(task, made, "link", {"link": name, "row": row})

    def attached_link(self, task, n):
        """A link that is no iterator's, if there is one."""
        fits = [fd for fd, (_, about) in sorted(task.files.items()) if about.get("row")]
        return fits[n % len(fits)] if fits and n % 16 else self.fd(task, n, "link")

    @go(who=number, which=number, n=number, old=number, flags=st.sampled_from((0, 0, 0, 4, 4, 1)))
    def link_update(self, *, who, which, n, old, flags):
        task = self.task(who)
        fd = self.attached_link(task, which)
        row = task.files.get(fd, (None, {}))[1].get("row")
        prog = self.program_for(task, row, n) if row else self.fd(task, n, "prog")
        expected = 0
        if flags & 4 or old % 16 == 3:
            expected = self.program_for(task, row, old) if row else self.fd(task, old, "prog")
        what = f"LINK_UPDATE link {fd} program {prog} flags {flags} expected {expected}"
        self.bpf(task, what, commands.LINK_UPDATE, struct.pack("<4I", fd, prog, flags, expected))

    @go(who=number, which=number)
    def link_detach(self, *, who, which):
        task = self.task(who)
        fd = self.attached_link(task, which)
        self.bpf(task, f"LINK_DETACH fd {fd}", commands.LINK_DETACH, struct.pack("<I", fd))
