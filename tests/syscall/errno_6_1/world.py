"""A machine of Linux 6.1, and its calls in one line each."""

import ctypes
import mmap
import struct

from btf_bytes import Types, proto, to

RETURN_2 = bytes.fromhex("b7000000020000009500000000000000")
INT = bytes.fromhex("9feb0100180000000000000010000000100000000500000001000000000000010400000020000001") + b"\0int\0"
WIDE_INT = INT[:32] + bytes.fromhex("0800000040000001") + INT[40:]
EMPTY_STRUCT = bytes.fromhex("9feb010018000000000000001c0000001c00000005000000") + INT[24:40]
EMPTY_STRUCT += bytes.fromhex("000000000000000400000000") + INT[40:]


def returns(number):
    return struct.pack("<BBhi", 0xB7, 0, 0, number) + RETURN_2[8:]


def u32(*numbers):
    return struct.pack(f"<{len(numbers)}I", *(number & 0xFFFFFFFF for number in numbers))


NOWHERE, NO_FD = 16, 9999
KEY, VALUE = bytes(4), bytes(8)


class World:
    """A 6.1 machine with a task, and calls in one line each. Those that must succeed are asserted."""

    def __init__(self, bpfsim, **options):
        self.bpfsim, self.kernel = bpfsim, bpfsim.Kernel("6.1", **options)
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
        """raw: bytes to set in the attr by their offset."""
        return bpf(Bent(self.task, lambda attr: bend(attr, raw or {})), command, size, **fields)

    def frozen(self, command, start=0, **fields):
        """With an attr that nobody can write to from byte `start` on."""
        return bpf(Bent(self.task, lambda attr: half_frozen(attr, start)), command, **fields)

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

    def connected(self, port=1):
        """A TCP socket with a connection to another of the task's."""
        listener, client = self.task.socket(), self.task.socket()
        self.task.bind(listener, "127.0.0.1", port)
        self.task.listen(listener)
        self.task.connect(client, "127.0.0.1", port)
        return client

    def reboot(self, **options):
        """Another machine, with other options."""
        return World(self.bpfsim, **options)

    def tracing(self, expected="trace_fentry", target="do_exit", **more):
        fields = {"expected_attach_type": expected, "attach_btf_id": self.kernel.btf_id(target)}
        return self.prog("tracing", returns(0), **fields | more)

    def lsm(self, hook="file_open", at="lsm_mac", answer=0, **more):
        return self.prog(
            "lsm",
            returns(answer),
            **{"attach_btf_id": self.kernel.btf_id(f"bpf_lsm_{hook}"), "expected_attach_type": at} | more,
        )

    def target(self):
        """An XDP program with a global main function, and what a program needs to be attached to that."""
        types = Types()
        ctx = types.pointer(types.struct("xdp_md", 24))
        main = types.add(to("func", types.add(proto(types.int, ("ctx", ctx))), "main", vlen=1))
        info = {"func_info": struct.pack("<II", 0, main), "func_info_rec_size": 8, "func_info_cnt": 1}
        info["prog_btf_fd"] = self.btf(types.blob)
        fd = self.prog("xdp", **info)
        return fd, {"attach_prog_fd": fd, "attach_btf_id": main} | info

    def attached(self, prog, **more):
        """The link of a TRACING, EXT or LSM program that has named its target."""
        return self.bpf("RAW_TRACEPOINT_OPEN", prog_fd=prog, **more)

    def watched(self, **more):
        """A target with a tracing program on it."""
        fd, fields = self.target()
        watcher = self.prog("tracing", returns(0), **fields | {"expected_attach_type": "trace_fentry"} | more)
        return fd, fields, watcher

    def iterator(self, target="bpf_map", **more):
        return self.tracing("trace_iter", f"bpf_iter_{target}", **more)

    def shown(self, target, fd, at=0, off=0):
        """A link of an iterator over what is in this map. The program reads the word `off` of argument `at`."""
        reads = struct.pack("<BBhi", 0x79, 0x12, at, 0) + struct.pack("<BBhi", 0x15, 2, 1, 0)
        reads += struct.pack("<BBhi", 0x61, 0x22, off, 0)
        fields = {"expected_attach_type": "trace_iter", "attach_btf_id": self.kernel.btf_id(f"bpf_iter_{target}")}
        prog = self.prog("tracing", (reads if at else b"") + returns(0), **fields)
        narrowed = {"iter_info": u32(fd), "iter_info_len": 4}
        return self.bpf("LINK_CREATE", prog_fd=prog, attach_type="trace_iter", **narrowed)

    def raw_tracepoint(self, name="sys_enter", kind="raw_tracepoint"):
        return self.bpf("RAW_TRACEPOINT_OPEN", prog_fd=self.prog(kind), name=name)

    def traced(self, frozen=168, **more):
        """TASK_FD_QUERY of a raw tracepoint."""
        return self.frozen("TASK_FD_QUERY", frozen, pid=self.task.pid, fd=self.raw_tracepoint(), **more)

    def cgroup(self, path="a"):
        if path:
            self.task.mkdir(f"/sys/fs/cgroup/{path}")
        return self.task.open(f"/sys/fs/cgroup/{path}")

    def netns(self):
        return self.task.open("/proc/self/ns/net")

    def attach(self, target, prog, at, flags=0, **more):
        fields = {"target_fd": target, "attach_bpf_fd": prog, "attach_type": at, "attach_flags": flags}
        return self.bpf("PROG_ATTACH", **fields | more)

    def detach(self, target, prog, at, **more):
        return self.bpf("PROG_DETACH", target_fd=target, attach_bpf_fd=prog, attach_type=at, **more)

    def query(self, target, at, **more):
        return self.bpf("PROG_QUERY", target_fd=target, attach_type=at, **more)

    def link_to(self, target, prog, at, **more):
        return self.bpf("LINK_CREATE", target_fd=target, prog_fd=prog, attach_type=at, **more)

    def filled(self, kind="hash", count=4, **more):
        fd = self.map(kind, **more)
        for number in range(count):
            self.update(fd, None if kind in ("queue", "stack") else struct.pack("<I", number))
        return fd


class Bent:
    """A task that changes an attr before it hands it in, past what names can say."""

    def __init__(self, task, change):
        self.task, self.change = task, change

    def sys_bpf(self, cmd, attr, size=None):
        if size and size > len(attr):
            attr = attr + bytearray(size - len(attr))
        return self.task.sys_bpf(cmd, self.change(attr), size)

    @property
    def last_refusal(self):
        return self.task.last_refusal


def bend(attr, raw):
    for offset, value in raw.items():
        attr[offset : offset + (8 if value > 255 else 1)] = value.to_bytes(8 if value > 255 else 1, "little")
    return attr


def wild(attr):
    """An attr that is nowhere."""
    return (ctypes.c_char * len(attr)).from_address(NOWHERE)


def bpf(*words, **fields):
    from bpfsim.attr import bpf as call

    return call(*words, **fields)


def prog_info(words, pointer_at, length_at, length=1):
    """An info struct that asks for an array at an address that is nowhere."""
    room = bytearray(232)
    struct.pack_into("<I", room, length_at, length)
    struct.pack_into("<Q", room, pointer_at, NOWHERE)
    return lambda w: w.info(w.prog(**words), room)


def pages(count, protection):
    """The address of new pages."""
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    return libc.mmap(None, ctypes.c_size_t(count * 4096), protection, flags, -1, ctypes.c_long(0))


def memory(protection, content=b""):
    """The address of a page with this content: 1 can be read, 3 written too."""
    page = pages(1, 3)
    ctypes.memmove(page, content, len(content))
    ctypes.CDLL(None).mprotect(ctypes.c_void_p(page), ctypes.c_size_t(4096), protection)
    return page


def read_only():
    """The address of a page that can be read and not written."""
    return memory(1)


def half_frozen(content, start):
    """A buffer with this content across two pages, of which the second, from byte `start` on, cannot be written."""
    second = pages(2, mmap.PROT_READ | mmap.PROT_WRITE) + 4096
    ctypes.memmove(second - start, bytes(content), len(content))
    ctypes.CDLL(None).mprotect(ctypes.c_void_p(second), ctypes.c_size_t(4096), mmap.PROT_READ)
    return (ctypes.c_char * len(content)).from_address(second - start)


def brink(count):
    """The address of `count` bytes that can be written, behind which none can."""
    return ctypes.addressof(half_frozen(bytes(count + 1), count))


def bound(w, port):
    """A UDP socket of a group of those that share a port."""
    fd = w.task.socket("inet", "dgram")
    w.task.setsockopt(fd, "SO_REUSEPORT", 1)
    w.task.bind(fd, "127.0.0.1", port)
    return fd


SIZES = {"bpf_spin_lock": 4, "bpf_timer": 16}


def with_field(w, name, kind="array", before=None, **more):
    """A map with this special field in its values: a struct of the kernel's, or a "kptr". Loads BTF first."""
    types = Types()
    if name == "kptr":
        field = types.pointer(types.struct("task_struct", 4, ("pid", types.int, 0)), "kptr")
    else:
        words = [(f"word{n}", types.int, n * 4) for n in range(SIZES[name] // 4)]
        field = types.struct(name, SIZES[name], *words)
    value = types.struct("value", 64, ("field", field, 0), ("last", types.int, 60))
    types_fd = w.btf(types.blob)
    if before:
        before()
    return w.map(kind, value_size=64, btf_fd=types_fd, btf_key_type_id=1, btf_value_type_id=value, **more)


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
