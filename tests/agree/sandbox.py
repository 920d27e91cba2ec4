"""A place of our own on the live kernel, to attach programs in: a network namespace and a cgroup.

``Sandbox().run(function)`` forks a child that unshares its network namespace, calls ``function(sandbox)`` there and
brings back what it returns (a transcript, say). When the child is gone, so are its descriptors, the namespace and all
that was attached in it; the cgroup is removed with those below it. ``unavailable()`` says in a word why this machine
does not permit that. ``SimulatedBox(task)`` offers the same to a task of a simulated machine.
"""

import contextlib
import ctypes
import os
import pickle
import signal
import struct
import subprocess
import tempfile
import time

CLONE_NEWNS, CLONE_NEWNET = 0x20000, 0x40000000
MS_REC, MS_PRIVATE = 0x4000, 0x40000
SETTLE = 0.1  # seconds; the kernel drops the programs of a removed cgroup a little later, from a work queue


def _unshare(flags):
    if ctypes.CDLL(None, use_errno=True).unshare(flags) < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"unshare: {os.strerror(error)}")


def cgroup2_mounts():
    """Where the cgroup-v2 hierarchy is mounted."""
    with contextlib.suppress(OSError), open("/proc/self/mounts") as mounts:
        return [line.split()[1] for line in mounts if line.split()[2] == "cgroup2"]
    return []


def unavailable():
    """Why there can be no sandbox here, or an empty string."""
    if not hasattr(os, "fork") or not os.path.exists("/proc/self/ns/net"):
        return "this host is not Linux"
    if not cgroup2_mounts():
        return "no cgroup-v2 hierarchy is mounted"
    try:
        Sandbox().run(Sandbox.open_cgroup)
    except OSError as error:
        return f"no namespace or cgroup of our own: {error}"
    return ""


class Sandbox:
    """What the function in the child sees: a cgroup, a namespace with the device lo, and ways to name them."""

    root = ""

    def run(self, function):
        """function(sandbox) in a child of our own namespaces; its result (anything that pickles) comes back."""
        self.root = tempfile.mkdtemp(prefix="bpfsim-agree-", dir=cgroup2_mounts()[0])
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            self._child(function, writing)
        os.close(writing)
        try:
            with os.fdopen(reading, "rb") as answers:
                answer = answers.read()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            self._remove_cgroups()
        worked, result = pickle.loads(answer) if answer else (False, OSError("the child died"))
        if not worked:
            raise result
        return result

    def _child(self, function, writing):
        status = 1
        try:
            _unshare(CLONE_NEWNET)
            answer = (True, function(self))
            status = 0
        except BaseException as error:  # noqa: BLE001 - the parent raises it
            answer = (False, error)
        try:
            data = pickle.dumps(answer)
        except Exception:  # noqa: BLE001 - an error that does not pickle
            data = pickle.dumps((False, OSError(repr(answer[1]))))
        with os.fdopen(writing, "wb") as out:
            out.write(data)
        os._exit(status)

    def _remove_cgroups(self):
        for directory, _, _ in os.walk(self.root, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(directory)

    # What the function may do with the two.

    def cgroup(self, path=""):
        return os.path.join(self.root, path) if path else self.root

    def mkdir(self, path):
        os.mkdir(self.cgroup(path))

    def rmdir(self, path):
        os.rmdir(self.cgroup(path))
        time.sleep(SETTLE)

    def open_cgroup(self, path=""):
        return os.open(self.cgroup(path), os.O_RDONLY | os.O_DIRECTORY)

    def open_netns(self):
        return os.open("/proc/self/ns/net", os.O_RDONLY)

    def own_bpffs(self):
        """An empty BPFFS over /sys/fs/bpf, which nobody else sees and which goes with this process."""
        _unshare(CLONE_NEWNS)
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) or libc.mount(
            b"bpf", b"/sys/fs/bpf", b"bpf", 0, b"mode=1777"
        ):
            raise OSError(ctypes.get_errno(), "a BPFFS of our own")
        os.umask(0o022)
        os.chdir("/")

    def add_device(self):
        """eth0, ifindex 2, whose driver knows XDP (a veth); whether there is one now."""
        words = "link add eth0 index 2 type veth peer name peer0 index 3"
        with contextlib.suppress(OSError):
            return subprocess.run(["ip", *words.split()], check=False, capture_output=True).returncode == 0
        return False

    def remove_device(self):
        subprocess.run(["ip", "link", "del", "eth0"], check=True, capture_output=True)

    def keep_caps(self, *numbers):
        """From now on no other capabilities."""
        low, high = (sum(1 << n % 32 for n in numbers if n // 32 == half) for half in (0, 1))
        header, data = struct.pack("<Ii", 0x20080522, 0), struct.pack("<6I", low, low, 0, high, high, 0)
        if ctypes.CDLL(None, use_errno=True).capset(header, data):
            raise OSError(ctypes.get_errno(), "capset")

    def become(self, uid):
        os.setresuid(uid, uid, uid)

    def open(self, path, flags):
        return os.open(path, flags | os.O_CLOEXEC)

    def path_call(self, what, *words):
        return getattr(os, what)(*words)

    def read(self, fd, size):
        return os.read(fd, size)

    def mode_of(self, path):
        return os.stat(path).st_mode

    def fdinfo(self, fd):
        with open(f"/proc/self/fdinfo/{fd}") as text:
            return text.read()


class SimulatedBox:
    """The same for a task of a simulated machine."""

    def __init__(self, task):
        self.task, self.root = task, "/sys/fs/cgroup/box"
        task.mkdir(self.root)

    cgroup = Sandbox.cgroup

    def mkdir(self, path):
        self.task.mkdir(self.cgroup(path))

    def rmdir(self, path):
        self.task.rmdir(self.cgroup(path))

    def open_cgroup(self, path=""):
        return self.task.open(self.cgroup(path))

    def open_netns(self):
        return self.task.open("/proc/self/ns/net")

    def own_bpffs(self):
        pass

    def add_device(self):
        self.task.kernel.add_net_device("peer0")
        return True

    def remove_device(self):
        self.task.kernel.remove_net_device("eth0")
        self.task.kernel.remove_net_device("peer0")

    def keep_caps(self, *numbers):
        self.task.set_caps([{12: "NET_ADMIN", 21: "SYS_ADMIN", 38: "PERFMON", 39: "BPF"}[n] for n in numbers])

    def become(self, uid):
        self.task = self.task.kernel.spawn("other", uid=uid)

    def open(self, path, flags):
        return self.task.open(path, flags)

    def path_call(self, what, *words):
        return getattr(self.task, what)(*words)

    def read(self, fd, size):
        return self.task.read(fd, size)

    def mode_of(self, path):
        return self.task.stat(path)["mode"]

    def fdinfo(self, fd):
        return self.task.fdinfo(fd)
