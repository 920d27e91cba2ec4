"""Pins by a directory's descriptor, links, and what a program or map may be bound to, on both sides.

Cases as in attach.py, run by test_attach.py.
"""

import hashlib
import re
import struct

import attach
import wire
from commands import ARRAY
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


def directories(s):
    """What else can be done with directories and their descriptors: modes of open(2), read(2), rename, who may."""
    s.box.own_bpffs()
    prog = s.prog()
    for path in ("d", "d/e", "closed", "open"):
        path_call(s, "mkdir", f"{ROOT}/{path}")
    for path in ("p", "d/p", "closed/p", "open/p"):
        obj(s, wire.OBJ_PIN, f"{ROOT}/{path}", prog)
    for path in (ROOT, f"{ROOT}/d", f"{ROOT}/p"):
        for flags in (0, 1, 2, 3, O_PATH | 3, O_DIRECTORY | 3):
            opened(s, path, flags)
    read_it(s, opened(s, ROOT, O_DIRECTORY))
    read_it(s, s.cgroup())
    for mode in (0o2755, 0o3755, 0o4755, 0o755):
        path_call(s, "chmod", f"{ROOT}/d", mode)
        path_call(s, "mkdir", f"{ROOT}/d/made")
        s.note(f"made with {s.box.mode_of(f'{ROOT}/d/made'):o}")
        path_call(s, "rmdir", f"{ROOT}/d/made")
    names = ("p", "p/", "d", "d/", "d/p", "d/p/", "d/e", "d/e/", "none", "none/", "d/none/", "p/x", "closed/", "d/e/x/")
    for old in names:
        for new in names:
            path_call(s, "rename", f"{ROOT}/{old}", f"{ROOT}/{new}")
            path_call(s, "rename", f"{ROOT}/{new}", f"{ROOT}/{old}")
    for path, mode in (("closed", 0o700), ("open", 0o777), ("open/p", 0o666)):
        path_call(s, "chmod", f"{ROOT}/{path}", mode)
    s.box.become(1000)
    for path in ("", "closed", "closed/p", "open", "open/p", "open/none", "d", "none/x"):
        for what in ("unlink", "rmdir", "mkdir"):
            path_call(s, what, f"{ROOT}/{path}")
        for new in () if not path else ("closed/q", "open/q", "q", "none/q"):
            path_call(s, "rename", f"{ROOT}/{path}", f"{ROOT}/{new}")
            path_call(s, "rename", f"{ROOT}/{new}", f"{ROOT}/{path}")


def read_it(s, fd):
    try:
        s.note(f"read: {s.box.read(fd, 10)}")
    except OSError as error:
        s.note(f"read: {wire.name(-error.errno)}")


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


def nf_state(hook=3, pf=IPV4, *pointers):
    return struct.pack("<BB6x5Q", hook, pf, *(*pointers, 0, 0, 0, 0, 0)[:5])


def netfilter_test_run(s):
    """What a program reads of the hook's state and the packet, for each hook and protocol."""
    load = {"state": op(LOAD, 2, 1, 0), "skb": op(LOAD, 2, 1, 8)}
    reads = {
        "hook": load["state"] + op(0x71, 0, 2, 0),
        "pf": load["state"] + op(0x71, 0, 2, 1),
        "in": load["state"] + op(LOAD, 3, 2, 8) + op(0xB7, 0) + op(0x15, 3, 0, 1) + op(0xB7, 0, imm=1),
        "out": load["state"] + op(LOAD, 3, 2, 16) + op(0xB7, 0) + op(0x15, 3, 0, 1) + op(0xB7, 0, imm=1),
        "len": load["skb"] + op(0x61, 0, 2, 112),
        "protocol": load["skb"] + op(0x69, 0, 2, 176),
    }
    progs = {}
    for name, code in reads.items():  # the answer must be 0 or 1: one bit of what is read for each program
        for bit in range(1 if name in {"in", "out"} else 16):
            text = code + op(0x77, 0, imm=bit) + op(0x57, 0, imm=1) + op(0x95)
            progs[name, bit] = s.prog_load(f"{name} bit {bit}", text, NETFILTER, at68=AT_NETFILTER)
    frames = {
        "IPv4": bytes(12) + b"\x08\x00" + bytes(26),
        "IPv6": bytes(12) + b"\x86\xdd" + bytes(46),
        "short IPv6": bytes(12) + b"\x86\xdd" + bytes(30),
        "ARP": bytes(12) + b"\x08\x06" + bytes(40),
        "a length": bytes(12) + b"\x00\x20" + bytes(40),
    }
    for label, frame in frames.items():
        for pf in (0, IPV4, IPV6, 7):
            for hook in (0, 1, 2, 3, 4, 5, 255):
                for (name, bit), prog in progs.items():
                    if name in {"in", "out"} or (bit == 0 and name != "protocol") or (label, hook) == ("IPv4", 0):
                        s.prog_test_run(
                            f"{label} pf {pf} hook {hook} {name} bit {bit}", prog, frame, ctx=nf_state(hook, pf)
                        )
    prog = progs["len", 0]
    for size in (0, 13, 14, 19, 20, 33, 34, 3000, 4096, 9000):
        for ctx in (None, nf_state(), nf_state(0)):
            s.prog_test_run(
                f"{size} bytes {ctx and ctx[0]}", prog, bytes(12) + b"\x08\x00" + bytes(max(size - 14, 0)), ctx=ctx
            )
            s.prog_test_run(f"{size} bytes of 0 {ctx and ctx[0]}", prog, bytes(size), room=8, ctx=ctx, ctx_room=8)
    for pointer in range(5):
        s.prog_test_run(f"pointer {pointer}", prog, bytes(64), ctx=nf_state(3, IPV4, *[0] * pointer, 1))
    for size in (0, 1, 2, 8, 47, 49, 64):
        s.prog_test_run(f"context of {size} bytes", prog, bytes(64), ctx=nf_state().ljust(64, b"\0")[:size] or None)
    s.prog_test_run("a longer context", prog, bytes(64), ctx=nf_state() + b"\1")
    for field in ("flags", "cpu", "batch", "repeat"):
        s.prog_test_run(field, prog, bytes(64), **{field: 1})


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


# ---- what else a program or a map may be asked to be ----


DEV_BOUND_ONLY, HAS_FRAGS, TOKEN_FD = 64, 32, 1 << 16
TOKEN_CREATE, PROG_BIND_MAP = 36, 35


def map_with(s, kind=ARRAY, key=4, value=8, entries=4, **fields):
    """fields: offset and format of a field: at44=("I", 1)."""
    attr = bytearray(wire.ATTR_SIZE)
    struct.pack_into("<4I", attr, 0, kind, key, value, entries)
    for field, (form, number) in fields.items():
        struct.pack_into(f"<{form}", attr, int(field[2:]), number)
    shown = {field: number for field, (_, number) in fields.items() if field not in {"at20", "at76", "at80"}}
    return s.call(f"MAP_CREATE type={kind} {shown}", wire.MAP_CREATE, attr, fd=True)


def tokens(s):
    s.box.own_bpffs()
    prog, group = s.prog(), s.cgroup()
    root = opened(s, ROOT, O_DIRECTORY)
    path_call(s, "mkdir", f"{ROOT}/d")
    below, looked = opened(s, f"{ROOT}/d", O_DIRECTORY), opened(s, ROOT, O_PATH)
    for label, fd in {"root": root, "d": below, "O_PATH": looked, "prog": prog, "cgroup": group, "none": 9999}.items():
        for flags in (0, 1):
            attr = bytearray(wire.ATTR_SIZE)
            struct.pack_into("<II", attr, 0, flags, fd)
            s.call(f"TOKEN_CREATE {label} flags={flags}", TOKEN_CREATE, attr)
        for flags in (0, TOKEN_FD):
            fields = {"at44": flags, "at144": fd}
            s.prog_load(f"token {label} flags={flags}", **fields)
            s.prog_load(f"token {label} flags={flags} of type 99", prog_type=99, **fields)
            s.prog_load(f"token {label} flags={flags} without instructions", count=0, **fields)
            s.note(label)
            map_with(s, at16=("I", flags), at76=("i", fd))
            map_with(s, 99, at16=("I", flags), at76=("i", fd))
            map_with(s, key=5, at16=("I", flags), at76=("i", fd))
            map_with(s, at16=("I", flags), at76=("i", fd), at44=("I", 1))
        for cmd, at in ((wire.BTF_LOAD, 32), (wire.BTF_GET_FD_BY_ID, 8), (wire.MAP_GET_FD_BY_ID, 8)):
            for flags in (0, TOKEN_FD, TOKEN_FD | 1, 1):
                attr = bytearray(wire.ATTR_SIZE)
                struct.pack_into("<Ii", attr, at, flags, fd)
                if at == 8:
                    struct.pack_into("<I", attr, 0, 0x7FFFFFFF)
                s.call(f"command {cmd} token {label} flags={flags:#x}", cmd, attr)


def signatures(s):
    signature = Buffer(b"x" * 9000)
    for keyring in (*range(-9, 5), 12345, 0x7FFFFFFF, -(1 << 31)):
        for size in (0, 1, 8192, 8193, 9000, 0xFFFFFFFF):
            fields = {"at152": struct.pack("<QIi", signature.address, size, keyring)}
            s.prog_load(f"signature of {size} bytes, keyring {keyring}", **fields)
    for address in (0, 0x1000):
        s.prog_load(f"signature at {address}", at152=struct.pack("<QIi", address, 8, 0))
    signed = {"at152": struct.pack("<QIi", signature.address, 8, 0)}
    s.prog_load("signed, and no program", b"\xff" * 16, **signed)
    s.prog_load("signed, of type 99", prog_type=99, **signed)
    s.prog_load("signed, bound to a device", at64=77, **signed)
    s.prog_load("signed, wild license", license=0x1000, **signed)


def bound_to_a_device(s):
    there = s.box.add_device()
    for prog_type in (wire.SOCKET_FILTER, 3, wire.XDP):
        for ifindex in (1, 2, 77, 0xFFFFFFFF):
            for flags in (0, DEV_BOUND_ONLY, HAS_FRAGS, DEV_BOUND_ONLY | HAS_FRAGS, 1, DEV_BOUND_ONLY | 1, 16):
                if there or ifindex != 2:
                    fields = {"at64": ifindex, "at44": flags}
                    s.close(s.prog_load(f"type {prog_type} on {ifindex} flags={flags}", prog_type=prog_type, **fields))
    for kind in (1, 2, 3, 5, 9, 14):
        for ifindex in (1, 2, 77) if there else (1, 77):
            map_with(s, kind, 4, 8 if kind not in (3, 14) else 4, at44=("I", ifindex))
    map_with(s, 1, 0, at44=("I", 1))
    if not there:
        return
    bound = s.prog_load("bound to eth0", prog_type=wire.XDP, at64=2, at44=DEV_BOUND_ONLY)
    s.id_of(bound, "prog")
    plain = s.prog(wire.XDP)
    for ifindex in (1, 2, 3):
        for flags in (0, 2, 4):
            link = s.link(bound, ifindex, 37, flags)
            if link >= 0:
                s.link_info(link)
                s.update(link, plain)
                s.update(link, bound)
                s.close(link)
    elsewhere = s.link(plain, 3, 37, 4)
    s.update(elsewhere, bound)  # nobody asks then
    s.close(elsewhere)
    s.prog_test_run("bound", bound)
    progs = map_with(s, 3, 4, 4)
    key, value = Buffer(bytes(4)), Buffer(struct.pack("<I", bound))
    attr = bytearray(wire.ATTR_SIZE)
    struct.pack_into("<IIQQQ", attr, 0, progs, 0, key.address, value.address, 0)
    s.call("UPDATE prog array", wire.MAP_UPDATE_ELEM, attr)
    s.box.remove_device()
    s.link(bound, 2, 37, 4)


def use_map(fd, answer=2):
    return struct.pack("<BBhiq", 0x18, 1 << 4 | 1, 0, fd, 0) + attach.returns(answer)


def exclusive_maps(s):
    digest = hashlib.sha256(use_map(0)).digest()
    hash_of = Buffer(digest + bytes(32))
    mine = {"at80": ("Q", hash_of.address), "at88": ("I", 32)}
    for size in (0, 1, 31, 33, 64, 0xFFFFFFFF):
        map_with(s, **(mine | {"at88": ("I", size)}))
    map_with(s, at88=("I", 32))
    map_with(s, at80=("Q", 0x1000), at88=("I", 32))
    map_with(s, 99, **mine)
    only = map_with(s, **mine)
    for kind in (1, 3, 5, 6, 9):
        map_with(s, kind, value=8 if kind != 3 else 4, **mine)
    s.prog_load("the right one", use_map(only))
    s.prog_load("another", use_map(only, 3))
    s.prog_load("the right one, by another type", use_map(only), prog_type=wire.XDP)
    named = Buffer(struct.pack("<I", only))
    listed = {"at120": struct.pack("<Q", named.address)}
    s.prog_load("listed", **listed, at148=1)
    other = s.prog_load("uses none")
    attr = bytearray(wire.ATTR_SIZE)
    struct.pack_into("<3I", attr, 0, other, only, 0)
    s.call("PROG_BIND_MAP", PROG_BIND_MAP, attr)
    for inner in (only, map_with(s, 3, value=4, **mine), map_with(s)):
        map_with(s, 12, value=4, at20=("I", inner))
    outer = map_with(s, 12, value=4, at20=("I", map_with(s)))
    for inner in (only, map_with(s, value=16, **mine)):
        key, value = Buffer(bytes(4)), Buffer(struct.pack("<I", inner))
        attr = bytearray(wire.ATTR_SIZE)
        struct.pack_into("<IIQQQ", attr, 0, outer, 0, key.address, value.address, 0)
        s.call("UPDATE array of maps", wire.MAP_UPDATE_ELEM, attr)


def hash_of_a_map(s):
    for kind, value, flags in ((ARRAY, 5, 0), (ARRAY, 8, 1024), (1, 8, 0), (6, 8, 0), (ARRAY, 300, 0)):
        fd = map_with(s, kind, 4, value, 3, at16=("I", flags))
        key, room = Buffer(struct.pack("<I", 1)), Buffer(bytes(range(7)) * 50)
        if kind == ARRAY:
            attr = bytearray(wire.ATTR_SIZE)
            struct.pack_into("<IIQQQ", attr, 0, fd, 0, key.address, room.address, 0)
            s.call("UPDATE", wire.MAP_UPDATE_ELEM, attr)
        for frozen in (False, True):
            if frozen:
                attr = bytearray(wire.ATTR_SIZE)
                struct.pack_into("<I", attr, 0, fd)
                s.call("FREEZE", wire.MAP_FREEZE, attr)
            for size in (0, 31, 32, 33):
                told = Buffer(bytes(32))
                info = Buffer(bytes(88) + struct.pack("<QII", told.address, size, 0))
                attr = bytearray(wire.ATTR_SIZE)
                struct.pack_into("<IIQ", attr, 0, fd, 104, info.address)
                s.call(f"INFO hash_size={size}", wire.OBJ_GET_INFO_BY_FD, attr)
                s.note(f"  {bytes(told).hex()} {bytes(info)[96:104].hex()}")


# ---- maps of sockets ----


SK_MSG, SK_SKB, MSG_VERDICT, STREAM_PARSER, STREAM_VERDICT, SKB_VERDICT = 16, 14, 7, 4, 5, 38
SOCKMAP, SOCKHASH = 15, 18


def sockmap_links(s):
    socks, hashed, other = map_with(s, SOCKMAP, 4, 4), map_with(s, SOCKHASH, 4, 4), map_with(s)
    msg, msg2, skb, skb2, skb3 = s.prog(SK_MSG), s.prog(SK_MSG), s.prog(SK_SKB), s.prog(SK_SKB), s.prog(wire.XDP)
    for target in (0, 9999, other, msg, socks):
        for flags in (0, 1, 1 << 31):
            s.close(s.link(msg, target, MSG_VERDICT, flags))
    for at in (0, MSG_VERDICT, STREAM_PARSER, STREAM_VERDICT, SKB_VERDICT, 37):
        for prog in (msg, skb):
            s.close(s.link(prog, hashed, at))
    first = s.link(msg, socks, MSG_VERDICT)
    s.link(msg2, socks, MSG_VERDICT)
    s.attach(socks, msg2, MSG_VERDICT)
    s.detach(socks, msg, MSG_VERDICT)
    s.detach(socks, msg2, MSG_VERDICT)
    s.query(socks, MSG_VERDICT)
    sockmap_info(s, first, socks)
    for new, flags, old in ((msg2, 0, 0), (skb, 0, 0), (skb3, 0, 0), (msg, 4, msg), (msg, 4, msg2), (msg, 0, 0)):
        s.update(first, new, flags, old)
        s.query(socks, MSG_VERDICT)
    verdict = s.link(skb, socks, STREAM_VERDICT)
    s.link(skb2, socks, SKB_VERDICT)
    parser = s.link(skb2, socks, STREAM_PARSER)
    s.attach(socks, skb2, STREAM_VERDICT)
    s.link_detach(verdict)
    sockmap_info(s, verdict, socks)
    s.update(verdict, skb2)
    s.link_detach(verdict)
    s.link(skb2, socks, SKB_VERDICT)
    s.query(socks, SKB_VERDICT)
    s.query(socks, STREAM_VERDICT)
    s.attach(hashed, msg, MSG_VERDICT)
    replaces = s.link(msg2, hashed, MSG_VERDICT)
    s.query(hashed, MSG_VERDICT)
    s.detach(hashed, msg2, MSG_VERDICT)
    s.close(replaces)
    s.query(hashed, MSG_VERDICT)
    s.close(parser)
    s.close(socks)
    sockmap_info(s, first, socks)


def sockmap_info(s, fd, of):
    raw = Buffer(bytes(64))
    attr = bytearray(wire.ATTR_SIZE)
    struct.pack_into("<IIQ", attr, 0, fd & 0xFFFFFFFF, 64, raw.address)
    s.call("OBJ_GET_INFO link", wire.OBJ_GET_INFO_BY_FD, attr)
    kind, _, _, _, map_id, at = struct.unpack_from("<6I", bytes(raw))
    s.note(f"  type {kind} of map {'none' if not map_id else 'there'} at {at}")
    keys = [line.partition(":\t")[0] for line in s.box.fdinfo(fd).splitlines()]
    s.note(f"  {[key for key in keys if key not in {'mnt_id', 'ino', 'flags'}]}")


# ---- struct_ops programs: members of bpf_dummy_ops, which is there for tests ----


STRUCT_OPS, DUMMY_OPS = 27, "bpf_dummy_ops"
BTF_KIND_STRUCT = 4
TRAILS = {1: 4, 3: 12, 14: 4, 17: 4}  # bytes behind a type of that kind, and for each of its members:
MEMBERS = {4: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12}


def btf_struct(s, wanted):
    """The id of a struct in the kernel's own BTF, which both sides read by its descriptor."""
    attr = bytearray(wire.ATTR_SIZE)
    struct.pack_into("<I", attr, 0, 1)
    fd = s.call("the kernel's BTF", wire.BTF_GET_FD_BY_ID, attr, fd=True)
    room, data = 0, b""
    for _ in range(2):
        buffer = Buffer(bytes(max(room, 1)))
        info = Buffer(struct.pack("<QI", buffer.address if room else 0, room) + bytes(20))
        attr = bytearray(wire.ATTR_SIZE)
        struct.pack_into("<IIQ", attr, 0, fd & 0xFFFFFFFF, 32, info.address)
        s.task.sys_bpf(wire.OBJ_GET_INFO_BY_FD, attr)
        room, data = struct.unpack_from("<I", bytes(info), 8)[0], bytes(buffer)
    header, start, length, strings, _ = struct.unpack_from("<IIIII", data, 4)
    at, end, number = header + start, header + start + length, 1
    name = data.index(b"\0" + wanted.encode() + b"\0", header + strings) + 1 - header - strings
    while at < end:
        offset, about, _ = struct.unpack_from("<III", data, at)
        kind, count = about >> 24 & 31, about & 0xFFFF
        if kind == BTF_KIND_STRUCT and offset == name:
            return number
        at += 12 + TRAILS.get(kind, 0) + MEMBERS.get(kind, 0) * count
        number += 1
    return 0


def op(code, dst=0, src=0, off=0, imm=0):
    return struct.pack("<BBhi", code, src << 4 | dst, off, imm)


LOAD, STORE, END = 0x79, 0x62, op(0xB7) + op(0x95)
DUMMIES = {
    "returns 5": attach.returns(5),
    "returns the pointer": op(LOAD, 0, 1) + op(0x95),
    "reads the state": op(LOAD, 2, 1) + op(0x61, 0, 2) + op(0x95),
    "checks, reads and writes the state": op(LOAD, 2, 1)
    + op(0x55, 2, 0, 2)
    + END
    + op(0x61, 0, 2)
    + op(STORE, 2, 0, 0, 99)
    + op(0x95),
    "writes past the state": op(LOAD, 2, 1) + op(0x55, 2, 0, 1) + op(0x95, 0) + op(STORE, 2, 0, 4, 1) + END,
    "writes before the state": op(LOAD, 2, 1) + op(STORE, 2, 0, -4, 1) + END,
    "writes 8 bytes": op(LOAD, 2, 1) + op(0x7A, 2, 0, 0, 1) + END,
    "reads a1": op(LOAD, 0, 1, 0, 0) + op(LOAD, 0, 1, 8) + op(0x95),
    "reads 4 bytes of a1": op(0x61, 0, 1, 8) + op(0x95),
    "reads a4": op(LOAD, 0, 1, 32) + op(0x95),
    "reads a5": op(LOAD, 0, 1, 40) + op(0x95),
    "reads at 4": op(LOAD, 0, 1, 4) + op(0x95),
    "reads half of the pointer": op(0x61, 0, 1) + op(0x95),
    "writes its context": op(0x7A, 1, 0, 0, 1) + END,
    "calls a helper": op(0x85, imm=7) + END,
    "calls helper 9999": op(0x85, imm=9999) + END,
    "returns nothing": op(0x95),
}


def dummy_load(s, label, code, member, **fields):
    log = Buffer(bytes(4096))
    fields = {"at24": struct.pack("<IIQ", 1, 4096, log.address), "at68": member} | fields
    fd = s.prog_load(f"{label} as member {member}", code, STRUCT_OPS, **fields)
    text = bytes(log).split(b"\0")[0].decode()
    s.note("  " + re.sub(r"btf_id=?\s?\d+", "btf_id", text).replace("\n", " | "))
    return fd


def struct_ops(s):
    dummy = btf_struct(s, DUMMY_OPS)
    state_id = btf_struct(s, "bpf_dummy_ops_state")
    loaded = []
    for label, code in DUMMIES.items():
        for member in range(3):
            fd = dummy_load(s, label, code, member, at108=dummy)
            loaded += [(fd, label, member)] if fd >= 0 and label != "returns the pointer" else []
    for member in (3, 4, 0xFFFF, 0xFFFFFFFF):
        dummy_load(s, "no such member", attach.returns(0), member, at108=dummy)
    for member in range(3):
        fd = dummy_load(s, "sleepable", attach.returns(7), member, at108=dummy, at44=16)
        loaded += [(fd, "sleepable", member)] if fd >= 0 else []
    not_gpl = Buffer(b"MIT\0")
    dummy_load(s, "not GPL", attach.returns(0), 0, at108=dummy, license=not_gpl.address)
    dummy_load(s, "no struct", attach.returns(0), 0)
    dummy_load(s, "no struct, sleepable", attach.returns(0), 0, at44=16)
    for other in (0x7FFFFFFF, 1 << 20):
        dummy_load(s, f"type {other}", attach.returns(0), 0, at108=other)
    fd = s.prog_load("another struct", attach.returns(0), STRUCT_OPS, at108=state_id)
    s.link(fd, 0, 44)
    for fd, label, member in loaded:
        for size in (0, 8, 16, 40, 48):
            for state in (False, True):
                value = Buffer(struct.pack("<i", 1234))
                ctx = struct.pack("<6Q", value.address if state else 0, 1, (1 << 33) + 2, 3, 4, 5)[:size]
                s.prog_test_run(f"{label} as {member}, {size} bytes, state {state}", fd, None, ctx=ctx or None)
                s.note(f"  {bytes(value).hex()}")
    if loaded:
        s.link(loaded[0][0], 0, 44)
        s.attach(0, loaded[0][0], 44)


WRITTEN = (
    path_fd,
    directories,
    netfilter,
    netfilter_test_run,
    uprobes_refused,
    tokens,
    signatures,
    bound_to_a_device,
    exclusive_maps,
    hash_of_a_map,
    sockmap_links,
    struct_ops,
)
