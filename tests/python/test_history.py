"""The history of a machine: what entered it, its past states, forks, breakpoints."""

from __future__ import annotations

import base64
import errno
import itertools
import random
import re
import time

import bpfsim
import pytest
from bpfsim import _core
from bpfsim.history import Events, Steps

COUNT = """
r2 = r10
r2 += -4
*(u32 *)(r10 - 4) = 0
r1 = map[hits]
call map_lookup_elem
if r0 == 0 goto out
r1 = 1
lock *(u64 *)(r0 + 0) += r1
out:
r0 = 2
exit
"""


@pytest.fixture
def k():
    return bpfsim.Kernel()


def text(graph):
    return str(graph)


def a_life(k):
    """A map that is pinned, shared and gone at the end; gives the graph after each step as it was live."""
    live, before = [], len(k.history)

    def look(result=None):
        live.append(text(k.graph()))
        return result

    t = look(k.spawn("loader"))
    fd = look(t.bpf("MAP_CREATE", map_type="hash", key_size=4, value_size=8, max_entries=4, map_name="counts"))
    look(t.bpf("MAP_UPDATE_ELEM", map_fd=fd, key=b"\1\0\0\0", value=bytes(8)))
    with pytest.raises(OSError):
        t.bpf("MAP_LOOKUP_ELEM", map_fd=fd, key=b"\2\0\0\0", value=bytearray(8))
    look()
    look(t.bpf("OBJ_PIN", pathname="/sys/fs/bpf/counts", bpf_fd=fd))
    child = look(t.fork())
    look(t.exit())
    look(child.dup(fd))
    look(child.unlink("/sys/fs/bpf/counts"))
    look(child.close(fd))
    look(child.exit())
    assert len(k.history) == before + len(live)
    return live


def test_every_past_graph_is_the_one_that_was(k):
    live = a_life(k)
    for number in reversed(range(len(live))):
        assert text(k.history[number].graph()) == live[number]
    assert [text(step.before()) for step in k.history[1:]] == live[:-1]


def test_a_step_says_who_called_what_and_what_it_answered(k):
    a_life(k)
    steps = k.history
    assert steps[0].text == 'spawn("loader")' and steps[0].task is None
    assert (steps[1].text, steps[1].answer, steps[1].result) == ('BPF(MAP_CREATE) hash "counts"', "fd 3", 3)
    assert steps[1].task.pid == 470 and steps[1].task.comm == "loader"
    assert (steps[3].answer, steps[3].errno) == ("ENOENT", errno.ENOENT)
    assert steps[4].text == "BPF(OBJ_PIN) fd 3 at /sys/fs/bpf/counts"
    assert [step.text for step in steps[5:8]] == ["fork()", "exit()", "dup(3)"]
    assert steps[-1].text == "exit()"
    assert isinstance(steps[2:4], Steps) and len(steps[2:4]) == 2
    with pytest.raises(IndexError):
        steps[len(steps)]
    assert 'BPF(MAP_CREATE) hash "counts" -> fd 3' in repr(steps)
    assert "BPF(MAP_CREATE) hash &quot;counts&quot;" in steps._repr_html_()


def test_events_of_a_call_and_the_graph_at_each(k):
    t = k.spawn()
    m = t.map_create("hash", key_size=4, value_size=8, max_entries=4, name="m")
    serial = m.object.serial
    step = next(s for s in k.history if s.text.startswith("BPF(MAP_CREATE)"))
    events = step.events
    assert isinstance(events, Events)
    ups = [e for e in events if e.counter == "refcnt" and e.serial == serial]
    assert [e.after for e in ups] == [1]
    assert "born" in [e.cause for e in events]
    held_by_the_call = [
        edge
        for event in events
        for edge in event.graph().edges
        if edge.held == serial and not edge.via.startswith(("fd ", "private_data"))
    ]
    assert held_by_the_call, "the new map is held by the call before it has a descriptor"
    assert text(step.graph()) == text(k.history.graph(step.number + 1))


def test_a_fork_is_a_live_machine_of_its_own(k):
    t = k.spawn()
    m = t.map_create("hash", key_size=4, value_size=8, max_entries=4)
    m[1] = 10
    here = len(k.history)
    m[1] = 20
    fork = k.history.fork_from(here)
    again = bpfsim.Map(fork.task(t.pid), m.fd)
    assert (again[1], m[1]) == (10, 20)
    again[2] = 30
    assert 2 not in m
    assert again.object.serial == m.object.serial and again.id == m.id
    assert repr(fork.history[here - 1]) == repr(k.history[here - 1])
    assert fork.history.check() == "" and k.history.check() == ""
    assert len(k.history.fork_from(0).history) == 0
    with pytest.raises(IndexError):
        k.history.fork_from(len(k.history) + 1)


def test_a_cursor_walks_calls_and_into_them(k):
    a_life(k)
    h = k.history.cursor().boot()
    assert h.text == "boot" and h.step is None
    with pytest.raises(IndexError):
        h.back()
    with pytest.raises(IndexError):
        h.into()
    h.forward().forward()
    assert h.step.text.startswith("BPF(MAP_CREATE)")
    assert [node.kind for node in h.changed.born] == ["map", "file"]
    assert any(edge.via == "fd 3" for edge in h.changed.added)
    h.into()
    assert h.event.number == 0 and h.text.startswith("inside step 1, event 0")
    places = [text(h.graph)]
    while h.event:
        h.forward()
        places.append(text(h.graph))
    assert text(h.graph) == text(h.step.graph())
    h.into()
    while h.event:
        assert text(h.graph) == places[h.event.number]
        if h.event.number + 1 < len(h.step.events):
            h.forward()
        else:
            break
    h.out().back()
    assert h.text.startswith("after step 0")
    assert [node.kind for node in h.changed.freed] == ["map", "file"]
    h.to(-1)
    with pytest.raises(IndexError):
        h.forward()
    assert len(h.to(3).fork().history) == 4
    assert "counts" in h._repr_html_() and "after step 3" in repr(h)


def test_steps_are_counted_from_the_end_by_negative_numbers(k):
    a_life(k)
    h, last = k.history, len(k.history) - 1
    assert h[-1].number == h.cursor(-1).step.number == h.cursor(h[-1]).step.number == last
    assert text(h.graph(-1)) == text(h[-1].before()) == text(h.graph(last))
    assert text(h.graph(len(h))) == text(h[-1].graph())
    assert len(h.fork_from(-1).history) == len(h.fork_from(h[-1]).history) == last
    assert len(h.film(-2, quiet=True).frames) == 2
    for beyond in (h.__getitem__, h.cursor, h.graph, h.fork_from, h.film):
        for number in (len(h) + 1, -len(h) - 1):
            with pytest.raises(IndexError, match=f"the history has {len(h)} steps, there is no {number}"):
                beyond(number)


def test_what_is_freed_is_not_drawn_from_that_event_on(k):
    t = k.spawn()
    m = t.map_create("array", name="counts")
    t.prog_load("xdp", "r1 = map[counts]\nr0 = 1\nexit", maps={"counts": m}, name="prog")
    t.exit()
    seen = []
    for frame in k.history.film(-1, events=True).frames:
        if frame.caption.endswith(": freed"):
            name = frame.caption.split(" ", 2)[2].removesuffix(": freed")
            assert frame.text.splitlines()[0] == f"- {name}", frame.text
            seen.append(name)
    assert seen == [
        "file (bpf-map)",
        "file (bpf-prog)",
        "task 470 (bash)",
        "prog 1 (prog), id gone",
        "map 1 (counts), id gone",
    ]
    for event in k.history[-1].events:
        gone = {e.serial for e in k.history[-1].events[: event.number + 1] if e.cause == "freed"}
        assert not gone & {node.serial for node in event.graph().nodes}


def test_what_drawings_leave_out_is_said(k):
    k.spawn().fork().exit()
    here = k.history.cursor().into()
    assert "f_count -1 = 5" in here.text
    assert repr(here).endswith("nothing changed in the drawing, which leaves out the terminal")
    assert "which leaves out the terminal" in here._repr_html_()


def test_diff_says_in_words_what_changed(k):
    t = k.spawn()
    before = k.graph()
    m = t.map_create("array", key_size=4, value_size=8, max_entries=1, name="a")
    after = k.graph()
    d = bpfsim.diff(before, after)
    assert d and "+ map 1 (a) [refcnt 1, usercnt 1]" in d.lines()
    m.pin("/sys/fs/bpf/a")
    assert "  map 1 (a): refcnt 1, usercnt 1 => refcnt 2, usercnt 2" in bpfsim.diff(after, k.graph()).lines()
    assert not bpfsim.diff(after, after) and str(bpfsim.diff(after, after)) == "nothing changed"
    gone = bpfsim.diff(after, before)
    assert {node.label for node in gone.freed} == {node.label for node in d.born}


def test_watch_finds_each_change_of_a_counter(k):
    t = k.spawn()
    m = t.map_create("hash", key_size=4, value_size=8, max_entries=4, name="m")
    m.pin("/sys/fs/bpf/m")
    t.unlink("/sys/fs/bpf/m")
    ledger = m.ledger
    serial = m.object.serial
    seen = [e for e in k.history.watch(m) if e.counter]
    assert [(e.cause, e.after, e.counter) for e in seen] == [(r["cause"], r["after"], r["counter"]) for r in ledger]
    m.close()
    life = [e.cause for e in k.history.watch(serial) if e.counter is None]
    assert life[0] == "born" and life[-1] == "freed" and "id freed" in life
    assert "refcnt +1 = 1" in repr(k.history.watch(serial))


def test_break_on_a_counter_stops_after_the_call(k):
    t = k.spawn()
    m = t.map_create("hash", key_size=4, value_size=8, max_entries=4, name="m")
    t.dup(m.fd)
    point = k.break_on(m, "refcnt", at=0)
    t.close(m.fd)  # not the last
    with pytest.raises(bpfsim.Break) as stopped:
        t.exit()
    e = stopped.value
    assert (e.counter, e.after, e.step) == ("refcnt", 0, len(k.history) - 1)
    there = k.history[e.step].events[e.event]
    assert there.counter == "refcnt" and there.after == 0
    assert "map" in str(e)
    point.remove()
    with pytest.raises(ValueError):
        k.break_on(there.serial, "refs")


def test_a_breakpoint_in_a_with_block_ends_with_it(k):
    t = k.spawn()
    m = t.map_create("hash", key_size=4, value_size=8, max_entries=4)
    with k.break_on(m), pytest.raises(bpfsim.Break):
        m.pin("/sys/fs/bpf/m")
    t.unlink("/sys/fs/bpf/m")
    assert m.refcnt == 1


def test_programs_packets_and_steps_are_done_again(k):
    t = k.spawn()
    hits = t.map_create("array", key_size=4, value_size=8, max_entries=1, name="hits")
    prog = t.prog_load("xdp", COUNT, maps={"hits": hits}, name="count")
    t.link_create(prog, "eth0")
    for _ in range(3):
        k.net_device("eth0").receive(bytes(64))
    before = len(k.history)
    assert sum(1 for _ in prog.steps(bytes(64))) > 5
    assert hits[0] == 4
    fork = k.history.fork_from(before)
    again = bpfsim.Map(fork.task(t.pid), hits.fd)
    assert again[0] == 3
    fork.net_device("eth0").receive(bytes(64))
    assert again[0] == 4
    assert any(step.text == "a packet of 64 bytes arrives at netdev 2" for step in k.history)


def test_refused_programs_and_wild_pointers_are_refused_again(k):
    t = k.spawn()
    with pytest.raises(bpfsim.VerifierError):
        t.prog_load("xdp", "r0 = r9\nexit")
    with pytest.raises(OSError):
        t.bpf("MAP_UPDATE_ELEM", map_fd=7, key=1, value=1)
    m = t.map_create("hash", key_size=4, value_size=8, max_entries=1)
    with pytest.raises(OSError) as wild:
        t.bpf("MAP_LOOKUP_ELEM", map_fd=m.fd, key=8, value=8)
    assert wild.value.errno == errno.EFAULT
    assert k.history[-1].answer == "EFAULT"
    assert k.history.check() == ""


def test_the_verification_time_of_the_log_is_simulated_and_the_same_when_done_again(k):
    t = k.spawn()
    logs = [t.prog_load("xdp", "r0 = 2\n" * 9_999 + "exit", log_level=4).log for _ in range(5)]
    assert {log.splitlines()[0] for log in logs} == {"verification time 3000 usec"}
    assert k.history.check() == ""


def test_the_world_outside_is_in_it(k):
    t = k.spawn()
    k.sysctl["net.core.bpf_jit_enable"] = 0
    k.rcu_hold()
    k.add_net_device("veth0")
    t.set_caps(["CAP_BPF"])
    k.read_trace_pipe()
    k.rcu_release()
    words = "\n".join(step.text for step in k.history)
    for what in ("sysctl net.core.bpf_jit_enable=0", "held open", "veth0 is plugged in", "capset", "trace_pipe"):
        assert what in words


def test_two_machines_have_two_histories():
    one, other = bpfsim.Kernel(), bpfsim.Kernel()
    one.spawn("a")
    other.spawn("b")
    other.spawn("c")
    assert (len(one.history), len(other.history)) == (1, 2)
    assert one.history[0].text == 'spawn("a")'


def test_history_can_be_off():
    k = bpfsim.Kernel(history=False)
    m = k.spawn().map_create("hash", key_size=4, value_size=8, max_entries=1)
    with pytest.raises(RuntimeError, match="keeps no history"):
        _ = k.history
    with k.break_on(m), pytest.raises(bpfsim.Break, match="no step: this machine keeps no history") as stopped:
        m.pin("/sys/fs/bpf/m")
    assert stopped.value.step is None


@pytest.mark.history_ends
def test_the_bound_on_memory_cuts_the_history_and_it_says_from_where():
    k = bpfsim.Kernel(history_mib=1)
    m = k.spawn().map_create("hash", key_size=4, value_size=8, max_entries=1)
    m[1] = 1
    while not k.history.ended:
        for _ in range(100):
            m[1] = 2
    n = len(k.history)
    assert k.history.ended == f"the history ends before step {n}: it holds 1 MiB, its bound"
    m[1] = 3
    assert len(k.history) == n and m[1] == 3
    with pytest.warns(UserWarning, match="does not stand where this machine does: the history ends before step"):
        fork = k.history.fork_from(n)
    assert bpfsim.Map(fork.task(470), m.fd)[1] == 2
    assert "its bound" in repr(k.history)


@pytest.mark.history_ends
def test_a_history_that_has_ended_says_so_where_it_would_answer_wrongly():
    k = bpfsim.Kernel(history_mib=1)
    m = k.spawn().map_create("hash", key_size=4, value_size=8, max_entries=1)
    assert k.history.watch(m).missing == ""
    while not k.history.ended:
        for _ in range(100):
            m[1] = 2
    later = m.task.map_create("array")
    seen = k.history.watch(later)
    assert list(seen) == [] and repr(seen) == f"no events\nwhat came later is not known: {k.history.ended}"
    m.close()
    assert k.history.watch(0).missing in k.history.watch(0)._repr_html_()


@pytest.mark.history_ends
@pytest.mark.parametrize("the_end", ["between two calls", "in the call itself"])
def test_a_breakpoint_goes_on_after_the_end_of_the_history(the_end):
    k = bpfsim.Kernel(history_mib=1)
    t = k.spawn()
    m = t.map_create("hash", key_size=4, value_size=8, max_entries=1, name="m")
    k.break_on(m)
    while the_end == "between two calls" and not k.history.ended:
        for _ in range(100):
            m[1] = 2
    instructions = 10 if k.history.ended else 140_000  # more than a MiB
    with pytest.raises(bpfsim.Break) as stopped:
        t.prog_load("xdp", "r1 = map[m]\n" + "r0 = 2\n" * instructions + "exit", maps={"m": m}, log_level=0)
    e = stopped.value
    assert k.history.ended and (e.step, e.event, e.counter, e.after) == (None, None, "refcnt", 2)
    assert t.object_at(e.result).kind == "prog"
    assert str(e).endswith(f"in a call that is no step: {k.history.ended}")
    with k.break_on(m, "usercnt", at=0), pytest.raises(bpfsim.Break, match="usercnt of map 1 is 0"):
        t.exit()


def test_ten_thousand_calls_are_done_again_fast(k):
    t = k.spawn()
    m = t.map_create("hash", key_size=4, value_size=8, max_entries=64)
    rng = random.Random(1)
    attr = bytearray(_core_attr(m))
    key, value = bytearray(4), bytearray(8)
    alive = []
    from bpfsim.attr import address_of

    attr[8:16] = address_of(key, alive).to_bytes(8, "little")
    attr[16:24] = address_of(value, alive).to_bytes(8, "little")
    for _ in range(10_000):
        key[0], value[0] = rng.randrange(80), rng.randrange(256)
        t.sys_bpf(rng.choice([1, 2, 2, 3]), attr, 32)
    n = len(k.history)
    assert n > 10_000
    begin = time.perf_counter()
    assert k.history.check() == ""
    assert time.perf_counter() - begin < 5, "measured: 10 ms; slow machines may be a hundred times slower"
    begin = time.perf_counter()
    h = k.history.cursor()
    for _ in range(100):
        h.back()
    assert time.perf_counter() - begin < 20


def _core_attr(m):
    attr = bytearray(32)
    attr[0:4] = m.fd.to_bytes(4, "little")
    return attr


def test_nothing_is_left_of_a_machine_and_its_forks():
    k = bpfsim.Kernel()
    a_life(k)
    fork = k.history.fork_from(4)
    fork.task(470).exit()
    assert [o for o in fork.leaks()] == []
    assert _core.graph_disagreements(fork) == []
    del k
    assert fork.history.check() == ""


def test_chmod_and_close_raise_as_the_other_calls_do(k):
    t = k.spawn()
    m = t.map_create("hash", key_size=4, value_size=8, max_entries=1)
    m.pin("/sys/fs/bpf/m")
    t.chmod("/sys/fs/bpf/m", 0o600)
    assert t.stat("/sys/fs/bpf/m")["mode"] & 0o777 == 0o600
    with pytest.raises(FileNotFoundError):
        t.chmod("/sys/fs/bpf/none", 0o600)
    assert t.close(m.fd) is None
    with pytest.raises(OSError) as closed:
        t.close(m.fd)
    assert closed.value.errno == errno.EBADF


def test_a_film_keeps_every_object_in_its_place_and_marks_what_changed():
    k = bpfsim.Kernel()
    task = k.spawn("bash")
    m = task.map_create("array", name="packets")
    prog = task.prog_load("xdp", "r1 = map[packets]\nr0 = 1\nexit", maps={"packets": m})
    m.close()
    prog.close()
    film = k.history.film()
    assert [f.caption.split("] ")[-1] for f in film.frames][-3:] == [
        "BPF(PROG_LOAD) xdp, 4 instructions -> fd 4",
        "close(3) -> 0",
        "close(4) -> 0",
    ]
    drawn = [base64.b64decode(re.search('base64,([^"]+)', f.html)[1]).decode() for f in film.frames]
    boxes = [re.findall(r'<rect x="(\d+)" y="(\d+)"[^/]*/><text[^>]*>map 1', svg) for svg in drawn if "map 1" in svg]
    assert len(boxes) == 4 and len({tuple(b) for b in boxes}) == 1  # created, held by the program, closed, gone
    assert [svg.count("freed</text>") for svg in drawn[-2:]] == [1, 3]  # the map's file; file, program and map
    assert "- map 1 (packets)" in film.frames[-1].text
    assert len(k.history.film(quiet=True).frames) == len(k.history)
    inside = k.history.film(len(k.history) - 1, events=True)
    assert len(inside.frames) > 2 and inside.frames[0].caption.startswith(f"step {len(k.history) - 1}.0 ")


def test_a_load_that_nobody_recorded_is_done_again_for_its_stages():
    k = bpfsim.Kernel()
    task = k.spawn()
    text = "r0 = 1\nif r0 == 1 goto out\nr0 = 2\nout:\nexit"
    fd = task.bpf("PROG_LOAD", prog_type="xdp", insns=text, license="GPL")
    task.map_create("array", name="later")
    stages = bpfsim.Prog(task, int(fd)).stages
    assert [s.listing for s in stages] == [s.listing for s in task.prog_load("xdp", text, log_level=0).stages]
    assert len(stages[-1].listing) < len(stages[0].listing)
    silent = bpfsim.Kernel(history=False).spawn()
    fd = silent.bpf("PROG_LOAD", prog_type="xdp", insns=text, license="GPL")
    with pytest.raises(RuntimeError, match="history"):
        bpfsim.Prog(silent, int(fd)).stages  # noqa: B018


def test_an_object_is_watched_by_its_name(k):
    t = k.spawn()
    m = t.map_create("array", name="counts")
    prog = t.prog_load("xdp", "r0 = 1\nexit", name="wanted")
    watched = [k.history.watch("counts"), k.history.watch("map 1 (counts)"), k.history.watch("wanted")]
    assert [repr(events) for events in watched] == [repr(k.history.watch(obj)) for obj in (m, m, prog)]
    with pytest.raises(ValueError, match=r"no map, program or link was called 'wnted'; .*map 1 \(counts\)"):
        k.history.watch("wnted")
    t.map_create("array", name="counts").close()
    with pytest.raises(ValueError, match="2 objects were called 'counts'; by their number"):
        k.history.watch("counts")


def test_a_film_says_what_it_leaves_out(k):
    t = k.spawn()
    m = t.map_create("array", name="counts")
    m[0] = 1
    film = k.history.film()
    assert "2 steps" in film.note and "BPF(MAP_UPDATE_ELEM)" in film.note, film.note
    assert all(frame.caption.startswith("step ") for frame in film.frames)
    assert film.note in film._repr_html_() and film.note in str(film)
    assert k.history.film(quiet=True).note == ""
    assert "events (" in k.history.film(events=True).note


def busy(programs, forks):
    k = bpfsim.Kernel()
    t = k.spawn("loader")
    loaded = [t.prog_load("sched_cls", "r0 = 0\nexit", name=f"p{n}") for n in range(programs)]
    for prog in loaded:
        t.link_create(prog, "eth0")
    for _ in range(forks):
        t.fork()
    return k


def test_a_film_has_each_shape_once_and_not_in_every_frame():
    few, many = (len(busy(10, forks).history._repr_html_()) for forks in (0, 10))
    assert few < 200_000, "each of 22 frames had the whole drawing and its table: 1.3 MB"
    assert many < 4 * few, "and ten forks, which add 200 references, made it 3 times as much again"


def test_a_film_that_would_be_large_leaves_drawings_out_and_says_so(monkeypatch):
    film = busy(10, 0).history.film()
    film.start = len(film.frames) - 1
    whole = film._repr_html_()
    monkeypatch.setattr("bpfsim.views.film.BOUND", len(whole) - 1)
    page = film._repr_html_()
    assert len(page) < len(whole) and "11 of 22 drawings are not in this page, which would be larger than" in page
    assert page.count('"caption":') == 11 and "let at = 10;" in page
    monkeypatch.setattr("bpfsim.views.film.BOUND", 1)
    assert film._repr_html_().count('"caption":') == 1, "the last one is always there"


def test_steps_and_events_that_a_film_leaves_out_are_counted_apart(k):
    t = k.spawn()
    m = t.map_create("array", name="counts")
    m[0] = 1
    t.prog_load("xdp", "r0 = 1\nexit", name="p")
    t.exit()
    note = k.history.film(events=True).note
    said = re.findall(r"them: (\d+) (\w+) \\((.*?)\\)\\.", note.replace("(", "\\(").replace(")", "\\)"))
    assert "steps (BPF(MAP_UPDATE_ELEM)" in note or "BPF(MAP_UPDATE_ELEM)" in note.split("events (")[0], note
    assert "BPF(" not in note.split("events (")[1], (note, said)


def test_a_map_type_of_a_lesson_is_named_where_the_past_comes_out_otherwise(k):
    class Dice:
        answers = iter(range(100))

        def map_alloc(attr):
            return {}

        def map_update_elem(map, key, value, flags):
            if next(Dice.answers):
                raise OSError(errno.EBUSY, "not now")

    k.register_map_type("dice", Dice)
    m = k.spawn().map_create("dice", key_size=4, value_size=4, max_entries=4)
    m[1] = 1
    assert "map type 'dice' is written in Python" in k.history.check()
    with pytest.raises(RuntimeError, match="map type 'dice' is written in Python"):
        k.history.fork_from(len(k.history))
    Dice.answers = itertools.repeat(0)  # as the first time
