"""The exercises of the two lessons on lifetimes: keys pass in every variant, wrong answers get the hint that fits."""

import json
import re
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
LESSONS = {"02": "02_object_lifetime_refcounts.ipynb", "03": "03_object_lifetime_pins_links.ipynb"}
EXERCISES = [(lesson, f"q{n}") for lesson in LESSONS for n in (1, 2, 3, 4)]
NUMBERS = [("02", "q1"), ("02", "q2"), ("02", "q4"), ("03", "q2")]
SEEDS = range(8)


def names_of(path):
    """The names that the exercise cells define: after a restart they run alone."""
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    sources = ["".join(cell["source"]) for cell in cells]
    begin = next(i for i, source in enumerate(sources) if "from bpfsim.exercises" in source)
    names: dict = {}
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


def solved(lesson, exercise, variant):
    """The right answer to a variant; where it is a function, one that reaches what the question says."""
    if (lesson, exercise) == ("02", "q3"):
        return arranges(variant)
    return frees if (lesson, exercise) == ("03", "q3") else variant._key


def arranges(variant):
    refcnt, usercnt = map(int, re.search(r"refcnt (\d+) and usercnt (\d+)", repr(variant)).groups())
    files = re.search(r"f_count (\d+)", repr(variant))

    def arrange(task, m):
        for _ in range(refcnt - usercnt):
            task.prog_load("xdp", "r1 = map[m]\nr0 = 2\nexit", maps={"m": m})
        for _ in range(int(files[1]) - 1 if files else 0):
            task.dup(m.fd)
        if not files:
            m.close()

    return arrange


def frees(k, admin):
    """Follows the arrows back from the program that is stuck to the names and the device."""
    graph = k.graph()
    nodes = {node.serial: node for node in graph.nodes}
    waiting = [n.serial for n in graph.nodes if n.kind == "prog" and "other" not in n.label]
    for serial in waiting:
        waiting += [e.holder for e in graph.edges if e.held == serial and e.holder not in waiting and e.strong]
    for serial in dict.fromkeys(waiting):
        if nodes[serial].kind == "inode":
            admin.unlink(nodes[serial].label.removeprefix("pin "))
        if nodes[serial].kind == "netdev" and "eth0" in nodes[serial].label:
            admin.rtnl_setlink_xdp("eth0", -1)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("lesson", "exercise"), EXERCISES)
def test_every_variant_takes_its_key(lessons, lesson, exercise, seed, capsys):
    variant = lessons[lesson][exercise].variant(seed)
    verdict = variant.check(solved(lesson, exercise, variant))
    assert verdict, verdict
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
        keys.add(variant._key)
        verdicts = [variant.check(number) for number in range(60) if number != variant._key]
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


def test_the_map_that_was_handed_in_is_judged_and_no_other_of_its_name(lessons):
    def another(task, m):
        m.close()
        m = task.map_create("array", name="m")
        uses(lessons["02"], task, m)
        m.close()

    for seed in SEEDS:
        verdict = lessons["02"]["q3"].variant(seed).check(another)
        assert not verdict and "given to you is gone" in verdict.text


def test_a_pin_that_holds_the_map_is_named(lessons):
    for seed in SEEDS:
        verdict = lessons["02"]["q3"].variant(seed).check(lambda task, m: (m.pin("/sys/fs/bpf/x"), m.close()))
        assert not verdict and "it has no file, and a name: pin /sys/fs/bpf/x." in verdict.text
        assert "task.unlink" in verdict.text and "A file still leads" not in verdict.text


def test_the_freed_program_can_be_found_by_its_history(lessons):
    for seed in SEEDS:
        variant = lessons["02"]["q4"].variant(seed)
        freed = [
            e.step for s in variant.machine.history for e in s.events if "wanted" in e.object and e.cause == "freed"
        ]
        assert freed == [variant._key]


HOLDERS = {"file", "pin", "link", "device", "array"}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_holder_too_many_or_missing_gets_its_hint(lessons, seed, capsys):
    variant = lessons["03"]["q1"].variant(seed)
    for word in HOLDERS:
        verdict = variant.check(variant._key ^ {word})
        assert not verdict and verdict.text.startswith("Not these. ") and len(verdict.text) > 40, (word, verdict)
    for odd in ("pin", {"nobody"}, 5, None):
        assert not variant.check(odd)
    assert "set of these words" in variant.check("pin").text
    for kind in (sorted, frozenset, dict.fromkeys):
        assert variant.check(kind(variant._key)), "any words will do"
    assert capsys.readouterr().err == ""


def test_every_kind_of_holder_is_asked_for(lessons):
    keys = [lessons["03"]["q1"].variant(seed)._key for seed in range(30)]
    assert set.union(*keys) == HOLDERS and len({frozenset(key) for key in keys}) > 8


FREED = [
    (5, "A function is wanted"),
    (lambda k, admin: None, "It is alive"),
    (lambda k, admin: 1 / 0, "ZeroDivisionError"),
    (lambda k, admin: [admin.unlink(f"/sys/fs/bpf/{name}") for name in admin.listdir()], ""),
]


@pytest.mark.parametrize(("answer", "says"), FREED)
def test_a_program_that_stays_says_who_holds_it(lessons, answer, says, capsys):
    for seed in SEEDS:
        verdict = lessons["03"]["q3"].variant(seed).check(answer)
        assert not verdict and says in verdict.text
    assert capsys.readouterr().err == ""


def test_each_holder_that_is_forgotten_has_its_hint(lessons):
    """The key's calls but one: the hint speaks of the one that is left."""
    hints = {"pin": "A name holds it", "link": "Its link is pinned", "netdev": "A device", "slot": "array's last user"}
    seen = set()

    class Forgetful:
        """Admin's task that leaves out one of its calls."""

        def __init__(self, task, forget):
            self.task, self.forget, self.calls = task, forget, 0

        def __getattr__(self, name):
            def call(*arguments):
                self.calls += 1
                if self.calls - 1 != self.forget:
                    getattr(self.task, name)(*arguments)

            return call

    for seed in range(20):
        variant = lessons["03"]["q3"].variant(seed)
        for forget in (0, 1):
            verdict = variant.check(lambda k, admin, n=forget: frees(k, Forgetful(admin, n)))
            assert not verdict and "It is alive" in verdict.text
            seen |= {word for word, hint in hints.items() if hint in verdict.text}
    assert seen == set(hints)


def test_taking_the_other_program_away_too_is_wrong(lessons):
    def everything(k, admin):
        for name in admin.listdir():
            admin.unlink(f"/sys/fs/bpf/{name}")
        admin.rtnl_setlink_xdp("eth0", -1)

    assert "only what leads to" in lessons["03"]["q3"].check(everything).text


PAIRS = {(answer, alive) for answer in ("fd", "ENOENT") for alive in (True, False)}


@pytest.mark.parametrize("seed", range(20))
def test_wrong_sets_of_ends_get_a_word(lessons, seed, capsys):
    variant = lessons["03"]["q4"].variant(seed)
    assert ("fd", False) not in variant._key
    assert "Who has a descriptor" in variant.check(variant._key | {("fd", False)}).text
    for pair in PAIRS:
        verdict = variant.check(variant._key ^ {pair})
        assert not verdict and "can happen" in verdict.text
        if pair not in variant._key or len({answer for answer, _ in variant._key}) == 2:
            assert len(verdict.text) > 70, (pair, verdict)
    for odd in ("fd", {"fd"}, 3, None, {("fd", "False")}):
        assert "set of pairs" in variant.check(odd).text
    example = variant.check(None).text
    assert not any(repr(pair) in example for pair in PAIRS), "no example is an answer"
    assert capsys.readouterr().err == ""


def test_the_races_of_the_variants_have_different_ends(lessons):
    assert len({frozenset(lessons["03"]["q4"].variant(seed)._key) for seed in range(30)}) >= 4
