"""What the rules of the state machine have in common: how a task, a descriptor, a key is chosen, how a call is made.

The rules themselves stand in lifetimes.py (maps, programs, BTF, pins, ids, tasks), lives_attached.py (hooks and
links) and lives_held.py (sockets, storages, batches, mappings, iterators, fdinfo).
"""

import struct

import commands
import live_task
import pair
import wire
from btf_bytes import blob, integer, record, to
from commands import ARRAY_OF_MAPS, HASH_OF_MAPS, PROG_ARRAY, RETURN_2
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from network import AF_XDP, DGRAM, INET, RAW, SO_REUSEPORT, STREAM, XDP_CPUMAP, XDP_DEVMAP

TASKS, MAPS_OF_MAPS = 3, (ARRAY_OF_MAPS, HASH_OF_MAPS)
SCHED_CLS = 3
SOCKMAP, SOCKHASH, REUSEPORT_SOCKARRAY, DEVMAP, DEVMAP_HASH, CPUMAP, XSKMAP = 15, 18, 20, 14, 25, 16, 17
PERF_EVENT_ARRAY, STACK_TRACE, CGROUP_ARRAY, ARENA = 4, 7, 8, 33
SK_STORAGE, INODE_STORAGE, TASK_STORAGE, CGRP_STORAGE = 24, 28, 29, 32
OWNERS = {SK_STORAGE: "socket", TASK_STORAGE: "pidfd", CGRP_STORAGE: "cgroup", INODE_STORAGE: "socket"}
CGROUP_STORAGES, STRUCT_OPS = (19, 21), 26
VALUE_IS = {PROG_ARRAY: "prog", ARRAY_OF_MAPS: "map", HASH_OF_MAPS: "map", CGROUP_ARRAY: "cgroup"}
VALUE_IS |= {SOCKMAP: "socket", SOCKHASH: "socket", REUSEPORT_SOCKARRAY: "socket", XSKMAP: "socket"}
VALUE_IS |= {PERF_EVENT_ARRAY: "perf"}
COMMON = (1, 2, 3, 5, 6, 9, 10, 11, 12, 13, 22, 23, 27, 30, 31)  # map types that rules use most
SOFTWARE, BPF_OUTPUT, CPU_CLOCK = 1, 10, 0
SOCKETS = ("listening", "udp", "pair", "listening", "udp", "tcp", "pair", "xdp")
RARE = (4, 7, 8, 14, 15, 15, 16, 17, 18, 18, 19, 20, 20, 21, 24, 25, 26, 26, 28, 29, 32, 33)
KINDS = COMMON * 2 + RARE
NOWHERE = 9999  # no descriptor on either side; 0 is a file here and none there

number = st.integers(0, 63)
rarely = st.integers(0, 31).map(lambda n: n == 31)


def usual(kind):
    """key_size, value_size, max_entries, flags that this type takes."""
    if kind in OWNERS:
        return 4, 4, 0, 1
    if kind in CGROUP_STORAGES:
        return 8, 8, 0, 0
    if kind == ARENA:
        return 0, 0, 1, 1 << 10
    if kind == STACK_TRACE:
        return 4, 16, 4, 0
    if kind == REUSEPORT_SOCKARRAY:
        return 4, 8, 4, 0
    return commands.usual(kind)


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
BTFS = {
    "an int": blob(integer()),
    "a struct": blob(integer(), record(4, ("s", 1, 0), name="s")),
    "nothing": blob(),
    "no strings": blob(integer(), str_len=0),
    "points to itself": blob(to("ptr", 1)),
    "bad magic": blob(integer(), magic=0x1234),
}
# Where OBJ_GET_INFO_BY_FD tells ids, and what may differ: what is compiled, when, and how long that is.
INFO = {
    "map": (104, [(64, "btf")], []),
    "prog": (232, [(128, "btf")], [(16, 24), (40, 48), (104, 112), (192, 208), (220, 228)]),
    "link": (64, [(8, "prog")], []),
    "btf": (32, [], []),
}


class Lifetimes(RuleBasedStateMachine):
    """make_kernel, live and report are put on a subclass by run_chunk."""

    make_kernel = live = report = None

    def __init__(self):
        super().__init__()
        self.world, self.over, self.spoilt = pair.World(self.make_kernel, self.live, self.report), False, None
        self.others = 0  # descriptors of what has no id

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

    def some(self, task, n, kind):
        """As fd(), but where there is none of this kind, it is made first; rarely not."""
        if n % 16 == 15 or any(one.kind == kind for one, _ in task.files.values()):
            return self.fd(task, n, kind)
        self.make(task, kind, n)
        return self.fd(task, n, kind)

    def make(self, task, kind, n):
        """A descriptor of what has no id."""
        call = self.world.file_call
        if kind == "pidfd":
            self.opened(task, self.world.pidfd(task, self.task(n)), kind)
        elif kind == "cgroup":
            self.opened(task, call(task, "open_cgroup", live_task.GROUPS[n % len(live_task.GROUPS)]), kind)
        elif kind == "netns":
            self.opened(task, call(task, "open_netns"), kind)
        elif kind == "perf":
            self.opened(task, call(task, "perf_event_open", SOFTWARE, BPF_OUTPUT if n % 4 else CPU_CLOCK), kind)
        elif kind == "socket":
            self.make_socket(task, SOCKETS[n % len(SOCKETS)], n)

    def make_socket(self, task, what, n):
        call = self.world.file_call
        if what == "pair":
            made = call(task, "socketpair", (STREAM, DGRAM)[n % 2])
            for fd in made if isinstance(made, list) else ():
                self.opened(task, fd, "socket")
            return
        words = {"udp": (INET, DGRAM, 0), "xdp": (AF_XDP, RAW, 0)}.get(what, (INET, STREAM, 0))
        fd = call(task, "socket", *words)
        self.opened(task, fd, "socket")
        if what in ("udp", "listening") and fd >= 0:
            if n % 4:
                call(task, "setsockopt", fd, SO_REUSEPORT, 1)
            call(task, "bind", fd, "127.0.0.1", (7000 if what == "udp" else 8000) + n % 3)
            if what == "listening":
                call(task, "listen", fd)

    def map_of(self, task, n, *types):
        fits = [fd for fd, (one, about) in sorted(task.files.items()) if about.get("type") in types]
        return fits[n % len(fits)] if fits and n % 16 != 15 else self.fd(task, n, "map")

    # ---- calling ----

    def loaded(self, task, what, kind, expected, returns, *, about, asked=()):
        """A program that returns a number; `asked`: what attach_btf_id says, or nothing."""
        code = mov(0, returns) + EXIT
        attr = bytearray(wire.ATTR_SIZE)
        struct.pack_into("<II", attr, 0, kind, len(code) // 8)
        struct.pack_into("<I", attr, 68, expected)
        words = {"buffers": [code, b"GPL\0"], "pointers": [(-1, 8, 0), (-1, 16, 1)], "asked": asked}
        made, _ = self.bpf(task, f"PROG_LOAD {what}", wire.PROG_LOAD, attr, **words)
        self.opened(task, made, "prog", {"prog": kind} | about)
        return made

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

    def key(self, task, about, n):
        size = about["key"]
        if about["type"] in OWNERS:
            if about["type"] == INODE_STORAGE:
                n = n % 16 % 15  # a socket's inode is our own; that of a map's descriptor is the whole machine's
            return struct.pack("<I", self.some(task, n, OWNERS[about["type"]]))
        if about["type"] == commands.LPM_TRIE:
            return struct.pack("<I", (0, 1, 8, 32, 33)[n % 5])[:size].ljust(size, bytes([n % 3]))
        if not size:
            return None if n % 32 != 31 else bytes(4)
        return (n % (min(about["entries"], 6) + 2)).to_bytes(4, "little")[:size].ljust(size, b"\0")

    def element(self, task, what, cmd, which, n, value=None, *, flags=0, shown=(), hidden=()):  # noqa: PLR0917
        """which: descriptor and what is known of the map; value: bytes that go along, or room for those that come."""
        fd, about = which
        key, buffers, pointers = self.key(task, about, n), [], []
        for offset, data in ((8, key), (16, value)):
            if data is not None:
                pointers.append((-1, offset, len(buffers)))
                buffers.append(data)
        attr = struct.pack("<IIQQQ", fd, 0, 0, 0, flags)
        named = "prog array" if about["type"] == PROG_ARRAY else f"map type {about['type']}"
        what = f"{what} {named} fd {fd} key {key.hex() if key else key} flags {flags:#x}"
        return self.bpf(task, what, cmd, attr, buffers=buffers, pointers=pointers, shown=shown, hidden=hidden)

    def of_map(self, task, n):
        """A map's descriptor and what is known of it; of what is no map, a guess."""
        fd = self.fd(task, n, "map")
        about = task.files.get(fd, (None, {}))[1]
        return fd, about if "type" in about else {"type": 0, "key": 4, "value": 8, "entries": 1, "flags": 0}

    def value(self, task, about, m):
        """What to put into a map: a descriptor where it is one."""
        kind, size = about["type"], about["value"]
        if kind in VALUE_IS:
            return struct.pack("<I", self.some(task, m, VALUE_IS[kind])).ljust(size, b"\0")[: max(size, 4)]
        if kind in (DEVMAP, DEVMAP_HASH, CPUMAP):
            first = (192, 0, 16384, 16385)[m % 4] if kind == CPUMAP else (1, 2, 77)[m % 3]
            prog = 0
            if size == 8 and m % 5:
                expects = XDP_CPUMAP if (kind == CPUMAP) == (m % 7 > 0) else XDP_DEVMAP
                prog = self.program_for(task, (0, wire.XDP, expects), m)
            return struct.pack("<II", first, prog)[: max(size, 4)].ljust(size, b"\0")
        return bytes([m]) * commands.value_room(kind, size)

    def opened(self, task, fd, kind, about=None):
        if kind not in pair.ID_AT:
            if fd >= 0:
                self.others += 1
                task.files[fd] = (pair.Id(kind, self.others, self.others), about or {})
            return
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
