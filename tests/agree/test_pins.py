"""cat of pinned maps: how a value of each BTF type is shown, and who can be read at all.

What each shows stands in the table, as a live 6.18 gave it, so it is tested without a live kernel too; the live kernel
is asked where the test may.
"""

import ctypes
import errno
import os
import struct
import sys
from pathlib import Path

import bpfsim

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "support")]
import sandbox  # noqa: E402
from btf_bytes import Type, array, blob, enum, integer, of, parts, record, section, to  # noqa: E402

HEAD = "# WARNING!! The output is for debug purpose only\n# WARNING!! The output format will change\n"
INT = integer()
BYTE, CHAR = integer(bits=8, size=1, name="u8"), integer(bits=8, size=1, encoding=1, name="char")
BOOL, LONG = integer(bits=8, size=1, encoding=4, name="bool"), integer(bits=64, size=8, name="long")
WIDE = integer(bits=128, size=16, name="wide")
BITS24 = integer(bits=24, size=4, name="x")
X = record(4, ("x", 1, 0))  # with INT as type 1


def var(target):
    return Type(14 << 24, "v", target, (1,))


def ints(*values):
    return struct.pack(f"<{len(values)}i", *values)


VALUES = [  # types beside INT (which is 1), the value's type, the value, what is shown
    ([], 1, ints(-2), "4294967294"),
    ([integer(encoding=1)], 2, ints(-2), "-2"),
    ([CHAR], 2, b"\xf1", "-15"),
    ([CHAR], 2, b"A", "65"),
    ([BOOL], 2, b"\1", "1"),
    ([integer(bits=16, size=2, encoding=1, name="s")], 2, b"\xf1\x82", "-32015"),
    ([LONG], 2, b"\xff" * 8, "18446744073709551615"),
    ([WIDE], 2, bytes([0xF1] + [0x82] * 15), "0x828282828282828282828282828282f1"),
    ([WIDE], 2, (5).to_bytes(16, "little"), "0x5"),
    ([BITS24], 2, bytes([1, 2, 3, 4]), "0x30201"),
    ([integer(bits=33, size=8, name="x")], 2, b"\xff" * 8, "0x1ffffffff"),
    ([integer(bits=8, size=4, name="x")], 2, bytes([0xF1, 2, 3, 4]), "241"),
    ([record(8, ("a", 1, 0), ("b", 1, 32))], 2, ints(1, -2), "{1,4294967294,}"),
    ([record(4, ("a", 3, 0), ("b", 3, 0)), integer(bits=5, at=3)], 2, b"\xff\x12\x34\x56", "{0x1f,0x1f,}"),
    ([record(4, ("a", 1, 3 << 24), ("b", 1, 7 << 24 | 3), kflag=1)], 2, b"\xff\x12\x34\x56", "{0x7,0x5f,}"),
    (
        [record(16, ("a", 3, 40 << 24 | 30), ("b", 3, 20 << 24 | 100), kflag=1), LONG],
        2,
        bytes(range(16)),
        "{0x201c181410,0xe0d0,}",
    ),
    ([record(32, ("a", 3, 100 << 24 | 3), kflag=1), WIDE], 2, bytes(range(32)), "{0x18161412100e0c0a080604020,}"),
    ([parts("union", 8, [("a", 1, 0), ("b", 3, 0)]), LONG], 2, bytes(range(8)), "{50462976,506097522914230528,}"),
    ([array(1, 1, 3)], 2, ints(1, 2, 3), "[1,2,3,]"),
    ([array(3, 1, 8), CHAR], 2, b"hi\0there", "['h','i',]"),
    ([array(3, 1, 8), BYTE], 2, b"hithere!", "['h','i','t','h','e','r','e','!',]"),
    ([array(3, 1, 4), CHAR], 2, b"h\n\x80\0", "['h',10,-128,]"),
    ([array(3, 1, 3), BYTE], 2, b"\0\1\2", "[]"),
    ([record(8, ("a", 4, 0), ("b", 1, 32)), BYTE, array(3, 1, 4)], 2, b"ab\0c" + ints(3), "{['a','b',],3,}"),
    ([array(3, 1, 2), X], 2, ints(1, 2), "[1,},2,},]"),
    ([array(3, 1, 2), array(1, 1, 2)], 2, ints(1, 2, 3, 4), "[1,2,],1,2,],]"),
    ([array(3, 1, 2), record(8, ("a", 4, 0), ("b", 1, 32)), X], 2, ints(1, 2, 3, 4), "[1,},2,},3,},4,},]"),
    (
        [array(3, 1, 2), record(12, ("a", 5, 0), ("b", 4, 64)), X, array(1, 1, 2)],
        2,
        ints(1, 2, 3, 4, 5, 6),
        "[1,2,],{3,},},4,5,],{6,},},]",
    ),
    ([record(12, ("a", 3, 0), ("b", 1, 64)), array(4, 1, 2), X], 2, ints(1, 2, 3), "{[1,},2,},],3,}"),
    ([record(4, ("e", 3, 0), ("x", 1, 0)), record(0)], 2, ints(1), "{{},1,}"),
    ([record(4, ("e", 3, 0), ("x", 1, 0)), array(1, 1, 0)], 2, ints(1), "{[],1,}"),
    ([to("typedef", 3, "t"), array(1, 1, 2)], 2, ints(1, 2), "[1,2,]"),
    ([to("const", 3), to("typedef", 4, "t"), X], 2, ints(7), "{7,}"),
    ([enum(("A", 0), ("B", 5))], 2, ints(5), "B"),
    ([enum(("A", 0), ("B", 5))], 2, ints(-6), "4294967290"),
    ([enum(("A", 0), ("B", 0xFFFFFFFB), kflag=1)], 2, ints(-6), "-6"),
    ([record(2, ("e", 3, 0), ("b", 4, 8)), enum(("A", 0), ("B", 5), size=1), BYTE], 2, b"\5\1", "{261,1,}"),
    ([enum(("A", 0), ("B", 5), size=8)], 2, b"\xf6" * 8, "4143380214"),
    ([enum(("A", 0, 0), ("B", 5, 1), size=8, kind="enum64")], 2, ints(5, 1), "B"),
    ([enum(("A", 0, 0), size=8, kind="enum64")], 2, ints(6, -(1 << 31)), "9223372036854775814"),
    ([enum(("A", 0, 0), size=8, kind="enum64", kflag=1)], 2, ints(6, -(1 << 31)), "-9223372036854775802"),
    ([to("ptr", 1)], 2, bytes(8), "0x0000000000000000"),
    ([array(3, 1, 2), to("ptr", 1)], 2, bytes(16), "0x0000000000000000,0x0000000000000000,]"),
    ([record(8, ("d", 3, 0)), of("float", "double", 8)], 2, bytes(8), "{<unsupported kind:16>}"),
    ([var(1), section(4, (2, 0, 4))], 3, ints(9), 'section (".data") = {9'),
    (
        [var(1), Type(14 << 24, "w", 1, (1,)), section(8, (2, 0, 4), (3, 4, 4))],
        4,
        ints(9, 10),
        'section (".data") = {9,10',
    ),
    (
        [record(8, ("a", 1, 0), ("b", 1, 32)), var(2), section(8, (3, 0, 8))],
        4,
        ints(9, 10),
        'section (".data") = {{9,10,}',
    ),
]


def cat(task, path):
    """What cat shows; the errno where it cannot be opened."""
    try:
        if not hasattr(task, "kernel"):
            return Path(path).read_text()
        fd, parts = task.open(path), []
        while part := task.read(fd, 4096):
            parts.append(part if isinstance(part, bytes) else part.encode("latin1"))
        task.close(fd)
        return b"".join(parts).decode()
    except OSError as error:
        return error.errno


def typed(task, types, kind, value_type, value_size, *, key_type=1, **fields):
    data = blob(INT, *types)
    btf = int(task.bpf("BTF_LOAD", btf=data, btf_size=len(data)))
    return task.map_create(
        kind, value_size=value_size, btf_fd=btf, btf_key_type_id=key_type, btf_value_type_id=value_type, **fields
    )


def shown(task):
    """(what, what cat shows) for every value, and then for maps of each kind."""
    seen, number = [], 0

    def pinned(what, m):
        nonlocal number
        path = f"/sys/fs/bpf/m{number}"
        number += 1
        m.pin(path)
        seen.append((what, cat(task, path)))

    for types, value_type, value, _ in VALUES:
        m = typed(task, types, "array", value_type, len(value), key_size=4, max_entries=1)
        m[0] = value
        pinned(f"{types} {value}", m)
    for kind in ("hash", "lru_hash"):
        m = typed(task, [X], kind, 1, 4, key_type=2, key_size=4, max_entries=4)
        m[struct.pack("<I", 3)] = 30
        pinned(kind, m)
    for kind in ("percpu_array", "percpu_hash", "lru_percpu_hash"):
        m = typed(task, [], kind, 1, 4, key_size=4, max_entries=1)
        m[0] = list(range(task.possible_cpus))
        pinned(kind, m)
    pinned("an empty prog array", typed(task, [], "prog_array", 1, 4, key_size=4, max_entries=2))
    pinned("an array without BTF", task.map_create("array"))
    pinned("a queue", task.map_create("queue", key_size=0))
    pinned("a program", task.prog_load("xdp", "r0 = 0\nexit"))
    return seen


def test_a_pinned_map_shows_its_values():
    task = bpfsim.Kernel(cpus=2).spawn("cat")
    seen = shown(task)
    for (_, text), (*_, wanted) in zip(seen, VALUES, strict=False):
        assert text == f"{HEAD}0: {wanted}\n"
    kinds = dict(seen[len(VALUES) :])
    assert kinds["hash"] == kinds["lru_hash"] == HEAD + "{3,}: 30\n"
    assert kinds["percpu_array"] == HEAD + "0: {\n\tcpu0: 0\n\tcpu1: 1\n}\n" == kinds["percpu_hash"]
    assert kinds["an empty prog array"] == HEAD
    assert {kinds[what] for what in ("an array without BTF", "a queue", "a program")} == {5}, "EIO"


def test_the_live_kernel_shows_the_same(live):
    def in_sandbox(box):
        box.own_bpffs()
        return shown(live)

    ours = shown(bpfsim.Kernel(cpus=live.possible_cpus).spawn("cat"))
    theirs = sandbox.Sandbox().run(in_sandbox)
    for one, other in zip(ours, theirs, strict=True):
        assert one == other


def test_a_pointer_is_not_told():
    task = bpfsim.Kernel().spawn("cat")
    m = typed(task, [to("ptr", 1)], "array", 2, 8, key_size=4, max_entries=1)
    m[0] = 0x12345678ABCD
    m.pin("/sys/fs/bpf/m")
    text = cat(task, "/sys/fs/bpf/m")
    assert "0: 0x00000000" in text and "12345678" not in text


def test_an_open_pin_outlives_its_name():
    k = bpfsim.Kernel()
    task = k.spawn("cat")
    m = typed(task, [], "array", 1, 4, key_size=4, max_entries=1000)
    m.pin("/sys/fs/bpf/m")
    fd = task.open("/sys/fs/bpf/m")
    held = m.object
    m.close()
    first = task.read(fd, 10)
    task.unlink("/sys/fs/bpf/m")
    assert held.alive and "f_inode" in held.why_alive()
    assert len(first) == 10 and len(task.read(fd, 4096)) == 4096
    task.close(fd)
    assert not held.alive and k.leaks() == []


def test_a_pinned_iterator_is_read_by_cat():
    task = bpfsim.Kernel().spawn("cat")
    code = """
        r6 = r1
        *(u64 *)(r10 -8) = 0x6f6c6c61
        r1 = *(u64 *)(r6 +0)
        r1 = *(u64 *)(r1 +0)
        r2 = r10
        r2 += -8
        r3 = 4
        call bpf_seq_write
        r0 = 0
        exit
    """
    task.map_create("array")
    target = task.kernel.btf_id("bpf_iter_bpf_map")
    prog = task.prog_load("tracing", code, expected_attach_type="trace_iter", attach_btf_id=target)
    task.link_create(prog, None).pin("/sys/fs/bpf/it")
    assert cat(task, "/sys/fs/bpf/it") == cat(task, "/sys/fs/bpf/it") == 2 * "allo", "one map, and the end"


# What users with these capabilities do, in turn: (who, call, words) and what a live 6.18 answered, 0 or an errno.
ROOT = "/sys/fs/bpf"
RIGHTS = [
    ("owner", "mkdir", (f"{ROOT}/from",), 0),
    ("owner", "mkdir", (f"{ROOT}/to",), 0),
    ("owner", "mkdir", (f"{ROOT}/from/d",), 0),
    ("owner", "chmod", (f"{ROOT}/from/d", 0o555), 0),
    ("owner", "rename", (f"{ROOT}/from/d", f"{ROOT}/to/d"), errno.EACCES),
    ("owner", "rename", (f"{ROOT}/from/d", f"{ROOT}/from/e"), 0),
    ("owner", "chmod", (f"{ROOT}/to", 0o444), 0),
    ("owner", "rename", (f"{ROOT}/none", f"{ROOT}/to/e"), errno.EACCES),
    ("other", "rename", (f"{ROOT}/from/e", f"{ROOT}/e"), errno.EACCES),
    ("other", "chmod", (f"{ROOT}/from/e", 0o777), errno.EPERM),
    ("fowner", "chmod", (f"{ROOT}/from/e", 0o777), 0),
    ("fowner", "rmdir", (f"{ROOT}/to",), 0),
    ("root", "chmod", (f"{ROOT}/from", 0), 0),
    ("root", "mkdir", (f"{ROOT}/from/x.y",), 0),
    ("root", "chmod", (f"{ROOT}/from", 0o777), 0),
    ("root", "mkdir", (f"{ROOT}/from/z.y",), errno.EPERM),
    ("other", "rmdir", (f"{ROOT}/from/z.y",), errno.EPERM),
]
USERS = {"owner": (1000, []), "other": (2000, []), "fowner": (3000, ["CAP_FOWNER"]), "root": (0, None)}


def answer(call, *words):
    try:
        call(*words)
    except OSError as error:
        return error.errno
    return 0


def as_user(uid, caps, what, *words):
    """The answer that a child of this process gets, which is that user."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(8, 1, 0, 0, 0)  # PR_SET_KEEPCAPS
    if uid:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        low = sum(1 << {"CAP_FOWNER": 3}[cap] for cap in caps)
        libc.capset(struct.pack("<II", 0x20080522, 0), struct.pack("<6I", low, low, 0, 0, 0, 0))
    os._exit(answer(getattr(os, what), *words))


def test_who_may_rename_and_change_directories():
    k = bpfsim.Kernel()
    tasks = {name: k.spawn(name, uid=uid, caps=caps) for name, (uid, caps) in USERS.items()}
    for who, what, words, wanted in RIGHTS:
        assert answer(getattr(tasks[who], what), *words) == wanted, (who, what, words)


def test_the_live_kernel_gives_the_same_rights(live):
    def ask(box):
        box.own_bpffs()
        return [as_user(*USERS[who], what, *words) for who, what, words, _ in RIGHTS]

    assert sandbox.Sandbox().run(ask) == [wanted for _, _, _, wanted in RIGHTS]
