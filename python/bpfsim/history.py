"""The history of a machine: every call that entered it, forwards and back, and the lifetime events inside each.

Past states are not stored. The machine is deterministic, so another one does the first calls again; objects have the
same serial number and id there. Where that would not be true any more (the bound on memory is reached, a context is
parked) the history ends, and ``k.history.ended`` says before which step and why.

Steps are counted from 0, and from the end by negative numbers, as the elements of a list: ``h[-1]`` is the last step,
``h.cursor(-1)`` stands after it, ``h.graph(-1)`` and ``h.fork_from(-1)`` are what was before it, after ``h[:-1]``.
"""

from __future__ import annotations

import html
import operator
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

from . import _core
from .arguments import shown
from .trace import Trace, graph_view
from .views import ObjectGraph
from .views.film import Film, Shot
from .views.object_graph import Edge, Node, union
from .views.page import mono, table


class Break(Exception):
    """A counter on which ``k.break_on`` waits has changed. The call in which it did has run to its end.

    ``.step`` and ``.event`` are where: ``k.history[e.step].events[e.event].graph()`` is that very moment. Both are None
    where the call is no step of the history: that has ended, or the machine keeps none. ``.result`` is what the call
    answered (a descriptor, 0, or -errno); ``.counter``, ``.after`` and ``.cause`` are the change.
    """

    step: int | None
    event: int | None
    counter: str
    after: int
    cause: str
    result: int


_NAMED = ("map", "prog", "link", "btf")  # kinds that a learner has names for
_UNDRAWN = {"file (tty)": "the terminal"}  # what every task has open says nothing about BPF


@dataclass(frozen=True)
class GraphDiff:
    """What is different between two graphs: ``if diff:`` anything, ``print(diff)`` in words.

    ``born`` and ``freed`` are nodes, ``added`` and ``removed`` edges, ``counters`` (node as it is now, the text of its
    counters before, and now).
    """

    born: list[Node]
    freed: list[Node]
    added: list[Edge]
    removed: list[Edge]
    counters: list[tuple[Node, str, str]]
    labels: dict[int, str]

    def __bool__(self) -> bool:
        return bool(self.born or self.freed or self.added or self.removed or self.counters)

    def lines(self) -> list[str]:
        """One line for each difference."""
        return [
            *(f"+ {node.text}" for node in self.born),
            *(f"- {node.label}" for node in self.freed),
            *(f"  {node.label}: {before} => {now}" for node, before, now in self.counters),
            *(f"+ {edge.text(self.labels)}" for edge in self.added),
            *(f"- {edge.text(self.labels)}" for edge in self.removed),
        ]

    def __str__(self) -> str:
        return "\n".join(self.lines()) or "nothing changed"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f'<div class="bpfsim">{"<br>".join(mono(line) for line in self.lines()) or "nothing changed"}</div>'


def diff(before: ObjectGraph, now: ObjectGraph) -> GraphDiff:
    """What has changed from one object graph to another of the same machine (or of a fork of it)."""
    old, new = ({node.serial: node for node in graph.nodes} for graph in (before, now))
    had, has = set(before.edges), set(now.edges)
    return GraphDiff(
        born=[node for serial, node in new.items() if serial not in old],
        freed=[node for serial, node in old.items() if serial not in new],
        added=[edge for edge in now.edges if edge not in had],
        removed=[edge for edge in before.edges if edge not in has],
        counters=[
            (node, old[serial].counters, node.counters)
            for serial, node in new.items()
            if serial in old and old[serial].counters != node.counters
        ],
        labels={serial: node.label for serial, node in (old | new).items()},
    )


@dataclass(frozen=True)
class Event:
    """A lifetime event inside a step.

    ``object`` names it (``serial`` is its number of birth), ``kind`` is "map", "prog", ... . Where a counter changed:
    ``counter`` ("refcnt", "usercnt" or a file's "f_count"), ``delta`` and its value ``after``, and the ``cause``. Else
    ``counter`` is None and ``cause`` says what happened: "born", "id freed", "free queued", "freed".
    """

    past: Any
    step: int
    number: int
    serial: int
    kind: str
    object: str
    counter: str | None
    delta: int
    after: int
    cause: str

    @property
    def text(self) -> str:
        """The event in words."""
        if self.counter is None:
            return f"{self.object}: {self.cause}"
        return f"{self.object}: {self.counter} {self.delta:+d} = {self.after} ({self.cause})"

    def graph(self) -> ObjectGraph:
        """Who held whom when this had just happened, references of calls in flight included."""
        return graph_view(self.past.graph_in(self.step, self.number))

    def __repr__(self) -> str:
        return f"<{self.step}.{self.number} {self.text}>"


class Events(list[Event]):
    """Events in order. ``.missing`` says why and from which step on there may be more; empty where there are none."""

    def __init__(self, events: Iterable[Event] = (), missing: str = ""):
        super().__init__(events)
        self.missing = missing

    def __repr__(self) -> str:
        told = [f"{e.step:5}.{e.number:<3} {e.text}" for e in self] or ["no events"]
        return "\n".join([*told, *([self.missing] if self.missing else [])])

    def _repr_html_(self) -> str:
        rows = [
            [f"{e.step}.{e.number}", mono(e.object), e.counter or "", _change(e), html.escape(e.cause)] for e in self
        ]
        end = f"<p>{html.escape(self.missing)}</p>" if self.missing else ""
        return f'<div class="bpfsim">{table(["event", "object", "counter", "change", "cause"], rows)}{end}</div>'


class Step:
    """One call that entered the machine: ``.number``, ``.task`` (None: the world outside), ``.text``, ``.answer``."""

    def __init__(self, history: History, number: int):
        row = history._past.step(number)
        self._history, self.number = history, number
        self.pid: int | None = row["pid"] or None
        self.text: str = row["text"]
        self.answer: str = row["answer"]
        self.time_ns: int = row["time_ns"]
        self._answered: int = row["result"]

    @property
    def task(self) -> Any:
        """The task that called, as it is now; None where the world outside did it."""
        return None if self.pid is None else self._history.kernel.task(self.pid)

    @property
    def result(self) -> int:
        """What the call answered: a descriptor, a count, 0, or -errno."""
        return self._answered

    @property
    def errno(self) -> int:
        """The error number, 0 for none."""
        return max(0, -self._answered)

    @property
    def events(self) -> Events:
        """The lifetime events of the call, in order."""
        past = self._history._past
        return Events(_event(past, self.number, row) for row in past.moments(self.number))

    def graph(self) -> ObjectGraph:
        """Who held whom after the call."""
        return self._history.graph(self.number + 1)

    def before(self) -> ObjectGraph:
        """Who held whom before the call."""
        return self._history.graph(self.number)

    def changed(self) -> GraphDiff:
        """What the call changed in the graph."""
        return diff(self.before(), self.graph())

    def __repr__(self) -> str:
        who = f"[{self.pid}] " if self.pid else ""
        return f"{self.number:5}  {who}{self.text} -> {self.answer}"


class Steps(list[Step]):
    """Steps in order."""

    def __repr__(self) -> str:
        return "\n".join(map(repr, self)) or "no steps"

    def _repr_html_(self) -> str:
        return f'<div class="bpfsim">{_step_table(self)}</div>'


class Cursor:
    """A place in the history: after a step, or inside one, right after one of its lifetime events.

    Starts after the last step; ``forward()`` and ``back()`` go by whole calls, ``into()`` goes inside the call shown,
    to its first event, where both go by events and leave it at its ends. Each returns the cursor, and raises IndexError
    where there is nothing further. ``.graph`` is who held whom at this place, ``.changed`` what is different from the
    place before the last move; after ``into()``, from before the call.
    """

    def __init__(self, history: History, step: int | Step | None = None):
        self._history = history
        self._steps = len(history) if step is None else history._number(step) + 1
        self._event: int | None = None
        self._events: Events = Events()
        self._shown = self.graph
        self.changed = diff(self._shown, self._shown)

    @property
    def step(self) -> Step | None:
        """The call whose effect is shown; None at boot."""
        return self._history[self._steps - 1] if self._steps else None

    @property
    def event(self) -> Event | None:
        """The event that has just happened; None after a whole call."""
        return None if self._event is None else self._events[self._event]

    @property
    def graph(self) -> ObjectGraph:
        """Who held whom here."""
        return self._history.graph(self._steps) if self.event is None else self.event.graph()

    def _moved(self, steps: int, event: int | None) -> Cursor:
        if not 0 <= steps <= len(self._history):
            raise IndexError(f"the history has nothing {'before boot' if steps < 0 else 'after its last step'}")
        self._steps, self._event = steps, event
        now = self.graph
        self.changed, self._shown = diff(self._shown, now), now
        return self

    def forward(self) -> Cursor:
        """One call on; inside a call one event, after its last one the call's end."""
        if self._event is None:
            return self._moved(self._steps + 1, None)
        following = self._event + 1
        return self._moved(self._steps, following if following < len(self._events) else None)

    def back(self) -> Cursor:
        """One call back; inside a call one event, before its first one the end of the call before."""
        if self._event is None:
            return self._moved(self._steps - 1, None)
        return self._moved(self._steps, self._event - 1) if self._event else self._moved(self._steps - 1, None)

    def into(self) -> Cursor:
        """Inside the call shown, to its first lifetime event."""
        if self.step is None:
            raise IndexError("at boot there is no call to go into; go forward() first")
        events = self.step.events
        if not events:
            raise IndexError(f"no object's life was touched by {self.step.text}")
        self._events = events
        self._shown = self.step.before()
        return self._moved(self._steps, 0)

    def out(self) -> Cursor:
        """To the end of the call."""
        return self._moved(self._steps, None)

    def to(self, step: int | Step) -> Cursor:
        """To the place after a step."""
        return self._moved(self._history._number(step) + 1, None)

    def boot(self) -> Cursor:
        """To the place before the first step."""
        return self._moved(0, None)

    def fork(self) -> Any:
        """A live machine that has done the calls up to here; inside a call, those before it."""
        return self._history.fork_from(self._steps - (self._event is not None))

    @property
    def text(self) -> str:
        """Where this is, in words."""
        if self.step is None:
            return "boot"
        if self.event is None:
            return f"after step {self.step.number}: {self.step.text} -> {self.step.answer}"
        return f"inside step {self.step.number}, event {self.event.number}: {self.event.text}"

    @property
    def _undrawn(self) -> str:
        """What happened to an object that drawings leave out; empty where the drawing shows it."""
        event = self.event
        if event is None or self.changed or any(node.serial == event.serial for node in self._shown.nodes):
            return ""
        return f"nothing changed in the drawing, which leaves out {_UNDRAWN.get(event.object, event.object)}"

    def __repr__(self) -> str:
        return f"{self.text}\n{self._undrawn or self.changed}"

    def _repr_html_(self) -> str:
        graph = self.graph
        graph.new = {node.serial for node in self.changed.born} | {node.serial for node, _, _ in self.changed.counters}
        words = f"<p><b>{html.escape(self.text)}</b></p>"
        changes = f"<p>{html.escape(self._undrawn)}</p>" if self._undrawn else self.changed._repr_html_()
        return f'<div class="bpfsim">{words}{changes}{graph._repr_html_()}</div>'


class History(Sequence[Step]):
    """Every call that entered a machine since its boot: a sequence of Step. See ``bpfsim.history``."""

    def __init__(self, kernel: Any):
        self.kernel, self._past = kernel, _core.Past(kernel)

    def __len__(self) -> int:
        return len(self._past)

    @overload
    def __getitem__(self, at: int) -> Step: ...
    @overload
    def __getitem__(self, at: slice) -> Steps: ...
    def __getitem__(self, at: int | slice) -> Step | Steps:
        if isinstance(at, slice):
            return Steps(Step(self, number) for number in range(*at.indices(len(self))))
        return Step(self, self._number(at))

    def __iter__(self) -> Iterator[Step]:
        return (Step(self, number) for number in range(len(self)))

    def _number(self, step: int | Step, end: int = 0) -> int:
        """A step's number, from the end too; where a place between steps is meant, ``end=1`` lets it be the last."""
        if isinstance(step, Step):
            if step._history.kernel is not self.kernel:
                raise ValueError(f"step {step.number} belongs to another machine")
            return step.number
        if not hasattr(step, "__index__"):
            raise TypeError(f"a step is a number, not {shown(step)}")
        number = operator.index(step)
        if not -len(self) <= number < len(self) + end:
            raise IndexError(f"the history has {len(self)} steps, there is no {number}")
        return number if number >= 0 else number + len(self)

    @property
    def ended(self) -> str:
        """Why the history goes on no more, and before which step; empty while it does."""
        return self._past.ended

    def graph(self, steps: int) -> ObjectGraph:
        """Who held whom after the first so many steps, ``h[:steps]``; 0 is boot."""
        return graph_view(self._past.graph(self._number(steps, end=1)))

    def fork_from(self, step: int | Step) -> Any:
        """A live machine that has done exactly the steps before this one: ``fork_from(0)`` has just booted,
        ``fork_from(len(k.history))`` stands where this one does, or where its history ``ended``, of which it warns.
        The fork's own history goes on from there."""
        number = self._number(step, end=1)
        if self.ended and number == len(self):
            warnings.warn(f"the fork does not stand where this machine does: {self.ended}", stacklevel=2)
        try:
            return self._past.fork_from(number)
        except RuntimeError as error:
            raise RuntimeError(f"{error}{self._own_types()}") from None

    def cursor(self, step: int | Step | None = None) -> Cursor:
        """A place to walk from: after this step, by default after the last. ``cursor().boot()`` is before the first."""
        return Cursor(self, step)

    def film(self, start: int = 0, stop: int | None = None, events: bool = False, quiet: bool = False) -> Film:
        """The steps from ``start`` to before ``stop`` (default: all) as drawings, to walk through with a slider or the
        arrow keys. Every object keeps its place, and what has changed since the drawing before is marked.

        With ``events`` each lifetime event inside the steps is a drawing too; with ``quiet`` also the steps that
        changed nothing. ValueError for more than 500 drawings, IndexError for steps that there are not. A page of it
        has at most some 3 MB, and says what it leaves out.
        """
        last = len(self) if stop is None else self._number(stop, end=1)
        numbers = range(self._number(start, end=1), last)
        shots: list[tuple[str, ObjectGraph, GraphDiff]] = []
        left_out: dict[str, list[str]] = {"steps": [], "events": []}
        first = before = self.graph(numbers.start)
        for number in numbers:
            step = self[number]
            taken = [
                (f"{number}.{e.number} {e.text}", e.graph(), "events", e.object)
                for e in (step.events if events else [])
            ]
            for caption, graph, what, name in [*taken, (repr(step).strip(), step.graph(), "steps", step.text)]:
                changed = diff(before, graph)
                if changed or quiet:
                    shots.append((f"step {caption}", graph, changed))
                elif not (taken and what == "steps"):  # a call whose events are shown is shown
                    left_out[what].append(name)
                before = graph
            if len(shots) > 500:
                raise ValueError(f"more than 500 drawings: ask for a part, such as film({number - 99}, {number})")
        layout = union([first, *(graph for _, graph, _ in shots)]).layout()
        note = " ".join(filter(None, (_left_out(texts, what) for what, texts in left_out.items())))
        return Film([Shot(*shot, layout) for shot in shots], layout, note)

    def watch(self, obj: Any) -> Events:
        """Every change of the object's counters, its birth and its end. ``obj`` is a handle, an Object, a serial, or
        the name that a map or program was given; ValueError where none or several were called so.

        Of a history that has ``ended`` those before its end; ``.missing`` says so."""
        serial = self._called(obj) if isinstance(obj, str) else _serial(self.kernel, obj)
        missing = f"what came later is not known: {self.ended}" if self.ended else ""
        return Events((_event(self._past, step, row) for step, row in self._past.watch(serial)), missing)

    def _called(self, name: str) -> int:
        """The serial of the one object that ever had this name, or this label."""
        labels: dict[int, dict[str, None]] = {}
        for event in (event for step in self for event in step.events if event.kind in _NAMED):
            labels.setdefault(event.serial, {})[event.object] = None
        found = {s: list(said) for s, said in labels.items() if any(name == x or f"({name})" in x for x in said)}
        if len(found) == 1:
            return next(iter(found))
        which = found or {serial: list(said) for serial, said in labels.items()}
        told = ", ".join(f"{serial}: {said[-1].removesuffix(', id gone')}" for serial, said in which.items())
        how = f"{len(found)} objects were called {name!r}" if found else f"no map, program or link was called {name!r}"
        raise ValueError(f"{how}; by their number in the order of birth: {told or 'none'}")

    def check(self) -> str:
        """Does everything again on another machine and compares; empty when all is the same, else what is not."""
        told = self._past.check()
        return told + self._own_types() if told else ""

    def _own_types(self) -> str:
        """Where a lesson wrote map types, what probably is the cause that something came out otherwise."""
        own = [name for _, name, _ in _core.extra_map_types(self.kernel)]
        if not own:
            return ""
        are = f"map type {own[0]!r} is" if len(own) == 1 else f"map types {', '.join(map(repr, own))} are"
        return f" (the {are} written in Python: its methods have to answer the same calls with the same each time)"

    def __repr__(self) -> str:
        shown = [repr(step) for step in self[-20:]]
        more = [f"... {len(self) - 20} steps before"] if len(self) > 20 else []
        return "\n".join([*more, *shown, *([self.ended] if self.ended else [])]) or "nothing has entered this machine"

    def _repr_html_(self) -> str:
        last = max(0, len(self) - 60)
        more = f"<p>The last 60 of {len(self)} steps.</p>" if last else ""
        end = f"<p>{html.escape(self.ended)}</p>" if self.ended else ""
        steps = f"<details><summary>every call</summary>{_step_table(self[last:])}</details>"
        film = self.film(last)
        film.start = max(0, len(film.frames) - 1)
        return f'<div class="bpfsim">{more}{film._repr_html_()}{steps}{end}</div>'


def break_on(kernel: Any, obj: Any, counter: str = "refcnt", at: int | None = None) -> Any:
    """Stops at a change of an object's counter ("refcnt" or "usercnt"; ``at``: only when it becomes this number).

    The call in which it happens runs to its end, then ``bpfsim.Break`` is raised, which knows the step and the event.
    Returns the breakpoint: ``remove()`` it, or use it in ``with``. It goes on when the history has ended, and works on
    a machine that keeps none; then there is no step to look at.
    """
    return _core.break_on(kernel, _serial(kernel, obj), counter, at)


def load_again(kernel: Any, prog: Any) -> Trace:
    """What happened when the program was loaded: the load is done again, recorded, on a fork of the machine."""
    born = next((e for e in kernel.history.watch(prog) if e.cause == "born"), None)
    if born is None:
        raise RuntimeError("this machine's history does not reach back to the load of the program")
    fork = kernel.history.fork_from(born.step)
    with Trace(fork) as trace:
        kernel.history._past.redo(fork, born.step)
    return trace


def _serial(kernel: Any, obj: Any) -> int:
    owner: Any = getattr(obj.task, "kernel", None) if hasattr(obj, "task") else getattr(obj, "kernel", kernel)
    serial = obj if isinstance(obj, int) else getattr(getattr(obj, "object", obj), "serial", None)
    if serial is None:
        raise TypeError(f"an object is a handle, its .object or its number in the order of birth, not {shown(obj)}")
    if owner is not kernel:
        raise ValueError(f"{obj!r} belongs to another machine")
    if serial < 0:
        raise ValueError(f"objects are numbered from 0 in the order of birth, there is no {serial}")
    if serial >= (born := _core.objects_born(kernel)):
        raise ValueError(
            f"there is no object {serial} yet: numbers are given in the order of birth, the next is {born}"
        )
    return serial


def _event(past: Any, step: int, row: dict[str, Any]) -> Event:
    name = row["label"] or f"{row['kind']} #{row['serial']}"
    counter = "f_count" if row["kind"] == "file" and row["counter"] else row["counter"]
    change = (counter, row["delta"], row["after"], row["cause"])
    return Event(past, step, row["event"], row["serial"], row["kind"], name, *change)


def _change(event: Event) -> str:
    return "" if event.counter is None else f"{event.delta:+d} = {event.after}"


def _left_out(texts: list[str], what: str) -> str:
    """Says which steps or events a film does not show."""
    if not texts:
        return ""
    names = list(dict.fromkeys(texts))
    told = "; ".join(f"{name}, {texts.count(name)} times" if texts.count(name) > 1 else name for name in names[:4])
    rest = "; ..." if len(names) > 4 else ""
    many = what if len(texts) > 1 else what.removesuffix("s")
    return f"Left out, since nothing drawn changes in them: {len(texts)} {many} ({told}{rest})."


def _step_table(steps: Sequence[Step]) -> str:
    rows = [[str(s.number), str(s.pid or ""), mono(s.text), mono(s.answer)] for s in steps]
    return table(["step", "task", "call", "answer"], rows)
