"""A short form of ./dev agree for the test suite: the same bytes to the simulator and to the live kernel."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

spec = importlib.util.spec_from_file_location("agree_main", Path(__file__).with_name("__main__.py"))
agree = importlib.util.module_from_spec(spec)
spec.loader.exec_module(agree)


@pytest.fixture(scope="module")
def machines():
    try:
        kernel, live, _ = agree.sides()
    except OSError as error:
        pytest.skip(f"the live kernel cannot be asked: {error}")
    agree.wire.stay_on_one_cpu()
    return kernel, live


def test_random_programs_are_judged_and_run_alike(machines):
    kernel, live = machines
    report = agree.random_programs(kernel.spawn("programs"), live, 2, 20_000, 20)
    assert report.counts["accepted"] > 100 and report.counts["refused"] > 100 and report.counts["run"] > 100
    assert not report.kinds, str(report)


def test_random_programs_of_a_loader_without_cap_perfmon(machines):
    kernel, live = machines
    report = agree.guarded_programs(kernel, live, 2, 20_000, 10)
    assert report.counts["accepted"] > 100 and report.counts["refused"] > 100 and report.counts["run"] > 100
    assert not report.kinds, str(report)


@pytest.mark.parametrize("case", agree.WRITTEN, ids=lambda case: case.__name__)
def test_a_command_answers_alike(machines, case):
    kernel, live = machines
    report = agree.Report("commands")
    agree.run_case(report, kernel, live, case.__name__, case)
    assert report.counts["calls"] > 5
    assert not report.kinds, str(report)


def test_random_map_commands_answer_alike(machines):
    kernel, live = machines
    report = agree.Report("commands")
    for number in range(300):
        agree.run_case(report, kernel, live, f"sequence {number}", agree.commands.sequence(2, number))
    assert report.counts["calls"] > 5000
    assert not report.kinds, str(report)


def test_maps_of_devices_and_sockets_answer_alike(machines):
    kernel, live = machines
    try:
        report = agree.network_commands(kernel, live, 2, 100)
    except PermissionError as error:
        pytest.skip(f"a network namespace cannot be made: {error}")
    assert report.counts["calls"] > 5000
    assert not report.kinds, str(report)


def test_objects_live_and_die_alike(machines):
    try:
        report = agree.random_lives(agree.like_this_one, 2, 4_000, 12)
    except PermissionError as error:
        pytest.skip(f"a namespace of its own is refused: {error}")
    assert report.counts["commands"] > 100 and report.counts["lives"] > 3
    assert not report.kinds, str(report)


def test_a_program_is_made_again_from_its_number():
    first, again = agree.programs.make(5, 17), agree.programs.make(5, 17)
    assert first.code == again.code and first.code != agree.programs.make(5, 18).code


def test_a_disagreement_is_seen(machines):
    """The judge judges: two programs that return different numbers are told apart."""
    kernel, live = machines
    made = agree.programs.make(2, 0)
    made.code, made.varies, made.prog_type = agree.commands.RETURN_2, False, agree.wire.SOCKET_FILTER
    buffers, task = agree.programs.buffers(), kernel.spawn("p")
    ours = agree.programs.ask(task, buffers, made)
    made.code = made.code.replace(b"\2", b"\3")
    theirs = agree.programs.ask(live, buffers, made)
    assert (ours.retval, theirs.retval) == ("0x2", "0x3") and ours.log != theirs.log


XDP_LINK = """
import ctypes, struct, sys
sys.path[:0] = sys.argv[1:]
if ctypes.CDLL(None).unshare(0x40000000):  # a network namespace of its own: lo is nobody else's
    sys.exit(3)
import bpfsim, commands, objects
for task in (bpfsim.Kernel().spawn("agree"), bpfsim.LiveKernel().spawn("agree")):
    side = commands.Side(task)
    prog = side.prog_load("XDP", prog_type=6)
    attr = bytearray(168)
    struct.pack_into("<4I", attr, 0, prog, 1, 37, 0)
    link = side.call("LINK_CREATE", commands.LINK_CREATE, attr, fd=True)
    objects.fdinfo(side, "a link", link)
    attr = bytearray(168)
    struct.pack_into("<I", attr, 0, link)
    side.call("LINK_DETACH", commands.LINK_DETACH, attr)
    objects.fdinfo(side, "a link without its device", link)
    side.close()
    print(side.transcript)
"""


def test_the_text_of_a_link_is_alike(machines):
    here = Path(__file__).parent
    paths = [str(here), str(here.parent / "support"), str(here.parents[1] / "python")]
    done = subprocess.run([sys.executable, "-c", XDP_LINK, *paths], capture_output=True, text=True, check=False)
    if done.returncode == 3:
        pytest.skip("no network namespace can be made here")
    assert done.returncode == 0, done.stderr
    ours, theirs = done.stdout.splitlines()
    assert "link_type:\\txdp\\n" in theirs.replace("\\\\", "\\")
    assert ours == theirs
