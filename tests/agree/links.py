"""Commands around links and pins, on both sides: paths that begin at a directory's descriptor.

Cases as in attach.py, run by test_attach.py.
"""

import struct

import wire
from wire import Buffer

ROOT = "/sys/fs/bpf"
RDONLY, WRONLY, PATH_FD = 8, 16, 1 << 14
O_DIRECTORY, O_PATH = 0o200000, 0o10000000
AT_FDCWD = -100


def opened(s, path, flags):
    try:
        fd = s.box.open(path, flags)
    except OSError as error:
        s.note(f"open {path} {flags:o}: {wire.name(-error.errno)}")
        return -error.errno
    s.note(f"open {path} {flags:o}: fd")
    s.open.append(fd)
    return fd


def path_call(s, what, *words):
    try:
        s.box.path_call(what, *words)
        s.note(f"{what} {words}")
    except OSError as error:
        s.note(f"{what} {words}: {wire.name(-error.errno)}")


def obj(s, cmd, path, fd=0, flags=0, path_fd=0):  # noqa: PLR0917
    name = Buffer(path.encode() + b"\0")
    attr = bytearray(wire.ATTR_SIZE)
    struct.pack_into("<QIIi", attr, 0, name.address, fd & 0xFFFFFFFF, flags, path_fd)
    what = f"{'PIN' if cmd == wire.OBJ_PIN else 'GET'} {path[:40]!r} flags {flags:#x}"
    return s.call(what, cmd, attr, fd=cmd == wire.OBJ_GET)


def path_fd(s):
    """BPF_F_PATH_FD: which descriptors serve, for which paths."""
    s.box.own_bpffs()
    prog = s.prog()
    path_call(s, "mkdir", f"{ROOT}/d")
    path_call(s, "mkdir", f"{ROOT}/d/e")
    root, sub, looked = (
        opened(s, ROOT, O_DIRECTORY),
        opened(s, f"{ROOT}/d", O_DIRECTORY),
        opened(s, f"{ROOT}/d", O_PATH),
    )
    obj(s, wire.OBJ_PIN, f"{ROOT}/pin", prog)
    pin = opened(s, f"{ROOT}/pin", O_PATH)
    group, net = s.cgroup(), s.netns()
    where = {"root": root, "d": sub, "d by O_PATH": looked, "pin": pin, "prog": prog, "cgroup": group, "netns": net}
    where |= {"none": 9999, "cwd": AT_FDCWD, "-1": -1, "-99": -99}
    names = ["p", "e/p", "d/p", "e", "e/", ".", "..", "../q", "", "none/p", "/sys/fs/bpf/q", "/", "a.b", "n" * 256]
    names += ["../../../sys/fs/bpf/d/r", "e/../s", "n" * 4096]
    for label, fd in where.items():
        s.note(label)
        for name in names:
            obj(s, wire.OBJ_PIN, name, prog, PATH_FD, fd)
            obj(s, wire.OBJ_GET, name, 0, PATH_FD, fd)
            for made in (f"{ROOT}/d/p", f"{ROOT}/d/e/p", f"{ROOT}/q", f"{ROOT}/d/r", f"{ROOT}/d/s", f"{ROOT}/p"):
                path_call(s, "unlink", made)
    for flags in (0, RDONLY, WRONLY, RDONLY | WRONLY, 1, PATH_FD | 1, PATH_FD | RDONLY, PATH_FD | WRONLY, 1 << 15):
        for fd in (0, sub):
            obj(s, wire.OBJ_PIN, "t", prog, flags, fd)
            obj(s, wire.OBJ_GET, "t", 0, flags, fd)
            obj(s, wire.OBJ_GET, f"{ROOT}/pin", 0, flags, fd)
            path_call(s, "unlink", f"{ROOT}/d/t")
    obj(s, wire.OBJ_PIN, "t", 9999, PATH_FD, 9999)
    obj(s, wire.OBJ_GET, "t", prog, PATH_FD, sub)
    path_call(s, "rmdir", f"{ROOT}/d/e")
    path_call(s, "rmdir", f"{ROOT}/d")
    for fd in (sub, looked):
        for name in ("p", ".", "e/p", "a.b", f"{ROOT}/w"):
            obj(s, wire.OBJ_PIN, name, prog, PATH_FD, fd)
            obj(s, wire.OBJ_GET, name, 0, PATH_FD, fd)


WRITTEN = (path_fd,)
