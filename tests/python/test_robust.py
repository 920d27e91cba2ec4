"""What must not crash, hang or leave a machine half changed: interrupts, calls inside of calls, half-made objects."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
import types

import bpfsim
import pytest
from bpfsim import _core

LOOP = "r6 = 0\nl:\nr6 += 1\nif r6 < 1000 goto l\nr0 = 0\nexit"


@contextlib.contextmanager
def after(seconds, handler):
    """Runs the handler in the main thread while something else goes on there."""
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def ctrl_c(seconds=0.2):
    return after(seconds, signal.default_int_handler)


def run(task, prog, times):
    packet = ctypes.create_string_buffer(64)
    task.bpf("PROG_TEST_RUN", prog_fd=prog.fd, data_in=ctypes.addressof(packet), data_size_in=64, repeat=times)


def test_a_signal_handler_cannot_call_into_a_machine_that_is_in_the_middle_of_a_call():
    k = bpfsim.Kernel()
    task, eth0 = k.spawn(), k.net_device("eth0")
    prog = task.prog_load("xdp", LOOP)
    calls = {
        "bpf": lambda: task.map_create("array"),
        "spawn": k.spawn,
        "exit": task.exit,
        "packet": lambda: eth0.receive(bytes(64)),
        "sysctl": lambda: k.sysctl_write("net.core.bpf_jit_enable", 1),
        "rcu": k.rcu_release,
        "step": lambda: _core.SteppedRun(task, prog.fd, bytes(64)),
        "past": k.history.check,
        "fork": lambda: k.history.fork_from(1),
    }
    said = {}

    def handler(*_):
        for name, call in calls.items():
            try:
                call()
            except RuntimeError as error:
                said[name] = str(error)
        raise KeyboardInterrupt

    with after(0.1, handler), pytest.raises(KeyboardInterrupt):
        run(task, prog, 1 << 31)
    assert said == dict.fromkeys(calls, "this machine is in the middle of a call: another cannot begin in it")
    assert k.history.check() == "", "and afterwards it goes on"


@pytest.mark.parametrize(
    "look",
    [
        lambda k: k.history.check(),
        lambda k: k.history.fork_from(len(k.history)),
        lambda k: k.history.graph(len(k.history)),
        lambda k: k.history.watch(1),
        lambda k: k.history[-1].events,
    ],
    ids=["check", "fork_from", "graph", "watch", "events"],
)
def test_doing_a_long_call_again_can_be_interrupted(look):
    k = bpfsim.Kernel()
    task = k.spawn()
    prog = task.prog_load("xdp", LOOP)
    with ctrl_c(), pytest.raises(KeyboardInterrupt):
        run(task, prog, 1 << 31)
    with ctrl_c(0.01), pytest.raises(KeyboardInterrupt):
        run(task, prog, 1 << 31)
    assert k.history.check() == "", "an interrupt is part of the past"
    run(task, prog, 80_000)
    with ctrl_c(0.05), pytest.raises(KeyboardInterrupt):
        look(k)
    assert len(k.history.fork_from(3).tasks) == 1


def forever(_task):
    while True:
        pass


def calls_forever(task):
    while True:
        task.close(task.dup(0))


@pytest.mark.parametrize("script", [forever, calls_forever, lambda _: time.sleep(0.5), "run"])
def test_a_race_whose_script_does_not_end_can_be_interrupted(script):
    k = bpfsim.Kernel()
    one, two = k.spawn(), k.spawn("two")
    prog = one.prog_load("xdp", LOOP)
    if script == "run":
        script = lambda t: run(t, prog, 1 << 31)  # noqa: E731
    with ctrl_c(), pytest.raises(KeyboardInterrupt):
        k.races({"one": (one, script), "two": (two, lambda t: t.fork())})
    assert len(k.races({"one": (one, lambda t: t.fork()), "two": (two, lambda t: t.fork())})) == 2


def test_what_ends_a_script_for_good_reaches_who_asked_for_the_race():
    k = bpfsim.Kernel()
    one, two = k.spawn(), k.spawn("two")

    def leave(_):
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        k.races({"one": (one, leave), "two": (two, lambda t: t.fork())})


@pytest.mark.parametrize("scripts", [None, {}, 5, {"a": None, "b": None}, {"a": (None, len), "b": (None, len)}])
def test_a_race_says_what_it_takes(scripts):
    with pytest.raises(ValueError, match=r"scripts race|\(task, function|a task of this machine"):
        bpfsim.Kernel().races(scripts)


@pytest.mark.history_ends
def test_a_race_does_not_start_from_a_past_that_is_not_the_present():
    k = bpfsim.Kernel(history_mib=1)
    one, two = k.spawn(), k.spawn("two")
    m = one.map_create("array", value_size=1 << 16)
    while not k.history.ended:
        m[0] = bytes(1 << 16)
    with pytest.raises(RuntimeError, match="the history ends before step"):
        k.races({"one": (one, lambda t: t.fork()), "two": (two, lambda t: t.fork())})


@pytest.mark.parametrize("kind", [t for t in vars(_core).values() if isinstance(t, type)], ids=lambda t: t.__name__)
def test_an_object_without_its_init_is_refused(kind):
    """As a subclass leaves it that calls a method before super().__init__()."""
    raw = kind.__new__(kind)
    for name, member in vars(kind).items():
        in_python = isinstance(getattr(member, "fget", member), types.FunctionType)
        if name.startswith("__") or name == "_pybind11_conduit_v1_" or in_python:
            continue
        with pytest.raises((TypeError, RuntimeError)):
            getattr(raw, name)()


def test_none_is_no_machine():
    for call in (
        lambda: _core.net_device(None, "eth0"),
        lambda: _core.add_net_device(None, "eth1"),
        lambda: _core.remove_net_device(None, "eth0"),
        lambda: _core.Past(None),
        lambda: _core.Guests(None, set()),
        lambda: _core.break_on(None, 1, "refcnt", None),
        lambda: _core.load_live(None, 0),
        lambda: bpfsim.Kernel().start_recording(None),
    ):
        with pytest.raises(TypeError):
            call()


def test_an_object_of_another_machine_is_not_watched_here():
    here, there = bpfsim.Kernel(), bpfsim.Kernel()
    m = there.spawn().map_create("array")
    with pytest.raises(ValueError, match="another machine"):
        here.break_on(m)
    with pytest.raises(ValueError, match="another machine"):
        here.history.watch(m)


def test_a_name_is_cut_between_letters_and_a_trace_may_hold_any_byte():
    k = bpfsim.Kernel()
    task, eth0 = k.spawn("é" * 20), k.net_device("eth0")
    assert task.comm == "é" * 7
    prog = task.prog_load(
        "xdp",
        """
        r1 = 0x7325              ; "%s"
        *(u64 *)(r10 -8) = r1
        r1 = 0xff80
        *(u64 *)(r10 -16) = r1
        r1 = r10
        r1 += -8
        r2 = 3
        r3 = r10
        r3 += -16
        call bpf_trace_printk
        r0 = 2
        exit
        """,
    )
    task.link_create(prog, eth0)
    eth0.receive(bytes(64))
    assert k.read_trace_pipe()[0].rstrip("\n").endswith("bpf_trace_printk: \\x80\\xff")


def test_other_threads_have_their_turn_during_a_long_run():
    k = bpfsim.Kernel()
    task = k.spawn("loader")
    prog = task.prog_load("xdp", LOOP)
    turns, made = [], []

    def other():
        turns.append(True)
        made.append(task.map_create("array", name="after").id)  # waits until the run has ended
        turns.append(True)

    thread = threading.Thread(target=other)

    def handler(*_):
        thread.start()
        while not turns:
            thread.join(0.001)
        signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, 0.05)

    def stop(*_):
        assert made == [], "one call at a time"
        raise KeyboardInterrupt

    with after(0.05, handler), pytest.raises(KeyboardInterrupt):
        run(task, prog, 1 << 31)
    thread.join(20)
    assert len(turns) == 2 and made == [1]
    assert k.history.check() == ""


def test_a_thread_can_stop_a_long_run():
    task = bpfsim.Kernel().spawn("loader")
    prog = task.prog_load("xdp", LOOP)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job has it ignored
    try:
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            run(task, prog, 1 << 31)
    finally:
        signal.signal(signal.SIGINT, before)


WILD = """
import bpfsim, ctypes, faulthandler, sys
def wild():
    m = bpfsim.Kernel().spawn().map_create("array")
    try:
        m.task.bpf("MAP_LOOKUP_ELEM", map_fd=m.fd, key=0xDEAD0000, value=bytearray(8))
    except OSError as error:
        print(error.errname)
if sys.argv[1] == "before":
    faulthandler.enable()
wild()
if sys.argv[1] == "between":
    faulthandler.enable()
wild()
sys.stdout.flush()
ctypes.string_at(0)
"""


@pytest.mark.parametrize("enabled", ["before", "between", "never"])
def test_only_a_real_crash_is_told_and_once(enabled):
    """Wild addresses stay EFAULT beside faulthandler, and a fault that is not ours ends the process."""
    if sys.platform != "linux":
        pytest.skip("signals are Linux's here")
    done = subprocess.run(
        [sys.executable, "-c", WILD, enabled], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.split() == ["EFAULT", "EFAULT"]
    assert done.returncode == -signal.SIGSEGV
    assert done.stderr.count("Fatal Python error") == (enabled != "never")


AT_THE_END = {
    "a long run": """
p = task.prog_load("xdp", LOOP)
work = lambda: p.test_run(bytes(64), repeat=100)
""",
    "a method of a map type": """
class Slow:
    def map_lookup_elem(map, key):
        for _ in range(20000): pass
k.register_map_type("slow", Slow)
m = task.map_create("slow")
work = lambda: m.get(1)
""",
    "a race": """
work = lambda: k.races({"a": (task, lambda t: [t.dup(0) for _ in range(9)]), "b": (k.spawn(), lambda t: t.dup(0))})
""",
    "waiting for a call": """
class Busy:
    def map_lookup_elem(map, key):
        while True: time.sleep(0.001)
k.register_map_type("busy", Busy)
m = task.map_create("busy")
threading.Thread(target=lambda: m.get(1), daemon=True).start()
work = lambda: task.dup(0)
""",
}


@pytest.mark.parametrize("what", AT_THE_END)
def test_a_thread_inside_the_machine_does_not_abort_the_end_of_a_script(what):
    script = """
import threading, time, bpfsim
LOOP = "r1 = 60000\\nagain: r1 -= 1\\nif r1 != 0 goto again\\nr0 = 2\\nexit"
k = bpfsim.Kernel()
task = k.spawn()
"""
    script += (
        AT_THE_END[what] + "threading.Thread(target=lambda: [work() for _ in iter(int, 1)], daemon=True).start()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script + "time.sleep(0.5)"], capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
