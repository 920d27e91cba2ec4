"""A machine of Linux 6.1, and its calls in one line each."""

import ctypes
import mmap
import struct

RETURN_2 = bytes.fromhex("b7000000020000009500000000000000")
INT = bytes.fromhex("9feb0100180000000000000010000000100000000500000001000000000000010400000020000001") + b"\0int\0"
WIDE_INT = INT[:32] + bytes.fromhex("0800000040000001") + INT[40:]
EMPTY_STRUCT = bytes.fromhex("9feb010018000000000000001c0000001c00000005000000") + INT[24:40]
EMPTY_STRUCT += bytes.fromhex("000000000000000400000000") + INT[40:]
NOWHERE, NO_FD = 16, 9999
KEY, VALUE = bytes(4), bytes(8)


class World:
    """A 6.1 machine with a task, and calls in one line each. Those that must succeed are asserted."""

    def __init__(self, bpfsim, **options):
        self.kernel = bpfsim.Kernel("6.1", **options)
        self.root = self.task = self.kernel.spawn("root")

    def become(self, *caps):
        """From here on a user with these capabilities calls, who sees the files of root, as after fork and setuid."""
        self.task = self.root.fork()
        self.task.set_caps(list(caps))
        return self

    def nobody(self):
        """The same without a capability, on a machine that lets such users call bpf(2)."""
        self.kernel.sysctl_write("kernel.unprivileged_bpf_disabled", 0)
        return self.become()

    def bpf(self, command, size=None, *, raw=None, **fields):
        return bpf(Bent(self.task, raw or {}), command, size, **fields)

    def map(self, kind="array", key_size=4, value_size=8, max_entries=4, **more):
        if kind in ("queue", "stack", "bloom_filter"):
            key_size = 0
        if kind in ("prog_array", "array_of_maps", "hash_of_maps"):
            value_size = 4
        if kind == "lpm_trie":
            key_size, more = 8, {"map_flags": 1} | more
        if kind in ("ringbuf", "user_ringbuf"):
            key_size, value_size, max_entries = 0, 0, 4096
        return self.create(kind, key_size, value_size, max_entries, **more)

    def create(self, kind, key_size=4, value_size=8, max_entries=4, **more):
        fields = {"map_type": kind, "key_size": key_size, "value_size": value_size, "max_entries": max_entries}
        return self.bpf("MAP_CREATE", **fields | more)

    def prog(self, kind="socket_filter", insns=RETURN_2, **more):
        return self.bpf("PROG_LOAD", **{"prog_type": kind, "insns": insns, "license": "GPL"} | more)

    def btf(self, raw=INT, **more):
        return self.bpf("BTF_LOAD", **{"btf": raw, "btf_size": len(raw)} | more)

    def lookup(self, fd, key=KEY, value=None, **more):
        return self.bpf(
            "MAP_LOOKUP_ELEM", map_fd=fd, key=key, value=bytearray(4096) if value is None else value, **more
        )

    def update(self, fd, key=KEY, value=VALUE * 64, flags=0, **more):
        return self.bpf("MAP_UPDATE_ELEM", map_fd=fd, key=key, value=value, flags=flags, **more)

    def delete(self, fd, key=KEY, **more):
        return self.bpf("MAP_DELETE_ELEM", map_fd=fd, key=key, **more)

    def next(self, fd, key=KEY, following=None, **more):
        room = bytearray(4096) if following is None else following
        return self.bpf("MAP_GET_NEXT_KEY", map_fd=fd, key=key, next_key=room, **more)

    def take(self, fd, key=KEY, value=None, **more):
        room = bytearray(4096) if value is None else value
        return self.bpf("MAP_LOOKUP_AND_DELETE_ELEM", map_fd=fd, key=key, value=room, **more)

    def batch(self, command, fd, keys=None, values=None, count=1, **more):
        keys, values, token = keys or bytearray(64), values or bytearray(4096), bytearray(64)
        fields = {"map_fd": fd, "keys": keys, "values": values, "count": count, "out_batch": token}
        if command in ("UPDATE", "DELETE"):
            del fields["out_batch"]
        if command == "DELETE":
            del fields["values"]
        return self.bpf(f"MAP_{command}_BATCH", **fields | more)

    def info(self, fd, room=None, **more):
        room = bytearray(232) if room is None else room
        return self.bpf("OBJ_GET_INFO_BY_FD", **{"bpf_fd": fd, "info_len": len(room), "info": room} | more)

    def run(self, fd=None, **more):
        return self.bpf("PROG_TEST_RUN", prog_fd=fd or self.prog(), **more)

    def link(self):
        return self.bpf("LINK_CREATE", prog_fd=self.prog("xdp"), target_ifindex=2, attach_type="xdp")

    def filled(self, kind="hash", count=4, **more):
        fd = self.map(kind, **more)
        for number in range(count):
            self.update(fd, None if kind in ("queue", "stack") else struct.pack("<I", number))
        return fd


class Bent:
    """A task whose attrs get some bytes set, past what the command's names reach."""

    def __init__(self, task, raw):
        self.task, self.raw = task, raw

    def sys_bpf(self, cmd, attr, size=None):
        if size and size > len(attr):
            attr = attr + bytearray(size - len(attr))
        for offset, value in self.raw.items():
            attr[offset : offset + (8 if value > 255 else 1)] = value.to_bytes(8 if value > 255 else 1, "little")
        return self.task.sys_bpf(cmd, attr, size)

    @property
    def last_refusal(self):
        return self.task.last_refusal


def bpf(*words, **fields):
    from bpfsim.attr import bpf as call

    return call(*words, **fields)


def prog_info(words, pointer_at, length_at, length=1):
    """An info struct that asks for an array at an address that is nowhere."""
    room = bytearray(232)
    struct.pack_into("<I", room, length_at, length)
    struct.pack_into("<Q", room, pointer_at, NOWHERE)
    return lambda w: w.info(w.prog(**words), room)


def memory(protection, content=b""):
    """The address of a page with this content: 1 can be read, 3 written too."""
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    page = libc.mmap(None, ctypes.c_size_t(4096), 3, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, ctypes.c_long(0))
    ctypes.memmove(page, content, len(content))
    libc.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(4096), protection)
    return page


def read_only():
    """The address of a page that can be read and not written."""
    return memory(1)


def before_a_hole(size):
    """The address of the last bytes of a page that no page follows."""
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    pages = libc.mmap(None, ctypes.c_size_t(8192), 3, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, ctypes.c_long(0))
    libc.munmap(ctypes.c_void_p(pages + 4096), ctypes.c_size_t(4096))
    return pages + 4096 - size


def tail(command, at=120):
    """A byte set past the last field that the command reads."""
    return lambda w: w.bpf(command, raw={at: 1})


LOCK, RDONLY, WRONLY, ZERO_SEED, RDONLY_PROG, WRONLY_PROG, MMAPABLE = 4, 8, 16, 64, 128, 256, 1024


def holds(fd):
    """A program that mentions a map."""
    return struct.pack("<BBhi", 0x18, 0x11, 0, fd) + bytes(8) + RETURN_2
