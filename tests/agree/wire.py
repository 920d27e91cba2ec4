"""bpf(2) by its bytes: what both sides, the simulator and the live kernel, are handed.

Only struct and ctypes, no bpfsim.attr: the attr bytes here are written down a second time, from the layout in
include/uapi/linux/bpf.h, so that a wrong offset in the package shows.
"""

import contextlib
import ctypes
import errno
import os
import struct

ATTR_SIZE = 168
(
    MAP_CREATE,
    MAP_LOOKUP_ELEM,
    MAP_UPDATE_ELEM,
    MAP_DELETE_ELEM,
    MAP_GET_NEXT_KEY,
    PROG_LOAD,
    OBJ_PIN,
    OBJ_GET,
    PROG_ATTACH,
    PROG_DETACH,
    PROG_TEST_RUN,
    PROG_GET_NEXT_ID,
    MAP_GET_NEXT_ID,
    PROG_GET_FD_BY_ID,
    MAP_GET_FD_BY_ID,
    OBJ_GET_INFO_BY_FD,
    PROG_QUERY,
    RAW_TRACEPOINT_OPEN,
    BTF_LOAD,
    BTF_GET_FD_BY_ID,
    TASK_FD_QUERY,
    MAP_LOOKUP_AND_DELETE_ELEM,
    MAP_FREEZE,
    BTF_GET_NEXT_ID,
) = range(24)
LINK_GET_FD_BY_ID, LINK_GET_NEXT_ID = 30, 31
SOCKET_FILTER, XDP = 1, 6


@contextlib.contextmanager
def without_perfmon(task):
    """What the task does inside of this, it does with CAP_BPF and CAP_NET_ADMIN alone."""
    kept = {"CAP_NET_ADMIN": 12, "CAP_BPF": 39}
    if hasattr(task, "set_caps"):
        task.set_caps(list(kept))
        yield
        task.set_caps([*kept, "CAP_PERFMON", "CAP_SYS_ADMIN"])
        return
    libc, version_3 = ctypes.CDLL(None, use_errno=True), struct.pack("<II", 0x20080522, 0)
    had = ctypes.create_string_buffer(24)
    libc.capget(version_3, had)
    words = list(struct.unpack("<6I", had.raw))  # effective, permitted, inheritable; then their upper halves
    for half in (0, 1):
        words[3 * half] = sum(1 << number % 32 for number in kept.values() if number // 32 == half)
    if libc.capset(version_3, struct.pack("<6I", *words)):
        raise OSError(ctypes.get_errno(), "capset")
    try:
        yield
    finally:
        libc.capset(version_3, had)


def possible_cpus():
    """What the per-CPU values of the live kernel are made for; 2 where sysfs does not tell."""
    try:
        with open("/sys/devices/system/cpu/possible") as file:
            return int(file.read().strip().replace(",", "-").split("-")[-1]) + 1
    except OSError:
        return 2


def stay_on_one_cpu():
    """LRU lists and per-CPU values depend on the CPU a call runs on: the simulated task stays on CPU 0 too."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def name(result):
    """A result as it is shown: the number, or the errno's name."""
    return str(result) if result >= 0 else errno.errorcode.get(-result, str(result))


class Buffer:
    """Memory that an attr points at."""

    def __init__(self, data):
        self.raw = ctypes.create_string_buffer(bytes(data), max(len(data), 1))
        self.size = len(data)
        self.address = ctypes.addressof(self.raw)

    def __bytes__(self):
        return self.raw.raw[: self.size]


# Program types that load without a target, with the attach type and the prog_flags that they want.
WITHOUT_TARGET = {kind: (0, 0) for kind in (1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 14, 15, 16, 17, 19, 20, 22, 24)}
WITHOUT_TARGET |= {9: (2, 0), 13: (3, 0), 18: (8, 0), 21: (39, 0), 23: (18, 0), 25: (21, 0), 30: (36, 0), 31: (0, 16)}
WITHOUT_TARGET |= {32: (45, 0)}


class Programs:
    """PROG_LOAD and PROG_TEST_RUN, with buffers that are used again and again."""

    LOG = 1 << 18

    def __init__(self, packet):
        self.insns, self.log = Buffer(bytes(8 * 4096)), Buffer(bytes(self.LOG))
        self.license, self.packet = Buffer(b"GPL\0"), Buffer(packet)

    def load(self, task, code, prog_type, log_level=1, *, attach_type=0, flags=0):
        ctypes.memmove(self.insns.address, code, len(code))
        self.log.raw[0] = b"\0"
        attr = bytearray(ATTR_SIZE)
        struct.pack_into("<IIQQ", attr, 0, prog_type, len(code) // 8, self.insns.address, self.license.address)
        struct.pack_into("<IIQ", attr, 24, log_level, self.LOG, self.log.address)
        struct.pack_into("<I", attr, 44, flags)
        struct.pack_into("<I", attr, 68, attach_type)
        return task.sys_bpf(PROG_LOAD, attr), self.log.raw.value.decode(errors="replace")

    def run(self, task, fd):
        """(result, retval)"""
        attr = bytearray(ATTR_SIZE)
        struct.pack_into("<IIIIQ", attr, 0, fd, 0, self.packet.size, 0, self.packet.address)
        result = task.sys_bpf(PROG_TEST_RUN, attr)
        return result, struct.unpack_from("<I", attr, 4)[0]


class LivePages:
    """mmap(2) of the live kernel, with the interface of bpfsim's MappedPages."""

    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]

    def __init__(self, fd, length, prot, flags, offset, wanted=0):  # noqa: PLR0917 the words of mmap(2)
        address = self.libc.mmap(wanted or None, length, prot, flags, fd, offset)
        if address == ctypes.c_void_p(-1).value:
            raise OSError(ctypes.get_errno(), "mmap")
        self.address, self.length = address, length

    def __getitem__(self, part):
        return ctypes.string_at(self.address + part.start, part.stop - part.start)

    def __setitem__(self, part, data):
        ctypes.memmove(self.address + part.start, data, len(data))

    def munmap(self):
        self.libc.munmap(self.address, self.length)


class LastPage:
    """A page of this process's memory; what is behind it cannot be touched. Both sides may be given pointers to it."""

    def __init__(self, page=4096):
        private_anonymous = 0x22
        pages = LivePages(-1, 2 * page, 3, private_anonymous, 0)
        LivePages.libc.mprotect(ctypes.c_void_p(pages.address + page), ctypes.c_size_t(page), 0)
        self.pages, self.end = pages, pages.address + page

    def fill(self, data):
        """Puts data at the end; its address."""
        self.pages[4096 - len(data) : 4096] = data
        return self.end - len(data)

    def last(self, count):
        return self.pages[4096 - count : 4096]

    def close(self):
        self.pages.munmap()


def unmap_live(address, length):
    if LivePages.libc.munmap(address, length):
        raise OSError(ctypes.get_errno(), "munmap")
