"""Handles: a descriptor whose number was given anew, what only a simulated machine can show, and loads in threads."""

from __future__ import annotations

import copy
import sys
import threading

import bpfsim
import pytest
from bpfsim.trace import LoadTrace
from bpfsim.views.stages import opcodes


@pytest.fixture
def task():
    return bpfsim.Kernel().spawn()


@pytest.mark.parametrize("again", [copy.copy, lambda m: m.on(m.task)])
def test_a_number_that_was_given_anew_is_noticed(task, again):
    first = task.map_create("array", name="a")
    second = again(first)
    first.close()
    third = task.map_create("array", name="c")
    assert third._fd == second._fd
    with pytest.raises(ValueError, match=r"descriptor 3 is not this map's any more: it leads to map \d+ \(c\)"):
        _ = second.info
    second.close()  # harmless: it is closed already
    assert third.info["name"] == "c"


def test_a_descriptor_that_leads_nowhere_is_the_kernels_to_refuse(task):
    m = task.map_create("array")
    task.close(m.fd)
    with pytest.raises(bpfsim.BpfError) as caught:
        m[0]
    assert caught.value.errname == "EBADF"


def test_the_same_descriptor_in_a_child_and_in_a_fork_of_the_machine(task):
    m = task.map_create("array")
    m[0] = 7
    child = task.fork()
    fork = task.kernel.history.fork_from(len(task.kernel.history))
    assert m.on(child)[0] == m.on(fork.task(task.pid))[0] == 7
    child.close(m.fd)
    child.map_create("array", name="other")
    with pytest.raises(ValueError, match="any more"):
        m.on(child)[0]
    assert m[0] == 7


class Live:
    """A task without a simulated machine behind it."""

    def __init__(self, task):
        self.sys_bpf = task.sys_bpf


@pytest.mark.parametrize(
    "look", [lambda m: m.object, lambda m: m.refcnt, lambda m: m.why_alive(), lambda m: m.holders(), lambda m: m.ledger]
)
def test_what_the_live_kernel_keeps_to_itself_is_said_to_be_simulated_only(task, look):
    m = task.map_create("array")
    m.task = Live(task)
    m._serial = None
    with pytest.raises(AttributeError, match="simulated machines only"):
        look(m)
    assert not hasattr(m, "object")


def test_the_stages_and_steps_of_a_live_program_are_missing_in_words(task):
    p = task.prog_load("xdp", "r0 = 1\nexit")
    p.task, p._serial, p.trace = Live(task), None, None
    with pytest.raises(AttributeError, match="simulated machines only"):
        _ = p.stages
    with pytest.raises(AttributeError, match="simulated machines only"):
        next(p.steps(bytes(14)))


def test_threads_may_load_programs_into_one_machine(task):
    failed, stages = [], []

    def load():
        try:
            for _ in range(60):
                stages.append(len(task.prog_load("xdp", "r0 = 1\nexit").stages))
        except BaseException as error:  # noqa: BLE001
            failed.append(error)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert not failed and len(stages) == 240 and min(stages) > 0
    assert task.kernel.recorder is None  # the last load has ended the recording
    with task.kernel.trace() as t:
        task.prog_load("xdp", "r0 = 1\nexit")
        assert task.kernel.recorder is not None
    assert len(t)


def test_a_trace_begins_and_ends_while_other_threads_load(task):
    k, stop, failed, own, array = task.kernel, threading.Event(), [], [], task.map_create("array")
    alone = len(task.prog_load("xdp", "r0 = 1\nexit").trace)

    def load():
        try:
            while not stop.is_set():
                with task.prog_load("xdp", "r0 = 1\nexit") as prog:
                    own.append(len(prog.trace))
        except BaseException as error:  # noqa: BLE001
            failed.append(error)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    traces = []
    try:
        threads = [threading.Thread(target=load) for _ in range(3)]
        for thread in threads:
            thread.start()
        while len(traces) < 60 or not any(r.fields["function"] == "bpf_check" for t in traces for r in t.of("enter")):
            with k.trace() as t:
                fd = task.dup(array.fd)
            task.close(fd)
            traces.append(t)
            dups = [r.fields["text"] for r in t.of("call") if r.fields["text"].startswith("dup(")]
            assert len(dups) == 1 and t.lost == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(before)
    assert not failed and set(own) == {alone}, "each load has all of its own trace, whoever else looks"
    assert k.recorder is None
    kept = [len(t) for t in traces]
    task.prog_load("xdp", "r0 = 1\nexit")
    assert [len(t) for t in traces] == kept, "a trace ends with its block"


def test_a_trace_that_joins_a_recording_keeps_its_limit(task):
    k = task.kernel
    with LoadTrace(k) as load:  # what another thread's load does
        task.dup(task.map_create("array").fd)
        with k.trace(limit=3) as t:
            task.map_create("hash")
            assert len(t) == 3 and t.lost > 0
            with pytest.raises(RuntimeError, match="being recorded already"), k.trace():
                pass
        lost = t.lost
        task.map_create("hash")
        assert k.recorder is not None, "the load goes on"
    assert k.recorder is None and (len(t), t.lost) == (3, lost)
    assert len(load) > 3 + lost and load.lost == 0
    with k.trace(limit=2) as outer, LoadTrace(k):
        task.map_create("hash")
    assert k.recorder is None and len(outer) == 2 and outer.lost > 0


def test_the_trace_of_a_load_has_only_what_its_own_thread_did(task, monkeypatch):
    m, bpf = task.map_create("array"), bpfsim.handles.bpf

    def interrupted(*args, **fields):
        answer = bpf(*args, **fields)
        other = threading.Thread(target=task.dup, args=(m.fd,))
        other.start()
        other.join()
        return answer

    with monkeypatch.context() as patch, task.kernel.trace() as all_of_it:
        patch.setattr(bpfsim.handles, "bpf", interrupted)
        p = task.prog_load("xdp", "r0 = 1\nexit")
    assert [r.fields["text"] for r in all_of_it.of("call")][:2] == ["BPF(PROG_LOAD)", f"dup({m.fd})"]
    assert [r.fields["text"] for r in p.trace.of("call")] == ["BPF(PROG_LOAD)"]
    assert p.trace[-1].seq == [r.seq for r in p.trace][-1] == p.trace[len(p.trace) - 1].seq
    assert p.stages and p.trace.functions


class Counted(str):
    """A line that counts how often it is looked at."""

    looks = 0
    __hash__ = str.__hash__

    def __eq__(self, other):
        Counted.looks += 1
        return str.__eq__(self, other)


def applied(before, after):
    """The lines of ``after`` put together from the opcodes."""
    made, a, b = [], 0, 0
    for tag, a0, a1, b0, b1 in opcodes(before, after):
        assert (a0, b0) == (a, b)
        assert tag != "equal" or before[a0:a1] == after[b0:b1]
        made += before[a0:a1] if tag == "equal" else after[b0:b1]
        a, b = a1, b1
    assert a == len(before)
    return made


def looks(before, after):
    Counted.looks = 0
    for _ in opcodes([Counted(line) for line in before], [Counted(line) for line in after]):
        pass
    return Counted.looks


@pytest.mark.parametrize("edit", ["none", "some", "many", "all"])
def test_stages_are_compared_in_a_time_that_grows_with_their_length(edit):
    def pair(n):
        before = ["(b7) r0 = 0"] * n + ["(95) exit"]
        every = {"none": n + 1, "some": 500, "many": 5, "all": 1}[edit]
        return before, [x for i, line in enumerate(before) for x in ([line] if i % every else ["new", line])]

    small, large = looks(*pair(2000)), looks(*pair(16000))
    assert large < 12 * small  # 64 times if it grew with the square
    before, after = pair(2000)
    assert applied(before, after) == after


def test_what_was_inserted_and_removed_is_found_again():
    before = [f"{i % 7} {i // 50}" for i in range(3000)]
    after = [*before[:100], "x", *before[100:900], *before[1400:2000], *["y"] * 400, *before[2000:]]
    assert applied(before, after) == after
    changed = [op for op in opcodes(before, after) if op[0] != "equal"]
    assert [(a1 - a0, b1 - b0) for _, a0, a1, b0, b1 in changed] == [(0, 1), (500, 0), (0, 400)]


def test_views_of_the_same_thing_are_equal(task):
    k, p = task.kernel, task.prog_load("xdp", "r0 = 1\nexit")
    assert p.object == p.object and len({p.object, p.object}) == 1
    assert k.task(task.pid) == task == k.history[1].task and len({task, k.task(task.pid)}) == 1
    assert k.net_device("eth0") == k.net_device("eth0") and len({k.net_device("eth0"), k.net_device("eth0")}) == 1
    fork = k.history.fork_from(len(k.history))
    assert fork.task(task.pid) != task and fork.net_device("eth0") != k.net_device("eth0")
    assert p.on(fork.task(task.pid)).object != p.object != task.map_create("array").object
    assert task != 470 and p.object != p.object.serial and k.net_device("lo") != k.net_device("eth0")


def test_a_pin_is_named_before_the_hook_that_runs_the_program_for_it(task):
    daemon = task.kernel.spawn("daemon")
    prog = daemon.prog_load("xdp", "r0 = 1\nexit", name="x")
    link = daemon.link_create(prog, "eth0")
    link.pin("/sys/fs/bpf/link")
    seen = prog.object
    assert seen.why_alive().startswith("task")
    daemon.exit()
    assert seen.why_alive().startswith("pin /sys/fs/bpf/link -- ") and "netdev" not in seen.why_alive()
    task.unlink("/sys/fs/bpf/link")
    assert not seen.alive


def test_a_hook_is_named_where_it_alone_holds_the_program(task):
    prog = task.prog_load("xdp", "r0 = 1\nexit", name="x")
    task.rtnl_setlink_xdp("eth0", prog)
    seen = prog.object
    prog.close()
    assert seen.why_alive().startswith("netdev 2 (eth0) -- ")


def test_what_waits_for_a_grace_period_says_so(task):
    k, m = task.kernel, task.map_create("array", name="m")
    prog = task.prog_load("xdp", "r1 = map[m]\nr0 = 1\nexit", maps={"m": m}, name="p")
    seen, behind = prog.object, m.object
    k.rcu_hold()
    m.close()
    prog.close()
    assert k.leaks() == [] and seen.why_alive().endswith(": waits for a grace period")
    assert "(waits for a grace period) -- used_maps[0] --> map" in behind.why_alive()
    k.rcu_release()
    with pytest.raises(ReferenceError, match=r"p\) is gone; what freed it: kernel.history.watch\(\)"):
        seen.why_alive()
    assert k.history.watch(seen)[-1].cause == "freed"


def test_open_descriptors_say_which_object_they_lead_to(task):
    prog = task.prog_load("xdp", "r0 = 1\nexit", name="x")
    assert task.fds[prog.fd] == f"file (bpf-prog): {prog.object.label}" and "(x)" in task.fds[prog.fd]
    assert task.fds[0] == "file (tty)"


def test_the_steps_of_a_run_stay_what_they_were(task):
    steps = list(task.prog_load("xdp", "r0 = 1\nr0 += 1\nexit").steps(bytes(14)))
    assert [(s.pc, s.registers[0], s.executed) for s in steps[1:]] == [(1, 1, 1), (2, 2, 2)]
    assert steps[0].insn.startswith("(b7) r0 = 1") and len(steps[0].stack) == 512 and steps[0].result == 2


INTERNAL = {"Past", "Guests", "ObjectFile"}  # what bpfsim.history, .races and .objects are written over


def test_every_public_member_has_a_docstring():
    bare = []
    for name, cls in vars(bpfsim._core).items():
        if not isinstance(cls, type) or name in INTERNAL:
            continue
        bare += [name] if not cls.__doc__ else []
        for member, value in vars(cls).items():
            lines = (value.__doc__ or "").strip().splitlines() if not member.startswith("_") else ["private"]
            typed = bool(lines) and lines[0].startswith(f"{member}(")
            if len(lines) <= typed:
                bare.append(f"{name}.{member}")
    assert not bare
