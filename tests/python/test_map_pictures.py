"""Pictures of maps whose elements are asked for one by one: types written in Python; and of stack traces."""

import errno
import json
import re

import bpfsim
import pytest
from bpfsim.views import MapView
from bpfsim.views.map_words import contents
from cells import Cells


@pytest.fixture
def k():
    return bpfsim.Kernel()


@pytest.fixture
def task(k):
    return k.spawn()


def test_stack_traces_stand_behind_their_ids(task):
    view = task.map_create("stack_trace", value_size=16, max_entries=6).view()
    assert view.facts() == "0 stack traces of at most 6 in 8 buckets, each stored once; its id is its hash & 7"
    assert "no stack trace" in view.svg()
    traces = [(n, n + 8, [0xFFFFFFFF81000000 + i for i in range(n + 1)]) for n in range(7)]
    full = MapView("m (stack_trace)", view.data | {"count": 7, "traces": traces}, list)  # as the machine would tell it
    assert full.svg().count("<rect") == 7 + sum(min(n + 1, 3) for n in range(7))
    assert "… 4 more" in full.svg() and "0xffffffff81000006" in str(full) and "0x0000000e" in str(full)
    assert float(re.search(r'width="(\d+)"', full.svg())[1]) <= 800
    assert contents(full.data)["2"] == "0xffffffff81000000 0xffffffff81000001 0xffffffff81000002"
    json.dumps(full.to_json())


def test_a_type_of_ones_own_is_drawn_key_by_key(k, task):
    k.register_map_type("cells", Cells)
    m = task.map_create("cells", value_size=4, max_entries=4)
    assert m.view().kind == "own" and "no element" in m.view().svg()
    assert m.view().facts() == "0 elements, as map_get_next_key and map_lookup_elem of this type tell them"
    for n in range(3):
        m[n] = 30 + n
    view = m.view()
    assert view.facts().startswith("3 elements,") and view.svg().count("<rect") == 6
    assert all(f">{30 + n}<" in view.svg() for n in range(3)) and "<img" in view._repr_html_()
    assert [row.split() for row in str(view).splitlines()[2:]] == [
        ["key", "value"],
        *([str(n), str(30 + n)] for n in range(3)),
    ]
    assert "at least 2 elements, " in str(m.view(2)) and "and more" in m.view(2).svg()
    assert json.loads(json.dumps(view.to_json()))["elements"][0] == ["00000000", "1e000000", ""]


def test_a_type_of_ones_own_without_keys_shows_the_next_value(k, task):
    class Last:
        def map_alloc(attr):
            return []

        def map_push_elem(map, value, flags):
            map.state.append(value)

        def map_peek_elem(map):
            return map.state[-1] if map.state else None

    k.register_map_type("last", Last)
    m = task.map_create("last", key_size=0, value_size=4)
    assert "without keys: empty" in m.view().facts() and "no element" in m.view().svg()
    m.push(7)
    m.push(8)
    assert "the next value is shown" in m.view().facts() and ">8<" in m.view().svg() and "8" in str(m.view())
    assert list(m.view().to_json()["elements"]) == [["", "08000000", ""]], "and it was not taken"

    class Shut(Last):
        def map_peek_elem(map):
            raise OSError(errno.EBUSY, "in use")

    k.register_map_type("shut", Shut)
    assert "without keys: in use" in task.map_create("shut", key_size=0, value_size=4).view()._repr_html_()


def test_what_a_type_of_ones_own_raises_stands_in_its_picture(k, task):
    class Frail:
        def map_get_next_key(map, key):
            if key == bytes([3, 0, 0, 0]):
                raise ValueError("lost <the> way\nat last")
            return (int.from_bytes(key or b"", "little") + 1).to_bytes(4, "little")

        def map_lookup_elem(map, key):
            if key[0] == 1:
                raise OSError(errno.EAGAIN, "come again")
            return [None, None, bytes(4), 17][key[0]]

    k.register_map_type("frail", Frail)
    view = task.map_create("frail", value_size=4, max_entries=9).view()
    assert view.data["elements"][:2] == [(bytes([1, 0, 0, 0]), b"", "come again"), (bytes([2, 0, 0, 0]), bytes(4), "")]
    assert "TypeError" in view.data["elements"][2][2] and "must return bytes, not int" in view.data["elements"][2][2]
    assert view.facts().startswith("at least 3 elements, ") and "ends there: ValueError: lost <the> way" in view.facts()
    assert "raised come again" in str(view) and "lost &lt;the&gt; way" in view._repr_html_()
    assert "<the>" not in view._repr_html_()
    assert view.svg().count("#fde2e2") == 2


def test_a_view_of_a_type_of_ones_own_can_be_done_again(k, task):
    class Counts:
        def map_alloc(attr):
            return {"asked": 0}

        def map_get_next_key(map, key):
            return None if key else bytes(4)

        def map_lookup_elem(map, key):
            map.state["asked"] += 1
            return map.state["asked"].to_bytes(4, "little")

    k.register_map_type("counts", Counts)
    m = task.map_create("counts", value_size=4)
    shown = [int.from_bytes(m.view().data["elements"][0][1], "little") for _ in range(3)]
    assert shown == [1, 2, 3] and m[0] == 4
    assert m.on(k.history.fork_from(len(k.history)).task(task.pid))[0] == 5, "the past has the calls of the views"
