"""Recordings of a simulated machine, and the views that are made from them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from . import _core
from .views import FunctionGraph
from .views import ObjectGraph as GraphView
from .views.object_graph import Edge, Node
from .views.stages import Stage, Stages

_lock = threading.Lock()  # of the two below
_shares: dict[Any, int] = {}  # by recording: how many loads and traces it is kept on for
_traced: set[Any] = set()  # the recordings that a trace looks at


class Trace:
    """What happened on a machine while the block ran: ``with k.trace() as t: ...``.

    Iterates over the records; ``t.functions`` is the tree of kernel functions, ``t.stages`` the program after each
    pass of the loads in it. Keeps at most ``limit`` events; ``t.lost`` counts those after it. A machine has one trace
    at a time: another, inside of it or in another thread, raises RuntimeError. Programs that other threads load
    meanwhile are in the trace, and each keeps its own as ``prog.trace``.
    """

    def __init__(self, kernel: Any, limit: int = 1_000_000):
        self._kernel, self._limit, self._own = kernel, limit, _core.Recorder(limit)
        self._recorder = self._own
        self._begin = self._lost = 0  # where in the recording it begins, and how many events were lost before that
        self._places: Sequence[int] | None = None  # of its events in the recording; None: as many as there are by now

    def __enter__(self) -> Trace:
        with _lock:
            current = self._kernel.recorder
            if current in _shares and current not in _traced:  # another thread's load has begun it
                current.make_room(self._limit)
                self._recorder, self._begin, self._lost = current, len(current), current.lost
            else:
                self._kernel.start_recording(self._own)
                self._recorder, self._begin, self._lost = self._own, 0, 0
            _shares[self._recorder] = _shares.get(self._recorder, 0) + 1
            _traced.add(self._recorder)
        self._places = None
        return self

    def __exit__(self, *_: Any) -> None:
        with _lock:
            self._places, self._lost = self._seen()
            _traced.discard(self._recorder)
            self._release()

    def _release(self) -> None:
        """The last that a recording is kept on for ends it."""
        _shares[self._recorder] -= 1
        if not _shares[self._recorder]:
            del _shares[self._recorder]
            self._kernel.stop_recording()

    def _seen(self) -> tuple[Sequence[int], int]:
        """The places of its events, and how many were lost. Other threads add events meanwhile: each is asked once."""
        if self._places is not None:
            return self._places, self._lost
        there, lost = len(self._recorder) - self._begin, self._recorder.lost - self._lost
        kept = min(there, self._limit)
        return range(self._begin, self._begin + kept), lost + there - kept

    def _events(self) -> Sequence[int]:
        return self._seen()[0]

    def __len__(self) -> int:
        return len(self._events())

    def __getitem__(self, at: int) -> Any:
        if not -len(self) <= at < len(self):
            raise IndexError(f"the trace has {len(self)} events")
        return self._recorder[self._events()[at]]

    def __iter__(self) -> Iterator[Any]:
        return (self._recorder[i] for i in self._events())

    def of(self, *kinds: str) -> list[Any]:
        """The records of these kinds: ``t.of("get", "put")``."""
        return [record for record in self if record.kind in kinds]

    @property
    def lost(self) -> int:
        """How many events came after the limit."""
        return self._seen()[1]

    @property
    def functions(self) -> FunctionGraph:
        """The kernel's functions in the order in which they were entered, nested."""
        return FunctionGraph((r for r in self if r.kind in ("enter", "leave")), events=False)

    @property
    def stages(self) -> Stages:
        """The program as each pass of the verifier left it."""
        rewritten = [record.fields for record in self if record.kind == "program_rewritten"]
        return Stages([Stage(f["pass"], _instructions(f["program"])) for f in rewritten])

    def __repr__(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(r.kind for r in self).most_common())
        return f"<Trace of {len(self)} events: {kinds or 'nothing happened'}>"

    def __str__(self) -> str:
        return str(self.functions)

    def _repr_html_(self) -> str:
        return self.functions._repr_html_()


class LoadTrace(Trace):
    """The part of a recording that falls into a load: of the recording in progress, or of one that the load begins.

    Loads of several threads share one recording, which ends with the last of them. What other threads do on the machine
    between the beginning of the load and its end is no part of it.
    """

    def __init__(self, kernel: Any):
        super().__init__(kernel, 200_000)
        self._places = ()

    def __enter__(self) -> Trace:
        with _lock:
            current = self._kernel.recorder
            if current is None:
                current = self._recorder
                self._kernel.start_recording(current)
                _shares[current] = 0
            if current in _shares:
                _shares[current] += 1
            self._recorder, self._begin, self._lost = current, len(current), current.lost
        return self

    def __exit__(self, *_: Any) -> None:
        with _lock:
            self._lost = self._recorder.lost - self._lost
            self._places = self._recorder.own(self._begin)
            if self._recorder in _shares:
                self._release()


def record(kernel: Any, limit: int = 1_000_000) -> Trace:
    """Records the machine while a block runs: ``with k.trace() as t: ...``. At most ``limit`` events are kept."""
    return Trace(kernel, limit)


def graph(kernel: Any) -> GraphView:
    """Who holds whom on a machine, now: found by walking every holder's fields."""
    return graph_view(_core.graph_data(kernel))


def graph_view(data: tuple[list[Any], list[Any]]) -> GraphView:
    """A graph from the nodes and edges that the core gives."""
    nodes, edges = data
    return GraphView([Node(*node) for node in nodes], [Edge(*edge) for edge in edges])


def _instructions(listing: str) -> tuple[str, ...]:
    """The lines of a listing without their numbers, which change with every insertion."""
    return tuple(line.split(": ", 1)[-1] for line in listing.splitlines())


def leaks(kernel: Any) -> list[str]:
    """The objects that no task, pin, hook or link reaches; empty on a sound machine."""
    return _core.graph_leaks(kernel)


class Ring(list[str]):
    """The names of objects in a ring, each before the one that it holds. ``str()`` says by what they hold."""

    def __init__(self, names: list[str], told: str):
        super().__init__(names)
        self._told = told

    def __str__(self) -> str:
        return self._told


def cycles(kernel: Any) -> list[Ring]:
    """Objects that hold each other in a ring, as a prog array and a program in it that uses it: each ring from its
    oldest member on, along the references. ``print(*k.cycles(), sep="\\n")`` shows by which fields they hold."""
    seen = graph(kernel)
    label = {node.serial: node.label for node in seen.nodes}
    return [_ring(sorted(members), seen.edges, label) for members in _core.graph_cycles(kernel)]


def _ring(members: list[int], edges: list[Edge], label: dict[int, str]) -> Ring:
    """Goes from the oldest member along the references; where they branch, every branch in turn."""
    inside = [e for e in edges if e.strong and e.holder in members and e.held in members]
    order, told, waiting = [], [], [members[0]]
    while waiting:
        at = waiting.pop()
        if at in order:
            continue
        order.append(at)
        leads = sorted((e for e in inside if e.holder == at), key=lambda e: -e.held)
        waiting += [e.held for e in leads]
        told += [f"{label[at]} -> {label[e.held]} ({e.via})" for e in reversed(leads)]
    return Ring([label[serial] for serial in order], ", ".join(told))
