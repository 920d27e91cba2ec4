"""The exercises of the first lesson: right answers pass, wrong ones get a hint, and none breaks the lesson."""

import json
from pathlib import Path

import bpfsim
import pytest

LESSON = Path(__file__).resolve().parents[2] / "notebooks" / "01_from_c_to_a_dropped_packet.ipynb"

CHECKED_READ = """
    r2 = *(u32 *)(r1 +0)
    r3 = *(u32 *)(r1 +4)
    r4 = r2
    r4 += 1
    if r4 > r3 goto out
    r0 = *(u8 *)(r2 +0)
out:
    r0 = 2
    exit
"""
UNCHECKED_READ = "r2 = *(u32 *)(r1 +0)\nr0 = *(u8 *)(r2 +0)\nr0 = 2\nexit"


@pytest.fixture(scope="module")
def lesson():
    """The names that the exercise cells define."""
    cells = json.loads(LESSON.read_text())["cells"]
    sources = ["".join(cell["source"]) for cell in cells]
    begin = next(i for i, source in enumerate(sources) if source.startswith("## Exercises"))
    names: dict = {"bpfsim": bpfsim}
    for cell, source in zip(cells[begin:], sources[begin:], strict=True):
        if cell["cell_type"] == "code" and "answer_" not in source:
            exec(source, names)
    return names


@pytest.mark.parametrize(
    ("exercise", "answer"),
    [
        ("q1", 3),
        ("q2", CHECKED_READ),
        ("q3", lambda k, task, prog: prog.pin("/sys/fs/bpf/mine")),
        ("q3", lambda k, task, prog: task.rtnl_setlink_xdp("eth0", prog)),
    ],
)
def test_right_answers_pass(lesson, exercise, answer):
    assert lesson[exercise].check(answer)


@pytest.mark.parametrize(
    ("exercise", "answer", "says"),
    [
        ("q1", ..., "place of the dots"),
        ("q1", 5, "closed is free again"),
        ("q1", 4, "second map"),
        ("q1", "three", "without quotes"),
        ("q2", UNCHECKED_READ, "never compares"),
        ("q2", CHECKED_READ.replace("r4 > r3", "r4 < r3"), "jumps away when the byte IS there"),
        ("q2", CHECKED_READ.replace("    r4 += 1\n", ""), "one byte further"),
        ("q2", UNCHECKED_READ + "\nout: if r1 > 5 goto out", "before the read"),
        ("q2", "r0 = 2\nexit", "no longer reads the byte"),
        ("q2", "r0 = ", "line 1"),
        ("q2", "", "A string"),
        ("q2", None, "A string"),
        ("q3", lambda k, task, prog: None, "Who could hold"),
        ("q3", lambda k, task, prog: task.link_create(prog, "eth0"), "who holds the link"),
        ("q3", lambda k, task, prog: 1 / 0, "ZeroDivisionError"),
        ("q3", 3, "A function is wanted"),
    ],
)
def test_wrong_answers_get_a_word_and_no_exception(lesson, exercise, answer, says, capsys):
    verdict = lesson[exercise].check(answer)
    assert not verdict
    assert says in verdict.text
    assert capsys.readouterr().err == ""
