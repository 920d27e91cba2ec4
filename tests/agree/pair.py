"""A simulated machine and the live kernel, side by side, while tasks fork, share descriptors, pin, attach and exit.

A ``World`` hands each call to a task of both sides (live_task.py is the live one's) and compares result, errno,
attr and every buffer. Descriptors are the same number on both sides. Ids are not: when an object first shows
itself, the pair of its ids is noted, and from then on one stands for the other wherever an id is shown or asked
for. After each step every noted id must exist on both sides or on neither. The live kernel frees what a freed
object held only after a grace period, so there the judge waits; what stays different for ``PATIENCE`` seconds is a
disagreement.
"""

import contextlib
import errno
import marshal
import os
import select
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import known
import live_task
import sandbox
import wire
from bpfsim import _core

PATIENCE = 20.0  # seconds; a loaded machine's work queues and grace periods may take long
IMPATIENCE = 1.0  # once something has disagreed: hypothesis then tries many shorter ways to it
NEXT_ID = {
    "prog": wire.PROG_GET_NEXT_ID,
    "map": wire.MAP_GET_NEXT_ID,
    "btf": wire.BTF_GET_NEXT_ID,
    "link": wire.LINK_GET_NEXT_ID,
}
MAP_TARGETS = ("bpf_map_elem", "sockmap", "bpf_sk_storage_map")  # of iterators over what is in one map
STRUCT_OPS = ("tcp_congestion_ops", "bpf_dummy_ops")  # structs of functions
TARGETS = ("bpf_map", "bpf_prog", "bpf_link", "task", "task_file", "task_vma", *MAP_TARGETS, "tcp", "udp", "unix")
TARGETS += ("netlink", "cgroup", "ksym", "ipv6_route", "kmem_cache", "dmabuf")
# Of these the live kernel may have some, or others, that are not ours.
OF_THE_HOST_TOO = ("task_vma", "unix", "netlink", "ipv6_route", "kmem_cache", "dmabuf", "cgroup")
IDS_IN_TEXT = {"map_id": "map", "prog_id": "prog", "link_id": "link", "btf_id": "btf"}  # lines of fdinfo
# Lines that differ by nature, or, the last two, by who else counts runs on this machine.
BY_NATURE = ("mnt_id", "ino", "prog_jited", "owner_jited", "run_time_ns", "run_cnt")
OF_THE_HOST = ("cgroup_id", "netns_ino", "cgroup_path", "pid")  # shown is whether they are 0
ID_AT = {"prog": 4, "map": 4, "link": 4, "btf": 12}  # in the struct that OBJ_GET_INFO_BY_FD fills
DEVICES = (1, 2)
# Words of calls whose answer may lag behind on the live kernel: it empties a prog array, drops the programs of a
# removed cgroup and takes closed sockets out of maps from work queues.
SETTLING = ("prog array", "QUERY", "type 15", "type 18", "type 20", "GET_INFO")
XDP_FLAGS_SKB, XDP_FLAGS_DRV = 2, 4
LINK_CREATE, AT_STRUCT_OPS = 28, 44


class Disagreement(AssertionError):
    """The two sides differ; words is what known.py's patterns are searched in."""


class KnownDisagreement(Exception):
    """One that known.py lists. What follows in this world would differ too, so it ends here."""


class Id(NamedTuple):
    """One object, as each side numbers it."""

    kind: str
    sim: int
    live: int


def setlink_message(ifindex, fd, flags, expected=None):
    """RTM_SETLINK with IFLA_XDP: descriptor, flags and, with expected, the program that must be there."""

    def attribute(kind, payload):
        return struct.pack("<HH", 4 + len(payload), kind) + payload

    inner = attribute(1, struct.pack("<i", fd)) + attribute(3, struct.pack("<I", flags))
    if expected is not None:
        inner += attribute(8, struct.pack("<i", expected))
    body = struct.pack("<BBHiII", 0, 0, 0, ifindex, 0, 0) + attribute(43 | 1 << 15, inner)
    return struct.pack("<IHHII", 16 + len(body), 19, 5, 1, 0) + body


def type_ids(names, btf_kind=12):
    """The live kernel's BTF ids of these functions, or structs (4), from its own vmlinux BTF: what is missing there is
    missing here."""
    raw = Path("/sys/kernel/btf/vmlinux").read_bytes()
    start, types, _, strings, _ = struct.unpack_from("<5I", raw, 4)
    end = start + strings
    wanted = {}
    for name in names:
        at = raw.find(b"\0" + name.encode() + b"\0", end)
        if at >= 0:
            wanted[at + 1 - end] = name
    behind = {1: (4, 0), 3: (12, 0), 14: (4, 0), 17: (4, 0), 4: (0, 12), 5: (0, 12), 6: (0, 8), 13: (0, 8), 15: (0, 12)}
    behind[19] = (0, 12)
    found, at, number = {}, start + types, 0
    while at < end:
        number += 1
        name, info, _ = struct.unpack_from("<III", raw, at)
        kind = info >> 24 & 31
        if kind == btf_kind and name in wanted:
            found[wanted[name]] = number
        fixed, each = behind.get(kind, (0, 0))
        at += 12 + fixed + each * (info & 0xFFFF)
    return found


class LiveSide:
    """The live kernel's tasks: the watcher, which stays, and those that it or another forked."""

    patience = PATIENCE

    def __init__(self, cpus):
        if why := sandbox.unavailable():
            raise PermissionError(why)
        self.functions = type_ids(f"bpf_iter_{target}" for target in TARGETS)
        self.structs = type_ids([*STRUCT_OPS, *(f"bpf_struct_ops_{name}" for name in STRUCT_OPS)], 4)
        self.cgroups = tempfile.mkdtemp(prefix="bpfsim-agree-", dir=sandbox.cgroup2_mounts()[0])
        self.folder = tempfile.TemporaryDirectory(prefix="bpfsim-agree-")
        where = str(Path(self.folder.name) / "tasks")
        self.door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.door.bind(where)
        self.door.listen(64)
        self.door.settimeout(10)
        command = [sys.executable, "-E", live_task.__file__, where, str(cpus), self.cgroups]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # what interrupts this process leaves the watcher time to remove its cgroups
        )
        try:
            self.watcher = LiveTask(self, None, 0)
        except TimeoutError:
            self.process.kill()
            os.rmdir(self.cgroups)
            raise PermissionError(self.process.communicate()[1].strip() or "no live task came up") from None

    def stop(self):
        self.watcher.line.close()
        self.process.wait(10)
        self.process.stderr.close()
        self.door.close()
        self.folder.cleanup()
        for directory, _, _ in os.walk(self.cgroups, topdown=False):
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(directory)


class LiveTask:
    """A process of the live side, by the methods that it answers."""

    def __init__(self, side, parent, number):
        self.side = side
        if parent:
            parent.tell("fork", number)
        elif side.process.poll() is not None:
            raise TimeoutError
        self.line, _ = side.door.accept()
        self.line.settimeout(60)
        told, self.pid = self.hear()
        assert told == number
        self.pidfd = os.pidfd_open(self.pid)

    def tell(self, *words):
        self.line.send(marshal.dumps(words))

    def hear(self):
        answer = self.line.recv(live_task.LARGEST)
        if not answer:
            raise RuntimeError(f"live task {self.pid} is gone")
        return marshal.loads(answer)

    def ask(self, *words):
        self.tell(*words)
        return self.hear()

    def fork(self, number):
        return LiveTask(self.side, self, number)

    def exit(self):
        self.tell("exit")
        select.select([self.pidfd], [], [], 60)
        os.close(self.pidfd)
        self.line.close()


class SimTask:
    """The same requests, to a task of the simulated machine."""

    def __init__(self, task, pages=()):
        self.task, self.pages = task, dict(pages)

    def ask(self, what, *words):
        if what == "bpf":
            return live_task.perform(self.task.sys_bpf, *words)
        call = {"setlink": self.task.rtnl_setlink}.get(what) or getattr(self, what, None) or getattr(self.task, what)
        try:
            answer = call(*words)
        except OSError as error:
            return -error.errno
        return 0 if answer is None else list(answer) if isinstance(answer, tuple) else answer

    @staticmethod
    def group(path):
        return f"/sys/fs/cgroup/{path}"

    def open_cgroup(self, path):
        return self.task.open(self.group(path))

    def mkdir_cgroup(self, path):
        self.task.mkdir(self.group(path))

    def rmdir_cgroup(self, path):
        self.task.rmdir(self.group(path))

    def remove_groups(self):
        for path in reversed(live_task.GROUPS):
            with contextlib.suppress(OSError):
                self.rmdir_cgroup(path)

    def open_netns(self):
        return self.task.open("/proc/self/ns/net")

    def perf_event_open(self, kind, config):
        return self.task.perf_event_open(kind, config)

    def mmap(self, number, fd, length, prot, flags, poke):  # noqa: PLR0917 the words of a request
        pages = self.task.mmap(fd, length, prot, flags, 0)
        self.pages[number] = pages.address, length
        if poke and prot & 2:
            pages[0 : len(poke)] = poke

    def munmap(self, number):
        self.task.munmap(*self.pages.pop(number))

    def unhook(self, devices):
        netns = self.open_netns()
        live_task.unhook(self.task.sys_bpf, netns, self.task.close, devices)
        self.task.close(netns)

    def fork(self):
        return SimTask(self.task.fork(), self.pages)

    def exit(self):
        self.task.exit()


class Both:
    """A task on both sides, and what its descriptors are."""

    def __init__(self, sim, live, files):
        self.sim, self.live, self.files = sim, live, files


class World:
    """One simulated machine, fresh, and the live side, cleaned; ``end`` leaves nothing on either."""

    def __init__(self, make_kernel, live, report):
        self.kernel, self.live, self.report = make_kernel(), live, report
        self.watcher = SimTask(self.kernel.spawn("watcher"))
        self.alive, self.dead, self.tasks, self.spawned, self.before = [], [], [], 1, "(the first call)"
        self.functions = {
            name: Id("function", self.kernel.btf_id(name), number) for name, number in live.functions.items()
        }
        self.structs = {name: Id("struct", self.kernel.btf_id(name), number) for name, number in live.structs.items()}
        self.mappings, self.attached = 0, []
        for path in live_task.GROUPS:
            for side in (self.watcher, live.watcher):
                side.ask("mkdir_cgroup", path)
        sim = SimTask(self.kernel.spawn("task"))
        self.tasks.append(Both(sim, live.watcher.fork(self.number()), {}))

    def number(self):
        self.spawned += 1
        return self.spawned - 1

    # ---- calls ----

    def compare(self, what, ours, theirs):
        if ours == theirs:
            self.before = f"{what} = {ours}"
            return
        if why := self.known(what, ours, theirs):
            self.report.excused[why] += 1
            raise KnownDisagreement(why)
        self.live.patience = IMPATIENCE
        raise Disagreement(f"{what}\n  before: {self.before}\n  simulator:   {ours}\n  live kernel: {theirs}")

    def bpf(self, task, what, cmd, attr, *, size=None, buffers=(), pointers=(), asked=(), shown=(), hidden=(), own=()):
        """One command to both; the result and the buffers that it left.

        asked: [(offset in attr, Id)] to fill in; shown: [(buffer, offset, kind)] where ids come back; hidden:
        [(buffer, from, to)] what may differ; own: the same, but whether all is 0 may not. Buffer -1 is the attr.
        """
        self.report.counts["commands"] += 1
        registers = cmd == LINK_CREATE and struct.unpack_from("<I", attr, 8)[0] == AT_STRUCT_OPS
        assert not registers or "bpf_dummy_ops" in what, "nothing is registered with this machine's kernel"
        attrs = bytearray(attr), bytearray(attr)
        for offset, which in asked:
            struct.pack_into("<I", attrs[0], offset, which.sim)
            struct.pack_into("<I", attrs[1], offset, which.live)
        ours = task.sim.ask("bpf", cmd, bytes(attrs[0]), size, list(buffers), list(pointers))
        told, settles = self.tell(ours, 0, asked, shown, hidden, own), any(word in what for word in SETTLING)

        def ask():
            answer = task.live.ask("bpf", cmd, bytes(attrs[1]), size, list(buffers), list(pointers))
            return self.tell(answer, 1, asked, shown, hidden, own), settles or answer[0] < 0

        self.compare(what, told, self.settled(what, told, ask))
        return ours[0], ours[2]

    def known(self, what, ours, theirs):
        return known.reason("lifetimes", f"{what} | {self.before} | {ours} | {theirs}")

    def settled(self, what, ours, ask):
        """The live answer, asked anew while it differs and may lag behind: ask() gives it, and whether that may be.

        The kernel lets go from work queues: a link whose last holder was a pin loses its id before its hook is free. A
        call that was refused has changed nothing, so it can be made again.
        """
        until = time.monotonic() + self.live.patience
        while True:
            theirs, may_lag = ask()
            if theirs == ours or not may_lag or self.known(what, ours, theirs) or time.monotonic() > until:
                return theirs
            time.sleep(0.002)

    def tell(self, answer, side, asked, shown, hidden, own):  # noqa: PLR0917
        """A side's answer as it is compared: ids as the simulator's, what may differ as 0xcc."""
        result, attr, buffers = answer
        parts = [bytearray(attr), *map(bytearray, buffers)]
        for offset, which in asked:
            struct.pack_into("<I", parts[0], offset, which.sim)
        for part, start, end in hidden:
            room = parts[part + 1]
            room[start : min(end, len(room))] = b"\xcc" * max(0, min(end, len(room)) - start)
        for part, start, end in own:
            room = parts[part + 1]
            room[start:end] = (b"\1" if any(room[start:end]) else b"\0") * len(room[start:end])
        if side:
            for part, offset, kind in shown:
                room = parts[part + 1]
                if offset + 4 <= len(room):
                    struct.pack_into("<I", room, offset, self.ours(kind, struct.unpack_from("<I", room, offset)[0]))
        attr_text = bytes(parts[0]).rstrip(b"\0").hex()
        return f"{wire.name(result)} attr {attr_text} buffers {[part.hex() for part in parts[1:]]}"

    def ours(self, kind, number):
        """The simulator's id of what the live kernel shows as this."""
        return next((one.sim for one in self.alive if one.kind == kind and one.live == number), number)

    def fdinfo(self, task, fd):
        """The text of both, line by line."""
        self.report.counts["commands"] += 1
        ours = self.text_of(task.sim.ask("fdinfo", fd), False)
        theirs = self.settled("fdinfo", ours, lambda: (self.text_of(task.live.ask("fdinfo", fd), True), True))
        self.compare(f"fdinfo of {fd}", ours, theirs)

    def text_of(self, text, live):
        if isinstance(text, int):
            return "nothing"
        lines = []
        for line in text.splitlines():
            key, _, value = line.partition(":\t")
            if key in BY_NATURE:
                value = "#"
            elif key in OF_THE_HOST:
                value = "0" if value == "0" else "*"
            elif live and key in IDS_IN_TEXT and value.isdigit():
                value = str(self.ours(IDS_IN_TEXT[key], int(value)))
            lines.append(f"{key}={value}")
        return " ".join(lines)

    def pidfd(self, task, other):
        self.report.counts["commands"] += 1
        ours, theirs = task.sim.ask("pidfd_open", other.sim.task.pid), task.live.ask("pidfd_open", other.live.pid)
        self.compare("pidfd_open", wire.name(ours), wire.name(theirs))
        return ours

    def file_call(self, task, what, *words):
        self.report.counts["commands"] += 1
        ours = task.sim.ask(what, *words)

        def ask():
            answer = task.live.ask(what, *words)
            return answer, isinstance(answer, int) and answer < 0

        theirs = self.settled(f"{what} {list(words)}", ours, ask)
        name = [wire.name(one) if isinstance(one, int) else one for one in (ours, theirs)]
        shown = [word.hex() if isinstance(word, bytes) else word for word in words]
        self.compare(f"{what} {shown}", *name)
        return ours

    # ---- tasks ----

    def fork(self, task):
        self.report.counts["commands"] += 1
        sim = task.sim.fork()
        self.tasks.append(Both(sim, task.live.fork(self.number()), dict(task.files)))

    def exit(self, task):
        self.report.counts["commands"] += 1
        self.tasks.remove(task)
        task.sim.exit()
        task.live.exit()

    # ---- objects ----

    def adopt(self, task, fd, kind, about=None):
        """Notes the object behind a new descriptor: the same one on both sides, new or known."""
        if fd < 0:
            return None
        answers = []
        for side in (task.sim, task.live):
            attr = struct.pack("<IIQ", fd, ID_AT[kind] + 4, 0).ljust(16, b"\0")
            answer = side.ask("bpf", wire.OBJ_GET_INFO_BY_FD, attr, 16, [bytes(ID_AT[kind] + 4)], [(-1, 8, 0)])
            answers.append(struct.unpack_from("<I", answer[2][0], ID_AT[kind])[0] if answer[0] == 0 else answer[0])
        one = next((one for one in self.alive if one.kind == kind and answers[0] == one.sim), None)
        other = next((one for one in self.alive if one.kind == kind and answers[1] == one.live), None)
        self.compare(f"which {kind} descriptor {fd} is", str(one), str(other))
        if not one:
            one = Id(kind, *answers)
            self.alive.append(one)
        task.files[fd] = (one, about if about is not None else self.about(one))
        return one

    def about(self, one):
        """What is remembered about an object, from any descriptor of it."""
        for task in self.tasks:
            for which, about in task.files.values():
                if which == one:
                    return about
        return self.remembered.get(one, {})

    @property
    def remembered(self):
        return self.__dict__.setdefault("_remembered", {})

    def judge(self):
        """After a step: counters equal edges, and each id is there on both sides or on neither."""
        wrong = _core.graph_disagreements(self.kernel)
        if wrong:
            raise Disagreement(f"counters differ from edges after {self.before}: {wrong}")
        ours = live_task.LiveTask.exist(self.watched(), [(NEXT_ID[one.kind], one.sim) for one in self.alive])
        asked = [(NEXT_ID[one.kind], one.live) for one in self.alive]
        theirs = self.settled("existence", ours, lambda: (self.live.watcher.ask("exist", asked), True))
        for one, here, there in zip(list(self.alive), ours, theirs, strict=True):
            self.compare(f"existence of {one.kind} {one.sim}", *("there" if yes else "gone" for yes in (here, there)))
            if not here:
                self.alive.remove(one)
                self.dead.append(one)

    def watched(self):
        """Something with a sys_bpf for exist()."""
        task = self.watcher.task

        class Watcher:
            @staticmethod
            def sys_bpf(cmd, block, size):
                return task.sys_bpf(cmd, block, size)

        return Watcher

    # ---- the end ----

    def clean(self):
        """Everything exits and is unlinked and detached, on both sides, also after a disagreement."""
        for task in list(self.tasks):
            self.exit(task)
        wipe(self.watcher.task)
        self.live.watcher.ask("wipe")
        for ifindex in DEVICES:
            for flags in (XDP_FLAGS_SKB, XDP_FLAGS_DRV):
                message = setlink_message(ifindex, -1, flags)
                self.watcher.ask("setlink", message)
                self.live.watcher.ask("setlink", message)
        for side in (self.watcher, self.live.watcher):
            side.ask("unhook", DEVICES)
            side.ask("remove_groups")

    def end(self):
        self.clean()
        self.judge()
        left = [str(one) for one in self.alive] + list(_core.graph_leaks(self.kernel))
        for kind, cmd in NEXT_ID.items():
            after = bytearray(12)
            after[0] = kind == "btf"  # the first is the kernel's own
            if self.watcher.task.sys_bpf(cmd, after) != -errno.ENOENT:
                left.append(f"a {kind} of the simulator")
        if left:
            raise Disagreement(f"left at the end: {left}")


def wipe(task, path=live_task.BPFFS):
    for name in task.listdir(path):
        with contextlib.suppress(OSError):
            task.unlink(f"{path}/{name}")
            continue
        wipe(task, f"{path}/{name}")
        task.rmdir(f"{path}/{name}")
