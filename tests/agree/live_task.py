"""Tasks of the live kernel that can fork, close and exit: processes of their own, asked over a socket.

``python live_task.py SOCKET`` is the first of them, the watcher. It enters a mount and a network namespace of its own,
mounts an empty BPFFS over /sys/fs/bpf there and makes a pair of veth devices, so that what is pinned and attached is
seen by nobody else and goes with the last process. Each process answers one request at a time; ``fork`` makes another,
which connects to the same SOCKET. Descriptors below 1000 belong to the test: a first map is descriptor 3, as in the
simulator. Needs root and only the standard library.
"""

import contextlib
import ctypes
import fcntl
import marshal
import os
import platform
import signal
import socket
import subprocess
import sys

SYS_BPF = {"x86_64": 321, "aarch64": 280}.get(platform.machine(), -1)
CLONE_NEWNS, CLONE_NEWNET = 0x20000, 0x40000000
MS_REC, MS_PRIVATE = 0x4000, 0x40000
BPFFS = "/sys/fs/bpf"
LARGEST = 1 << 18  # bytes of a message


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


class LiveTask(Files):
    """The answers to requests; each method is one."""

    def __init__(self, where, number, cpus):
        self.where, self.cpus = where, cpus
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
                os._exit(0)
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
            self.connect(number)

    def exit(self):
        os._exit(0)

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
    words = "link add eth0 index 2 type veth peer name peer0 index 3"
    with contextlib.suppress(OSError):  # without ip(8) there is lo alone
        subprocess.run(["ip", *words.split()], check=False, capture_output=True)


if __name__ == "__main__":
    LIBC = ctypes.CDLL(None, use_errno=True)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        enter_own_namespaces()
    except OSError as refused:
        sys.exit(str(refused))
    os.umask(0o022)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children that end are not waited for
    LiveTask(sys.argv[1], 0, int(sys.argv[2])).serve()
