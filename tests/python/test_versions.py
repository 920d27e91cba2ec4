"""What an older kernel refuses, in its words, and the version that takes it: the gates, seen from outside."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import bpfsim
import pytest
from bpfsim import _core

ROOT = Path(__file__).resolve().parents[2]
ON_STACK = "r1 = 1\n*(u64 *)(r10 -8) = r1\n"
END = "\nr0 = 2\nexit"

# What it is, a version that refuses, the first that takes it, the program (of type XDP unless told), and the words.
REFUSED = [
    ("fetching atomic", "5.11", "5.12", ON_STACK + "r1 = atomic_fetch_add((u64 *)(r10 -8), r1)" + END,
     "BPF_STX uses reserved fields"),
    ("load-acquire", "6.14", "6.15", ON_STACK + "r1 = load_acquire((u64 *)(r10 -8))" + END,
     "BPF_ATOMIC uses invalid atomic opcode 100"),
    ("32-bit jump", "5.0", "5.1", "w1 = 1\nif w1 == 1 goto out\nout:" + END, "unknown opcode 16"),
    ("signed division", "6.5", "6.6", "r1 = 7\nr1 s/= 2" + END, "BPF_ALU uses reserved fields"),
    ("sign-extending move", "6.5", "6.6", "r1 = 7\nr2 = (s8)r1" + END, "BPF_MOV uses reserved fields"),
    ("byte swap", "6.5", "6.6", "r1 = 7\nr1 = bswap16 r1" + END, "unknown opcode d7"),
    ("long jump", "6.5", "6.6", "gotol out\nout:" + END, "unknown opcode 06"),
    ("function", "4.15", "4.16", "call f" + END + "\nf:\nr0 = 0\nexit", "unreachable insn 3"),
    ("unwritten stack", "6.0", "6.1", "r0 = *(u64 *)(r10 -8)" + END, "invalid read from stack R10 off=-8 size=8"),
    ("metadata", "4.14", "4.15", "r0 = *(u32 *)(r1 +8)" + END, "invalid bpf_context access off=8 size=4"),
    ("receive queue", "4.15", "4.16", "r0 = *(u32 *)(r1 +16)" + END, "invalid bpf_context access off=16 size=4"),
    ("ktime without the GPL", "5.7", "5.8", "call bpf_ktime_get_ns" + END,
     "cannot call GPL-restricted function from non-GPL compatible program"),
    ("back-edge", "5.2", "5.3", "r0 = 0\nl:\nr0 += 1\nif r0 < 9 goto l\nexit", "back-edge from insn 2 to 1"),
]  # fmt: skip


def refusal(version, text, license="GPL", type="xdp"):
    """What the log ends with; None when the program is taken."""
    try:
        bpfsim.Kernel(version).spawn().prog_load(type, text, license=license)
    except bpfsim.VerifierError as error:
        return [line for line in error.log.splitlines() if not line.startswith(("processed", "verification"))][-1]
    return None


@pytest.mark.parametrize(("what", "old", "new", "text", "words"), REFUSED, ids=lambda one: str(one)[:24])
def test_an_older_kernel_refuses(what, old, new, text, words):
    license = "MIT" if what.endswith("GPL") else "GPL"
    assert refusal(old, text, license) == words
    assert refusal(new, text, license) is None
    assert refusal("6.18", text, license) is None


@pytest.mark.parametrize(
    ("type", "old", "new", "text", "words"),
    [
        ("perf_event", "4.16", "4.17", "r0 = *(u64 *)(r1 +176)", "invalid bpf_context access off=176 size=8"),
        ("flow_dissector", "5.3", "5.4", "r1 = *(u64 *)(r1 +144)\nr1 = *(u32 *)(r1 +52)",
         "invalid access to flow keys off=52 size=4"),
        ("cgroup_sock", "5.7", "5.8", "r0 = *(u32 *)(r1 +76)", "invalid bpf_context access off=76 size=4"),
    ],
)  # fmt: skip
def test_a_field_that_came_later(type, old, new, text, words):
    text += "\nr0 = 1\nexit"
    assert refusal(old, text, type=type) == words
    assert refusal(new, text, type=type) is None


@pytest.mark.parametrize(("level", "as_bits"), [(1, 1), (2, 2), (3, 2), (4, 2), (16, 2)])
def test_a_log_level_before_it_was_made_of_bits(level, as_bits):
    def log(version, level):
        return bpfsim.Kernel(version).spawn().prog_load("xdp", "r0 = 2\nexit", log_level=level).log

    assert log("5.1", level) == log("5.1", as_bits)
    if level == 16:
        with pytest.raises(OSError, match="unknown bits"):
            log("5.2", level)


def test_which_types_may_call_a_helper():
    """Each had some of the base helpers later than the others."""
    for helper, type, old, new in (
        ("ktime_get_ns", "cgroup_sysctl", "5.7", "5.8"),
        ("get_current_pid_tgid", "cgroup_sock", "5.6", "5.7"),
        ("get_current_pid_tgid", "cgroup_device", "6.0", "6.1"),
        ("get_current_pid_tgid", "xdp", "6.9", "6.10"),
        ("get_current_uid_gid", "xdp", "6.15", "6.16"),
    ):
        text = f"call bpf_{helper}\nr0 = 1\nexit"
        assert f"bpf_{helper}#" in refusal(old, text, type=type)
        assert refusal(new, text, type=type) is None


def test_a_stack_offset_that_varies():
    text = ON_STACK + "call bpf_get_prandom_u32\nr0 &= 7\nr2 = r10\nr2 += -16\nr2 += r0\nr1 = 1\n*(u8 *)(r2 +0) = r1"
    assert refusal("5.11", text + END) == "variable stack access var_off=(0x0; 0x7) off=-16 size=1"
    assert refusal("5.12", text + END) is None


def test_words_that_changed():
    old, new = (bpfsim.Kernel(version).spawn() for version in ("6.1", "6.18"))
    for task, words in (
        (old, "has value (0x7; 0x0) should have been in (0x0; 0x1)"),
        (new, "has smin=7 smax=7 should have been in [0, 1]"),
    ):
        with pytest.raises(bpfsim.VerifierError) as refused:
            task.prog_load("cgroup_skb", "r0 = 7\nexit")
        assert f"At program exit the register R0 {words}" in refused.value.log
    helper, text = "bpf_skb_load_bytes#26", "call bpf_skb_load_bytes" + END
    assert refusal("6.9", text) == f"unknown func {helper}"
    assert refusal("6.10", text) == f"program of this type cannot use helper {helper}"


@pytest.mark.parametrize(("version", "taken"), [("6.1", True), ("6.11", True), ("6.12", False), ("6.18", False)])
def test_a_program_with_tail_calls_enters_the_array_of_one_with_a_storage(version, taken):
    task = bpfsim.Kernel(version).spawn()
    table = task.map_create("prog_array", value_size=4, max_entries=1)
    storage = task.map_create("cgroup_storage", key_size=16, value_size=8, max_entries=0)
    maps = {"table": table, "storage": storage}
    task.prog_load("cgroup_skb", "r1 = map[table]\nr1 = map[storage]\nr0 = 1\nexit", maps=maps)
    plain = task.prog_load("cgroup_skb", "r0 = 1\nexit")
    table[0] = plain.fd  # it has no storage, and leads nowhere
    maps = {"other": task.map_create("prog_array", value_size=4, max_entries=1)}
    jumps = task.prog_load("cgroup_skb", "r2 = map[other]\nr3 = 0\ncall bpf_tail_call\nr0 = 1\nexit", maps=maps)
    if taken:
        table[0] = jumps.fd
    else:
        with pytest.raises(OSError, match="differ from this in its lack of a cgroup storage, making tail calls"):
            table[0] = jumps.fd


def test_a_machine_boots_with_the_knobs_of_its_version():
    knob = "kernel.unprivileged_bpf_disabled"
    assert [bpfsim.Kernel(v).sysctl[knob] for v in ("5.15", "5.16")] == [0, 2]
    assert [bpfsim.Kernel(v).sysctl["net.core.bpf_jit_enable"] for v in ("5.5", "5.6")] == [0, 1]
    old = bpfsim.Kernel("5.12")
    for wrong in (0, 2):
        with pytest.raises(OSError, match="must be 1 to 1"):
            old.sysctl[knob] = wrong
    old.sysctl[knob] = 1


@pytest.mark.parametrize(("knob", "new"), [("net.core.bpf_jit_limit", "4.20"), ("kernel.bpf_stats_enabled", "5.1")])
def test_a_knob_is_there_since(knob, new):
    k = bpfsim.Kernel(new)
    k.sysctl[knob] = 1
    assert k.sysctl[knob] == 1 and knob in list(k.sysctl)
    old = bpfsim.Kernel(before(new))
    for use in (lambda: old.sysctl[knob], lambda: old.sysctl_write(knob, 1)):
        with pytest.raises(FileNotFoundError, match=f"{knob} came with Linux {new}; this is {before(new)}"):
            use()
    assert knob not in list(old.sysctl) and knob not in repr(old.sysctl)


def test_what_a_knob_of_the_jit_takes():
    old, new = bpfsim.Kernel("4.15"), bpfsim.Kernel("4.16")
    for knob, most in (("bpf_jit_enable", 2), ("bpf_jit_harden", 2), ("bpf_jit_kallsyms", 1)):
        old.sysctl[f"net.core.{knob}"] = 1000
        new.sysctl[f"net.core.{knob}"] = most
        with pytest.raises(OSError, match=f"must be 0 to {most}, is {most + 1}"):
            new.sysctl[f"net.core.{knob}"] = most + 1
    without = bpfsim.Kernel(config={"CONFIG_BPF_JIT": False})
    assert list(without.sysctl) == ["kernel.bpf_stats_enabled", "kernel.unprivileged_bpf_disabled"]
    with pytest.raises(FileNotFoundError, match="net.core.bpf_jit_enable comes with CONFIG_BPF_JIT"):
        _ = without.sysctl["net.core.bpf_jit_enable"]


def test_the_load_of_an_older_kernel_has_its_functions():
    def names(version):
        return set(str(bpfsim.Kernel(version).spawn().prog_load("xdp", "r0 = 2\nexit").trace.functions).split())

    new = {"compute_live_registers()", "resolve_pseudo_ldimm64()", "do_misc_fixups()"}
    old = {"replace_map_fd_with_map_ptr()", "fixup_bpf_calls()"}
    text = " ".join(names("5.4"))
    assert all(name[:-2] in text for name in old) and not any(name[:-2] in text for name in new), text
    assert "compute_scc()" in " ".join(names("6.17")) and "compute_postorder()" not in " ".join(names("6.17"))
    text = " ".join(names("6.18"))
    assert all(name[:-2] in text for name in new) and not any(name[:-2] in text for name in old), text


# A value of a map of 8 bytes, reached by a number that went over the stack: how it is made, spilled and read back, and
# the first version whose verifier still knows its bounds.
SPILLS = [
    ("a zero", "r1 = 0\n*(u64 *)(r10 -16) = r1\nr1 = *(u64 *)(r10 -16)", "4.16"),
    ("half a zero", "r1 = 0\n*(u64 *)(r10 -16) = r1\nr1 = *(u32 *)(r10 -12)", "4.16"),
    ("a constant", "r1 = 7\n*(u64 *)(r10 -16) = r1\nr1 = *(u64 *)(r10 -16)", "5.3"),
    ("a bounded number", "r1 = r0\nr1 &= 7\n*(u64 *)(r10 -16) = r1\nr1 = *(u64 *)(r10 -16)", "5.10"),
    ("4 bytes", "r1 = r0\nr1 &= 7\n*(u32 *)(r10 -16) = r1\nr1 = *(u32 *)(r10 -16)", "5.16"),
    ("an immediate", "*(u64 *)(r10 -16) = 7\nr1 = *(u64 *)(r10 -16)", "6.3"),
    ("its lower half", "r1 = r0\nr1 &= 7\n*(u64 *)(r10 -16) = r1\nr1 = *(u32 *)(r10 -16)", "6.9"),
]


def before(version):
    """The version before this one."""
    major, minor = map(int, version.split("."))
    return f"{major}.{minor - 1}" if minor else {5: "4.20", 6: "5.19"}[major]


@pytest.mark.parametrize(("what", "spill", "new"), SPILLS, ids=[one[0] for one in SPILLS])
def test_a_number_that_goes_over_the_stack_keeps_its_bounds_since(what, spill, new):
    text = f"""
        *(u32 *)(r10 -4) = 0
        r2 = r10
        r2 += -4
        r1 = map[values]
        call bpf_map_lookup_elem
        if r0 == 0 goto out
        r6 = r0
        call bpf_get_prandom_u32
        {spill}
        r6 += r1
        r0 = *(u8 *)(r6 +0)
    out:
        r0 = 2
        exit"""
    for version, taken in ((before(new), False), (new, True), ("6.18", True)):
        task = bpfsim.Kernel(version).spawn()
        maps = {"values": task.map_create("array", value_size=8)}
        if taken:
            task.prog_load("xdp", text, maps=maps)
        else:
            with pytest.raises(bpfsim.VerifierError) as refused:
                task.prog_load("xdp", text, maps=maps)
            words = ("unbounded", "outside of the allowed memory range", "outside of the array range")
            assert any(end in refused.value.log for end in words), refused.value.log


def test_the_stack_of_a_function_counts_in_steps_of_32_bytes():
    text = "r1 = 0\n*(u64 *)(r10 -496) = r1\ncall f\nexit\nf:\nr1 = 0\n*(u64 *)(r10 -8) = r1\nr0 = 0\nexit"
    assert refusal("6.8", text) == "combined stack size of 2 calls is 544. Too large"
    assert refusal("6.9", text) is None
    without_jit = bpfsim.Kernel("6.9")
    without_jit.sysctl["net.core.bpf_jit_enable"] = 0
    with pytest.raises(bpfsim.VerifierError, match="combined stack size of 2 calls is 544"):
        without_jit.spawn().prog_load("xdp", text)


def test_which_edges_may_lead_back():
    """Since loops are walked, jumps; calls and running on into a loop since 6.7."""
    recursion = "call f\nexit\nf:\ncall f\nexit"
    assert refusal("5.2", recursion) == refusal("5.4", recursion) == refusal("6.6", recursion)
    assert refusal("6.6", recursion) == "back-edge from insn 2 to 2"
    assert refusal("6.7", recursion) == "the call stack of 9 frames is too deep"
    runs_on = "r0 = 0\ngoto test\nagain:\nr0 += 1\ntest:\nif r0 < 9 goto again\nr0 = 2\nexit"
    assert refusal("6.6", runs_on) == "back-edge from insn 2 to 3"
    assert refusal("6.7", runs_on) is None


def test_what_a_cgroup_skb_program_sees_of_the_packet():
    data = "r0 = *(u32 *)(r1 +76)\nr0 = 1\nexit"
    assert refusal("4.19", data, type="cgroup_skb") == "invalid bpf_context access off=76 size=4"
    assert refusal("4.20", data, type="cgroup_skb") is None
    mark = "r0 = 1\n*(u32 *)(r1 +8) = r0\nexit"
    assert refusal("4.19", mark, type="cgroup_skb") == "invalid bpf_context access off=8 size=4"
    assert refusal("4.20", mark, type="cgroup_skb") is None


def test_an_arithmetic_shift_of_32_bits():
    text = "w0 = 4\nw0 s>>= 1\nexit"
    assert refusal("4.15", text) == "BPF_ARSH not supported for 32 bit ALU"
    assert refusal("4.20", text) == "unknown opcode c4"
    assert refusal("5.0", text) is None


KIND_FLAG, INT = 1 << 31, (1, 1 << 24, 4, 1 << 24 | 32)


@pytest.mark.parametrize(
    ("what", "old", "new", "words", "types"),
    [
        ("a global function", "5.5", "5.6", "vlen != 0", [INT, (0, 13 << 24, 0), (5, 12 << 24 | 1, 2)]),
        ("a signed enum", "5.19", "6.0", "Invalid btf_info kind_flag", [(1, KIND_FLAG | 6 << 24 | 1, 4, 5, 0)]),
        ("an enum of a byte", "5.3", "5.4", "Expected size:4", [(1, 6 << 24 | 1, 1, 5, 0)]),
        (
            "bitfields",
            "4.20",
            "5.0",
            "Invalid btf_info:84000001",
            [INT, (1, KIND_FLAG | 4 << 24 | 1, 4, 5, 1, 3 << 24)],
        ),
    ],
)
def test_btf_that_came_later(what, old, new, words, types):
    words_of = [word for one in types for word in one]
    strings = b"\0int\0abc\0"
    body = struct.pack(f"<{len(words_of)}I", *words_of)
    header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(body), len(body), len(strings))
    for version, taken in ((old, False), (new, True), ("6.18", True)):
        task, log, btf = bpfsim.Kernel(version).spawn(), bytearray(4096), header + body + strings
        fields = {"btf": btf, "btf_size": len(btf), "btf_log_buf": log, "btf_log_size": len(log), "btf_log_level": 1}
        if taken:
            task.bpf("BTF_LOAD", **fields)
        else:
            with pytest.raises(OSError, match="Invalid argument"):
                task.bpf("BTF_LOAD", **fields)
            assert words in log.decode()


def test_map_rules_that_came_later():
    def made(version, type, **fields):
        return bpfsim.Kernel(version).spawn().map_create(type, **fields)

    cookies = {"key_size": 4, "value_size": 8, "max_entries": 1}
    for type in ("sockmap", "sockhash"):
        with pytest.raises(OSError, match=r"8 came with Linux 5\.7"):
            made("5.6", type, **cookies)
        made("5.7", type, **cookies)
    shared = {"key_size": 8, "value_size": 8, "max_entries": 0}
    with pytest.raises(OSError, match=r"8 came with Linux 5\.9"):
        made("5.8", "cgroup_storage", **shared)
    made("5.9", "cgroup_storage", **shared)
    for version, errname in (("4.15", "ENOTSUPP"), ("4.16", "ENOENT")):
        trie = made(version, "lpm_trie", key_size=8, value_size=4, max_entries=1, map_flags=1)
        with pytest.raises(OSError) as refused:
            trie.task.bpf("MAP_GET_NEXT_KEY", map_fd=trie.fd, key=bytes(8), next_key=bytearray(8))
        assert refused.value.errname == errname


def test_a_room_that_is_too_short_for_the_packet():
    for version, refuses in (("4.20", False), ("5.0", True)):
        prog = bpfsim.Kernel(version).spawn().prog_load("xdp", "r0 = 2\nexit")
        room = bytearray(b"." * 64)
        fields = {"prog_fd": prog.fd, "data_in": bytes(32), "data_size_in": 32, "data_out": room, "data_size_out": 8}
        if refuses:
            with pytest.raises(OSError, match="No space left"):
                prog.task.bpf("PROG_TEST_RUN", **fields)
        else:
            assert prog.task.bpf("PROG_TEST_RUN", **fields).data_size_out == 32
        assert room == bytes(8) + b"." * 56


INFO_SIZES = [  # measured by a compiler, with include/uapi/linux/bpf.h of each
    ("4.14", 24, 40, None), ("4.15", 40, 80, None), ("4.16", 64, 104, None), ("4.18", 80, 128, None),
    ("5.0", 80, 192, None), ("5.1", 80, 208, None), ("5.8", 80, 208, 32), ("5.12", 80, 216, 32),
    ("5.17", 88, 224, 32), ("6.0", 88, 232, 32), ("6.1", 88, 232, 48), ("6.7", 88, 232, 56),
    ("6.8", 88, 232, 64), ("6.17", 88, 232, 64), ("6.18", 104, 232, 64),
]  # fmt: skip


@pytest.mark.parametrize(("version", "map_size", "prog_size", "link_size"), INFO_SIZES)
def test_how_long_the_structs_of_info_are(version, map_size, prog_size, link_size):
    kernel = bpfsim.Kernel(version)
    task = kernel.spawn()

    def size(fd):
        return task.bpf("OBJ_GET_INFO_BY_FD", bpf_fd=fd, info_len=512, info=bytearray(512)).info_len

    prog = task.prog_load("raw_tracepoint" if version >= "4.17" or version[0] > "4" else "xdp", "r0 = 0\nexit")
    assert (size(task.map_create("array").fd), size(prog.fd)) == (map_size, prog_size)
    if link_size:
        assert size(task.bpf("RAW_TRACEPOINT_OPEN", name=b"sys_enter\0", prog_fd=prog.fd)) == link_size


def test_a_field_that_info_does_not_have_yet():
    """A list asked for behind the struct's end is E2BIG; what lies in its padding reads as 0."""
    for version, refuses in (("4.14", True), ("4.15", False)):
        prog = bpfsim.Kernel(version).spawn().prog_load("xdp", "r0 = 2\nexit")
        raw = bytearray(232)
        _core.set_prog_info_array(raw, "map_ids", 1 << 40, 1)
        fields = {"bpf_fd": prog.fd, "info_len": len(raw), "info": raw}
        if refuses:
            with pytest.raises(OSError, match="Argument list too long"):
                prog.task.bpf("OBJ_GET_INFO_BY_FD", **fields)
        else:
            prog.task.bpf("OBJ_GET_INFO_BY_FD", **fields)
    for version, told in (("4.17", 0), ("4.18", 1)):
        prog, raw = bpfsim.Kernel(version).spawn().prog_load("xdp", "r0 = 2\nexit"), bytearray(232)
        prog.task.bpf("OBJ_GET_INFO_BY_FD", bpf_fd=prog.fd, info_len=len(raw), info=raw)
        assert raw[84] == told
    assert "map_extra" not in bpfsim.Kernel("5.15").spawn().map_create("array").info
    assert "map_extra" in bpfsim.Kernel("5.16").spawn().map_create("array").info


def test_which_lines_fdinfo_has():
    def lines(version):
        task = bpfsim.Kernel(version).spawn()
        both = task.map_create("array"), task.prog_load("xdp", "r0 = 2\nexit")
        return {line.split(":")[0] for one in both for line in task.fdinfo(one.fd).splitlines()}

    for name, since in (
        ("map_id", "4.18"), ("prog_id", "4.18"), ("run_time_ns", "5.1"), ("run_cnt", "5.1"), ("frozen", "5.2"),
        ("recursion_misses", "5.12"), ("map_extra", "5.16"), ("verified_insns", "5.16"),
    ):  # fmt: skip
        assert name not in lines(before(since)) and name in lines(since), name


RAW_TRACEPOINT = {
    "5.6": ({"pos", "flags", "mnt_id", "ino"}, "file (bpf-raw-tracepoint): link (raw_tracepoint), no id"),
    "5.7": ({"pos", "flags", "mnt_id", "ino", "link_type", "prog_tag", "prog_id"}, None),
    "5.8": ({"pos", "flags", "mnt_id", "ino", "link_type", "link_id", "prog_tag", "prog_id", "tp_name"},
            "file (bpf_link): link 1 (raw_tracepoint)"),
}  # fmt: skip


@pytest.mark.parametrize("version", RAW_TRACEPOINT)
def test_a_raw_tracepoint_is_a_link_since(version):
    lines, name = RAW_TRACEPOINT[version]
    k = bpfsim.Kernel(version)
    task = k.spawn()
    prog = task.prog_load("raw_tracepoint", "r0 = 0\nexit")
    fd = task.bpf("RAW_TRACEPOINT_OPEN", name=b"sys_enter\0", prog_fd=prog.fd)
    assert {line.split(":")[0] for line in task.fdinfo(fd).splitlines()} == lines
    assert name in (task.fds[fd], None)
    tells = task.bpf("TASK_FD_QUERY", pid=task.pid, fd=fd)
    assert (tells.prog_id, tells.fd_type) == (prog.id, 0)
    prog.close()
    assert "raw_tracepoint" in str(k.graph()) and not k.leaks()
    task.close(fd)
    assert "raw_tracepoint" not in str(k.graph())


def test_a_link_is_pinned_and_tells_of_itself_since():
    for version, pins, tells in (("5.6", False, False), ("5.7", True, False), ("5.8", True, True)):
        task = bpfsim.Kernel(version).spawn()
        prog = task.prog_load("raw_tracepoint", "r0 = 0\nexit")
        fd = task.bpf("RAW_TRACEPOINT_OPEN", name=b"sys_enter\0", prog_fd=prog.fd)
        for works, command, fields in (
            (pins, "OBJ_PIN", {"pathname": b"/sys/fs/bpf/link\0", "bpf_fd": fd}),
            (tells, "OBJ_GET_INFO_BY_FD", {"bpf_fd": fd, "info_len": 64, "info": bytearray(64)}),
        ):
            if works:
                task.bpf(command, **fields)
            else:
                with pytest.raises(OSError, match="Invalid argument"):
                    task.bpf(command, **fields)


@pytest.mark.parametrize("version", ["4.21", "5.20", "5.99", "6.19", "4.13"])
def test_versions_that_no_machine_boots_as(version):
    with pytest.raises(ValueError, match=r"there was no kernel|machines boot as kernel 4\.14 to 6\.18"):
        bpfsim.Kernel(version)


def test_a_refusal_says_since_when():
    def reason(version, text):
        with pytest.raises(bpfsim.VerifierError) as refused:
            bpfsim.Kernel(version).spawn().prog_load("xdp", text)
        return refused.value.reason

    loop = "r0 = 0\nl:\nr0 += 1\nif r0 < 9 goto l\nexit"
    assert reason("5.2", loop).startswith("back-edge from insn 2 to 1 (since Linux 5.3: ")
    assert reason("5.4", "call bpf_ringbuf_output\nexit").endswith("(it came with Linux 5.8)")
    assert reason("4.20", "w0 = 4\nw0 s>>= 1\nexit").endswith("(this instruction came with Linux 5.0)")
    assert reason("6.18", "exit") == "R0 !read_ok"
    old = bpfsim.Kernel("5.4").spawn()
    with pytest.raises(OSError, match=r"map_flags has BPF_F_MMAPABLE, which came with Linux 5\.5; this is 5\.4"):
        old.map_create("array", map_flags=1024)
    with pytest.raises(OSError, match=r"BPF_MAP_TYPE_RINGBUF came with Linux 5\.8; this is 5\.4"):
        old.map_create("ringbuf", key_size=0, value_size=0, max_entries=4096)
    with pytest.raises(OSError, match=r"or since Linux 5\.8 8 \(ifindex, prog fd\)"):
        old.map_create("devmap", key_size=4, value_size=8, max_entries=1)
    outer = old.map_create("hash_of_maps", value_size=4, inner_map_fd=old.map_create("hash", max_entries=4).fd)
    with pytest.raises(OSError, match=r"max_entries is 8 instead of 4, which a hash may have since Linux 5\.10"):
        outer[0] = old.map_create("hash", max_entries=8).fd
    with pytest.raises(OSError, match="key_size is 8 instead of 4"):
        outer[0] = old.map_create("hash", key_size=8, max_entries=4).fd
    task = bpfsim.Kernel("6.5").spawn()
    prog = task.prog_load("sched_cls", "r0 = 0\nexit")
    words = "BPF_PROG_TYPE_SCHED_CLS is not attached as BPF_TCX_INGRESS, which came with Linux 6.6"
    with pytest.raises(OSError, match=words):
        task.bpf("LINK_CREATE", prog_fd=prog.fd, target_ifindex=1, attach_type="tcx_ingress")


CTX = "invalid bpf_context access off={} size={}"
LATER_VERDICTS = [  # of a version that refuses and the first that takes it: type, expected attach type, program, words
    ("6.3", "6.4", "sched_cls", 0, "*(u32 *)(r1 +8) = 1\nr0 = 0\nexit", "BPF_ST stores into R1 ctx is not allowed"),
    ("4.19", "6.4", "sched_cls", 0, "*(u32 *)(r1 +8) = 1\nr0 = 0\nexit", "BPF_ST stores into R1 context"),
    ("5.11", "5.12", "cgroup_sock_addr", 8, "r0 = 2\nexit", "has value (0x2; 0x0) should have been in (0x0; 0x1)"),
    ("5.11", "5.12", "cgroup_sock_addr", 9, "r0 = 3\nexit", "has value (0x3; 0x0) should have been in (0x0; 0x1)"),
    ("5.2", "5.3", "cgroup_skb", 1, "r0 = 3\nexit", "has value (0x3; 0x0) should have been in (0x0; 0x1)"),
    ("5.1", "5.3", "cgroup_skb", 1, "r0 = 3\nexit", "has value (0x3; 0x0) should have been 0 or 1"),
    ("4.20", "5.0", "sched_cls", 0, "r0 = *(u8 *)(r1 +1)\nr0 = 0\nexit", CTX.format(1, 1)),
    ("4.14", "5.0", "sched_cls", 0, "r0 = *(u16 *)(r1 +2)\nr0 = 0\nexit", CTX.format(2, 2)),
    ("5.7", "5.8", "cgroup_sock_addr", 10, "r0 = *(u16 *)(r1 +24)\nr0 = 1\nexit", CTX.format(24, 2)),
    ("5.2", "5.3", "cgroup_sock_addr", 11, "r0 = *(u64 *)(r1 +8)\nr0 = 1\nexit", CTX.format(8, 8)),
    ("5.2", "5.3", "cgroup_sock_addr", 11, "r0 = 1\n*(u64 *)(r1 +16) = r0\nexit", CTX.format(16, 8)),
    ("5.0", "5.1", "cgroup_sock", 2, "r0 = *(u8 *)(r1 +12)\nr0 = 1\nexit", CTX.format(12, 1)),
    ("5.0", "5.1", "cgroup_sock", 2, "r0 = *(u16 *)(r1 +8)\nr0 = 1\nexit", CTX.format(8, 2)),
    ("5.0", "5.1", "cgroup_sock", 12, "r0 = *(u16 *)(r1 +44)\nr0 = 1\nexit", CTX.format(44, 2)),
    ("5.0", "5.1", "sched_cls", 0, "r0 = 0\n*(u32 *)(r1 +12) = r0\nexit", CTX.format(12, 4)),
]  # fmt: skip


@pytest.mark.parametrize("verdict", LATER_VERDICTS, ids=lambda one: f"{one[2]} {one[0]}")
def test_a_verdict_of_an_older_kernel(verdict):
    old, new, type, attach, text, words = verdict

    def load(version):
        return bpfsim.Kernel(version).spawn().prog_load(type, text, expected_attach_type=attach)

    with pytest.raises(bpfsim.VerifierError) as refused:
        load(old)
    assert words in refused.value.log
    load(new)
    load("6.18")


def test_what_older_kernels_refuse_only_in_part():
    """What lies beside a rule that came later, and was taken before it too."""
    for version, type, attach, text in (
        ("4.14", "cgroup_skb", 0, "r0 = 7\nexit"),  # nobody looked at what it returns
        ("4.14", "sched_cls", 0, "r0 = *(u8 *)(r1 +8)\nr0 = 0\nexit"),
        ("4.19", "cgroup_sock", 13, "r0 = *(u8 *)(r1 +28)\nr0 = 1\nexit"),
        ("4.19", "cgroup_sock_addr", 11, "r0 = *(u16 *)(r1 +8)\nr0 = 1\nexit"),
        ("4.19", "cgroup_sock_addr", 11, "r0 = 1\n*(u32 *)(r1 +8) = r0\nexit"),
        ("4.19", "sk_reuseport", 1, "r0 = 1\nexit"),
        ("5.12", "sk_reuseport", 1, "r0 = 1\nexit"),
        ("5.2", "cgroup_skb", 2, "r0 = 1\nexit"),
    ):
        fields = {"expected_attach_type": attach} if attach else {}
        bpfsim.Kernel(version).spawn().prog_load(type, text, **fields)
    for version, type, attach in (("5.14", "sk_reuseport", 1), ("5.3", "cgroup_skb", 2)):
        with pytest.raises(OSError, match="is not attached as expected_attach_type"):
            bpfsim.Kernel(version).spawn().prog_load(type, "r0 = 1\nexit", expected_attach_type=attach)


LOOKUP = """
    *(u32 *)(r10 -4) = 0
    r2 = r10
    r2 += -4
    r1 = map[m]
    call bpf_map_lookup_elem
"""
NESTED = (
    LOOKUP
    + """
    if r0 == 0 goto out
    r2 = r0
    r1 = map[m]
    call bpf_map_lookup_elem
out:
    r0 = 2
    exit"""
)
DELETE = """
    r6 = r1
    *(u32 *)(r10 -4) = 0
    r1 = map[m]
    r2 = r10
    r2 += -4
    call bpf_map_delete_elem
    r0 = 1
    exit"""
MAP_USES = [  # as above, with a map
    ("5.2", "5.3", "xdp", "devmap", 4, LOOKUP + END, "cannot pass map_type 14 into func bpf_map_lookup_elem#1"),
    ("5.2", "5.3", "xdp", "xskmap", 4, LOOKUP + END, "cannot pass map_type 17 into func bpf_map_lookup_elem#1"),
    ("4.17", "4.18", "xdp", "array", 8, NESTED, "R2 type=map_value expected=fp"),
    ("5.8", None, "xdp", "array", 8, "r1 = map[m]\nr0 = *(u32 *)(r1 +0)" + END, "R1 invalid mem access 'map_ptr'"),
    ("6.10", None, "cgroup_skb", "sockmap", 4, DELETE, "cannot update sockmap in this context"),
]  # fmt: skip


@pytest.mark.parametrize("use", MAP_USES, ids=lambda one: f"{one[3]} {one[0]}")
def test_a_use_of_a_map_that_came_later(use):
    old, new, type, map, value_size, text, words = use

    def load(version):
        task = bpfsim.Kernel(version).spawn()
        return task.prog_load(type, text, maps={"m": task.map_create(map, key_size=4, value_size=value_size)})

    with pytest.raises(bpfsim.VerifierError) as refused:
        load(old)
    assert words in refused.value.log
    if new:
        load(new)
        load("6.18")
    elif map == "sockmap":
        load("6.9")
    else:
        with pytest.raises(bpfsim.VerifierError, match="not modelled yet: reading the fields of a map"):
            load("5.9")


def test_functions_beside_tail_calls_and_packet_loads():
    """Before 5.10 neither goes with functions, with or without BTF."""
    tail_call = "call f\nexit\nf:\nr2 = map[m]\nr3 = 0\ncall bpf_tail_call\nr0 = 0\nexit"
    packet = "r6 = r1\ncall f\nr0 = *(u8 *)skb[0]\nexit\nf:\nr0 = 0\nexit"
    for version, words in (
        ("4.19", "tail_calls are not allowed in programs with bpf-to-bpf calls"),
        ("5.9", "tail_calls are not allowed in programs with bpf-to-bpf calls"),
        ("5.10", "tail_call is not allowed in subprogs without BTF"),
    ):
        task = bpfsim.Kernel(version).spawn()
        with pytest.raises(bpfsim.VerifierError) as refused:
            task.prog_load("xdp", tail_call, maps={"m": task.map_create("prog_array", value_size=4)})
        assert words in refused.value.log
    assert refusal("5.9", packet, type="sched_cls").startswith("BPF_LD_[ABS|IND] instructions cannot be mixed with")
    assert "BPF_LD_[ABS|IND] instructions" not in refusal("5.10", packet, type="sched_cls")


@pytest.mark.parametrize(
    ("version", "type", "text", "later"),
    [
        ("5.4", "xdp", "r0 = *(u32 *)(r1 +20)" + END, "xdp_md.egress_ifindex came with Linux 5.8"),
        ("5.4", "sched_cls", "r0 = *(u32 *)(r1 +176)" + END, "__sk_buff.gso_size came with Linux 5.7"),
        ("5.4", "sched_cls", "r0 = *(u64 *)(r1 +184)" + END, "__sk_buff.hwtstamp came with Linux 5.16"),
        ("4.15", "xdp", "r0 = *(u32 *)(r1 +16)" + END, "xdp_md.ingress_ifindex to rx_queue_index came with Linux 4.16"),
        ("5.4", "xdp", ON_STACK + "r1 = atomic_fetch_add((u64 *)(r10 -8), r1)" + END,
         "this instruction came with Linux 5.12"),
        ("5.4", "xdp", "r1 = 7\nr1 s/= 2" + END, "this instruction came with Linux 6.6"),
        ("5.4", "xdp", "r1 = 7\nr2 = (s8)r1" + END, "this instruction came with Linux 6.6"),
        ("4.19", "sched_cls", "r0 = *(u8 *)(r1 +1)" + END,
         "since Linux 5.0: from any offset that its size divides"),
        ("5.0", "sched_cls", "r0 = 0\n*(u32 *)(r1 +12) = r0" + END, "since Linux 5.1: and writes it"),
        ("6.3", "sched_cls", "*(u32 *)(r1 +8) = 1" + END, "since Linux 6.4: it stores what a register may store"),
    ],
)  # fmt: skip
def test_a_refusal_names_what_came_later(version, type, text, later):
    with pytest.raises(bpfsim.VerifierError) as refused:
        bpfsim.Kernel(version).spawn().prog_load(type, text)
    assert refused.value.reason.endswith(f" ({later})")


def test_a_refusal_that_no_later_kernel_mends_names_none():
    for type, text in (("xdp", "r0 = *(u32 *)(r1 +40)" + END), ("sched_cls", "r0 = *(u64 *)(r1 +8)" + END)):
        with pytest.raises(bpfsim.VerifierError) as refused:
            bpfsim.Kernel("5.4").spawn().prog_load(type, text)
        assert "Linux" not in refused.value.reason
    with pytest.raises(OSError, match=r"prog_flags has BPF_F_SLEEPABLE, which came with Linux 5\.10; this is 5\.4"):
        bpfsim.Kernel("5.4").spawn().prog_load("xdp", "r0 = 2\nexit", prog_flags=16)
    with pytest.raises(OSError, match="this version knows the bits"):
        bpfsim.Kernel("5.4").spawn().prog_load("xdp", "r0 = 2\nexit", prog_flags=1 << 20)


def test_a_gate_says_truly_whether_it_is_modelled():
    """What code asks about is modelled; what is told only, no code asks about."""
    code = subprocess.run(
        ["grep", "-rhow", r"Gate::\w*", "--include=*.cpp", "--include=*.h", "sim"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    asked = {name.removeprefix("Gate::") for name in code}
    table = (ROOT / "sim/uapi/gates.def").read_text().splitlines()
    for row in bpfsim.Kernel().gates:
        kind = next(line for line in table if f"({row['name']}," in line).split("(")[0]
        assert (kind == "GATE") == (row["name"] in asked), row["name"]
        assert row["modelled"] == (kind != "GATE_TOLD"), row["name"]


CUBIC = {"name": "own", "ssthresh": "r0 = 1\nexit", "cong_avoid": "r0 = 0\nexit", "undo_cwnd": "r0 = 1\nexit"}
LOAD = ("tracing", "r0 = 0\nexit")
NEWER = [
    ("4.14", lambda t: t.struct_ops("tcp_congestion_ops", CUBIC), "BPF_MAP_TYPE_STRUCT_OPS came with Linux 5.6"),
    ("5.4", lambda t: t.struct_ops("tcp_congestion_ops", CUBIC), "BPF_MAP_TYPE_STRUCT_OPS came with Linux 5.6"),
    ("5.4", lambda t: t.prog_load(*LOAD, expected_attach_type="BPF_TRACE_ITER", target="bpf_map"), "Linux 5.5"),
    ("5.4", lambda t: t.prog_load(*LOAD, expected_attach_type="BPF_TRACE_FENTRY", target="vfs_read"), "Linux 5.5"),
    ("4.14", lambda t: t.map_create("array", name="cnt"), "byte 28 is map_name, which came with Linux 4.15"),
    ("4.14", lambda t: t.prog_load("xdp", "r0 = 2\nexit", name="p"), "is prog_name, which came with Linux 4.15"),
    *(
        (version, lambda t: t.prog_attach(t.prog_load("sched_cls", "r0 = 0\nexit"), "eth0", "BPF_TCX_INGRESS"), words)
        for version, words in [("5.4", "BPF_TCX_INGRESS came with Linux 6.6"), ("6.1", "BPF_TCX_INGRESS came with")]
    ),
]


@pytest.mark.parametrize(("version", "call", "words"), NEWER)
def test_what_a_version_does_not_have_is_an_oserror_that_says_since_when(version, call, words):
    task = bpfsim.Kernel(version).spawn()
    with pytest.raises(OSError, match=words):
        call(task)


def test_a_mistyped_name_is_no_matter_of_the_version():
    task = bpfsim.Kernel("6.1").spawn()
    fds = len(task.fds)
    for call in (
        lambda: task.struct_ops("tcp_congestion", {}),
        lambda: task.prog_load(*LOAD, expected_attach_type="BPF_TRACE_FENTRY", target="vfs_raed"),
    ):
        with pytest.raises(ValueError, match="no "):
            call()
    assert len(task.fds) == fds
