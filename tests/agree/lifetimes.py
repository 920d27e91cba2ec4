"""Objects that live and die, at random, on both sides: a hypothesis state machine over pair.World.

Each rule is a call, or a few, by one of up to three tasks: maps made, used and frozen, programs loaded that hold
maps, prog arrays and maps of maps that hold others, BTF, pins and directories, ids, dup, fork, close, exit, XDP on a
device of an own network namespace. After each rule the world is judged. A chunk of examples follows from
(seed, number) alone. Not among the rules yet: batches, attach and query, other hooks than XDP, BPF_PROG_BIND_MAP.
"""

import struct

import commands
import hypothesis
import pair
import wire
from commands import ARRAY, ARRAY_OF_MAPS, HASH_OF_MAPS, PROG_ARRAY, RETURN_2
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

TASKS, MAPS_OF_MAPS = 3, (ARRAY_OF_MAPS, HASH_OF_MAPS)
SCHED_CLS = 3
KINDS = (1, 2, 3, 5, 6, 9, 10, 11, 12, 13, 22, 23, 27, 30, 31)  # map types; the others are not among the rules yet
EXAMPLES, STEPS = 8, 60  # of a chunk
NOWHERE = 9999  # no descriptor on either side; 0 is a file here and none there

number = st.integers(0, 63)
rarely = st.integers(0, 31).map(lambda n: n == 31)


def insn(code, dst=0, src=0, off=0, imm=0):
    return struct.pack("<BBhi", code, src << 4 | dst, off, imm)


def ld_imm64(dst, src, imm, upper=0):
    return insn(0x18, dst, src, 0, imm) + insn(0, 0, 0, 0, upper)


def mov(dst, imm):
    return insn(0xB7, dst, imm=imm)


EXIT = insn(0x95)
KEY_ON_STACK = insn(0x7A, 10, off=-8) + insn(0xBF, 2, 10) + insn(0x07, 2, imm=-8)  # 8 zero bytes, r2 points at them


def lookup(fd, _):
    return KEY_ON_STACK + ld_imm64(1, 1, fd) + insn(0x85, imm=1) + mov(0, 5) + EXIT


def update(fd, _):
    value = insn(0x7A, 10, off=-16, imm=7) + insn(0xBF, 3, 10) + insn(0x07, 3, imm=-16)
    return KEY_ON_STACK + value + mov(4, 0) + ld_imm64(1, 1, fd) + insn(0x85, imm=2) + mov(0, 6) + EXIT


def tail_call(fd, index):
    return ld_imm64(2, 1, fd) + mov(3, index % 5) + insn(0x85, imm=12) + mov(0, 7) + EXIT


def push(fd, _):
    value = insn(0x7A, 10, off=-8, imm=9) + insn(0xBF, 2, 10) + insn(0x07, 2, imm=-8)
    return value + mov(3, 0) + ld_imm64(1, 1, fd) + insn(0x85, imm=87) + mov(0, 8) + EXIT


PROGRAMS = {  # name: the code, from a map's descriptor and another number
    "returns 2": lambda fd, n: RETURN_2,
    "holds a map": lambda fd, n: ld_imm64(1, 1, fd) + mov(0, 3) + EXIT,
    "holds two maps": lambda fd, n: ld_imm64(1, 1, fd) + ld_imm64(2, 1, n) + mov(0, 4) + EXIT,
    "looks up": lookup,
    "updates": update,
    "pushes": push,
    "tail calls": tail_call,
    "reads a value": lambda fd, n: ld_imm64(1, 2, fd) + insn(0x71, 0, 1) + EXIT,
    "points past a value": lambda fd, n: ld_imm64(1, 2, fd, n * 8) + mov(0, 1) + EXIT,
    "by fd_array": lambda fd, n: ld_imm64(1, 5, n % 3) + mov(0, 10) + EXIT,
    "value by fd_array": lambda fd, n: ld_imm64(1, 6, n % 3) + mov(0, 11) + EXIT,
    "no exit": lambda fd, n: mov(0, 1),
    "no result": lambda fd, n: EXIT,
    "reads a missing register": lambda fd, n: insn(0xBF, 0, 7) + EXIT,
    "unknown map source": lambda fd, n: ld_imm64(1, 9, fd) + mov(0, 1) + EXIT,
}
TYPES = (wire.SOCKET_FILTER, SCHED_CLS, wire.XDP)
ROOT = "/sys/fs/bpf"
DIRECTORIES = (ROOT, f"{ROOT}/d", f"{ROOT}/e", f"{ROOT}/d/deep")
PATHS = tuple(f"{directory}/{name}" for directory in DIRECTORIES for name in ("a", "b"))
ODD_PATHS = (f"{ROOT}/a/", f"{ROOT}/a/x", f"{ROOT}/with.dot", f"{ROOT}//b", f"{ROOT}/../bpf/a", f"{ROOT}/" + "n" * 256)
ODD_PATHS += ("", f"{ROOT}/./d/../a", "/sys/fs", f"{ROOT}/nothing/a", f"{ROOT}/d/")
path = st.integers(0, 9).flatmap(lambda n: st.sampled_from(ODD_PATHS if n == 9 else PATHS[:4] if n < 6 else PATHS))
NAMES = b"\0int\0s\0"
INT = struct.pack("<IIII", 1, 1 << 24, 4, 1 << 24 | 32)
BTFS = {
    "an int": commands.btf(INT, NAMES),
    "a struct": commands.btf(INT + struct.pack("<IIIIII", 5, 4 << 24 | 1, 4, 5, 1, 0), NAMES),
    "nothing": commands.btf(b"", b"\0"),
    "no strings": commands.btf(INT, b""),
    "points to itself": commands.btf(struct.pack("<III", 0, 2 << 24, 1), b"\0"),
    "bad magic": commands.btf(INT, NAMES, magic=0x1234),
}
# Where OBJ_GET_INFO_BY_FD tells ids, and what may differ: what is compiled, when, and how long that is.
INFO = {
    "map": (104, [(64, "btf")], []),
    "prog": (232, [(128, "btf")], [(16, 24), (40, 48), (104, 112)]),
    "link": (64, [(8, "prog")], []),
    "btf": (32, [], []),
}


class Lifetimes(RuleBasedStateMachine):
    """make_kernel, live and report are put on a subclass by run_chunk."""

    make_kernel = live = report = None

    def __init__(self):
        super().__init__()
        self.world, self.over, self.spoilt = pair.World(self.make_kernel, self.live, self.report), False, None

    # ---- choosing ----

    def task(self, n):
        return self.world.tasks[n % len(self.world.tasks)]

    def fd(self, task, n, *kinds):
        """A descriptor of one of these kinds; rarely of another, or none."""
        fits = [fd for fd, (one, _) in sorted(task.files.items()) if one.kind in kinds]
        if n % 16 == 15 or not fits:
            every = [*sorted(task.files), NOWHERE]
            return every[n // 16 % len(every)]
        return fits[n % len(fits)]

    def map_of(self, task, n, *types):
        fits = [fd for fd, (one, about) in sorted(task.files.items()) if about.get("type") in types]
        return fits[n % len(fits)] if fits and n % 16 != 15 else self.fd(task, n, "map")

    # ---- calling ----

    def bpf(self, task, what, cmd, attr, **words):
        attr = bytearray(attr.ljust(wire.ATTR_SIZE, b"\0"))
        if self.spoilt is not None and not attr[self.spoilt]:
            attr[self.spoilt] = 1
            btf_fd = {wire.MAP_CREATE: 48, wire.PROG_LOAD: 72}.get(cmd)
            if btf_fd and attr[btf_fd : btf_fd + 4] == bytes(4):
                struct.pack_into("<I", attr, btf_fd, NOWHERE)
            what += f", byte {self.spoilt} set"
            self.spoilt = None
        return self.world.bpf(task, f"task {self.world.tasks.index(task)}: {what}", cmd, bytes(attr), **words)

    def opened(self, task, fd, kind, about=None):
        one = self.world.adopt(task, fd, kind, about)
        if one and about is not None:
            self.world.remembered[one] = about

    def step(self, act):
        """Runs a rule's calls, then judges; what known.py lists ends the example."""
        self.report.counts["steps"] += 1
        try:
            act()
            self.world.judge()
        except pair.KnownDisagreement:
            self.over = True

    def teardown(self):
        try:
            if self.over:
                self.world.clean()
            else:
                self.world.end()
        except pair.KnownDisagreement:
            self.world.clean()
        self.report.counts["lives"] += 1


def go(**strategies):
    """A rule whose body is a step, made as long as the example is not over."""

    def made(body):
        def stepped(self, **drawn):
            self.step(lambda: body(self, **drawn))

        stepped.__name__ = body.__name__
        return precondition(lambda self: not self.over)(rule(**strategies)(stepped))

    return made


class Rules(Lifetimes):
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
        key, value, entries, flags = commands.usual(kind)
        extra = numa = 0
        btf = (0, 0, 0)
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

    def key(self, about, n):
        size = about["key"]
        if about["type"] == commands.LPM_TRIE:
            return struct.pack("<I", (0, 1, 8, 32, 33)[n % 5])[:size].ljust(size, bytes([n % 3]))
        if not size:
            return None if n % 32 != 31 else bytes(4)
        return (n % (min(about["entries"], 6) + 2)).to_bytes(4, "little")[:size].ljust(size, b"\0")

    def element(self, task, what, cmd, which, n, value=None, *, flags=0, shown=()):  # noqa: PLR0917
        """which: descriptor and what is known of the map; value: bytes that go along, or room for those that come."""
        fd, about = which
        key, buffers, pointers = self.key(about, n), [], []
        for offset, data in ((8, key), (16, value)):
            if data is not None:
                pointers.append((-1, offset, len(buffers)))
                buffers.append(data)
        attr = struct.pack("<IIQQQ", fd, 0, 0, 0, flags)
        named = "prog array" if about["type"] == PROG_ARRAY else f"map type {about['type']}"
        what = f"{what} {named} fd {fd} key {key.hex() if key else key} flags {flags:#x}"
        return self.bpf(task, what, cmd, attr, buffers=buffers, pointers=pointers, shown=shown)

    def of_map(self, task, n):
        """A map's descriptor and what is known of it; of what is no map, a guess."""
        fd = self.fd(task, n, "map")
        about = task.files.get(fd, (None, {}))[1]
        return fd, about if "type" in about else {"type": 0, "key": 4, "value": 8, "entries": 1, "flags": 0}

    @go(who=number, which=number, n=number, m=number, flags=st.sampled_from((0,) * 8 + (1, 2, 3, 4, 8, 1 << 40)))
    def update_elem(self, *, who, which, n, m, flags):
        task = self.task(who)
        fd, about = self.of_map(task, which)
        if about["type"] == PROG_ARRAY:
            value = struct.pack("<I", self.fd(task, m, "prog"))
        elif about["type"] in MAPS_OF_MAPS:
            value = struct.pack("<I", self.fd(task, m, "map"))
        else:
            value = bytes([m]) * commands.value_room(about["type"], about["value"])
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
        what = "LOOKUP" if cmd == wire.MAP_LOOKUP_ELEM else "LOOKUP_AND_DELETE"
        self.element(task, what, cmd, (fd, about), n, room, flags=flags, shown=shown)

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
        fd_array = struct.pack("<3I", fd, self.fd(task, m, "map"), self.fd(task, m + 1, "map", "btf"))
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
        what = f"PROG_LOAD type {kind} {program} map {fd} {other} odd {odd}"
        made, _ = self.bpf(task, what, wire.PROG_LOAD, attr, buffers=[code, license_text, fd_array], pointers=pointers)
        self.opened(task, made, "prog", {"prog": kind})

    @go(who=number, which=number)
    def test_run(self, *, who, which):
        task = self.task(who)
        fd = self.fd(task, which, "prog")
        attr = struct.pack("<4I", fd, 0, 64, 0)
        self.bpf(
            task,
            f"TEST_RUN fd {fd}",
            wire.PROG_TEST_RUN,
            attr,
            buffers=[bytes(64)],
            pointers=[(-1, 16, 0)],
            hidden=[(-1, 36, 40)],
        )

    @go(who=number, which=st.sampled_from(sorted(BTFS)))
    def btf_load(self, *, who, which):
        task = self.task(who)
        attr = struct.pack("<QQI", 0, 0, len(BTFS[which]))
        fd, _ = self.bpf(task, f"BTF_LOAD {which}", wire.BTF_LOAD, attr, buffers=[BTFS[which]], pointers=[(-1, 0, 0)])
        self.opened(task, fd, "btf", {})

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
        kind = task.files[fd][0].kind if fd in task.files else "map"
        length, ids, hidden = INFO[kind]
        room = bytearray(max(length, cut))
        buffers, pointers, shown = [room], [(-1, 8, 0)], [(0, offset, what) for offset, what in ids]
        if kind == "prog" and n % 2:
            struct.pack_into("<I", room, 52, n // 2 % 4)
            buffers.append(bytes(16))
            pointers.append((0, 56, 1))
            shown += [(1, offset, "map") for offset in range(0, 16, 4)]
        attr = struct.pack("<II", fd, cut or length)
        shown.append((0, pair.ID_AT[kind], kind))
        self.bpf(
            task,
            f"GET_INFO {kind} fd {fd} length {cut or length} maps {n // 2 % 4 if n % 2 else 0}",
            wire.OBJ_GET_INFO_BY_FD,
            attr,
            buffers=buffers,
            pointers=pointers,
            shown=shown,
            hidden=[(0, start, end) for start, end in hidden],
        )

    @go(who=number, which=number)
    def dup(self, *, who, which):
        task = self.task(who)
        fd = self.fd(task, which, "map", "prog", "link", "btf")
        made = self.world.file_call(task, "dup", fd)
        if made >= 0:
            task.files[made] = task.files[fd]

    @go(who=number, which=number)
    def close(self, *, who, which):
        task = self.task(who)
        fd = self.fd(task, which, "map", "prog", "link", "btf")
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
        device=st.sampled_from((1, 2, 2, 2, 0x7FFFFFF0)),
        attach_type=st.sampled_from((37, 37, 37, 37, 37, 46, 0)),
        flags=st.sampled_from((0, 0, 2, 2, 4, 6, 1, 64)),
    )
    def link_create(self, *, who, which, device, attach_type, flags):
        task = self.task(who)
        fits = [fd for fd, (_, about) in sorted(task.files.items()) if about.get("prog") == wire.XDP]
        fd = fits[which % len(fits)] if fits and which % 16 != 15 else self.fd(task, which, "prog")
        what = f"LINK_CREATE program {fd} device {device} type {attach_type} flags {flags}"
        attr = struct.pack("<4I", fd, device, attach_type, flags)
        made, _ = self.bpf(task, what, commands.LINK_CREATE, attr)
        self.opened(task, made, "link", {})

    @go(who=number, which=number, n=number, old=number, flags=st.sampled_from((0, 0, 0, 4, 4, 1)))
    def link_update(self, *, who, which, n, old, flags):
        task = self.task(who)
        fd, prog = self.fd(task, which, "link"), self.fd(task, n, "prog")
        expected = self.fd(task, old, "prog") if flags & 4 or old % 16 == 3 else 0
        what = f"LINK_UPDATE link {fd} program {prog} flags {flags} expected {expected}"
        self.bpf(task, what, commands.LINK_UPDATE, struct.pack("<4I", fd, prog, flags, expected))

    @go(who=number, which=number)
    def link_detach(self, *, who, which):
        task = self.task(who)
        fd = self.fd(task, which, "link")
        self.bpf(task, f"LINK_DETACH fd {fd}", commands.LINK_DETACH, struct.pack("<I", fd))

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
    except (pair.Disagreement, BaseExceptionGroup) as found:  # a group: it did not come again when run anew
        return f"chunk {number}: {found}\n" + "\n".join(getattr(found, "__notes__", ()))
    return None
