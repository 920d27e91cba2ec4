"""Objects that live and die, at random, on both sides: a hypothesis state machine over pair.World.

Each rule is a call, or a few, by one of up to three tasks: maps of every type made, used and frozen, programs loaded
that hold maps, prog arrays and maps of maps that hold others, BTF, pins and directories, ids, dup, fork, close, exit;
lives_attached.py has the hooks and links, lives_held.py sockets, storages, batches, mappings, iterators and fdinfo,
lives_struct_ops.py structs of functions.
After each rule the world is judged. A chunk of examples follows from (seed, number) alone.
"""

import struct

import commands
import hypothesis
import pair
import wire
from commands import ARRAY, ARRAY_OF_MAPS, HASH_OF_MAPS, PROG_ARRAY
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule, run_state_machine_as_test
from life import (
    BTFS,
    CPUMAP,
    DEVMAP,
    DEVMAP_HASH,
    DIRECTORIES,
    INFO,
    KINDS,
    MAPS_OF_MAPS,
    OWNERS,
    PROGRAMS,
    REUSEPORT_SOCKARRAY,
    SOCKHASH,
    SOCKMAP,
    STRUCT_OPS,
    TASKS,
    TYPES,
    Lifetimes,
    go,
    number,
    path,
    rarely,
    usual,
)
from lives_attached import AttachRules
from lives_held import HolderRules
from lives_struct_ops import CONGESTION_OPS_SIZE, StructOpsRules
from struct_ops import FUNCTIONS

EXAMPLES, STEPS = 8, 60  # of a chunk
AS_WRITTEN = ("returns 2", "holds a map", "holds two maps")  # programs that loading changes only in their maps
EVERY = ("map", "prog", "link", "btf", "cgroup", "netns", "pidfd", "socket", "perf", "iter", "stats")


class Rules(AttachRules, HolderRules, StructOpsRules, Lifetimes):
    @initialize(kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=5))
    def some_objects(self, kinds):
        """So that the first rules have something to work on."""

        def act():
            task = self.task(0)
            for kind in [ARRAY, *kinds]:
                self.new_map(task, kind, 0, 0)
            for n, kind in enumerate(TYPES):
                self.new_prog(task, kind, "holds a map", n=n, m=0, odd=0)

        self.step(act)

    @precondition(lambda self: self.over)
    @rule()
    def rest(self):
        pass

    @go(who=number, kind=st.sampled_from(KINDS), odd=st.integers(0, 40), n=number)
    def map_create(self, *, who, kind, odd, n):
        self.new_map(self.task(who), kind, odd, n)

    def new_map(self, task, kind, odd, n):
        if kind == STRUCT_OPS:
            self.new_struct_ops(task, n)
            return
        key, value, entries, flags = usual(kind)
        if kind in (DEVMAP, DEVMAP_HASH, CPUMAP) and n % 2:
            value = 8  # with a program
        extra = numa = 0
        btf = (self.int_btf(task), 1, 1) if kind in OWNERS else (0, 0, 0)
        inner = self.fd(task, n, "map") if kind in MAPS_OF_MAPS else 0
        sizes = (0, 1, 3, 4, 5, 8, 12, 16, 64, 512, 513)
        if odd == 1:
            key = sizes[n % len(sizes)]
        elif odd == 2:
            value = sizes[n % len(sizes)]
        elif odd == 3:
            entries = (0, 1, 2, 3, 5, 7, 4095, 4096, 8192)[n % 9]
        elif odd in (4, 5):
            flags ^= 1 << n % 19
        elif odd == 6:
            flags |= (128 | 1024, 8 | 16, 128 | 256, 1 | 2, 64 | 1)[n % 5]
        elif odd == 7:
            extra = (1, 3, 16, 1 << 32)[n % 4]
        elif odd == 8:
            flags, numa = flags | 4, (0, 77)[n % 2]
        elif odd in (9, 10, 11):
            value = 4
            btf = (self.fd(task, n, "btf"), (1, 1, 2, 0)[n % 4], (1, 1, 2, 1, 0)[n % 5])
        elif odd == 12:
            inner = self.fd(task, n, "map", "prog")
        elif odd == 14 and kind == ARRAY:
            flags, entries = flags | 1 << 10, (2, 512, 1024, 2048)[n % 4]
        elif odd == 13:
            flags |= (8, 16, 128, 256, 1024)[n % 5]
        attr = bytearray(wire.ATTR_SIZE)
        name = (b"", b"m", b"a_map.of_16")[n % 3]
        struct.pack_into("<7I16s", attr, 0, kind, key, value, entries, flags, inner, numa, name)
        struct.pack_into("<IIIIQ", attr, 44, 0, *btf, 0)
        struct.pack_into("<Q", attr, 64, extra)
        about = {"type": kind, "key": key, "value": value, "entries": entries, "flags": flags}
        what = f"MAP_CREATE {about} inner {inner} btf {btf} extra {extra}"
        fd, _ = self.bpf(task, what, wire.MAP_CREATE, attr)
        self.opened(task, fd, "map", about)

    @go(who=number, which=number, n=number, m=number, flags=st.sampled_from((0,) * 8 + (1, 2, 3, 4, 8, 1 << 40)))
    def update_elem(self, *, who, which, n, m, flags):
        task = self.task(who)
        fd, about = self.of_map(task, which)
        value = self.value(task, about, m)
        what = f"UPDATE to {value[:8].hex()}"
        self.element(task, what, wire.MAP_UPDATE_ELEM, (fd, about), n, value, flags=flags)

    @go(
        who=number,
        which=number,
        n=number,
        cmd=st.sampled_from((wire.MAP_LOOKUP_ELEM, wire.MAP_LOOKUP_ELEM, wire.MAP_LOOKUP_AND_DELETE_ELEM)),
        flags=st.sampled_from((0,) * 12 + (1, 4)),
    )
    def lookup_elem(self, *, who, which, n, cmd, flags):
        task = self.task(who)
        fd, about = self.of_map(task, which)
        kind = {PROG_ARRAY: "prog", ARRAY_OF_MAPS: "map", HASH_OF_MAPS: "map"}.get(about["type"])
        room = bytes(commands.value_room(about["type"], about["value"]))
        shown = [(1 if about["key"] else 0, 0, kind)] if kind else ()
        hidden = (
            [(1, 0, 8)] if about["type"] in (SOCKMAP, SOCKHASH, REUSEPORT_SOCKARRAY) and about["value"] == 8 else ()
        )
        if about["type"] in (DEVMAP, DEVMAP_HASH, CPUMAP):
            shown = [(1, 4, "prog")]
        if about["type"] == STRUCT_OPS and about["value"] == CONGESTION_OPS_SIZE:
            shown = [(1, at, "prog") for at in FUNCTIONS.values()]
        what = "LOOKUP" if cmd == wire.MAP_LOOKUP_ELEM else "LOOKUP_AND_DELETE"
        self.element(task, what, cmd, (fd, about), n, room, flags=flags, shown=shown, hidden=hidden)

    @go(who=number, which=number, n=number)
    def delete_elem(self, *, who, which, n):
        task = self.task(who)
        fd, about = self.of_map(task, which)
        self.element(task, "DELETE", wire.MAP_DELETE_ELEM, (fd, about), n)

    @go(who=number, which=number, n=number)
    def get_next_key(self, *, who, which, n):
        """Where the order is the hash's own (no BPF_F_ZERO_SEED), only whether there is a first key."""
        task = self.task(who)
        fd, about = self.of_map(task, which)
        unordered = about["type"] in (1, 5, 9, 10, 13) and not about["flags"] & commands.ZERO_SEED
        if unordered:
            attr = struct.pack("<IIQQ", fd, 0, 0, 0)
            room = bytes(about["key"])
            what = f"GET_NEXT_KEY first of map type {about['type']}"
            self.bpf(
                task,
                what,
                wire.MAP_GET_NEXT_KEY,
                attr,
                buffers=[room],
                pointers=[(-1, 16, 0)],
                hidden=[(0, 0, about["key"])],
            )
        else:
            self.element(task, "GET_NEXT_KEY", wire.MAP_GET_NEXT_KEY, (fd, about), n, bytes(max(about["key"], 1)))

    @go(who=number, which=number)
    def freeze(self, *, who, which):
        task = self.task(who)
        fd = self.fd(task, which, "map")
        self.bpf(task, f"MAP_FREEZE fd {fd}", wire.MAP_FREEZE, struct.pack("<I", fd))

    @go(
        who=number,
        kind=st.sampled_from(TYPES),
        program=st.sampled_from(sorted(PROGRAMS, key=list(PROGRAMS).index)),
        n=number,
        m=number,
        odd=st.integers(0, 24),
    )
    def prog_load(self, *, who, kind, program, n, m, odd):
        self.new_prog(self.task(who), kind, program, n=n, m=m, odd=odd)

    def new_prog(self, task, kind, program, *, n, m, odd):
        if program == "tail calls":
            fd = self.map_of(task, n, PROG_ARRAY)
        elif "value" in program:
            fd = self.map_of(task, n, ARRAY)
        else:
            fd = self.fd(task, n, "map")
        other = self.fd(task, m, "map") if "two" in program else m
        code = PROGRAMS[program](fd, other)
        fds = fd, self.fd(task, m, "map"), self.fd(task, m + 1, "map", "btf")
        fd_array = struct.pack("<3I", *fds)
        attr = bytearray(wire.ATTR_SIZE)
        struct.pack_into("<II", attr, 0, kind, len(code) // 8)
        struct.pack_into("<16s", attr, 48, (b"", b"prog", b"a-b")[2 if odd == 1 else m % 2])
        pointers = [(-1, 8, 0), (-1, 16, 1)]
        if "fd_array" in program or odd == 2:
            pointers.append((-1, 120, 2))
            struct.pack_into("<I", attr, 148, (0, 1, 2, 3)[m % 4] if odd in (2, 3, 4) else 0)
        if odd in (5, 6):
            struct.pack_into("<I", attr, 72, self.fd(task, m, "btf"))
        elif odd == 7:
            struct.pack_into("<I", attr, 44, 1 << m % 8)
        elif odd == 8:
            struct.pack_into("<I", attr, 68, (1, 37, 46)[m % 3])
        license_text = b"Proprietary\0" if odd == 9 else b"GPL\0"
        types = [about.get("type") for _, about in (task.files.get(one, (None, {})) for one in (*fds, other))]
        what = f"PROG_LOAD type {kind} {program} map {fd} {other} odd {odd} map types {types}"
        made, _ = self.bpf(task, what, wire.PROG_LOAD, attr, buffers=[code, license_text, fd_array], pointers=pointers)
        self.opened(task, made, "prog", {"prog": kind, "code": program})

    @go(who=number, which=number)
    def test_run(self, *, who, which):
        task = self.task(who)
        fd = self.fd(task, which, "prog")
        attr = struct.pack("<4I", fd, 0, 64, 0)
        self.bpf(
            task,
            f"TEST_RUN fd {fd} of type {task.files.get(fd, (None, {}))[1].get('prog')}",
            wire.PROG_TEST_RUN,
            attr,
            buffers=[bytes(64)],
            pointers=[(-1, 16, 0)],
            hidden=[(-1, 36, 40)],
        )

    @go(who=number, which=st.sampled_from(sorted(BTFS)))
    def btf_load(self, *, who, which):
        self.load_btf(self.task(who), which)

    def load_btf(self, task, which):
        attr = struct.pack("<QQI", 0, 0, len(BTFS[which]))
        fd, _ = self.bpf(task, f"BTF_LOAD {which}", wire.BTF_LOAD, attr, buffers=[BTFS[which]], pointers=[(-1, 0, 0)])
        self.opened(task, fd, "btf", {"btf": which})
        return fd

    def int_btf(self, task):
        """A descriptor of BTF whose type 1 is an int."""
        for fd, (_, about) in sorted(task.files.items()):
            if about.get("btf") == "an int":
                return fd
        return max(self.load_btf(task, "an int"), 0)

    @go(who=number, which=number, where=path, flags=st.sampled_from((0,) * 12 + (8, 1 << 14, 1)))
    def pin(self, *, who, which, where, flags):
        task = self.task(who)
        fd = self.fd(task, which, "map", "prog", "link")
        self.by_path(task, f"OBJ_PIN fd {fd} at {where} flags {flags}", wire.OBJ_PIN, where, fd, flags)

    def by_path(self, task, what, cmd, where, fd, flags):  # noqa: PLR0917
        attr = struct.pack("<QII", 0, fd, flags)
        return self.bpf(task, what, cmd, attr, buffers=[where.encode() + b"\0"], pointers=[(-1, 0, 0)])[0]

    @go(who=number, where=path, flags=st.sampled_from((0,) * 6 + (8, 16, 24, 1 << 14, 32)))
    def get(self, *, who, where, flags):
        task = self.task(who)
        fd = self.by_path(task, f"OBJ_GET {where} flags {flags}", wire.OBJ_GET, where, 0, flags)
        if fd >= 0:
            self.opened(task, fd, task.sim.task.object_at(fd).kind)

    @go(
        who=number,
        what=st.sampled_from(("mkdir", "mkdir", "rmdir", "unlink", "unlink", "listdir")),
        n=number,
        where=path,
    )
    def files(self, *, who, what, n, where):
        if what in ("mkdir", "rmdir", "listdir") and n % 8:
            where = DIRECTORIES[n % len(DIRECTORIES)]
        self.world.file_call(self.task(who), what, where)

    @go(who=number, where=path, to=path, n=number)
    def rename(self, *, who, where, to, n):
        if n % 8 == 7:
            where = DIRECTORIES[n // 8 % len(DIRECTORIES)]
        self.world.file_call(self.task(who), "rename", where, to)

    @go(who=number, n=number, dead=rarely, flags=st.sampled_from((0,) * 6 + (8, 16, 24, 1)))
    def get_fd_by_id(self, *, who, n, dead, flags):
        task, world = self.task(who), self.world
        known = world.dead if (dead or not world.alive) else world.alive
        one = known[n % len(known)] if known else pair.Id("map", 0x7FFFFFFF, 0x7FFFFFFF)
        cmd = {
            "prog": wire.PROG_GET_FD_BY_ID,
            "map": wire.MAP_GET_FD_BY_ID,
            "btf": wire.BTF_GET_FD_BY_ID,
            "link": wire.LINK_GET_FD_BY_ID,
        }[one.kind]
        attr = struct.pack("<III", 0, 0, flags if one.kind == "map" or n % 8 == 7 else 0)
        fd, _ = self.bpf(task, f"GET_FD_BY_ID {one.kind} {one.sim} flags {flags}", cmd, attr, asked=[(0, one)])
        self.opened(task, fd, one.kind)

    @go(who=number, which=number, cut=st.sampled_from((0,) * 8 + (1, 4, 8, 16, 20, 80, 88, 104, 128)), n=number)
    def get_info(self, *, who, which, cut, n):
        task = self.task(who)
        fd = self.fd(task, which, "map", "prog", "link", "btf")
        one, about = task.files.get(fd, (None, {}))
        kind = one.kind if one and one.kind in INFO else "map"
        length, ids, hidden = INFO[kind]
        own = ()
        if kind == "link" and about.get("link") in ("cgroup", "netns"):
            own = [(0, 16, 24 if about["link"] == "cgroup" else 20)]  # a cgroup's id, a namespace's inode
        elif kind == "link" and about.get("link") == "iter":
            ids, own = [*ids, (28, "map")], [(0, 32, 40)]  # and a cgroup's id, or a task's
        elif kind == "link" and about.get("link") == "sockmap":
            ids = [*ids, (16, "map")]
        elif about.get("type") == STRUCT_OPS:
            own = [(0, 44, 48)]  # the type of its value in the kernel's BTF
        room = bytearray(max(length, cut))
        buffers, pointers, shown = [room], [(-1, 8, 0)], [(0, offset, what) for offset, what in ids]
        if kind == "prog" and n % 2:
            struct.pack_into("<I", room, 52, n // 2 % 4)
            buffers.append(bytes(16))
            pointers.append((0, 56, 1))
            shown += [(1, offset, "map") for offset in range(0, 16, 4)]
        elif kind == "prog" and n % 4 == 0 and not cut and about.get("code") in AS_WRITTEN:
            struct.pack_into("<I", room, 20, (64, 8, 64)[n % 3])  # its instructions, with ids for descriptors of maps
            buffers.append(bytes(64))
            pointers.append((0, 32, 1))
            shown += [(1, offset, "map") for offset in (4, 20)[: AS_WRITTEN.index(about["code"])]]
        elif kind == "btf" and n % 2 and not cut:
            struct.pack_into("<I", room, 8, (128, 5, 0)[n % 3])
            buffers.append(bytes(128))
            pointers.append((0, 0, 1))
        elif kind == "link" and about.get("link") == "iter" and n % 2 and not cut:
            struct.pack_into("<I", room, 24, (16, 4, 1, 0)[n // 2 % 4])
            buffers.append(bytes(16))
            pointers.append((0, 16, 1))
        attr = struct.pack("<II", fd, cut or length)
        shown.append((0, pair.ID_AT[kind], kind))
        self.bpf(
            task,
            f"GET_INFO {kind} fd {fd} length {cut or length} n {n}",
            wire.OBJ_GET_INFO_BY_FD,
            attr,
            buffers=buffers,
            pointers=pointers,
            shown=shown,
            hidden=[(0, start, end) for start, end in hidden],
            own=own,
        )

    @go(who=number, which=number)
    def dup(self, *, who, which):
        task = self.task(who)
        fd = self.fd(task, which, *EVERY)
        made = self.world.file_call(task, "dup", fd)
        if made >= 0:
            task.files[made] = task.files[fd]

    @go(who=number, which=number)
    def close(self, *, who, which):
        task = self.task(who)
        fd = self.fd(task, which, *EVERY)
        self.world.file_call(task, "close", fd)
        task.files.pop(fd, None)

    @go(who=number, which=number)
    def close_once_more(self, *, who, which):
        """Closing outweighs opening enough that objects die."""
        task = self.task(who)
        fd = self.fd(task, which, "map", "prog")
        self.world.file_call(task, "close", fd)
        task.files.pop(fd, None)

    @precondition(lambda self: len(self.world.tasks) < TASKS)
    @go(who=number)
    def fork(self, *, who):
        self.world.fork(self.task(who))

    @precondition(lambda self: len(self.world.tasks) > 1)
    @go(who=number)
    def exit(self, *, who):
        self.world.exit(self.task(who))

    @go(
        who=number,
        which=number,
        device=st.sampled_from((2, 2, 1, 77)),
        flags=st.sampled_from((0, 0, 1, 2, 4, 6, 16, 18, 20)),
        remove=st.booleans(),
    )
    def setlink(self, *, who, which, device, flags, remove):
        task = self.task(who)
        fd = -1 if remove else self.fd(task, which, "prog")
        expected = self.fd(task, which + 1, "prog") if flags & 16 else None
        self.world.file_call(task, "setlink", pair.setlink_message(device, fd, flags, expected))

    @go(offset=st.integers(0, wire.ATTR_SIZE - 1))
    def spoil(self, offset):
        """The next attr has this byte set."""
        self.spoilt = max(offset, 24) if offset not in range(148, 152) else 24  # a huge fd_array reads past its buffer


def run_chunk(make_kernel, live, report, seed, number, *, examples=EXAMPLES, shrink=True):
    """The failing example's text, or None."""
    machine = type("Machine", (Rules,), {"make_kernel": staticmethod(make_kernel), "live": live, "report": report})
    hypothesis.seed(seed * 1_000_003 + number)(machine)
    settings = hypothesis.settings(
        max_examples=examples,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        print_blob=False,
        report_multiple_bugs=False,
        phases=[hypothesis.Phase.generate, *[hypothesis.Phase.shrink] * shrink],
    )
    try:
        run_state_machine_as_test(machine, settings=settings)
    except (pair.Disagreement, BaseExceptionGroup, hypothesis.errors.Flaky) as found:
        return f"chunk {number}: {found}\n" + "\n".join(getattr(found, "__notes__", ()))
    return None
