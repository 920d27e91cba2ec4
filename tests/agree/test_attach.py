"""Attaching, in the simulator and in a cgroup and network namespace of our own on the live kernel."""

import importlib.util
import sys
from pathlib import Path

import bpfsim
import pytest

sys.path.insert(0, str(Path(__file__).parent))
attach, sandbox = (importlib.import_module(name) for name in ("attach", "sandbox"))


@pytest.fixture(scope="module")
def live():
    try:
        kernel = bpfsim.LiveKernel()
    except OSError as error:
        pytest.skip(f"the live kernel cannot be asked: {error}")
    if not kernel.release.startswith("6.18"):
        pytest.skip(f"the live kernel is {kernel.release}, not 6.18")
    if why := sandbox.unavailable():
        pytest.skip(why)
    return kernel.spawn("agree")


def compare(live, case):
    kernel = bpfsim.Kernel()
    task = kernel.spawn("agree")
    ours = attach.transcript(task, sandbox.SimulatedBox(task), case)
    theirs = sandbox.Sandbox().run(lambda box: attach.transcript(live, box, case))
    for i, (one, other) in enumerate(zip(ours, theirs, strict=False)):
        before = "\n".join(theirs[max(i - 4, 0) : i])
        assert one == other, f"after\n{before}\nsimulator:   {one}\nlive kernel: {other}"
    assert len(ours) == len(theirs) > 10
    assert not bpfsim._core.graph_disagreements(kernel)
    task.exit()
    assert not kernel.leaks()
    return ours


@pytest.mark.parametrize("case", attach.WRITTEN, ids=lambda case: case.__name__)
def test_attaching_answers_alike(live, case):
    compare(live, case)


@pytest.mark.parametrize("number", range(12))
def test_random_sequences_answer_alike(live, number):
    lines = compare(live, attach.sequence(1, number))
    assert any(line.startswith("LINK_CREATE") for line in lines)


def test_the_sandbox_is_gone_afterwards(live):
    box = sandbox.Sandbox()
    path = box.run(lambda inside: (inside.mkdir("left"), inside.cgroup("left"))[1])
    assert not Path(path).exists() and not Path(box.root).exists()
