"""Races: every interleaving tried, each different outcome found, the machine itself untouched."""

from __future__ import annotations

import io
import math
import random

import bpfsim
import pytest


def machine():
    k = bpfsim.Kernel()
    return k, k.spawn("a"), k.spawn("b")


def test_two_scripts_of_three_calls_have_twenty_interleavings():
    k, a, b = machine()
    steps = len(k.history)
    three = lambda t: [t.map_create("array", name=n).close() for n in "x"]  # create, info, close  # noqa: E731
    found = k.races({"a": (a, three), "b": (b, three)})
    assert found.complete and found.tried == math.comb(6, 3)
    assert len(k.history) == steps
    assert [n for n in k.graph().nodes if n.kind == "map"] == []


def test_a_get_fd_by_id_comes_before_or_after_the_last_close():
    k, a, b = machine()
    prog = a.prog_load("xdp", "r0 = 1\nexit")
    number = prog.id

    def get(task):
        return "fd" if task.bpf("PROG_GET_FD_BY_ID", prog_id=number) >= 0 else None

    found = k.races({"loader": (a, lambda t: prog.on(t).close()), "finder": (b, get)})
    assert {tuple(o.results.values()) for o in found} == {("None", "'fd'"), ("None", "ENOENT")}
    assert all(o.schedules == 1 for o in found) and found.tried == 2
    alive = {o.results["finder"]: any(n.kind == "prog" for n in o.graph.nodes) for o in found}
    assert alive == {"'fd'": True, "ENOENT": False}
    assert "All 2 schedules lead to 2 different outcomes" in repr(found)


@pytest.mark.parametrize("kind", ["prog", "map", "link"])
def test_an_id_between_the_last_put_and_its_end_finds_nothing(kind):
    k, a, b = machine()
    if kind == "prog":
        number, fd = (prog := a.prog_load("xdp", "r0 = 1\nexit")).id, prog.fd
    elif kind == "map":
        number, fd = (m := a.map_create("array")).id, m.fd
    else:
        prog = a.prog_load("xdp", "r0 = 1\nexit")
        number, fd = (link := a.link_create(prog, "lo")).id, link.fd

    def get(task):
        return task.bpf(f"{kind.upper()}_GET_FD_BY_ID", **{f"{kind}_id": int(number)}) >= 0

    found = k.races({"close": (a, lambda t: t.close(fd)), "get": (b, get)}, at="reference")
    assert {o.results["get"] for o in found} == {"True", "ENOENT"}
    gone = next(o for o in found if o.results["get"] == "ENOENT")
    assert gone.schedules >= 2, "after the call, and inside it when the counter is 0"
    assert not [n for n in gone.graph.nodes if n.kind == kind]


def test_inside_a_call_turns_change_where_a_shared_counter_does():
    k, a, b = machine()
    m = a.map_create("array", name="shared")
    m.pin("/sys/fs/bpf/m")

    def get(task):
        return task.bpf("OBJ_GET", pathname="/sys/fs/bpf/m") >= 0

    scripts = {"unlink": (a, lambda t: t.unlink("/sys/fs/bpf/m")), "get": (b, get)}
    coarse, fine = k.races(scripts), k.races(scripts, at="reference")
    assert coarse.complete and fine.complete and fine.tried > coarse.tried
    assert {o.results["get"] for o in fine} == {"True", "ENOENT"}
    assert any("map" in turn.where for o in fine for turn in o.schedule)
    again = k.races(scripts, at="reference")
    assert repr(again) == repr(fine)


def test_an_object_that_one_script_makes_and_another_finds_is_shared():
    k, a, b = machine()
    number = int(a.map_create("array").id) + 1

    def make(task):
        return task.map_create("array", name="new").close()

    def find(task):
        return task.bpf("MAP_GET_FD_BY_ID", map_id=number) >= 0

    scripts = {"maker": (a, make), "finder": (b, find)}
    found = k.races(scripts, at="reference")
    assert found.complete and {o.results["finder"] for o in found} == {"True", "ENOENT"}
    inside = [o for o in found if any("of map" in t.where and t.who == "maker" for t in o.schedule)]
    assert inside and found.tried > k.races(scripts).tried
    assert repr(k.races(scripts, at="reference")) == repr(found)


def test_the_last_close_of_a_prog_arrays_map_empties_it_whoever_is_late():
    k, a, _ = machine()
    table = a.map_create("prog_array", key_size=4, value_size=4, max_entries=1)
    prog = a.prog_load("xdp", "r0 = 1\nexit")
    b = a.fork()
    found = k.races(
        {
            "filler": (a, lambda t: (table.on(t).update(0, prog.fd), t.exit())),
            "leaver": (b, lambda t: t.exit()),
        }
    )
    assert found.complete and len(found) == 1
    assert not [n for n in found[0].graph.nodes if n.kind in ("prog", "map")]


def pinned_counter():
    k, a, b = machine()
    c = a.map_create("array", value_size=4, name="c")
    c.pin("/sys/fs/bpf/c")
    return k, a, b


def inc(task):
    c = bpfsim.Map(task, task.bpf("OBJ_GET", pathname="/sys/fs/bpf/c"))
    c[0] = c[0] + 1


def test_a_lost_update_is_an_outcome_of_its_own():
    k, a, b = pinned_counter()
    found = k.races({"a": (a, inc), "b": (b, inc)})
    assert found.complete and found.tried == math.comb(8, 4)
    assert {o.contents["map 1 (c)"]["0"] for o in found} == {"1", "2"}
    assert [o.differs for o in found] == [["map 1 (c)[0] = 2"], ["map 1 (c)[0] = 1"]]
    assert "afterwards: map 1 (c)[0] = 1" in repr(found) and "map 1 (c)[0] = 1" in found._repr_html_()
    lost = found[1]
    calls = [(turn.who, turn.where) for turn in lost.schedule]
    look, change = "before BPF(MAP_LOOKUP_ELEM)", "before BPF(MAP_UPDATE_ELEM)"
    first_change = min(calls.index((who, change)) for who in "ab")
    assert max(calls.index((who, look)) for who in "ab") < first_change


def test_every_schedule_of_an_outcome_can_be_seen():
    k, a, b = pinned_counter()
    found = k.races({"a": (a, inc), "b": (b, inc)})
    for outcome in found:
        assert len(outcome.every_schedule) == outcome.schedules <= 100
        assert outcome.schedule in outcome.every_schedule
        assert all(outcome.schedule.changes <= s.changes for s in outcome.every_schedule)
        assert len({repr(s) for s in outcome.every_schedule}) == outcome.schedules
    assert repr(found[0].every_schedule).startswith("1.\na: BPF(OBJ_GET), then BPF(OBJ_GET_INFO_BY_FD)")
    assert found[0].every_schedule._repr_html_().count("<table") == found[0].schedules
    many = lambda t: [t.dup(0) for _ in range(5)]  # noqa: E731
    (only,) = k.races({"a": (a, many), "b": (b, many)})
    assert only.schedules == 252 and len(only.every_schedule) == 100


def test_one_outcome_is_not_many():
    k, a, b = machine()
    found = k.races({"a": (a, lambda t: t.close(99)), "b": (b, lambda t: t.close(98))})
    assert found.summary == "All 2 schedules lead to the same outcome" and found[0].differs == []


FILLS = {
    "hash": (dict(max_entries=4), lambda m, n: m.update(n, n)),
    "lpm_trie": (
        dict(key_size=8, max_entries=4, map_flags=1),
        lambda m, n: m.update(bytes([8, 0, 0, 0, n, 0, 0, 0]), n),
    ),
    "bloom_filter": (dict(key_size=0, max_entries=4), lambda m, n: m.push(n)),
    "percpu_array": (dict(max_entries=4), lambda m, n: m.update(n, n)),
    "cpumap": (dict(value_size=4, max_entries=2), lambda m, n: m.update(n - 1, n)),
}


@pytest.mark.parametrize("kind", FILLS)
def test_how_elements_lie_does_not_count_only_what_they_are(kind):
    k, a, b = machine()
    fields, fill = FILLS[kind]
    m = a.map_create(kind, name="m", **fields)
    b = a.fork()
    found = k.races({"a": (a, lambda t: fill(m.on(t), 1)), "b": (b, lambda t: fill(m.on(t), 2))})
    assert found.tried == 2 and len(found) == 1
    assert found[0].contents["map 1 (m)"]


@pytest.mark.parametrize("kind", ["queue", "stack"])
def test_the_order_of_a_queue_counts(kind):
    k, a, b = machine()
    m = a.map_create(kind, key_size=0, value_size=4, max_entries=4, name="m")
    b = a.fork()
    found = k.races({"a": (a, lambda t: m.on(t).push(1)), "b": (b, lambda t: m.on(t).push(2))})
    assert len(found) == 2 and all(len(o.differs) == 2 for o in found)


def test_of_much_that_differs_a_part_is_told():
    k, a, b = machine()
    m = a.map_create("array", value_size=4, max_entries=1000, name="big")
    b = a.fork()
    values, keys = (bytes([n, 0, 0, 0]) * 20 for n in (1, 2)), b"".join(n.to_bytes(4, "little") for n in range(20))

    def fill(value):
        return lambda t: t.bpf("MAP_UPDATE_BATCH", map_fd=m.fd, keys=keys, values=value, count=20) and None

    found = k.races({who: (task, fill(value)) for who, task, value in zip("ab", (a, b), values, strict=True)})
    assert len(found) == 2 and len(found[0].contents["map 1 (big)"]) == 1000
    assert len(found[0].differs) == 20
    assert "afterwards: … and 8 more lines, in .differs" in repr(found)


def test_what_a_script_raises_is_its_answer_and_wrong_use_is_said():
    k, a, b = machine()
    m = a.map_create("array")
    found = k.races({"a": (a, lambda t: 1 / 0), "b": (b, lambda t: t.close(99))})
    assert found[0].results["a"].startswith("ZeroDivisionError") and found[0].results["b"] == "EBADF"
    with pytest.raises(RuntimeError, match=r"use m\.on\(task\)"):
        k.races({"a": (a, lambda t: m.update(0, 1)), "b": (b, lambda t: t.close(99))})
    with pytest.raises(ValueError, match="two or three scripts"):
        k.races({"a": (a, lambda t: None)})
    with pytest.raises(ValueError, match='at is "call" or "reference"'):
        k.races({}, at="instruction")


def test_a_limit_stops_the_search_and_says_so():
    k, a, b = machine()
    many = lambda t: [t.map_create("array") for _ in range(5)]  # noqa: E731
    found = k.races({"a": (a, many), "b": (b, many)}, limit=50)
    assert (
        found.tried == 50
        and not found.complete
        and "50 schedules of more, taken here and there, lead to" in repr(found)
    )


class Line:
    """A queue of a lesson's own: no keys, so that nobody can walk it."""

    def map_alloc(attr):
        return []

    def map_push_elem(map, value, flags):
        map.state.append(value)


class Hidden(Line):
    def map_alloc(attr):
        return type("Box", (list,), {"__repr__": object.__repr__})()


@pytest.mark.parametrize(("ops", "outcomes", "told"), [(Line, 2, ""), (Hidden, 1, "not compared: map 1 (q) (its")])
def test_a_type_in_python_counts_by_its_state_or_the_summary_says_that_it_does_not(ops, outcomes, told):
    k, a, b = machine()
    k.register_map_type("line", ops)
    m = a.map_create("line", key_size=0, value_size=8, max_entries=4, name="q")
    m.pin("/sys/fs/bpf/q")
    push = lambda n: lambda t: bpfsim.Map(t, t.bpf("OBJ_GET", pathname="/sys/fs/bpf/q")).push(n)  # noqa: E731
    found = k.races({"a": (a, push(10)), "b": (b, push(20))})
    assert found.complete and len(found) == outcomes
    assert told in found.summary and bool(told) == bool(found.not_compared) == ("not compared" in found.summary)


def test_every_element_of_a_larger_map_counts_and_of_a_huge_one_the_summary_says_how_many():
    k, a, b = machine()
    m, child = a.map_create("array", max_entries=1000, name="big"), a.fork()
    write = lambda n: lambda t: m.on(t).update(900, n)  # noqa: E731
    found = k.races({"a": (a, write(1)), "b": (child, write(2))})
    assert len(found) == 2 and found.not_compared == []
    a.map_create("array", max_entries=5000, name="huge")
    assert "more than 4096 elements" in k.races({"a": (a, write(1)), "b": (b, lambda t: t.dup(0))}).summary


def len_of_fds(task):
    return len(task.fds)


def pool(task, left=[1, 2, 3]):  # noqa: B006  (what is wrong with it)
    while left:
        left.pop()
        task.dup(0)


def names(task, made=[]):  # noqa: B006
    made.append(1)
    task.map_create("array", name=f"d{len(made)}")


def lots(task, lot=random.Random(5)):  # noqa: B008
    for _ in range(lot.randrange(4)):
        task.dup(0)


def answers(task, given=iter(range(9))):  # noqa: B008
    task.dup(0)
    return next(given)


@pytest.mark.parametrize("script", [pool, names, lots, answers])
def test_a_script_that_does_not_do_the_same_each_time_is_named(script):
    k, a, b = machine()
    with pytest.raises(RuntimeError, match="(script 'odd'|one of the scripts) does not do the same each time"):
        k.races({"same": (a, lambda t: t.dup(0)), "odd": (b, script)})


def test_a_script_that_makes_a_generator_or_a_coroutine_is_no_script():
    def steps(task):
        yield task.dup(0)

    async def later(task):
        task.dup(0)

    k, a, b = machine()
    for script in (steps, later):
        with pytest.raises(TypeError, match="the script 'b' is a function that calls the kernel"):
            k.races({"a": (a, lambda t: t.dup(0)), "b": (b, script)})


@pytest.mark.parametrize("limit", [0, -1, "x", None])
def test_a_limit_is_at_least_one_schedule(limit):
    k, a, b = machine()
    with pytest.raises(ValueError, match="limit is how many schedules"):
        k.races({"a": (a, len_of_fds), "b": (b, len_of_fds)}, limit=limit)


def add_one(task):
    with bpfsim.Map(task, task.bpf("OBJ_GET", pathname="/sys/fs/bpf/m")) as m:
        m[0] = m[0] + 1


def test_where_not_all_can_be_run_those_that_are_lie_far_apart():
    """Of three increments that each read before any writes: depth first, the first turns would never change."""
    k, a, b = machine()
    c = k.spawn("c")
    a.map_create("array", name="m").pin("/sys/fs/bpf/m")
    scripts = {"a": (a, add_one), "b": (b, add_one), "c": (c, add_one)}
    found = k.races(scripts, limit=150)
    values = {line for o in found for line in o.differs if "[0] = " in line}
    assert not found.complete and found.tried == 150
    assert {line[-1] for line in values} == {"1", "2", "3"}
    assert "150 schedules of more, taken here and there, lead to" in found.summary
    assert repr(k.races(scripts, limit=150)) == repr(found), "the same ones each time"


def test_a_long_search_says_how_far_it_is_in_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    k, a, b = machine()
    scripts = {"a": (a, lambda t: t.dup(0)), "b": (b, lambda t: t.dup(0))}
    for quiet, terminal in ((0.0, Terminal()), (0.0, io.StringIO()), (60.0, Terminal())):
        monkeypatch.setattr(bpfsim.races, "_QUIET", quiet)
        monkeypatch.setattr("sys.stderr", terminal)
        k.races(scripts)
        assert ("1 schedule, 1 outcome so far; at most 2000" in terminal.getvalue()) == (
            not quiet and terminal.isatty()
        )
