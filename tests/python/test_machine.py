"""The machine as a lesson uses it: handles, errors with reasons, lives of objects, recordings."""

from __future__ import annotations

import errno
import re
import struct

import bpfsim
import btf_bytes
import pytest
from bpfsim import _core
from hypothesis import given, settings
from hypothesis import strategies as st

DROP = "r0 = 1\nexit"


@pytest.fixture
def k():
    return bpfsim.Kernel()


def agree(k: bpfsim.Kernel) -> None:
    """Refcounts equal the strong edges that a walk finds, and nothing is out of reach."""
    assert _core.graph_disagreements(k) == []
    assert k.leaks() == []


def test_a_map_is_a_mapping(k):
    m = k.spawn().map_create("hash", key_size=4, value_size=8, max_entries=4, name="counts")
    m[1], m[2] = 10, 20
    assert (m[1], dict(m.items()), len(m), 2 in m, 3 in m) == (10, {1: 10, 2: 20}, 2, True, False)
    del m[1]
    with pytest.raises(KeyError):
        _ = m[1]
    assert m.info["name"] == "counts"


def test_a_full_hash_is_e2big(k):
    m = k.spawn().map_create("hash", key_size=4, value_size=4, max_entries=2)
    m[1], m[2] = 1, 2
    with pytest.raises(OSError) as full:
        m[3] = 3
    assert full.value.errname == "E2BIG"


def test_per_cpu_values_come_one_for_each_cpu():
    m = bpfsim.Kernel(cpus=3).spawn().map_create("percpu_array", key_size=4, value_size=4, max_entries=1)
    m[0] = [1, 2, 3]
    assert m[0] == [1, 2, 3]


def test_a_queue_pops_what_was_pushed_first(k):
    q = k.spawn().map_create("queue", key_size=0, value_size=4, max_entries=2)
    q.push(1)
    q.push(2)
    assert (q.peek(), q.pop(), q.pop()) == (1, 1, 2)
    with pytest.raises(KeyError):
        q.pop()


def test_a_refusal_names_the_check_and_the_reason(k):
    with pytest.raises(OSError) as refused:
        k.spawn().map_create("queue", key_size=4)
    error = refused.value
    assert (error.errname, error.check) == ("EINVAL", "queue_stack_map_alloc_check")
    assert "key_size" in error.reason


def test_a_wrong_name_gets_the_nearest_right_one(k):
    with pytest.raises(ValueError, match="hash"):
        k.spawn().map_create("hahs")
    with pytest.raises(TypeError, match="key_size"):
        k.spawn().bpf("MAP_CREATE", map_type="hash", keysize=4)


def test_a_wild_pointer_is_efault(k):
    task = k.spawn()
    fd = task.bpf("MAP_CREATE", map_type="hash", key_size=4, value_size=4, max_entries=1)
    for address in (0, 8, 0xDEAD0000, 0xFFFF888000000000, (1 << 64) - 8):
        with pytest.raises(OSError) as refused:
            task.bpf("MAP_LOOKUP_ELEM", map_fd=fd, key=address, value=address)
        assert refused.value.errname == "EFAULT"


@settings(max_examples=300, deadline=None)
@given(st.integers(-2, 45), st.binary(min_size=0, max_size=200))
def test_any_attr_gets_an_errno_and_no_crash(command, attr):
    k = bpfsim.Kernel()
    task = k.spawn()
    task.map_create("array", max_entries=2)
    assert task.sys_bpf(command, bytearray(attr)) >= -524
    agree(k)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, (1 << 64) - 1), min_size=1, max_size=12), st.sampled_from(["xdp", "socket_filter"]))
def test_any_program_gets_a_verdict_and_no_crash(words, kind):
    k = bpfsim.Kernel()
    code = b"".join(word.to_bytes(8, "little") for word in words)
    try:
        k.spawn().prog_load(kind, code)
    except bpfsim.VerifierError as refused:
        assert refused.errno > 0
    agree(k)


@pytest.mark.parametrize("size", [0, 1, 13, 14, 64, 1500, 4096, 65536])
def test_packets_of_any_size_arrive(k, size):
    task, eth0 = k.spawn(), k.net_device("eth0")
    task.link_create(task.prog_load("xdp", "r0 = 2\nexit"), eth0)
    assert eth0.receive(bytes(size)).verdict.startswith("XDP_")


def test_a_program_lives_as_long_as_its_last_descriptor(k):
    task = k.spawn()
    program = task.prog_load("xdp", DROP)
    seen = program.object
    child = task.fork()
    program.close()
    agree(k)
    assert seen.alive
    child.exit()
    assert not seen.alive
    with pytest.raises(ReferenceError):
        _ = seen.refcnt


def test_a_pin_outlives_the_process(k):
    task = k.spawn()
    program = task.prog_load("xdp", DROP)
    program.pin("/sys/fs/bpf/drop")
    seen = program.object
    task.exit()
    agree(k)
    assert seen.alive
    assert "/sys/fs/bpf/drop" in seen.why_alive()
    other = k.spawn()
    assert other.listdir("/sys/fs/bpf") == ["drop"]
    other.unlink("/sys/fs/bpf/drop")
    assert not seen.alive


def test_a_link_holds_its_program_and_detaches_when_it_goes(k):
    task, eth0 = k.spawn(), k.net_device("eth0")
    program = task.prog_load("xdp", DROP)
    link = task.link_create(program, eth0)
    program.close()
    agree(k)
    assert eth0.receive(bytes(64)).verdict == "XDP_DROP"
    link.close()
    assert eth0.receive(bytes(64)).verdict == "XDP_PASS"
    agree(k)


def test_netlink_attaches_with_attribute_43(k):
    task, eth0 = k.spawn(), k.net_device("eth0")
    program = task.prog_load("xdp", DROP)
    message = task.rtnl_setlink_xdp(eth0, program)
    assert "IFLA_XDP_FD" in repr(message)
    program.close()
    assert eth0.receive(bytes(64)).verdict == "XDP_DROP"
    agree(k)
    task.rtnl_setlink_xdp(eth0, -1)
    assert eth0.receive(bytes(64)).verdict == "XDP_PASS"


def test_rcu_can_be_held_open(k):
    task = k.spawn()
    program = task.prog_load("xdp", DROP)
    seen = program.object
    k.rcu_hold()
    program.close()
    assert k.rcu_waiting
    assert seen.alive
    assert k.rcu_release() >= 1
    assert not seen.alive


def test_the_ledger_sums_up_to_the_counter(k):
    m = k.spawn().map_create("hash", max_entries=1)
    m.pin("/sys/fs/bpf/m")
    rows = [row for row in m.ledger if row["counter"] == "refcnt"]
    assert sum(row["delta"] for row in rows) == m.refcnt == 2
    assert m.usercnt == 2


def test_a_map_that_only_a_program_holds_has_no_user(k):
    task = k.spawn()
    m = task.map_create("hash", key_size=4, value_size=8, max_entries=1)
    seen = m.object
    task.prog_load("xdp", "r1 = map[m]\nr0 = 2\nexit", maps={"m": m})
    assert (m.refcnt, m.usercnt) == (2, 1)
    m.close()
    assert (seen.refcnt, seen.usercnt) == (1, 0)


# The order in which 6.18's bpf_check() calls its passes for a privileged load, read in the kernel's source.
PASSES = [
    "check_btf_info_early",
    "add_subprog_and_kfunc",
    "check_subprogs",
    "check_btf_info",
    "resolve_pseudo_ldimm64",
    "check_cfg",
    "compute_postorder",
    "check_attach_btf_id",
    "compute_scc",
    "compute_live_registers",
    "mark_fastcall_patterns",
    "do_check_main",
    "do_check_subprogs",
    "remove_fastcall_spills_fills",
    "check_max_stack_depth",
    "optimize_bpf_loop",
    "opt_hard_wire_dead_code_branches",
    "opt_remove_dead_code",
    "opt_remove_nops",
    "convert_ctx_accesses",
    "do_misc_fixups",
    "opt_subreg_zext_lo32_rnd_hi32",
    "fixup_call_args",
]


def test_a_load_passes_the_kernels_functions_in_the_kernels_order(k):
    names = k.spawn().prog_load("xdp", DROP).trace.functions.names()
    assert [name for name in names if name in PASSES] == PASSES
    outer = ["__sys_bpf", "bpf_prog_load", "bpf_check", "bpf_prog_select_runtime", "bpf_prog_alloc_id"]
    assert [name for name in names if name in outer] == outer


def test_stages_show_the_program_before_and_after_each_pass(k):
    task = k.spawn()
    m = task.map_create("array", max_entries=1)
    text = "r6 = *(u32 *)(r1 +0)\nr1 = map[m]\nr0 = 2\nexit"
    stages = task.prog_load("xdp", text, maps={"m": m}).stages
    assert stages[0].name == "bpf_prog_load"
    changed = [after.name for _, after in stages.changed()]
    assert "resolve_pseudo_ldimm64" in changed
    assert "convert_ctx_accesses" in changed


def test_the_same_seed_gives_the_same_run():
    def run() -> tuple[list[str], int]:
        k = bpfsim.Kernel(seed=7)
        program = k.spawn().prog_load("socket_filter", "call bpf_get_prandom_u32\nexit")
        return [program.log, str(program.trace.functions)], program.test_run(bytes(64)).retval

    assert run() == run()


def test_older_kernels_refuse_what_they_lack():
    loop = "r0 = 0\nagain:\nr0 += 1\nif r0 < 4 goto again\nexit"
    bpfsim.Kernel("5.3").spawn().prog_load("xdp", loop)
    with pytest.raises(bpfsim.VerifierError) as refused:
        bpfsim.Kernel("5.2").spawn().prog_load("xdp", loop)
    assert "back-edge" in refused.value.log


def test_gpl_only_helpers_want_a_gpl_license(k):
    text = "r1 = r10\nr1 += -8\n*(u64 *)(r1 +0) = 0\nr2 = 3\ncall bpf_trace_printk\nr0 = 2\nexit"
    k.spawn().prog_load("xdp", text)
    with pytest.raises(bpfsim.VerifierError) as refused:
        k.spawn().prog_load("xdp", text, license="Proprietary")
    assert "cannot call GPL-restricted function from non-GPL compatible program" in refused.value.log


def test_sysctls_are_the_kernels(k):
    assert k.sysctl["net.core.bpf_jit_enable"] == 1
    k.sysctl["kernel.unprivileged_bpf_disabled"] = 1
    with pytest.raises(OSError) as refused:
        k.sysctl["kernel.unprivileged_bpf_disabled"] = 0
    assert refused.value.errname == "EPERM"
    with pytest.raises(OSError, match="no such sysctl"):
        k.sysctl["net.core.bpf_jit"]


def test_capabilities_are_asked_for(k):
    task = k.spawn("student", uid=1000)
    with pytest.raises(OSError) as refused:
        task.map_create("hash")
    assert refused.value.errname == "EPERM"
    task.set_caps(["CAP_BPF"])
    task.map_create("hash")
    with pytest.raises(OSError) as refused:
        task.prog_load("xdp", DROP)
    assert refused.value.errname == "EPERM"
    task.set_caps(["CAP_BPF", "CAP_NET_ADMIN"])
    task.prog_load("xdp", DROP)


def test_bad_machines_are_refused_in_words():
    for wrong in ("7.0", "3.18", "six"):
        with pytest.raises(ValueError, match="kernel"):
            bpfsim.Kernel(wrong)
    with pytest.raises(ValueError, match="CPUs"):
        bpfsim.Kernel(cpus=0)
    with pytest.raises(KeyError):
        bpfsim.Kernel().net_device("eth9")


def test_a_program_can_be_stepped(k):
    program = k.spawn().prog_load("xdp", "r0 = 1\nr0 += 1\nexit")
    seen = [(run.pc, run.insn, run.registers[0]) for run in program.steps(bytes(64))]
    assert [step[:2] for step in seen] == [(0, "(b7) r0 = 1"), (1, "(07) r0 += 1"), (2, "(95) exit")]
    assert [step[2] for step in seen[1:]] == [1, 2]


def test_a_program_that_is_being_stepped_keeps_what_it_uses(k):
    task = k.spawn()
    program = task.prog_load("xdp", DROP)
    seen, steps = program.object, program.steps(bytes(64))
    run = next(steps)
    program.close()
    assert seen.alive
    assert list(steps) and run.result == 1
    assert not seen.alive


def test_gates_say_since_when_and_how_that_is_known():
    new, old = ({row["name"]: row for row in bpfsim.Kernel(v).gates} for v in ("6.18", "5.2"))
    assert new["bounded_loops"]["here"] and not old["bounded_loops"]["here"]
    assert {row["evidence"] for row in new.values()} <= {"measured", "source", "list", "unverified"}


@pytest.mark.parametrize(("version", "says"), [("5.2", "BPF program is too complex"), ("5.3", None), ("6.18", None)])
def test_how_many_branches_may_wait(version, says):
    branches = "".join(f"if r0 == {i} goto out\n" for i in range(1500))
    program = f"call bpf_get_prandom_u32\n{branches}out:\nr0 = 1\nexit"
    task = bpfsim.Kernel(version).spawn()
    if says is None:
        task.prog_load("xdp", program)
    else:
        with pytest.raises(bpfsim.VerifierError, match=says):
            task.prog_load("xdp", program)


def test_a_machine_is_recorded_once_at_a_time_and_a_load_inside_has_its_part(k):
    task = k.spawn()
    with k.trace() as outer:
        with pytest.raises(RuntimeError, match="recorded already"), k.trace():
            pass
        task.map_create("hash")
        program = task.prog_load("xdp", DROP)
        task.map_create("array")
    assert "map_create" in outer.functions.names()
    assert "map_create" not in program.trace.functions.names()
    assert "bpf_check" in program.trace.functions.names()
    assert len(program.stages) > 3


def test_numbers_of_one_machine_are_refused_on_another(k):
    task, other = k.spawn(), bpfsim.Kernel()
    theirs = other.spawn().map_create("array")
    with pytest.raises(ValueError, match="another machine"):
        task.prog_load("xdp", "r1 = map[m]\nr0 = 1\nexit", maps={"m": theirs})
    with pytest.raises(ValueError, match="another machine"):
        task.link_create(task.prog_load("xdp", DROP), other.net_device("eth0"))


def test_a_process_that_has_ended_does_nothing_more(k):
    task = k.spawn()
    task.exit()
    with pytest.raises(OSError):
        task.fork()
    with pytest.raises(OSError):
        task.map_create("hash")


def test_stages_count_the_slots_that_jumps_count(k):
    task = k.spawn()
    text = "r1 = map[m]\nr0 = 1\nexit"
    stages = task.prog_load("xdp", text, maps={"m": task.map_create("array")}).stages
    assert "2: (b7) r0 = 1" in str(stages)


def test_keyed_and_keyless_maps_say_which_they_are(k):
    task = k.spawn()
    with pytest.raises(TypeError, match="has keys"):
        task.map_create("hash").peek()
    with pytest.raises(ValueError, match="no keys"):
        _ = task.map_create("queue", key_size=0)[0]


@pytest.mark.parametrize(
    ("call", "raised", "words"),
    [
        (
            lambda: bpfsim.Kernel(config={"CONFIG_NET": False}),
            ValueError,
            "not modelled yet: a machine without CONFIG_NET",
        ),
        (lambda: bpfsim.Kernel(config={"CONFIG_BPF_JTI": True}), KeyError, "did you mean CONFIG_BPF_JIT?"),
        (lambda: bpfsim.Kernel().spawn(caps=["CAP_BFP"]), ValueError, "did you mean 'CAP_BPF'?"),
        (lambda: bpfsim.Kernel().sysctl["net.core.bpf_jit_enabel"], OSError, "did you mean net.core.bpf_jit_enable?"),
        (lambda: closed_map()[1], ValueError, "this map's descriptor is closed"),
        (lambda: bpfsim.Kernel().spawn().map_create("array").pin(None), TypeError, "a path is a str"),
        (
            lambda: bpfsim.Kernel("4.14").spawn().prog_load("xdp", "r0 = 0\nexit", name="new"),
            OSError,
            "byte 48 is prog_name",
        ),
    ],
)
def test_a_slip_gets_a_word_that_helps(call, raised, words):
    with pytest.raises(raised, match=re.escape(words)):
        call()


def closed_map():
    m = bpfsim.Kernel().spawn().map_create("array")
    m.close()
    return m


def test_perf_events_are_descriptors_that_can_be_read():
    k = bpfsim.Kernel()
    task = k.spawn("perf")
    k.add_function("my_function")
    fds = [
        task.perf_event_open("software", "cpu-clock"),
        task.perf_event_open("tracepoint", "sched:sched_switch"),
        task.perf_event_open("kretprobe", "my_function"),
    ]
    assert "kretprobe my_function" in repr(task.object_at(fds[2]))
    assert len(task.read(fds[0], 8)) == 8
    assert task.ioctl(fds[0], 0x2400) == 0
    with pytest.raises(OSError) as refused:
        task.perf_event_open("kprobe", "no_such_function")
    assert refused.value.errno == errno.ENOENT
    with pytest.raises(ValueError):
        task.perf_event_open("tracepoint", "no:such")
    assert bpfsim._core.graph_disagreements(k) == []


def test_a_task_begins_with_three_descriptors_of_its_terminal(k):
    task = k.spawn()
    assert task.fds == {0: "file (tty)", 1: "file (tty)", 2: "file (tty)"}
    child = task.fork()
    assert child.fds == task.fds
    m = task.map_create("array", key_size=4, value_size=8, max_entries=1)
    assert m.fd == 3
    for fd in (0, 1, 2):
        attr = bytearray(168)
        attr[0] = fd
        assert task.sys_bpf(1, attr) == -errno.EINVAL
    task.close(1)
    assert 1 not in task.fds
    assert task.dup(0) == 1  # the lowest that is free
    assert "tty" not in str(k.graph().to_json())
    agree(k)
    child.exit()
    task.exit()
    agree(k)


def test_open_and_pidfd_open_give_descriptors(k):
    task = k.spawn()
    task.mkdir("/sys/fs/bpf/dir")
    fd = task.open("/sys/fs/bpf/dir")
    assert task.fds[fd] == "file (bpffs): dir /sys/fs/bpf/dir"
    with pytest.raises(FileNotFoundError):
        task.open("/sys/fs/bpf/nothing")
    pidfd = task.pidfd_open(task.pid)
    assert task.object_at(pidfd).label == "task 470 (bash)"
    with pytest.raises(ProcessLookupError):
        task.pidfd_open(1)
    agree(k)


PIDS = """
r6 = *(u64 *)(r1 + 0)
r7 = *(u64 *)(r1 + 8)
if r7 == 0 goto end
r3 = *(u32 *)(r7 + 1264)
*(u32 *)(r10 - 4) = r3
r1 = *(u64 *)(r6 + 0)
r2 = r10
r2 += -4
r3 = 4
call 127
end:
r0 = 0
exit
"""


def test_an_iterator_tells_the_pid_of_each_task(k):
    task = k.spawn("reader")
    others = [k.spawn("one"), k.spawn("two")]
    target = k.btf_id("bpf_iter_task")
    prog = task.prog_load("tracing", PIDS, expected_attach_type="trace_iter", attach_btf_id=target)
    link = task.bpf("LINK_CREATE", prog_fd=prog.fd, attach_type="trace_iter")
    file = task.bpf("ITER_CREATE", link_fd=link)
    text = task.read(file)
    pids = [int.from_bytes(text[i : i + 4], "little") for i in range(0, len(text), 4)]
    assert pids == [task.pid, *(other.pid for other in others)]
    assert task.read(file) == b""
    assert "bpf_iter" in repr(task.fds[file])
    with pytest.raises(ValueError):
        k.btf_id("no_such_function")


def test_a_raw_tracepoint_is_opened_and_queried(k):
    task = k.spawn("tracer")
    prog = task.prog_load("raw_tracepoint", "r0 = 0\nexit")
    link = task.bpf("RAW_TRACEPOINT_OPEN", name="sys_enter", prog_fd=prog.fd)
    name = bytearray(16)
    reply = task.bpf("TASK_FD_QUERY", pid=task.pid, fd=link, buf=name, buf_len=len(name))
    assert bytes(name).rstrip(b"\0") == b"sys_enter"
    assert (reply.buf_len, reply.fd_type) == (9, 0)
    assert task.object_at(link).refcnt == 1


def test_a_program_holds_the_types_that_its_fd_array_names():
    k = bpfsim.Kernel()
    task = k.spawn()
    blob = btf_bytes.blob(btf_bytes.integer())
    m = task.map_create("array")
    types = [int(task.bpf("BTF_LOAD", btf=blob, btf_size=len(blob))) for _ in range(3)]

    def load(*fds):
        array = struct.pack(f"{len(fds)}i", *fds)
        insns = "r0 = 1\nexit"
        return task.bpf("PROG_LOAD", prog_type="xdp", insns=insns, license="GPL", fd_array=array, fd_array_cnt=len(fds))

    prog = bpfsim.Prog(task, int(load(m.fd, types[0], types[1], types[0])))
    for fd in types[:2]:
        task.close(fd)
    held = [e.via for e in k.graph().edges if e.via.startswith("used_")]
    assert held == ["used_maps[0]", "used_btfs[0]", "used_btfs[1]"]
    assert [n.label for n in k.graph().nodes if n.label in ("btf 2", "btf 3")] == ["btf 2", "btf 3"]
    prog.close()
    assert not [n for n in k.graph().nodes if n.label in ("btf 2", "btf 3")]
    with pytest.raises(OSError) as refused:
        load(types[2], 0)
    assert refused.value.errno == errno.EINVAL
    with pytest.raises(OSError, match="The total number of btfs"):
        load(*[int(task.bpf("BTF_LOAD", btf=blob, btf_size=len(blob))) for _ in range(65)])


def test_a_run_shows_what_the_program_returned():
    k = bpfsim.Kernel()
    prog = k.spawn().prog_load("xdp", "r0 = 2\nexit")
    run = prog.test_run(bytes(64))
    assert run == 0 and run.retval == 2
    assert repr(run).startswith("<retval 2, duration ") and f"{run}" == str(run) == repr(run)


def test_a_packet_that_no_program_saw_does_not_say_pass():
    k = bpfsim.Kernel()
    eth0 = k.net_device("eth0")
    assert repr(eth0.receive(bytes(64))) == "<Receipt to the stack, no program ran>"
    task = k.spawn()
    task.rtnl_setlink_xdp("eth0", task.prog_load("xdp", "r0 = 1\nexit"))
    assert repr(eth0.receive(bytes(64))) == "<Receipt XDP_DROP>"
    for size, why in [(13, "shorter than an Ethernet header"), (5000, "longer than the program's buffer")]:
        receipt = eth0.receive(bytes(size))
        assert receipt.dropped and not receipt.ran and receipt.refused == why
        assert repr(receipt) == f"<Receipt dropped by the driver: {size} bytes, {why}>"


def test_a_map_is_linked_to_no_device():
    k = bpfsim.Kernel()
    task = k.spawn()
    with pytest.raises(TypeError, match=r"a program is linked to a hook, and counts is a map \(array\)"):
        task.link_create(task.map_create("array", name="counts"), "eth0")


def test_a_label_keeps_the_id_that_is_gone():
    k = bpfsim.Kernel()
    task = k.spawn()
    prog = task.prog_load("xdp", "r0 = 2\nexit", name="count")
    k.rcu_hold()
    prog.close()
    assert k.rcu_waiting == ["prog 1 (count)"]
    assert "prog 1 (count), id gone" in [node.label for node in k.graph().nodes]
    k.rcu_release()
    assert task.prog_load("xdp", "r0 = 2\nexit", name="count").object.label == "prog 2 (count)"
