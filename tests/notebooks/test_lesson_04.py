"""The exercises of the lesson on maps: keys pass in every variant, wrong answers get the hint that fits."""

import errno
import json
import re
from pathlib import Path

import pytest

LESSON = Path(__file__).resolve().parents[2] / "notebooks" / "04_maps_one_interface.ipynb"
EXERCISES = ["q1", "q2", "q3", "q4"]
SEEDS = range(8)


@pytest.fixture(scope="module")
def lesson():
    """The names that the exercise cells define: after a restart they run alone."""
    cells = [cell for cell in json.loads(LESSON.read_text())["cells"] if cell["cell_type"] == "code"]
    sources = ["".join(cell["source"]) for cell in cells]
    begin = next(i for i, source in enumerate(sources) if "from bpfsim.exercises" in source)
    names: dict = {}
    for source in sources[begin:]:
        if "answer_" not in source:
            exec(source, names)
    return names


@pytest.mark.parametrize("exercise", EXERCISES)
def test_the_lesson_as_released_waits_for_answers(lesson, exercise, capsys):
    verdict = lesson[exercise].check(...)
    assert not verdict and "place of the dots" in verdict.text
    assert capsys.readouterr() == ("", "")


def solved(exercise, variant):
    """The right answer to a variant, made from its question where it is more than a number."""
    asked = repr(variant)
    if exercise == "q3":
        net, sub = map(int, re.search(r"begins with (\d+)\.(\d+) finds 7", asked).groups())
        return puts((0, [], 1), (8, [net], 3), (16, [net, sub], 7))
    if exercise == "q4":
        return once(writes_once(re.search(r"refused with (\w+)", asked)[1]))
    return variant._key


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("exercise", EXERCISES)
def test_every_variant_takes_its_key(lesson, exercise, seed):
    variant = lesson[exercise].variant(seed)
    assert variant.check(solved(exercise, variant)), variant.check(solved(exercise, variant))
    assert repr(variant) == repr(lesson[exercise].variant(seed)), "the same seed asks the same"


@pytest.mark.parametrize("exercise", EXERCISES)
def test_variants_differ(lesson, exercise):
    assert len({repr(lesson[exercise].variant(seed)) for seed in SEEDS}) > 1


@pytest.mark.parametrize("exercise", ["q1", "q2"])
def test_every_wrong_number_gets_a_word(lesson, exercise):
    for seed in SEEDS:
        variant = lesson[exercise].variant(seed)
        verdicts = [variant.check(number) for number in range(100) if number != variant._key]
        assert not any(verdicts)
        hinted = [v for v in verdicts if len(v.text) > len("99 is not what the kernel answers. ")]
        assert len(hinted) == len(verdicts) if exercise == "q2" else hinted, verdicts


def test_the_numbers_of_updates_differ(lesson):
    keys = [lesson["q2"].variant(seed)._key for seed in range(30)]
    assert len(set(keys)) > 2 and keys.count(0) < 6, f"a learner could guess: {keys}"


def once(update, lookup=True):
    """A map type with this update."""
    methods = {"map_alloc": lambda attr: {}, "map_update_elem": update}
    if lookup:
        methods["map_lookup_elem"] = lambda map, key: map.state.get(key)
    return type("Once", (), methods)


def writes_once(name, full=lambda map: len(map.state) == map.max_entries):
    """What is asked for, where ``full`` says the truth."""

    def update(map, key, value, flags):
        if key in map.state:
            raise OSError(getattr(errno, name), "written once")
        if full(map):
            raise OSError(errno.E2BIG, "full")
        map.state[key] = value

    return update


def overwrites(map, key, value, flags):
    map.state[key] = value


def keeps_silently(map, key, value, flags):
    map.state.setdefault(key, value)


def counts_first(map, key, value, flags):
    if len(map.state) == 1:
        raise OSError(errno.E2BIG, "full")
    map.state[key] = value


def another_errno(map, key, value, flags):
    if key in map.state:
        raise OSError(errno.ENOSPC, "written once")
    if len(map.state) == map.max_entries:
        raise OSError(errno.E2BIG, "full")
    map.state[key] = value


def never_full(map, key, value, flags):
    if key in map.state:
        raise OSError(never_full.errno, "written once")
    map.state[key] = value


WRONG = [
    ("q3", 5, "A function is wanted"),
    ("q3", lambda trie: None, "still empty"),
    ("q3", lambda trie: trie.__setitem__(bytes([32, 0, 0, 0, 8, 8, 8, 8]), 1), "one address only"),
    ("q3", lambda trie: trie.__setitem__(bytes([8, 0, 0, 0, 60, 0, 0, 0]), 3), "fits every address"),
    ("q3", lambda trie: trie.__setitem__(bytes(8), 1), "how long is each prefix"),
    ("q3", lambda trie: 1 / 0, "ZeroDivisionError"),
    ("q4", 5, "A class is wanted"),
    ("q4", type("Once", (), {}), "no method of struct bpf_map_ops"),
    ("q4", type("Once", (), {"map_update": lambda m, k, v, f: None}), "did you mean map_update_elem"),
    ("q4", type("Once", (), {"map_lookup_elem": lambda m, k: None}), "map_update_elem is missing"),
    ("q4", once(overwrites), "went over the first"),
    ("q4", once(overwrites, lookup=False), "cannot be read"),
    ("q4", once(keeps_silently), "raise an OSError"),
    ("q4", once(counts_first), "Ask first whether the key is there"),
    ("q4", once(another_errno), "The errno that is asked for"),
    ("q4", once(never_full), "Nobody counts"),
    ("q4", once(lambda map, key, value, flags: map.state[9]), "KeyError"),
    (
        "q4",
        type("Once", (once(keeps_silently),), {"map_lookup_elem": lambda map, key: map.state[key]}),
        "raise an OSError",
    ),
]


def test_types_that_only_look_right_are_refused(lesson):
    """Each answers the plain script's writes as asked."""
    for seed in SEEDS:
        variant = lesson["q4"].variant(seed)
        name = re.search(r"refused with (\w+)", repr(variant))[1]
        right = writes_once(name)

        def first_value(map, key):
            return next(iter(map.state.values()), None)

        def by_count(map, key, value, flags):
            map.state["calls"] = map.state.get("calls", 0) + 1
            if map.state["calls"] in (2, 4):
                raise OSError(getattr(errno, name) if map.state["calls"] == 2 else errno.E2BIG, "")  # noqa: B023

        ten = type(
            "Once", (once(right),), {"map_lookup_elem": lambda map, key: (10).to_bytes(map.value_size, "little")}
        )
        blind = type("Once", (once(right),), {"map_lookup_elem": first_value})
        for wrong, says in [
            (ten, "must give the value of the very key"),
            (blind, "must give the value of the very key"),
            (once(writes_once(name, lambda map: len(map.state) == 2)), "In a map with room for"),
            (once(by_count), "cannot be read"),
        ]:
            verdict = variant.check(wrong)
            assert not verdict and says in verdict.text and "wanted" in verdict.text, verdict
        assert variant.check(once(right))


def test_natural_mistakes_in_a_type_are_told_in_words(lesson, capsys):
    right = writes_once(re.search(r"refused with (\w+)", repr(lesson["q4"]))[1])

    def no_errno(map, key, value, flags):
        if key in map.state:
            raise PermissionError("no")
        map.state[key] = value

    def on_self(map, key, value, flags):
        map.d[key] = value

    class WithSelf:
        def map_alloc(self, attr):
            return {}

        def map_update_elem(self, map, key, value, flags):
            pass

    for wrong, says in [
        (once(no_errno), "raise OSError(errno."),
        (type("Once", (), {"map_update_elem": right}), "Is there a map_alloc"),
        (type("Once", (once(right),), {"map_alloc": lambda attr: None}), "Is there a map_alloc"),
        (once(on_self), "__init__ is not called"),
        (WithSelf, "get no self"),
    ]:
        assert says in lesson["q4"].check(wrong).text
    assert capsys.readouterr() == ("", "")


def puts(*entries):
    """An answer to q3 that puts these (length, bytes of the address, value)."""

    def fill(trie):
        for length, address, value in entries:
            trie[bytes([length, 0, 0, 0, *address, *bytes(4 - len(address))])] = value

    return fill


def nearly_right(net, sub):
    """Answers that do well for most addresses, and the hints that they are to get."""
    wide, narrow, rest = (8, [net], 3), (16, [net, sub], 7), (0, [], 1)
    return [
        (puts(wide, narrow, (32, [8, 8, 8, 8], 1)), "one address only"),
        (puts(wide, narrow), "fits every address"),
        (puts(wide, narrow, (1, [], 1)), "fits every address"),
        (puts(rest, narrow, (7, [net], 3)), "how long is each prefix"),
        (puts(rest, narrow, (9, [net], 3)), "how long is each prefix"),
        (puts(rest, wide, (15, [net, sub], 7)), "how long is each prefix"),
        (puts(rest, wide, (17, [net, sub], 7)), "how long is each prefix"),
        (puts(rest, wide, (24, [net, sub, 2], 7)), "how long is each prefix"),
        (puts(rest, narrow, (8, [net + 1], 3)), "longest prefix that fits wins"),
        (puts(rest, (8, [net], 7), (16, [net, sub], 3)), "longest prefix that fits wins"),
    ]


@pytest.mark.parametrize("seed", SEEDS)
def test_routes_that_are_nearly_right_are_not_right(lesson, seed):
    variant = lesson["q3"].variant(seed)
    net, sub = map(int, re.search(r"begins with (\d+)\.(\d+) finds 7", repr(variant)).groups())
    for answer, says in nearly_right(net, sub):
        verdict = variant.check(answer)
        assert not verdict and says in verdict.text, verdict
    assert variant.check(puts((0, [], 1), (8, [net], 3), (16, [net, sub], 7)))


@pytest.mark.parametrize(("exercise", "answer", "says"), WRONG)
def test_wrong_answers_get_the_hint_that_fits(lesson, exercise, answer, says, capsys):
    asked = repr(lesson[exercise])
    never_full.errno = next((getattr(errno, name) for name in ("EEXIST", "EPERM", "EBUSY") if name in asked), 0)
    verdict = lesson[exercise].check(answer)
    assert not verdict
    assert says in verdict.text
    assert capsys.readouterr().err == ""
