"""Commands around links and pins, on both sides: paths that begin at a directory's descriptor.

Cases as in attach.py, run by test_attach.py.
"""

import struct

import attach
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


# ---- netfilter ----


NETFILTER, AT_NETFILTER, DEFRAG = 32, 45, 1
IPV4, IPV6 = 2, 10


def nf_link(s, prog, pf=IPV4, hooknum=0, priority=0, flags=0, *, link_flags=0, target=0, at=AT_NETFILTER):  # noqa: PLR0917
    attr = bytearray(wire.ATTR_SIZE)
    struct.pack_into("<4I", attr, 0, prog & 0xFFFFFFFF, target, at, link_flags)
    struct.pack_into("<IIiI", attr, 16, pf, hooknum, priority, flags)
    what = f"NETFILTER pf={pf} hooknum={hooknum} priority={priority} flags={flags} {link_flags} {target}"
    fd = s.call(what, attach.LINK_CREATE, attr, fd=True)
    if fd >= 0:
        s.id_of(fd, "link")
    return fd


def netfilter(s):
    for expected in (0, AT_NETFILTER, 44, 46):
        for answer in (0, 1, 2, -1):
            s.prog(NETFILTER, expected, answer)
    prog, other, xdp = s.prog(NETFILTER, AT_NETFILTER), s.prog(NETFILTER, AT_NETFILTER, 0), s.prog(wire.XDP)
    for pf in (0, 1, 2, 3, 5, 7, 10, 12, 13, 255, 1 << 31):
        for hooknum in (0, 1, 4, 5, 6, 1 << 31):
            s.close(nf_link(s, prog, pf, hooknum, 5))
    for priority in (-(1 << 31), 1 - (1 << 31), -401, -400, -399, -1, 0, 1, (1 << 31) - 2, (1 << 31) - 1):
        for flags in (0, DEFRAG, 2, 3, 1 << 31):
            for hooknum in (0, 1, 3):
                s.close(nf_link(s, prog, IPV6, hooknum, priority, flags))
    nf_link(s, prog, 1, 9, -(1 << 31), 4, link_flags=1)
    nf_link(s, prog, 1, 9, -(1 << 31), 4)
    nf_link(s, prog, 2, 9, -(1 << 31), 4)
    nf_link(s, prog, 2, 4, -(1 << 31), 4)
    for at in (0, 36, 44, 46):
        nf_link(s, prog, at=at)
    nf_link(s, xdp)
    nf_link(s, 9999)
    nf_link(s, prog, target=77)
    first = nf_link(s, prog, IPV4, 0, 10)
    nf_link(s, prog, IPV4, 0, 10)
    nf_link(s, other, IPV4, 0, 10)
    second = nf_link(s, other, IPV4, 0, 11, DEFRAG)
    for hooknum, priority in ((0, -400), (1, -400), (3, -400), (0, -399)):
        nf_link(s, other, IPV4, hooknum, priority)
        nf_link(s, other, IPV6, hooknum, priority)
    nf_link(s, other, IPV4, 0, 12, DEFRAG)
    for link in (first, second):
        s.link_info(link)
        s.update(link, other)
        s.update(link, xdp)
        s.update(link, 9999)
        s.update(link, other, 4, prog)
        s.update(link, other, 1)
    s.link_detach(first)
    s.link_detach(first)
    s.link_info(first)
    s.update(first, other)
    third = nf_link(s, prog, IPV4, 0, 10)
    s.close(first)
    s.close(third)
    s.link_info(second)
    s.link_detach(second)
    s.link_info(second)
    s.attach(0, prog, AT_NETFILTER)
    s.detach(0, prog, AT_NETFILTER)
    s.query(0, AT_NETFILTER)


# ---- uprobe_multi and kprobe_multi: only what is refused before anything is attached ----


KPROBE, KPROBE_MULTI, UPROBE_MULTI, KPROBE_SESSION, UPROBE_SESSION = 2, 42, 48, 56, 57
SLEEPABLE = 16
TOO_MANY = (1 << 20) + 1


def uprobe_multi(s, prog, path=b"/bin", offsets=(16,), *, cnt=None, flags=0, pid=0, at=UPROBE_MULTI, **odd):
    buffers = {"path": Buffer(path + b"\0") if path is not None else None}
    for name in ("offsets", "refs", "cookies"):
        numbers = offsets if name == "offsets" else odd.get(name)
        buffers[name] = Buffer(struct.pack(f"<{len(numbers)}Q", *numbers)) if numbers else None
    address = {name: odd.get(f"{name}_at", one.address if one else 0) for name, one in buffers.items()}
    attr = bytearray(wire.ATTR_SIZE)
    struct.pack_into("<4I", attr, 0, prog & 0xFFFFFFFF, odd.get("target", 0), at, odd.get("link_flags", 0))
    struct.pack_into("<4Q", attr, 16, *(address[name] for name in ("path", "offsets", "refs", "cookies")))
    struct.pack_into("<IIi", attr, 48, len(offsets) if cnt is None else cnt, flags, pid)
    what = f"UPROBE_MULTI {path and path[:20]} {offsets} cnt={cnt} flags={flags} pid={pid} at={at} {odd}"
    return s.call(what, attach.LINK_CREATE, attr, fd=True)


def kprobe_load(s, expected, flags=0):
    attr = {"at44": flags, "at68": expected}
    return s.prog_load(f"kprobe expected={expected} flags={flags}", attach.returns(0), KPROBE, **attr)


def uprobes_refused(s):
    """Every path here is a directory, a pin, or not there; so nothing can be attached."""
    s.box.own_bpffs()
    progs = {at: kprobe_load(s, at) for at in (0, UPROBE_MULTI, UPROBE_SESSION, KPROBE_MULTI, KPROBE_SESSION)}
    obj(s, wire.OBJ_PIN, f"{ROOT}/pin", progs[0])
    pin, wild = f"{ROOT}/pin".encode(), 0x1000
    for prog in progs.values():
        for at in (UPROBE_MULTI, UPROBE_SESSION):
            uprobe_multi(s, prog, at=at)
            uprobe_multi(s, prog, pin, at=at)
    prog = progs[UPROBE_MULTI]
    for flags in (0, 1, 2, 3, 1 << 31):
        uprobe_multi(s, prog, flags=flags)
    for pid in (-1, -(1 << 31), 0x7FFFFFF0):
        uprobe_multi(s, prog, pid=pid)
        uprobe_multi(s, prog, pin, pid=pid)
    for cnt in (0, 1, TOO_MANY, 1 << 31, 0xFFFFFFFF):
        uprobe_multi(s, prog, cnt=cnt)
        uprobe_multi(s, prog, cnt=cnt, flags=2)
    for path in (None, b"", b"/none", b"none", b"/tmp/none/x", b"/bin/", b"n" * 4095, b"n" * 4096, pin + b"/x"):
        uprobe_multi(s, prog, path)
    uprobe_multi(s, prog, path_at=wild)
    uprobe_multi(s, prog, offsets_at=wild)
    uprobe_multi(s, prog, pin, offsets_at=wild)
    uprobe_multi(s, prog, pin, offsets_at=0)
    uprobe_multi(s, prog, pin, refs_at=wild)
    uprobe_multi(s, prog, pin, cookies_at=wild)
    uprobe_multi(s, prog, pin, ((1 << 64) - 1,))
    uprobe_multi(s, prog, pin, (1 << 63,))
    uprobe_multi(s, prog, pin, (1, 2), refs=(0, 1), cookies=(5, 6))
    uprobe_multi(s, prog, link_flags=1)
    uprobe_multi(s, prog, target=1)
    for at in (KPROBE_MULTI, KPROBE_SESSION):
        for prog in progs.values():
            uprobe_multi(s, prog, at=at)


WRITTEN = (path_fd, netfilter, uprobes_refused)
