"""Maps of devices, CPUs and sockets: the same bpf(2) commands on both sides, with sockets made alike on both; and
SK_LOOKUP programs that look such sockets up and select one.

The live side runs in a child process with a network namespace of its own, so that nothing of the host is met or left
behind. There a case makes its sockets with Python's socket module, here with the calls of the simulated task.
"""

import ctypes
import errno
import fcntl
import json
import os
import random
import socket
import struct
import traceback

import commands
import wire
from bpfsim import _core

PERF_EVENT_ARRAY, STACK_TRACE, CGROUP_ARRAY, DEVMAP, SOCKMAP, CPUMAP, XSKMAP, SOCKHASH = 4, 7, 8, 14, 15, 16, 17, 18
REUSEPORT_SOCKARRAY, DEVMAP_HASH = 20, 25
UNIX, INET, INET6, NETLINK, PACKET, AF_XDP = 1, 2, 10, 16, 17, 44
STREAM, DGRAM, RAW, RDM, SEQPACKET = 1, 2, 3, 4, 5
SO_REUSEADDR, SO_REUSEPORT, SO_DETACH_BPF, SO_LOCK_FILTER, SO_ATTACH_BPF = 2, 15, 27, 44, 50
SO_ATTACH_REUSEPORT_EBPF, SO_DETACH_REUSEPORT_BPF = 52, 68
XDP_DEVMAP, XDP_CPUMAP, XDP_ATTACH, XDP_HAS_FRAGS = 33, 35, 37, 32
ARRAY, SK_LOOKUP, AT_SK_LOOKUP = 2, 30, 36


class LiveSockets:
    """Socket calls of this process; a result is a descriptor, 0, or -errno."""

    def __init__(self):
        self.made = {}

    def call(self, function, *args):
        try:
            return function(*args)
        except OSError as error:
            return -error.errno

    def keep(self, made):
        if isinstance(made, int):
            return made
        made.setblocking(False)
        self.made[made.fileno()] = made
        return made.fileno()

    def socket(self, family, kind, protocol=0):
        return self.keep(self.call(socket.socket, family, kind, protocol))

    def socketpair(self, kind):
        return [self.keep(one) for one in socket.socketpair(socket.AF_UNIX, kind)]

    def on(self, fd, name, *args):
        result = self.call(getattr(self.made[fd], name), *args)
        return result if isinstance(result, int) else 0

    def bind(self, fd, address, port):
        return self.on(fd, "bind", (address, port))

    def listen(self, fd):
        return self.on(fd, "listen")

    def connect(self, fd, address, port):
        self.made[fd].setblocking(True)
        result = self.on(fd, "connect", (address, port))
        self.made[fd].setblocking(False)
        return result

    def accept(self, fd):
        result = self.call(self.made[fd].accept)
        return result if isinstance(result, int) else self.keep(result[0])

    def setsockopt(self, fd, option, value):
        return self.on(fd, "setsockopt", 1, option, value)

    def close(self, fd):
        if fd in self.made:
            self.made.pop(fd).close()


class SimulatedSockets:
    def __init__(self, task):
        self.task = task

    def __getattr__(self, name):
        def call(*args):
            try:
                result = getattr(self.task, name)(*args)
            except OSError as error:
                return -error.errno
            return 0 if result is None else list(result) if isinstance(result, tuple) else result

        return call


class NetSide(commands.Side):
    """A side with sockets. Cookies and ids are shown by the order in which they turn up."""

    def __init__(self, task, sockets):
        super().__init__(task)
        self.sockets, self.numbers = sockets, {}

    def sock(self, what, name, *args):
        result = getattr(self.sockets, name)(*args)
        opens = name in ("socket", "accept")
        shown = result if isinstance(result, int) else 0
        self.note(f"{what}: {'a descriptor' if opens and shown >= 0 else wire.name(shown)}")
        return result

    def lookup(self, fd, key, size, flags=0):
        result, value = self.element("LOOKUP", wire.MAP_LOOKUP_ELEM, fd, (key, b"\xee" * size), flags=flags)
        if result == 0:
            self.note(f"  value {[self.numbers.setdefault(value, len(self.numbers))]}")
        return result, value

    def select(self, what, fd, connection, repeat):
        """TEST_RUN of a SK_LOOKUP program; which cookie comes back is told by number."""
        given, out = wire.Buffer(connection), wire.Buffer(b"\xee" * len(connection))
        attr = bytearray(wire.ATTR_SIZE)
        struct.pack_into("<I", attr, 0, fd & 0xFFFFFFFF)
        struct.pack_into("<4I2Q", attr, 32, repeat, 0, len(connection), len(connection), given.address, out.address)
        self.call(f"TEST_RUN {what}", wire.PROG_TEST_RUN, attr)
        cookie, rest = bytes(out)[:8], bytes(out)[8:].hex()
        named = cookie if cookie in (bytes(8), b"\xee" * 8) else self.numbers.setdefault(cookie, len(self.numbers))
        self.note(f"  retval {struct.unpack_from('<I', attr, 4)[0]}, cookie {named}, {rest}")


def u32(*numbers):
    return struct.pack(f"<{len(numbers)}I", *(number & 0xFFFFFFFF for number in numbers))


def every_kind_of_socket(s):
    """(what, descriptor) for sockets of each family, type and state."""

    def make(what, family, kind, protocol=0):
        return s.sock(f"socket {what}", "socket", family, kind, protocol)

    for what, family, kind, protocol in (
        ("tcp", INET, STREAM, 0),
        ("tcp6", INET6, STREAM, 6),
        ("udp", INET, DGRAM, 17),
        ("raw", INET, RAW, 1),
        ("unix stream", UNIX, STREAM, 0),
        ("unix dgram", UNIX, DGRAM, 0),
        ("unix raw", UNIX, RAW, 0),
        ("unix packets", UNIX, SEQPACKET, 1),
        ("packet", PACKET, RAW, 0),
        ("netlink", NETLINK, RAW, 0),
        ("xdp", AF_XDP, RAW, 0),
        ("xdp dgram", AF_XDP, DGRAM, 0),
        ("xdp protocol", AF_XDP, RAW, 5),
        ("no family", 99, STREAM, 0),
        ("no type", INET, 7, 0),
        ("wild type", INET, 12, 0),
        ("no protocol", INET, STREAM, 99),
        ("wild protocol", INET, STREAM, 300),
        ("udp stream", INET, STREAM, 17),
        ("raw 0", INET, RAW, 0),
        ("raw tcp", INET, RAW, 6),
        ("raw udp", INET, RAW, 17),
        ("unix rdm", UNIX, RDM, 0),
        ("unix protocol", UNIX, STREAM, 5),
    ):
        fd = make(what, family, kind, protocol)
        if fd >= 0:
            s.sock("SO_REUSEPORT", "setsockopt", fd, SO_REUSEPORT, 1)
            yield what, fd
    bound = make("tcp bound", INET, STREAM)
    s.sock("bind", "bind", bound, "127.0.0.1", 7001)
    s.sock("bind again", "bind", bound, "127.0.0.1", 7002)
    yield "tcp bound", bound
    listener = make("tcp listening", INET, STREAM)
    s.sock("accept", "accept", listener)
    s.sock("bind", "bind", listener, "127.0.0.1", 7001)
    s.sock("bind", "bind", listener, "127.0.0.1", 7000)
    s.sock("listen", "listen", listener)
    s.sock("listen", "listen", listener)
    s.sock("accept", "accept", listener)
    yield "tcp listening", listener
    client = make("tcp connected", INET, STREAM)
    s.sock("connect", "connect", client, "127.0.0.1", 7003)
    client = make("tcp connected", INET, STREAM)
    s.sock("connect", "connect", client, "127.0.0.1", 7000)
    s.sock("connect", "connect", client, "127.0.0.1", 7000)
    yield "tcp connected", client
    yield "tcp accepted", s.sock("accept", "accept", listener)
    half = make("tcp half closed", INET, STREAM)
    s.sock("connect", "connect", half, "127.0.0.1", 7000)
    s.sockets.close(s.sock("accept", "accept", listener))
    yield "tcp half closed", half
    for port, flags in ((7010, ()), (7011, (SO_REUSEPORT,)), (7011, (SO_REUSEPORT,)), (7010, (SO_REUSEPORT,))):
        udp = make("udp", INET, DGRAM)
        for flag in flags:
            s.sock("setsockopt", "setsockopt", udp, flag, 1)
        if s.sock("bind", "bind", udp, "127.0.0.1", port) == 0:
            yield f"udp bound {flags}", udp
    udp = make("udp connected", INET, DGRAM)
    s.sock("connect", "connect", udp, "127.0.0.1", 7010)
    yield "udp connected", udp
    group = make("tcp group", INET, STREAM)
    s.sock("setsockopt", "setsockopt", group, SO_REUSEPORT, 1)
    s.sock("bind", "bind", group, "127.0.0.1", 7020)
    yield "tcp group, bound", group
    s.sock("listen", "listen", group)
    yield "tcp group, listening", group
    for kind in (STREAM, DGRAM, SEQPACKET):
        one, other = s.sock(f"socketpair {kind}", "socketpair", kind)
        yield f"unix pair {kind}", one
        s.sockets.close(other)
        yield f"unix pair {kind}, half closed", one


def maps_take_sockets(s):
    """Every kind of socket to every map of sockets."""
    maps = [
        (kind, s.map_create(kind, 4, size, 60)) for kind, size in ((REUSEPORT_SOCKARRAY, 4), (REUSEPORT_SOCKARRAY, 8))
    ]
    maps += [(kind, s.map_create(kind, 4, size, 60)) for kind in (SOCKMAP, SOCKHASH) for size in (4, 8)]
    maps.append((XSKMAP, s.map_create(XSKMAP, 4, 4, 60)))
    for index, (what, fd) in enumerate(every_kind_of_socket(s)):
        for order in (maps, maps[::-1]):
            for at, (kind, one) in enumerate(order):
                size = 8 if (kind, one) in (maps[1], maps[3], maps[5]) else 4
                value = fd.to_bytes(size, "little")
                s.note(f"{what} into type {kind}, values of {size}")
                s.element("UPDATE", wire.MAP_UPDATE_ELEM, one, (u32(index), value))
                s.lookup(one, u32(index), size)
                if at % 2:
                    s.delete(one, u32(index))
            for _, one in order:
                s.delete(one, u32(index))
    for fd in (9999, -1, maps[0][1]):
        for kind, one in maps:
            for size in (4, 8):
                s.note(f"descriptor {fd if fd != maps[0][1] else 'of a map'} into type {kind}")
                value = (fd & ((1 << 8 * size) - 1)).to_bytes(size, "little")
                s.element("UPDATE", wire.MAP_UPDATE_ELEM, one, (u32(0), value.ljust(8, b"\0")))


def xdp_program(s, what, attach, flags=0):
    return s.prog_load(what, prog_type=wire.XDP, at44=flags, at68=attach)


def maps_take_programs(s):
    """Entries with programs of every kind, in maps that met others before."""
    programs = {
        "none": 0,
        "XDP": xdp_program(s, "XDP", XDP_ATTACH),
        "devmap": xdp_program(s, "devmap", XDP_DEVMAP),
        "cpumap": xdp_program(s, "cpumap", XDP_CPUMAP),
        "devmap frags": xdp_program(s, "devmap frags", XDP_DEVMAP, XDP_HAS_FRAGS),
        "cpumap frags": xdp_program(s, "cpumap frags", XDP_CPUMAP, XDP_HAS_FRAGS),
        "filter": s.prog_load("filter"),
        "nothing": 9999,
        "negative": -1,
    }
    for kind in (DEVMAP, DEVMAP_HASH, CPUMAP):
        for first in programs:
            fd = s.map_create(kind, 4, 8, 4)
            for what in (first, *programs):
                for number in (1, 0, 77, 16384, 16385):
                    for mode in (0, 1, 2, 3):
                        s.note(f"type {kind} after {first}: {what}, {number}, flags {mode}")
                        pair = (u32(1), u32(number, programs[what]))
                        s.element("UPDATE", wire.MAP_UPDATE_ELEM, fd, pair, flags=mode)
                    result, value = s.element("LOOKUP", wire.MAP_LOOKUP_ELEM, fd, (u32(1), bytes(8)))
                    if result == 0:
                        s.note(f"  {value[:4].hex()}, a program {any(value[4:])}")
            s.close(fd)


def socket_options(s):
    filt, xdp = s.prog_load("filter"), xdp_program(s, "XDP", XDP_ATTACH)
    move, leave = bytes.fromhex("b700000002000000"), bytes.fromhex("9500000000000000")
    big = s.prog_load("big filter", code=move * 16390 + leave)
    for what, family, kind in (
        ("tcp", INET, STREAM),
        ("udp", INET, DGRAM),
        ("unix", UNIX, DGRAM),
        ("xdp", AF_XDP, RAW),
    ):
        for reuse in (0, 1):
            fd = s.sock(f"socket {what}", "socket", family, kind)
            s.sock("SO_REUSEPORT", "setsockopt", fd, SO_REUSEPORT, reuse)
            for bound in range(2):
                for option in (SO_DETACH_BPF, SO_DETACH_REUSEPORT_BPF):
                    s.sock(f"{what} {reuse} {bound} option {option}", "setsockopt", fd, option, 0)
                for option in (SO_ATTACH_BPF, SO_ATTACH_REUSEPORT_EBPF):
                    for name, prog in (("filter", filt), ("XDP", xdp), ("big", big), ("none", 9999)):
                        words = f"{what} {reuse} {bound} option {option} {name}"
                        s.sock(words, "setsockopt", fd, option, prog)
                for option in (SO_DETACH_BPF, SO_DETACH_BPF, SO_DETACH_REUSEPORT_BPF, SO_DETACH_REUSEPORT_BPF):
                    s.sock(f"{what} {reuse} {bound} option {option}", "setsockopt", fd, option, 0)
                if family == INET:
                    s.sock("bind", "bind", fd, "127.0.0.1", 0)
            for option, value in ((SO_LOCK_FILTER, 1), (SO_LOCK_FILTER, 0), (SO_DETACH_BPF, 0), (SO_ATTACH_BPF, filt)):
                s.sock(f"{what} locked, option {option} = {value and 1}", "setsockopt", fd, option, value)
            s.sockets.close(fd)


def insn(code, dst=0, src=0, off=0, imm=0):
    return struct.pack("<BBhi", code, src << 4 | dst, off, imm)


def selecting(socks, results, steps, verdict, release=(86,)):
    """A SK_LOOKUP program. A step is (key or None for no socket, flags); what each answers goes into `results`, 77
    where the key has no socket, and behind that whether a socket is selected."""
    code = insn(0xBF, 6, 1) + insn(0x18, 9, 2, imm=results) + bytes(8)
    for at, (key, flags) in enumerate(steps):
        assign = insn(0xBF, 1, 6) + insn(0xB7, 3, imm=flags) + insn(0x85, imm=124) + insn(0x7B, 9, 0, 8 * at)
        if key is None:
            code += insn(0xB7, 2) + assign
            continue
        found = insn(0xBF, 7, 0) + insn(0xBF, 2, 7) + assign
        found += b"".join(insn(0xBF, 1, 7) + insn(0x85, imm=helper) for helper in release)
        code += insn(0x62, 10, 0, -4, key) + insn(0xBF, 2, 10) + insn(0x07, 2, imm=-4)
        code += insn(0x18, 1, 1, imm=socks) + bytes(8) + insn(0x85, imm=1) + insn(0x55, 0, 0, 2)
        code += insn(0x7A, 9, 0, 8 * at, 77) + insn(0x05, off=len(found) // 8) + found
    last = 8 * len(steps)
    code += insn(0x79, 8, 6) + insn(0x7A, 9, 0, last) + insn(0x15, 8, 0, 1) + insn(0x7A, 9, 0, last, 1)
    return code + insn(0xB7, imm=verdict) + insn(0x95)


def sockets_to_select(s):
    """Bound, listening, connected, with and without SO_REUSEPORT, of both versions; and two of AF_UNIX."""
    fds = []
    for port, address, kind, shares in (
        (7100, "127.0.0.1", DGRAM, 0),
        (7101, "0.0.0.0", DGRAM, 1),
        (7102, "127.0.0.1", STREAM, 0),
        (7103, "127.0.0.1", STREAM, 1),
        (7104, "::1", DGRAM, 0),
        (7105, "::1", STREAM, 0),
        (7106, "::", STREAM, 1),
        (7107, "::", DGRAM, 0),
    ):
        fds.append(s.sock("socket", "socket", INET6 if ":" in address else INET, kind))
        s.sock("SO_REUSEPORT", "setsockopt", fds[-1], SO_REUSEPORT, shares)
        s.sock("bind", "bind", fds[-1], address, port)
        if kind == STREAM:
            s.sock("listen", "listen", fds[-1])
    for kind, port in ((DGRAM, 7100), (STREAM, 7102)):
        fds.append(s.sock("socket", "socket", INET, kind))
        s.sock("connect", "connect", fds[-1], "127.0.0.1", port)
    return fds + s.sock("socketpair", "socketpair", DGRAM)


def programs_select_sockets(s):
    """What bpf_sk_assign answers for each socket, flag and connection, and the cookie that a test run gives back."""
    connections = [(family, protocol) for family in (2, 10) for protocol in (6, 17)]
    sequences = [((key, flags),) for key in (*range(13), None) for flags in (0, 1, 2, 3, 4)]
    for first, second in ((0, 0), (0, 4), (2, 5), (1, 0), (3, 2), (0, 1), (0, None), (None, 2), (8, 0)):
        sequences += [((first, a), (second, b)) for a in (0, 2) for b in (0, 1, 2, 3)]
    results = s.map_create(ARRAY, 4, 24, 1)
    for kind in (SOCKMAP, SOCKHASH):
        socks, fds = s.map_create(kind, 4, 8, 20), sockets_to_select(s)
        for key, fd in enumerate(fds):
            s.element("UPDATE", wire.MAP_UPDATE_ELEM, socks, (u32(key), fd.to_bytes(8, "little")))
            s.lookup(socks, u32(key), 8)
        for number, steps in enumerate(sequences):
            for verdict in (0, 1) if number % 3 == 0 else (1,):
                code = selecting(socks, results, steps, verdict)
                prog = s.prog_load(f"{steps} {verdict}", code, SK_LOOKUP, at68=AT_SK_LOOKUP)
                for family, protocol in connections:
                    connection = struct.pack("<QII56x", 0, family, protocol)
                    s.select(f"{family} {protocol}", prog, connection, 1 + number % 2)
                    s.element("LOOKUP", wire.MAP_LOOKUP_ELEM, results, (u32(0), bytes(24)), shows=True)
                s.close(prog)
        for helpers in ((), (86, 86), (124,)):
            for prog_type, at in ((SK_LOOKUP, AT_SK_LOOKUP), (wire.SOCKET_FILTER, 0)):
                code = selecting(socks, results, ((0, 0),), 1, helpers)
                s.prog_load(f"released by {helpers}", code, prog_type, at68=at)
        for fd in fds:
            s.sockets.close(fd)
        s.lookup(socks, u32(0), 8)
        s.close(socks)


def sequence(seed, number):
    """A case: commands by chance over maps that share a few sockets, some of which are closed in between."""

    def run(s):
        rng = random.Random(seed * 1_000_003 + number)
        kinds = rng.choices((SOCKMAP, SOCKHASH, REUSEPORT_SOCKARRAY, XSKMAP, DEVMAP, DEVMAP_HASH, CPUMAP), k=3)
        maps = []
        for kind in kinds:
            size = 4 if kind == XSKMAP else rng.choice((4, 8))
            maps.append((kind, size, s.map_create(kind, 4, size, rng.choice((1, 2, 3, 5)))))
        fds = []

        def new_socket():
            family, kind = rng.choice(((INET, DGRAM), (INET, DGRAM), (UNIX, DGRAM), (AF_XDP, RAW)))
            fd = s.sock("socket", "socket", family, kind)
            if family == INET:
                s.sock("SO_REUSEPORT", "setsockopt", fd, SO_REUSEPORT, rng.choice((0, 1, 1)))
                s.sock("bind", "bind", fd, "127.0.0.1", rng.choice((0, 0, 9000)))
            return fd

        fds = [new_socket() for _ in range(4)]
        for _ in range(rng.choice((30, 80))):
            kind, size, fd = rng.choice(maps)
            key, pick = u32(rng.randrange(6)), rng.random()
            s.note(f"type {kind}")
            if pick < 0.5:
                if kind in (DEVMAP, DEVMAP_HASH, CPUMAP):
                    value = u32(rng.choice((0, 1, 1, 1, 77)), 0)[:size]
                else:
                    value = rng.choice(fds).to_bytes(size, "little")
                s.element("UPDATE", wire.MAP_UPDATE_ELEM, fd, (key, value), flags=rng.choice((0, 0, 0, 1, 2, 3)))
            elif pick < 0.68:
                s.lookup(fd, key, size)
            elif pick < 0.82:
                s.delete(fd, key)
            elif pick < 0.93:
                s.walk(fd, 4, 10)
            else:
                at = rng.randrange(len(fds))
                s.sockets.close(fds[at])
                fds[at] = new_socket()
        for fd in fds:
            s.sockets.close(fd)

    return run


CASES = (maps_take_sockets, maps_take_programs, socket_options, programs_select_sockets)


def set_lo_up():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh", b"lo", 0).ljust(40, b"\0")
        flags = struct.unpack_from("16sh", fcntl.ioctl(any_socket, 0x8913, request))[1]
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh", b"lo", flags | 1).ljust(40, b"\0"))


def transcripts_in_child(task, cases, pipe):
    clone_newnet = 0x40000000
    if ctypes.CDLL(None, use_errno=True).unshare(clone_newnet):
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNET)")
    set_lo_up()
    with os.fdopen(pipe, "w") as out:
        for case in cases:
            side = NetSide(task, LiveSockets())
            try:
                case(side)
            finally:
                for fd in list(side.sockets.made):
                    side.sockets.close(fd)
                side.close()
            out.write(json.dumps(side.transcript) + "\n")


def live_transcripts(task, cases):
    """What each case got from the live kernel, in a child process; PermissionError where that is not allowed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reading)
            transcripts_in_child(task, cases, writing)
            status = 0
        except OSError as error:
            status = 77 if error.errno in (errno.EPERM, errno.EACCES, errno.ENOSYS) else 1
            traceback.print_exc()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as lines:
        transcripts = [json.loads(line) for line in lines]
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == 77:
        raise PermissionError(errno.EPERM, "a network namespace is not allowed here")
    if status:
        raise RuntimeError(f"the live side ended with status {status} after {len(transcripts)} cases")
    return transcripts


def compare(kernel, live, cases):
    """For each case: (calls made, [(the call before, ours, theirs)])."""
    for case, transcript in zip(cases, live_transcripts(live, cases), strict=True):
        task = kernel.spawn("agree")
        side = NetSide(task, SimulatedSockets(task))
        case(side)
        calls, differ = commands.differences(side.transcript, transcript)
        differ += [("the graph", wrong, "") for wrong in _core.graph_disagreements(kernel)]
        task.exit()
        yield calls, differ
