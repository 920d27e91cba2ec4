"""What an older kernel refuses, in its words, and the version that takes it: the gates, seen from outside."""

from __future__ import annotations

import subprocess
from pathlib import Path

import bpfsim
import pytest

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
