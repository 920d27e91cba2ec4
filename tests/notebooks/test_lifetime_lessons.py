"""The exercises of the two lessons on lifetimes: keys pass in every variant, wrong answers get the hint that fits."""

import ast
import json
from pathlib import Path

import bpfsim
import pytest

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
LESSONS = {"02": "02_object_lifetime_refcounts.ipynb"}
EXERCISES = [(lesson, f"q{n}") for lesson in LESSONS for n in (1, 2, 3, 4)]
NUMBERS = [("02", "q1"), ("02", "q2"), ("02", "q4")]
SEEDS = range(8)


def names_of(path):
    """The names that the exercise cells define, with the functions and imports of the cells before them."""
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    sources = ["".join(cell["source"]) for cell in cells]
    begin = next(i for i, source in enumerate(sources) if "from bpfsim.exercises" in source)
    names: dict = {"bpfsim": bpfsim}
    for source in sources[:begin]:
        kept = [n for n in ast.parse(source).body if isinstance(n, ast.FunctionDef | ast.Import)]
        exec(compile(ast.Module(kept, []), str(path), "exec"), names)
    for source in sources[begin:]:
        if "answer_" not in source:
            exec(source, names)
    return names


@pytest.fixture(scope="module")
def lessons():
    return {lesson: names_of(NOTEBOOKS / name) for lesson, name in LESSONS.items()}


@pytest.mark.parametrize(("lesson", "exercise"), EXERCISES)
def test_the_lesson_as_released_waits_for_answers(lessons, lesson, exercise, capsys):
    verdict = lessons[lesson][exercise].check(...)
    assert not verdict and "place of the dots" in verdict.text
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("lesson", "exercise"), EXERCISES)
def test_every_variant_takes_its_key(lessons, lesson, exercise, seed, capsys):
    variant = lessons[lesson][exercise].variant(seed)
    assert variant.check(variant.key), variant.check(variant.key)
    assert repr(variant) == repr(lessons[lesson][exercise].variant(seed)), "the same seed asks the same"
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("lesson", "exercise"), EXERCISES)
def test_variants_differ(lessons, lesson, exercise):
    assert len({repr(lessons[lesson][exercise].variant(seed)) for seed in SEEDS}) > 2


@pytest.mark.parametrize(("lesson", "exercise"), NUMBERS)
def test_every_wrong_number_gets_a_word_and_each_variant_has_hints(lessons, lesson, exercise):
    keys = set()
    for seed in range(20):
        variant = lessons[lesson][exercise].variant(seed)
        keys.add(variant.key)
        verdicts = [variant.check(number) for number in range(60) if number != variant.key]
        assert not any(verdicts)
        hints = {v.text.split("is not what the kernel answers.")[1].strip() for v in verdicts} - {""}
        assert len(hints) >= 2, f"seed {seed}: {hints}"
    assert len(keys) > 2, f"a learner could guess: {keys}"


def uses(lesson, task, m):
    return task.prog_load("xdp", lesson["USES"], maps={"m": m})


# Wrong arrangements of an exercise that wants refcnt and usercnt and f_count (see wanted(): 3, 1, 2).
ARRANGED = [
    (5, "A function is wanted"),
    (lambda lesson, task, m: None, "Nothing has changed yet"),
    (lambda lesson, task, m: m.close(), "frees it"),
    (lambda lesson, task, m: [task.dup(m.fd) for _ in range(4)], "f_count goes up, refcnt does not"),
    (lambda lesson, task, m: [task.fork() for _ in range(4)], "f_count goes up, refcnt does not"),
    (lambda lesson, task, m: (uses(lesson, task, m), m.close()), "A file must stay open"),
    (lambda lesson, task, m: (uses(lesson, task, m), task.dup(m.fd)), "More programs must use it"),
    (lambda lesson, task, m: [uses(lesson, task, m) for _ in range(4)], "Too many hold the map"),
    (lambda lesson, task, m: [uses(lesson, task, m) for _ in range(2)], "number of descriptors"),
    (lambda lesson, task, m: 1 / 0, "ZeroDivisionError"),
]


@pytest.mark.parametrize(("answer", "says"), ARRANGED)
def test_wrong_arrangements_get_the_hint_that_fits(lessons, answer, says, capsys):
    lesson = lessons["02"]
    wanted = (lesson["q3"].variant(seed) for seed in range(200))
    variant = next(v for v in wanted if "refcnt 3 and usercnt 1, and its file has f_count 2" in repr(v))
    verdict = variant.check((lambda task, m: answer(lesson, task, m)) if callable(answer) else answer)
    assert not verdict
    assert says in verdict.text
    assert capsys.readouterr().err == ""


def test_a_map_that_shall_have_no_file_must_lose_every_descriptor(lessons):
    lesson = lessons["02"]
    wanted = (lesson["q3"].variant(seed) for seed in range(200))
    variant = next(v for v in wanted if "no file any more" in repr(v))
    assert "close all of its descriptors" in variant.check(lambda task, m: task.dup(m.fd)).text


def test_the_freed_program_can_be_found_by_its_history(lessons):
    for seed in SEEDS:
        variant = lessons["02"]["q4"].variant(seed)
        freed = [
            e.step for s in variant.machine.history for e in s.events if "wanted" in e.object and e.cause == "freed"
        ]
        assert freed == [variant.key]
