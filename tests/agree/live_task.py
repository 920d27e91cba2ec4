"""Tasks of the live kernel that can fork, close and exit: processes of their own, asked over a socket.

``python live_task.py SOCKET CPUS CGROUP`` is the first of them, the watcher. It enters a mount and a network namespace
of its own, mounts an empty BPFFS over /sys/fs/bpf there and makes a pair of veth devices, so that what is pinned and
attached is seen by nobody else and goes with the last process. CGROUP is a directory of our own in the cgroup-v2
hierarchy; the watcher removes what was made below it when it is asked to, and all of it when it ends. Each process
answers one request at a time; ``fork`` makes another, which connects to the same SOCKET. Descriptors below 1000 belong
to the test: a first map is descriptor 3, as in the simulator. Needs root and only the standard library.
"""

import contextlib
import ctypes
import fcntl
import marshal
import mmap
import os
import platform
import signal
import socket
import struct
import subprocess
import sys
import time

SYS_BPF = {"x86_64": 321, "aarch64": 280}.get(platform.machine(), -1)
SYS_PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241}.get(platform.machine(), -1)
CLONE_NEWNS, CLONE_NEWNET = 0x20000, 0x40000000
MS_REC, MS_PRIVATE = 0x4000, 0x40000
BPFFS = "/sys/fs/bpf"
LARGEST = 1 << 18  # bytes of a message
GROUPS = ("w", "w/a", "w/a/b")  # cgroups that a world has
SETTLE = 0.03  # seconds; the kernel drops what is attached to a removed cgroup a little later
CGROUP_SYSCTL, AT_SYSCTL = 23, 18
TCX = (46, 47)  # attach types, ingress and egress
FLOW_DISSECTOR = 17


def perform(sys_bpf, cmd, attr, size, buffers, pointers):  # noqa: PLR0917 the words of a request
    """One call: buffers are put into memory and their addresses into the attr (-1) or another buffer.

    pointers: (in which buffer, at which offset, to which buffer). Answers the result, the attr and the buffers as the
    call left them, with those pointers as 0.
    """
    memory = [ctypes.create_string_buffer(bytes(one), max(len(one), 1)) for one in buffers]
    block = (ctypes.c_char * max(len(attr), 1)).from_buffer_copy(attr)
    for where, offset, target in pointers:
        ctypes.c_uint64.from_buffer(memory[where] if where >= 0 else block, offset).value = ctypes.addressof(
            memory[target]
        )
    result = sys_bpf(cmd, block, len(attr) if size is None else size)
    for where, offset, _ in pointers:
        ctypes.c_uint64.from_buffer(memory[where] if where >= 0 else block, offset).value = 0
    return result, block.raw, [one.raw[: len(given)] for one, given in zip(memory, buffers, strict=True)]


class Files:
    """What a task does with paths; each answers 0, or a list of names, or -errno."""

    def mkdir(self, path):
        os.mkdir(path)
        return 0

    def rmdir(self, path):
        os.rmdir(path)
        return 0

    def unlink(self, path):
        os.unlink(path)
        return 0

    def rename(self, path, to):
        os.rename(path, to)
        return 0

    def listdir(self, path):
        return sorted(name for name in os.listdir(path) if not name.endswith(".debug"))


def unhook(sys_bpf, netns, close, devices):
    """Detaches what bpf(2) attached to devices and to the network namespace without a link."""

    def call(cmd, *numbers):
        block = ctypes.create_string_buffer(struct.pack(f"<{len(numbers)}I", *numbers).ljust(168, b"\0"), 168)
        return sys_bpf(cmd, block, 168), block

    for device in devices:
        for at in TCX:
            while call(9, device, 0, at)[0] == 0:  # PROG_DETACH of whatever is first
                pass
    ids = (ctypes.c_uint * 1)()
    _, asked = call(16, netns, FLOW_DISSECTOR, 0, 0, ctypes.addressof(ids) & 0xFFFFFFFF, ctypes.addressof(ids) >> 32, 1)
    if struct.unpack_from("<I", asked.raw, 24)[0]:  # PROG_QUERY's count
        fd, _ = call(13, ids[0])  # PROG_GET_FD_BY_ID
        call(9, 0, fd, FLOW_DISSECTOR)
        close(fd)


class Sockets:
    """Socket calls by descriptor; each answers a descriptor, descriptors, 0 or -errno."""

    @staticmethod
    def on(fd, call, *args):
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM, fileno=fd)  # said, for AF_XDP's cannot be asked
        try:
            getattr(made, call)(*args)
        finally:
            made.detach()
        return 0

    def socket(self, family, kind, protocol=0):
        return socket.socket(family, kind, protocol).detach()

    def socketpair(self, kind):
        return [one.detach() for one in socket.socketpair(socket.AF_UNIX, kind)]

    def bind(self, fd, address, port):
        return self.on(fd, "bind", (address, port))

    def listen(self, fd):
        return self.on(fd, "listen")

    def setsockopt(self, fd, option, value):
        return self.on(fd, "setsockopt", 1, option, value)


class Pages:
    """Mappings by a number that the test gives them."""

    def mmap(self, number, fd, length, prot, flags, poke):  # noqa: PLR0917 the words of a request
        address = LIBC.mmap(None, length, prot, flags, fd, 0)
        if address == ctypes.c_void_p(-1).value:
            return -ctypes.get_errno()
        self.pages[number] = address, length
        if poke and prot & mmap.PROT_WRITE:
            ctypes.memmove(address, poke, len(poke))
        return 0

    def munmap(self, number):
        return -ctypes.get_errno() if LIBC.munmap(*map(ctypes.c_uint64, self.pages.pop(number))) else 0


def watching_link(sys_bpf, group):
    """[a program, its link to this cgroup], or nothing where a program there permits no other."""
    code = ctypes.create_string_buffer(struct.pack("<BBhiBBhi", 0xB7, 0, 0, 1, 0x95, 0, 0, 0), 16)
    attr = struct.pack("<IIQQ", CGROUP_SYSCTL, 2, ctypes.addressof(code), ctypes.addressof(code)).ljust(168, b"\0")
    prog = sys_bpf(5, ctypes.create_string_buffer(attr, 168), 168)
    attr = struct.pack("<4I", prog & 0xFFFFFFFF, group, AT_SYSCTL, 0).ljust(168, b"\0")
    link = sys_bpf(28, ctypes.create_string_buffer(attr, 168), 168) if prog >= 0 else -1
    if link >= 0:
        return [prog, link]
    if prog >= 0:
        os.close(prog)
    return []


def is_attached(sys_bpf, link):
    """Whether this link still tells its cgroup's id."""
    info = ctypes.create_string_buffer(64)
    attr = struct.pack("<IIQ", link, 64, ctypes.addressof(info)).ljust(168, b"\0")
    return sys_bpf(15, ctypes.create_string_buffer(attr, 168), 168) == 0 and any(info.raw[16:24])


class Groups:
    """Cgroups of our own, by their path below the CGROUP that we were given."""

    def group(self, path):
        return os.path.join(self.cgroups, path)

    def open_cgroup(self, path):
        return os.open(self.group(path), os.O_RDONLY | os.O_DIRECTORY)

    def mkdir_cgroup(self, path):
        os.mkdir(self.group(path))
        return 0

    def rmdir_cgroup(self, path):
        """Waits until what is attached there is gone: a link of our own is, when all are."""
        group = None
        with contextlib.suppress(OSError):
            group = self.open_cgroup(path)
        made = watching_link(self.sys_bpf, group) if group is not None else []
        try:
            os.rmdir(self.group(path))
            until = time.monotonic() + 20
            while made and is_attached(self.sys_bpf, made[-1]) and time.monotonic() < until:
                time.sleep(0.001)
            if not made:
                time.sleep(SETTLE)
        finally:
            for fd in [*made, *([] if group is None else [group])]:
                os.close(fd)
        return 0

    def remove_groups(self):
        for path in reversed(GROUPS):
            with contextlib.suppress(OSError):
                os.rmdir(self.group(path))
        return 0


class LiveTask(Files, Sockets, Pages, Groups):
    """The answers to requests; each method is one."""

    def __init__(self, where, number, cpus, cgroups):
        self.where, self.cpus, self.cgroups, self.number, self.pages = where, cpus, cgroups, number, {}
        self.connect(number)

    def connect(self, number):
        os.sched_setaffinity(0, {number % self.cpus})
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as low:
            low.connect(self.where)
            self.line = socket.socket(fileno=fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 1000))
        self.answer((number, os.getpid()))

    def answer(self, words):
        self.line.send(marshal.dumps(words))

    def serve(self):
        room = bytearray(LARGEST)
        while True:
            length = self.line.recv_into(room)
            if not length:
                self.leave()
            what, *words = marshal.loads(room[:length])
            try:
                said = getattr(self, what)(*words)
            except OSError as error:
                said = -error.errno
            if said is not None:
                self.answer(said)

    @staticmethod
    def sys_bpf(cmd, block, size):
        result = LIBC.syscall(SYS_BPF, cmd, ctypes.byref(block), ctypes.c_uint(size))
        return result if result >= 0 else -ctypes.get_errno()

    def bpf(self, *words):
        return perform(self.sys_bpf, *words)

    def close(self, fd):
        os.close(fd)
        return 0

    def dup(self, fd):
        return fcntl.fcntl(fd, fcntl.F_DUPFD, 0)  # os.dup() would set close-on-exec

    def fork(self, number):
        """The child tells its number and pid; nothing is answered here."""
        if os.fork() == 0:
            self.line.close()
            self.number = number
            self.connect(number)

    def leave(self):
        """The test is gone. The watcher takes the cgroups with it."""
        if self.number == 0:
            self.remove_groups()
            with contextlib.suppress(OSError):
                os.rmdir(self.cgroups)
        os._exit(0)

    def exit(self):
        os._exit(0)

    def open_netns(self):
        return os.open("/proc/self/ns/net", os.O_RDONLY)

    def pidfd_open(self, pid):
        return os.pidfd_open(pid)

    def perf_event_open(self, kind, config):
        attr = ctypes.create_string_buffer(struct.pack("<IIQ", kind, 128, config), 128)
        fd = LIBC.syscall(SYS_PERF_EVENT_OPEN, attr, -1, 0, -1, 0)
        return fd if fd >= 0 else -ctypes.get_errno()

    def read(self, fd):
        return os.read(fd, 4096)

    def fdinfo(self, fd):
        with open(f"/proc/self/fdinfo/{fd}") as text:
            return text.read()

    def unhook(self, devices):
        netns = self.open_netns()
        unhook(self.sys_bpf, netns, os.close, devices)
        os.close(netns)
        return 0

    def setlink(self, message):
        """RTM_SETLINK over a netlink socket, which is closed again: 0 or -errno."""
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as route:
            route.setsockopt(270, 11, 1)  # SOL_NETLINK, NETLINK_EXT_ACK
            route.send(message)
            return int.from_bytes(route.recv(8192)[16:20], sys.byteorder, signed=True)

    def exist(self, pairs):
        """Which of [(GET_NEXT_ID command, id)] are there."""
        there = []
        for cmd, number in pairs:
            block = (ctypes.c_uint * 4)(number - 1)
            there.append(self.sys_bpf(cmd, block, 12) == 0 and block[1] == number)
        return there

    def wipe(self, path=BPFFS):
        """Removes every pin and directory."""
        for entry in list(os.scandir(path)):
            if entry.is_dir(follow_symlinks=False):
                self.wipe(entry.path)
                os.rmdir(entry.path)
            elif not entry.name.endswith(".debug"):
                os.unlink(entry.path)
        return 0


def enter_own_namespaces():
    """A mount and a network namespace: OSError where that is not allowed."""
    if LIBC.unshare(CLONE_NEWNS | CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
    if LIBC.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None):
        raise OSError(ctypes.get_errno(), "a private mount namespace")
    if LIBC.mount(b"bpf", BPFFS.encode(), b"bpf", 0, b"mode=1777"):
        raise OSError(ctypes.get_errno(), f"mounting BPFFS on {BPFFS}")
    for words in ("link set lo up", "link add eth0 index 2 type veth peer name peer0 index 3"):
        with contextlib.suppress(OSError):  # without ip(8) there is lo alone
            subprocess.run(["ip", *words.split()], check=False, capture_output=True)


if __name__ == "__main__":
    LIBC = ctypes.CDLL(None, use_errno=True)
    LIBC.mmap.restype = ctypes.c_void_p
    LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_int64]
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        enter_own_namespaces()
    except OSError as refused:
        sys.exit(str(refused))
    os.umask(0o022)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children that end are not waited for
    LiveTask(sys.argv[1], 0, int(sys.argv[2]), sys.argv[3]).serve()
