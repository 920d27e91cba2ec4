"""Rules of the state machine about what else holds objects, or shows them: sockets, storages' owners, batches, bound
maps, mappings, iterators, statistics, perf events, fdinfo.

Sockets are bound and listen in the live side's own network namespace; nothing is sent. Iterators are only read, and
their programs write nothing. What ENABLE_STATS counts is not compared, since it counts for the whole machine.
"""

import struct

import commands
import pair
import wire
from commands import LPM_TRIE
from hypothesis import strategies as st
from life import (
    ARENA,
    COMMON,
    NOWHERE,
    SK_STORAGE,
    SOCKETS,
    SOCKHASH,
    SOCKMAP,
    STRUCT_OPS,
    VALUE_IS,
    Lifetimes,
    go,
    number,
)
from network import SO_ATTACH_BPF, SO_ATTACH_REUSEPORT_EBPF, SO_DETACH_BPF

SO_DETACH_REUSEPORT_BPF, AF_XDP, RAW = 68, 44, 3
TRACING, TRACE_ITER, ENABLE_STATS = 26, 28, 32
PAGE = 4096
SOFTWARE, BPF_OUTPUT, CPU_CLOCK = 1, 10, 0
UNORDERED = (1, 5, 9, 10, 13)  # the hash's own order, unless BPF_F_ZERO_SEED
MAPS_FOR = {"sockmap": (SOCKMAP, SOCKHASH), "bpf_sk_storage_map": (SK_STORAGE,)}  # what these iterators are over
BATCHES = {24: "LOOKUP", 25: "LOOKUP_AND_DELETE", 26: "UPDATE", 27: "DELETE"}


class HolderRules(Lifetimes):
    # ---- sockets

    @go(who=number, what=st.sampled_from(SOCKETS), n=number)
    def socket(self, *, who, what, n):
        self.make_socket(self.task(who), what, n)

    @go(
        who=number,
        which=number,
        n=number,
        option=st.sampled_from(
            (SO_ATTACH_BPF, SO_ATTACH_BPF, SO_ATTACH_REUSEPORT_EBPF, SO_DETACH_BPF, SO_DETACH_REUSEPORT_BPF)
        ),
    )
    def socket_program(self, *, who, which, n, option):
        task = self.task(who)
        row = (0, 21 if option == SO_ATTACH_REUSEPORT_EBPF and n % 3 else wire.SOCKET_FILTER, 0)
        prog = self.program_for(task, row, n)
        fd = self.some(task, which % 16 % 15, "socket")
        self.world.file_call(task, "setsockopt", fd, option, prog)

    # ---- owners of storages, and other descriptors

    @go(who=number, kind=st.sampled_from(("pidfd", "perf")), n=number)
    def owner(self, *, who, kind, n):
        self.make(self.task(who), kind, n)

    @go(who=number, kind=st.sampled_from((0,) * 7 + (1,)))
    def enable_stats(self, *, who, kind):
        task = self.task(who)
        fd, _ = self.bpf(task, f"ENABLE_STATS {kind}", ENABLE_STATS, struct.pack("<I", kind))
        self.opened(task, fd, "stats")

    @go(who=number, which=number, n=number, flags=st.sampled_from((0,) * 7 + (1,)))
    def bind_map(self, *, who, which, n, flags):
        task = self.task(who)
        prog, fd = self.fd(task, which, "prog"), self.fd(task, n, "map")
        if task.files.get(fd, (None, {}))[1].get("type") == STRUCT_OPS:
            return  # if it holds that program, neither ever goes again, and nothing on the live kernel could help it
        attr = struct.pack("<3I", prog, fd, flags)
        self.bpf(task, f"PROG_BIND_MAP {prog} map {fd} flags {flags}", commands.PROG_BIND_MAP, attr)

    # ---- what shows objects

    @go(who=number, which=number)
    def fdinfo(self, *, who, which):
        task = self.task(who)
        fd = self.fd(task, which, "map", "prog", "link", "btf")
        if fd not in task.files or task.files[fd][0].kind in pair.ID_AT:
            self.world.fdinfo(task, fd)

    @go(who=number, other=number, which=number, room=st.sampled_from((16, 16, 0, 2)))
    def task_fd_query(self, *, who, other, which, room):
        task, of = self.task(who), self.task(other)
        fd = self.fd(of, which, "perf", "link", "perf")
        pid = pair.Id("pid", of.sim.task.pid, of.live.pid)
        attr = struct.pack("<4I", 0, fd, 0, room)
        what = f"TASK_FD_QUERY fd {fd} of task {self.world.tasks.index(of)}"
        words = {"buffers": [bytes(16)], "pointers": [(-1, 16, 0)], "asked": [(0, pid)]}
        self.bpf(task, what, wire.TASK_FD_QUERY, attr, **words)

    # ---- mappings

    @go(
        who=number,
        which=number,
        prot=st.sampled_from((3, 3, 1, 2)),
        flags=st.sampled_from((1, 1, 1, 1, 2)),
        pages=st.sampled_from((1, 1, 2, 4)),
    )
    def mmap(self, *, who, which, prot, flags, pages):
        task, world = self.task(who), self.world
        fits = [fd for fd, (_, about) in sorted(task.files.items()) if about.get("flags", 0) & 1 << 10]
        if not fits and which % 4:
            self.new_map(task, (commands.ARRAY, commands.RINGBUF, commands.USER_RINGBUF)[which % 3], 14, pages)
            fits = [max((fd for fd, (one, _) in task.files.items() if one.kind == "map"), default=NOWHERE)]
        fd = fits[which % len(fits)] if fits and which % 8 else self.fd(task, which, "map")
        one, about = task.files.get(fd, (pair.Id("map", 0, 0), {}))
        if one.kind not in pair.ID_AT:
            return
        if about.get("type") == ARENA:  # from then on its address is the map's own, which others may not have free
            if about.get("mapped"):
                return
            about["mapped"] = True
        poke = bytes([which + 1]) * 8 if about.get("type") == commands.ARRAY else b""
        world.mappings += 1
        world.file_call(task, "mmap", world.mappings, fd, pages * PAGE, prot, flags, poke)

    @go(who=number, which=number)
    def munmap(self, *, who, which):
        task = self.task(who)
        if task.sim.pages:
            self.world.file_call(task, "munmap", sorted(task.sim.pages)[which % len(task.sim.pages)])

    # ---- iterators

    @go(who=number, over=st.sampled_from(pair.TARGETS), n=number)
    def iterator(self, *, who, over, n):
        """A program for an iterator, a link that holds it, perhaps a map, and a file that reads it."""
        task = self.task(who)
        function = self.world.functions.get(f"bpf_iter_{over}")
        if not function:
            return
        again = n % 16 == 15 and over not in pair.OF_THE_HOST_TOO
        what, about = f"iterator {over} returns {again}", {"iter": over}
        prog = self.loaded(task, what, TRACING, TRACE_ITER, again, about=about, asked=[(108, function)])
        if prog >= 0:
            self.iter_link(task, prog, over, n)

    @go(who=number, which=number, n=number)
    def iterator_again(self, *, who, which, n):
        task = self.task(who)
        fits = [(fd, about["iter"]) for fd, (_, about) in sorted(task.files.items()) if "iter" in about]
        if fits:
            self.iter_link(task, *fits[which % len(fits)], n)

    def narrowed(self, task, target, n):
        """The words of union bpf_iter_link_info."""
        if target == "cgroup":
            return n % 8 or 1, self.some(task, n // 8, "cgroup") if n % 5 else 0
        if target.startswith("task") and n % 3 == 0:
            return 0, 0, self.some(task, n // 3, "pidfd")
        if target in pair.MAP_TARGETS:
            return (self.map_of(task, n, *MAPS_FOR.get(target, COMMON)),)
        return ()

    def iter_link(self, task, prog, target, n):
        buffers, pointers = [], []
        attr = bytearray(struct.pack("<4IQI", prog, 0, TRACE_ITER, 0, 0, 0).ljust(wire.ATTR_SIZE, b"\0"))
        if narrowed := self.narrowed(task, target, n):
            buffers, pointers = [struct.pack(f"<{len(narrowed)}I", *narrowed)], [(-1, 16, 0)]
            struct.pack_into("<I", attr, 24, 4 * len(narrowed))
        what = f"LINK_CREATE iterator {target} program {prog} narrowed to {narrowed}"
        made, _ = self.bpf(task, what, commands.LINK_CREATE, attr, buffers=buffers, pointers=pointers)
        self.opened(task, made, "link", {"link": "iter"})
        if made >= 0 and n % 2:
            made, _ = self.bpf(task, f"ITER_CREATE link {made}", commands.ITER_CREATE, struct.pack("<I", made))
            self.opened(task, made, "iter")
            self.world.file_call(task, "read", made)

    @go(who=number, which=number, flags=st.sampled_from((0,) * 7 + (1,)))
    def iter_create(self, *, who, which, flags):
        task = self.task(who)
        fits = [fd for fd, (_, about) in sorted(task.files.items()) if about.get("link") == "iter"]
        fd = fits[which % len(fits)] if fits and which % 8 else self.fd(task, which, "link")
        made, _ = self.bpf(
            task, f"ITER_CREATE link {fd} flags {flags}", commands.ITER_CREATE, struct.pack("<2I", fd, flags)
        )
        self.opened(task, made, "iter")

    @go(who=number, which=number)
    def iter_read(self, *, who, which):
        task = self.task(who)
        fits = [fd for fd, (one, _) in sorted(task.files.items()) if one.kind == "iter"]
        if fits:
            self.world.file_call(task, "read", fits[which % len(fits)])

    # ---- batches

    @go(
        who=number,
        which=number,
        n=number,
        m=number,
        cmd=st.sampled_from(sorted(BATCHES)),
        count=st.sampled_from((1, 2, 3, 3, 5, 0)),
        token=st.booleans(),
        odd=st.integers(0, 31),
    )
    def batch(self, *, who, which, n, m, cmd, count, token, odd):
        task = self.task(who)
        fd, about = self.of_map(task, which)
        kind = about["type"]
        if cmd in (24, 25) and kind in UNORDERED and not about["flags"] & commands.ZERO_SEED:
            cmd = 26
        keys = [self.key(task, about, n + i) or b"" for i in range(max(count, 1))]
        values = [self.value(task, about, m + i) for i in range(max(count, 1))]
        size = max(about["key"], 4)
        before = keys[0].ljust(size, b"\0") if kind == LPM_TRIE else struct.pack("<I", n % 8).ljust(size, b"\0")
        writes = cmd in (26, 27)
        room = [b"".join(keys) if writes else bytes(sum(map(len, keys))), bytes(size), before]
        room.append(b"".join(values) if writes else bytes(sum(map(len, values))))
        pointers = [(-1, 8, 1), (-1, 16, 0), (-1, 24, 3)] + ([(-1, 0, 2)] if token else [])
        attr = bytearray(wire.ATTR_SIZE)
        struct.pack_into("<IIQQ", attr, 32, count, fd, (1, 2, 3, 4, 8)[odd] if odd < 5 else 0, odd == 5)
        shown = []
        if not writes and VALUE_IS.get(kind) in pair.ID_AT:
            shown = [(3, at, VALUE_IS[kind]) for at in range(0, len(room[3]), 4)]
        named = "prog array" if kind == commands.PROG_ARRAY else f"map type {kind}"
        what = f"batch {BATCHES[cmd]} {named} fd {fd} of {count}, token {token} odd {odd} keys {room[0].hex()}"
        self.bpf(task, what, cmd, attr, buffers=room, pointers=pointers, shown=shown)
