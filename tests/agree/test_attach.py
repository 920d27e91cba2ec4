"""Attaching, in the simulator and in a cgroup and network namespace of our own on the live kernel."""

import importlib.util
import sys
from pathlib import Path

import bpfsim
import pytest

sys.path.insert(0, str(Path(__file__).parent))
MODULES = ("attach", "cgroup_storages", "contexts", "iterators", "links", "sandbox", "struct_ops")
MADE = (importlib.import_module(name) for name in MODULES)
attach, cgroup_storages, contexts, iterators, links, sandbox, struct_ops = MADE


wire_name = contexts.wire.name


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


@pytest.mark.parametrize(
    "case",
    attach.WRITTEN + cgroup_storages.WRITTEN + links.WRITTEN + iterators.WRITTEN + struct_ops.WRITTEN,
    ids=lambda case: case.__name__,
)
def test_attaching_answers_alike(live, case):
    compare(live, case)


@pytest.mark.parametrize("number", range(12))
def test_random_sequences_answer_alike(live, number):
    lines = compare(live, attach.sequence(1, number))
    assert any(line.startswith("LINK_CREATE") for line in lines)


@pytest.mark.parametrize("number", range(24))
def test_random_sequences_over_every_family_answer_alike(live, number):
    compare(live, attach.sequence_of_all(1, number))


def test_the_sandbox_is_gone_afterwards(live):
    box = sandbox.Sandbox()
    path = box.run(lambda inside: (inside.mkdir("left"), inside.cgroup("left"))[1])
    assert not Path(path).exists() and not Path(box.root).exists()


@pytest.mark.parametrize("prog_type", contexts.CONTEXTS)
def test_a_context_is_as_open_as_on_the_live_kernel(live, prog_type):
    task, differ, accepted = bpfsim.Kernel().spawn("agree"), [], 0
    for where, code in contexts.accesses(prog_type):
        attach_type, offset, _, write = where
        ours, theirs = (contexts.answer(side, code, prog_type, attach_type) for side in (task, live))
        accepted += theirs == 0
        if ours != theirs and not contexts.known(prog_type, offset, write):
            differ.append((where, wire_name(ours), wire_name(theirs)))
    assert not differ
    assert accepted > 0
