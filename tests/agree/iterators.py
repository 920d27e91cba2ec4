"""Iterators over maps' contents, sockets, tasks, files, cgroups: loads, links, what they tell, and what a read gives.

The live side runs in a network namespace of its own (network.py), so that the sockets a program is shown are ours. A
program writes some members of what it is shown; a record is told with addresses and ports, and the order only where
it is not the kernel's own.
"""

import os
import struct

import fields
import wire
from network import DGRAM, INET, INET6, SO_REUSEPORT, SOCKHASH, SOCKMAP, STREAM, UNIX, u32
from pair import TARGETS, type_ids
from wire import Buffer

TRACING, TRACE_ITER, LINK_CREATE, ITER_CREATE, SEQ_WRITE = 26, 28, 28, 33, 127
ARRAY, HASH, PERCPU_ARRAY, QUEUE, SK_STORAGE = 2, 1, 6, 22, 24
SLEEPABLE = 16
MAP, KEY, SK = 8, 16, 24  # where bpf_iter__sockmap has them; of sk_storage_map the last two are sk and value
SIZES = {8: 0x79, 4: 0x61, 2: 0x69, 1: 0x71}
EPHEMERAL = 32768
LIVE = {}


def insn(code, dst=0, src=0, off=0, imm=0):
    return struct.pack("<BBhi", code, src << 4 | dst, off, imm)


EXIT = insn(0xB7) + insn(0x95)


def writes(*reads, shown):
    """Code that writes 8 bytes for each read of what the argument at `shown` is; nothing where that is NULL, the end.

    A read is (argument, path of offsets, size): a NULL on the path leaves 0. An argument that is a number has no path,
    and only its low half is told.
    """
    room = 8 * len(reads)
    body = b"".join(insn(0x7A, 10, off=at - room) for at in range(0, room, 8))
    for index, (argument, path, size) in enumerate(reads):
        part = insn(0x79, 3, 6, argument) + (b"" if path else insn(0xBC, 3, 3))
        for step in path:
            part += insn(0x15, 3, 0, 0) + insn(SIZES[size] if step == path[-1] else 0x79, 3, 3, step)
        part = bytearray(part + insn(0x7B, 10, 3, 8 * index - room))
        for at in range(0, len(part), 8):  # the NULL checks jump behind this read
            if part[at] == 0x15:
                struct.pack_into("<h", part, at + 2, (len(part) - at) // 8 - 1)
        body += bytes(part)
    body += insn(0x79, 1, 6, 0) + insn(0x79, 1, 1, 0) + insn(0xBF, 2, 10) + insn(0x07, 2, imm=-room)
    body += insn(0xB7, 3, imm=room) + insn(0x85, imm=SEQ_WRITE)
    return insn(0xBF, 6, 1) + insn(0x79, 3, 6, shown) + insn(0x15, 3, 0, len(body) // 8) + body + EXIT


def numbers(record):
    return struct.unpack(f"<{len(record) // 8}Q", record)


def known_ports(record):
    """A record where ports that the kernel chose, in either order of bytes, stand as 1."""
    chosen = [one for one in record if EPHEMERAL <= one < 1 << 16]
    swapped = [one >> 8 | (one & 0xFF) << 8 for one in chosen]
    return tuple(1 if one in chosen or one in swapped else one for one in record)


class Iterators:
    """One side's: programs by target, links, files."""

    def __init__(self, s):
        self.s = s
        self.simulated = hasattr(s.task, "kernel")
        if not LIVE:
            LIVE.update(type_ids(f"bpf_iter_{target}" for target in TARGETS))

    def function(self, target):
        name = f"bpf_iter_{target}"
        return self.s.task.kernel.btf_id(name) if self.simulated else LIVE[name]

    def prog(self, what, code=EXIT, target=None, **words):
        words = {"at68": TRACE_ITER, "at108": self.function(target or what)} | words
        return self.s.prog_load(f"iterator {what}", code, TRACING, **words)

    def link(self, what, prog, info=None, length=None, **words):
        room = Buffer(info or b"")
        attr = bytearray(wire.ATTR_SIZE)
        struct.pack_into("<4I", attr, 0, prog & 0xFFFFFFFF, words.get("target", 0), TRACE_ITER, words.get("flags", 0))
        struct.pack_into("<QI", attr, 16, room.address if info else 0, len(info or b"") if length is None else length)
        return self.s.call(f"LINK_CREATE {what}", LINK_CREATE, attr, fd=True)

    def of_map(self, what, prog, fd, **words):
        return self.link(what, prog, u32(fd), **words)

    def create(self, link):
        attr = bytearray(struct.pack("<2I", link & 0xFFFFFFFF, 0).ljust(wire.ATTR_SIZE, b"\0"))
        return self.s.call("ITER_CREATE", ITER_CREATE, attr, fd=True)

    def one_read(self, fd, size):
        try:
            return self.s.task.read(fd, size) if self.simulated else os.read(fd, size)
        except OSError as error:
            return wire.name(-error.errno)

    def read(self, what, link, each=8, *, size=4096, ordered=True, told=False, keep=lambda record: True):
        """All records of a fresh file, as tuples of numbers."""
        self.s.note(f"read {what}, {size} bytes at once")
        fd, text = self.create(link), b""
        for _ in range(1000):
            part = self.one_read(fd, size)
            if not part or isinstance(part, str):
                self.s.note(f"  ends with {part}")
                break
            text += part
        records = [numbers(text[at : at + each]) for at in range(0, len(text), each)]
        for one in records if ordered else sorted(map(known_ports, records)):
            if keep(one):
                self.s.note(f"  {one}")
        if told:
            self.s.note(f"  {self.fdinfo(fd).splitlines()[0]}")
        self.s.close(fd)
        return records

    def fdinfo(self, fd):
        if self.simulated:
            return self.s.task.fdinfo(fd)
        with open(f"/proc/self/fdinfo/{fd}") as file:
            return file.read()

    def info(self, link, target_len=64):
        """INFO and fdinfo, without what names objects."""
        name, raw, attr = Buffer(b"\xee" * 64), Buffer(bytearray(64)), bytearray(wire.ATTR_SIZE)
        struct.pack_into("<QI", raw.raw, 16, name.address if target_len else 0, target_len)
        struct.pack_into("<IIQ", attr, 0, link & 0xFFFFFFFF, 64, raw.address)
        self.s.call(f"INFO name of {target_len}", wire.OBJ_GET_INFO_BY_FD, attr)
        kind, _, _, _, _, length, narrowed, first, second, order = struct.unpack_from("<4IQ5I", bytes(raw))
        told = [bool(one) for one in (narrowed, first, second)], order
        self.s.note(f"  type {kind} {bytes(name)[:length]} of {length}, narrowed {told}")
        text = self.fdinfo(link)
        hidden = ("pos", "flags", "mnt_id", "ino", "link_id", "prog_tag", "prog_id", "map_id", "pid", "tid")
        hidden += ("cgroup_path",)
        for line in text.splitlines():
            key = line.partition(":")[0]
            self.s.note(f"  {key if key in hidden else line}")
        return first | second << 32


def every_target_loads_and_links(s):
    its = Iterators(s)
    for target in TARGETS:
        for flags in (0, SLEEPABLE):
            prog = its.prog(target, at44=flags)
            link = its.link(f"{target} {flags}", prog)
            for info in (u32(0), u32(9999), u32(0, 0, 0, 0), u32(0, 0, 0, 0, 1), u32(-1)):
                s.close(its.link(f"{target} {info.hex()}", prog, info))
            for words in ({"length": 4}, {"target": 1}, {"flags": 1}):
                its.link(f"{target} {words}", prog, **words)
            if link >= 0:
                for room in (64, 0, 3, len(target), len(target) + 1):
                    its.info(link, room)
                s.close(link)
            s.close(prog)


SEVEN = insn(0x7A, 10, off=-8, imm=7) + insn(0xBF, 6, 1)
WRITE_8 = insn(0x79, 1, 6, 0) + insn(0x79, 1, 1, 0) + insn(0xBF, 2, 10) + insn(0x07, 2, imm=-8)
WRITE_8 += insn(0xB7, 3, imm=8) + insn(0x85, imm=SEQ_WRITE) + EXIT


def programs_see_the_end(s):
    """Where nothing is to be shown the program runs once, or not at all; of a map's iterator it knows the map."""
    its = Iterators(s)
    for target in ("udp", "dmabuf"):
        its.read(target, its.link(target, its.prog(target, SEVEN + WRITE_8)))
    knows = SEVEN + insn(0x79, 7, 1, MAP) + insn(0x61, 3, 7, 68) + insn(0x7B, 10, 3, -8) + WRITE_8
    made = {"bpf_map_elem": s.map_create(HASH, 4, 4, 4), "sockmap": s.map_create(SOCKHASH, 8, 4, 4)}
    made["bpf_sk_storage_map"] = storage(s, 8)
    for target, fd in made.items():
        for code in (SEVEN + WRITE_8, knows):
            its.read(target, its.of_map(target, its.prog(target, code), fd))
    its.read("slots", its.of_map("slots", its.prog("sockmap", knows), s.map_create(SOCKMAP, 4, 4, 3)))


def storage(s, size, kind=SK_STORAGE):
    types = fields.Types()
    of = types.array(types.int, size // 4)
    attr = bytearray(wire.ATTR_SIZE)
    struct.pack_into("<5I", attr, 0, kind, 4, size, 0, 1)
    struct.pack_into("<3I", attr, 48, types.load(s, "numbers") & 0xFFFFFFFF, 1, of)
    return s.call(f"MAP_CREATE type {kind} of {size}", wire.MAP_CREATE, attr, fd=True)


def maps_that_fit(s):
    """Each target with descriptors of all kinds, and with programs that reach to just where keys and values end."""
    its = Iterators(s)
    made = {f"type {kind}": s.map_create(kind, 4, size, 4) for kind, size in ((ARRAY, 8), (HASH, 16), (SOCKMAP, 4))}
    made |= {"sockhash": s.map_create(SOCKHASH, 8, 8, 4), "queue": s.map_create(QUEUE, 0, 4, 4)}
    made |= {"per CPU": s.map_create(PERCPU_ARRAY, 4, 4, 4), "sockets": storage(s, 8), "tasks": storage(s, 8, 29)}
    made |= {"a program": s.prog_load("filter"), "none": 9999, "negative": -1}
    made["a socket"] = s.sock("socket", "socket", INET, STREAM)
    for target, at in (("bpf_map_elem", 16), ("bpf_map_elem", 24), ("sockmap", 16), ("bpf_sk_storage_map", 24)):
        for far in (None, 0, 4, 8, 12):
            reach = insn(0x79, 2, 1, at) + insn(0x15, 2, 0, 1) + insn(0x61, 3, 2, far or 0)
            prog = its.prog(f"{target} reads {far} of {at}", (reach if far is not None else b"") + EXIT, target)
            for what, fd in made.items():
                link = its.of_map(f"{target} {far} {what}", prog, fd)
                if link >= 0:
                    its.info(link)
                    s.close(its.create(link))
                    s.close(link)


def all_sockets(s):
    """Sockets of every family in every state."""
    fds = [s.sock("socket", "socket", family, kind) for family in (INET, INET6, UNIX) for kind in (STREAM, DGRAM)]
    for port, kind in ((7100, STREAM), (7101, STREAM), (7102, DGRAM), (7103, DGRAM)):
        fds.append(s.sock("socket", "socket", INET, kind))
        s.sock("SO_REUSEPORT", "setsockopt", fds[-1], SO_REUSEPORT, 1)
        s.sock("bind", "bind", fds[-1], "127.0.0.1", port)
        if kind == STREAM:
            s.sock("listen", "listen", fds[-1])
    for _ in range(2):
        fds.append(s.sock("client", "socket", INET, STREAM))
        s.sock("connect", "connect", fds[-1], "127.0.0.1", 7100)
    fds.append(s.sock("accept", "accept", fds[6]))
    fds.append(s.sock("udp client", "socket", INET, DGRAM))
    s.sock("connect", "connect", fds[-1], "127.0.0.1", 7102)
    for kind in (STREAM, DGRAM):
        fds += s.sock("pair", "socketpair", kind)
    return fds


def nobody_waits(record):
    """Of TCP: no connection in TIME_WAIT or another state between established and closed, which this machine lacks."""
    return record[1] in (1, 7, 8, 10)


def sockets_of_the_namespace(s):
    its = Iterators(s)
    common = ((8, (16,), 2), (8, (18,), 1), (8, (14,), 2), (8, (0,), 4), (8, (4,), 4))
    tcp = its.prog("tcp", writes(*common, (16, (), 4), shown=8))
    udp = its.prog("udp", writes(*common, (8, (532,), 2), (8, (534,), 2), (8, (814,), 2), (8, (808,), 4), shown=8))
    unix = its.prog("unix", writes(*common[:2], (8, (532,), 2), (8, (534,), 2), (8, (872, 16), 2), shown=8))
    links = {"tcp": its.link("tcp", tcp), "udp": its.link("udp", udp), "unix": its.link("unix", unix)}
    each = {"tcp": 48, "udp": 72, "unix": 40}

    def show(what):
        for target, link in links.items():
            its.read(
                f"{target} {what}",
                link,
                each[target],
                ordered=False,
                keep=lambda one, t=target: t != "tcp" or nobody_waits(one),
            )

    show("at first")
    fds = all_sockets(s)
    show("all")
    for fd in fds[-4:] + fds[:3]:
        s.sockets.close(fd)
    show("without some")
    for size in (8, 48, 100):
        its.read("tcp", links["tcp"], 48, size=size, ordered=False, keep=nobody_waits)
    again = its.prog("tcp", insn(0xB7, imm=1) + insn(0x95))
    its.read("tcp", its.link("answers 1", again))


def sockets_of_maps(s):
    """Slots of an array, also empty ones; elements of a hash, whose bucket a new read begins again."""
    its, fds = Iterators(s), []
    for port in range(6):
        fds.append(s.sock("socket", "socket", INET, DGRAM))
        s.sock("bind", "bind", fds[-1], "127.0.0.1", 7200 + port)
    fds += s.sock("pair", "socketpair", DGRAM)
    code = writes((KEY, (0,), 4), (SK, (16,), 2), (SK, (14,), 2), (SK, (18,), 1), (SK, (534,), 2), shown=KEY)
    prog = its.prog("sockmap", code)
    for kind in (SOCKMAP, SOCKHASH):
        fd = s.map_create(kind, 4, 4, 12)
        link = its.of_map(f"type {kind}", prog, fd)
        its.read("empty", link, 40)
        for index, sock in enumerate(fds):
            s.element(
                "UPDATE", wire.MAP_UPDATE_ELEM, fd, (u32(index * 5 % 12 if kind == SOCKMAP else index * 77), u32(sock))
            )
        for size in (4096, 200, 80, 41, 40, 8):
            its.read(f"type {kind}", link, 40, size=size, told=True)
        s.sockets.close(fds[0])
        fds[0] = s.sock("socket", "socket", INET, DGRAM)
        s.sock("bind", "bind", fds[0], "127.0.0.1", 7299)
        its.read("one less", link, 40)
        s.close(fd)
        its.info(link)
        its.read("of a map without descriptors", link, 40)
        s.close(link)


def storage_element(s, what, cmd, fd, owner, value=b""):  # noqa: PLR0917 the words of a call
    """owner: its number among the sockets, and its descriptor, which differs."""
    key, room, attr = Buffer(u32(owner[1])), Buffer(value), bytearray(wire.ATTR_SIZE)
    struct.pack_into("<IIQQ", attr, 0, fd & 0xFFFFFFFF, 0, key.address, room.address if value else 0)
    s.call(f"{what} socket {owner[0]}", cmd, attr)
    s.note(f"  {bytes(room).hex()}")


def values_of_sockets(s):
    """The program sees each socket with its value, and writes into the value."""
    its = Iterators(s)
    kept = storage(s, 8)
    fds = all_sockets(s)
    code = bytearray(writes((SK, (0,), 4), (16, (16,), 2), (16, (534,), 2), (16, (14,), 2), shown=SK))
    adds = insn(0x79, 4, 1, SK) + insn(0x15, 4, 0, 3) + insn(0x61, 5, 4, 4) + insn(0x07, 5, imm=3) + insn(0x63, 4, 5, 4)
    link = its.of_map("values", its.prog("bpf_sk_storage_map", adds + bytes(code)), kept)
    its.read("nothing yet", link, 32, ordered=False)
    for index, fd in enumerate(fds):
        storage_element(s, "UPDATE", wire.MAP_UPDATE_ELEM, kept, (index, fd), u32(index, 100))
    for size in (4096, 64, 32):
        its.read("all", link, 32, size=size, ordered=False)
        for index, fd in enumerate(fds):
            storage_element(s, "LOOKUP", wire.MAP_LOOKUP_ELEM, kept, (index, fd), bytes(8))
    for index, fd in enumerate(fds[::2]):
        storage_element(s, "DELETE", wire.MAP_DELETE_ELEM, kept, (index, fd))
    its.read("half", link, 32, ordered=False)


def tasks_and_files(s):
    """This task's files, by every way to name it; pids and what was open before differ, and are not told."""
    its = Iterators(s)
    pid = s.task.pid if its.simulated else os.getpid()
    pidfd = s.task.pidfd_open(pid) if its.simulated else os.pidfd_open(pid)
    s.open.append(pidfd)
    ways = {"tid": u32(pid), "pid": u32(0, pid), "pidfd": u32(0, 0, pidfd), "no such pid": u32(0, 1 << 22)}
    ways |= {"tid and pid": u32(pid, pid), "pid and pidfd": u32(0, pid, pidfd), "bad pidfd": u32(0, 0, 9999)}
    ways["a map for a pidfd"] = u32(0, 0, s.map_create(ARRAY, 4, 4, 1))
    codes = {"task": writes((8, (1264,), 4), shown=8), "task_file": writes((16, (), 8), (24, (40,), 4), shown=24)}
    for target, code in codes.items():
        prog = its.prog(target, code)
        for way, info in ways.items():
            link = its.link(f"{target} by {way}", prog, info)
            if link < 0:
                continue
            its.info(link)
            each = 8 if target == "task" else 16
            before = its.read(target, link, each, keep=lambda one: False)
            s.note(f"  of this task {bool(before)}, alone {target != 'task' or before in ([], [(pid,)])}")
            new = [s.map_create(ARRAY, 4, 4, 1), s.prog_load("filter"), s.sock("socket", "socket", INET, DGRAM)]
            after = dict(its.read(target, link, each, keep=lambda one: False)) if target == "task_file" else {}
            s.note(f"  files opened for {[after[fd] & 3 if fd in after else None for fd in new]}")
            s.close(link)


def cgroups_are_walked(s):
    """In a frame of attach.py: from each of a few groups, in every order, by descriptor and by id."""
    its, depth = Iterators(s), {"": 0, "a": 1, "a/b": 2, "a/b/d": 3}
    for path in ("a", "z", "a/b", "a/Before", "a/b/d", "a/c"):
        s.directory("mkdir", path)
    code = writes((8, (216,), 4), (8, (256, 96), 8), shown=8)
    walks, once = its.prog("cgroup", code), its.prog("cgroup", code[:-16] + insn(0xB7, imm=1) + insn(0x95))
    names = {}

    def read(what, link, at=0, size=4096):
        """Levels from the sandbox's own on, and groups by the order in which they turn up."""
        records = its.read(what, link, 16, size=size, keep=lambda one: False)
        top = min((level for level, number in records if number == start), default=0) - at
        for level, number in records:
            if level >= top:
                s.note(f"  level {level - top} group {names.setdefault(number, len(names))}")

    for path, at in depth.items():
        fd = s.cgroup(path)
        for order in range(6):
            link = its.link(f"from {path!r} in order {order}", walks, u32(order, fd, 0, 0))
            if link < 0:
                continue
            start = its.info(link)
            read("all", link, at)
            by_id = its.link("by id", walks, u32(order, 0, start & 0xFFFFFFFF, start >> 32))
            read("by id", by_id, at)
            read("until 1", its.link("until 1", once, u32(order, fd)), at)
            read("by pieces", link, at, size=20)
            its.link("both", walks, u32(order, fd, 1, 0))
    wrong = {"the root": u32(1), "none": u32(1, 9999), "a map": u32(1, s.map_create(ARRAY, 4, 4, 1))}
    wrong |= {"no such id": u32(1, 0, 0xFFFFFFF0, 7), "negative": u32(1, -1)}
    for what, info in wrong.items():
        its.link(what, walks, info)
    link = its.link("a leaf", walks, u32(1, s.cgroup("z")))
    start = its.info(link)
    open_file = its.create(link)
    s.directory("rmdir", "z")
    s.note(f"of a removed group: {its.one_read(open_file, 4096)}")
    its.info(link)


WRITTEN = (cgroups_are_walked,)
CASES = (
    every_target_loads_and_links,
    programs_see_the_end,
    maps_that_fit,
    sockets_of_the_namespace,
    sockets_of_maps,
    values_of_sockets,
    tasks_and_files,
)
