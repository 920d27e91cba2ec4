"""What can happen when tasks run at the same time: every interleaving of two or three scripts, tried out.

Each schedule runs on a fork of the machine, so that nothing of it stays. A script is a function that gets the task it
runs as; it names what it uses by descriptors, paths and ids, or through a handle rebound to that task (``m.on(task)``),
since the machine it runs on is a fork.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from . import _core
from .trace import graph as object_graph
from .views import ObjectGraph
from .views.drawing import cut
from .views.map_inside import contents
from .views.page import mono, table

KEPT = 100  # schedules of each outcome that can be looked at
_TOLD = 12  # lines of what differs
_ELEMENTS = 256  # of each map that count
Script = Callable[[Any], Any]
Contents = dict[str, dict[str, str]]  # of every map, by its label: see views.map_inside.contents
_Name = tuple[int, int]  # of an object, the same in every schedule: see python/bind/guests.cpp


@dataclass(frozen=True)
class Turn:
    """Who ran, and where it had been held before."""

    who: str
    where: str

    def __repr__(self) -> str:
        return f"{self.who}: {self.where}"


class Schedule(list[Turn]):
    """The turns of one interleaving, in order."""

    def _does(self, number: int) -> str:
        """What happens in a turn: from where its script had been held to where it is held next."""
        turn = self[number]
        after = next((later.where for later in self[number + 1 :] if later.who == turn.who), "")
        until = f"until {after.removeprefix('after ')}" if after.startswith("after ") else ""
        if turn.where.startswith("before "):
            return turn.where.removeprefix("before ") + (f", {until}" if until else "")
        return f"goes on {until or ('to the end of the call' if after else 'to its end')}"

    @property
    def runs(self) -> list[str]:
        """In words: the turns of each script that it has in a row."""
        lines: list[str] = []
        last = ""
        for number, turn in enumerate(self):
            if turn.who == last:
                lines[-1] += f", then {self._does(number)}"
            else:
                lines.append(f"{turn.who}: {self._does(number)}")
            last = turn.who
        return lines

    @property
    def changes(self) -> int:
        """How often the turn goes to another script."""
        return sum(a.who != b.who for a, b in zip(self, self[1:], strict=False))

    def __repr__(self) -> str:
        return "\n".join(self.runs)

    def _repr_html_(self) -> str:
        return f'<div class="bpfsim">{self.rows()}</div>'

    def rows(self, answers: Mapping[str, str] | None = None, caption: str = "") -> str:
        """An HTML table: a row for each turn, a column for each script; with ``answers`` a last row of these."""
        scripts = list(answers or dict.fromkeys(turn.who for turn in self))
        rows = [
            [str(n + 1), *(html.escape(self._does(n)) if who == turn.who else "" for who in scripts)]
            for n, turn in enumerate(self)
        ]
        if answers:
            rows.append(["answer", *(mono(answers[who], "font-weight:600") for who in scripts)])
        return table(["turn", *scripts], rows, caption)


class Schedules(list[Schedule]):
    """Schedules one below the other."""

    def __repr__(self) -> str:
        return "\n\n".join(f"{number}.\n{schedule}" for number, schedule in enumerate(self, 1))

    def _repr_html_(self) -> str:
        tables = "".join(schedule.rows(caption=f"{number}.") for number, schedule in enumerate(self, 1))
        return f'<div class="bpfsim">{tables}</div>'


@dataclass(repr=False)
class Outcome:
    """One thing that can happen: what each script answered (or raised), and the machine afterwards.

    That is ``graph``, who holds whom, and ``contents``, what the maps hold; of a map with more than 256 elements those
    that a walk meets first. ``differs`` says which of it is not so in every outcome. ``schedules`` is how many
    interleavings end like this, ``schedule`` one of them with the fewest changes of turn, and ``every_schedule`` all of
    them, at most the first 100.
    """

    results: dict[str, str]
    graph: ObjectGraph
    contents: Contents
    schedule: Schedule
    every_schedule: Schedules
    schedules: int = 0
    differs: list[str] = field(default_factory=list)

    def add(self, schedule: Schedule) -> None:
        """One more schedule ends like this."""
        self.schedules += 1
        if len(self.every_schedule) < KEPT:
            self.every_schedule.append(schedule)
        if schedule.changes < self.schedule.changes:
            self.schedule = schedule

    @property
    def runs(self) -> list[str]:
        """The schedule in words: the turns of each script that it has in a row."""
        return self.schedule.runs

    def told(self) -> list[str]:
        """What differs, a line each; where that is much, the first lines."""
        more = len(self.differs) - _TOLD
        return [*self.differs[:_TOLD], *([f"… and {more} more lines, in .differs"] if more > 0 else [])]

    def __repr__(self) -> str:
        answers = "; ".join(f"{who} -> {answer}" for who, answer in self.results.items())
        return "\n".join(
            [
                f"{answers}   ({_many(self.schedules, 'schedule')})",
                *(f"  afterwards: {line}" for line in self.told()),
                *(f"    {line}" for line in self.runs),
            ]
        )


class Races(list[Outcome]):
    """The different outcomes. ``tried`` schedules were run; ``complete`` says whether these were all there are."""

    def __init__(self, outcomes: list[Outcome], tried: int, complete: bool):
        super().__init__(outcomes)
        self.tried, self.complete = tried, complete
        facts = [[*_told_graph(outcome.graph), *_told_contents(outcome.contents, self)] for outcome in self]
        shared = set.intersection(*map(set, facts)) if facts else set()
        for outcome, lines in zip(self, facts, strict=True):
            outcome.differs = [line for line in lines if line not in shared]

    @property
    def summary(self) -> str:
        """How much was tried."""
        if self.complete and self.tried == 1:
            return "There is one schedule, and so one outcome"
        which = "All" if self.complete else "The first"
        ends = f"{len(self)} different outcomes" if len(self) > 1 else "the same outcome"
        return f"{which} {_many(self.tried, 'schedule')} lead to {ends}"

    def __repr__(self) -> str:
        return "\n\n".join([self.summary, *map(repr, self)])

    def _repr_html_(self) -> str:
        blocks = [f"<p>{html.escape(self.summary)}. Each with one of its schedules, and what is done in each turn:</p>"]
        for number, outcome in enumerate(self, 1):
            caption = (
                f"{number}. {outcome.schedules} of {self.tried} schedules end{'s' * (outcome.schedules == 1)} like this"
            )
            differs = "<br>".join(mono(line) for line in outcome.told())
            blocks.append(
                outcome.schedule.rows(outcome.results, caption)
                + (f"<p>Afterwards, and not in every outcome:<br>{differs}</p>" if differs else "")
                + f"<p>The objects afterwards:</p>{outcome.graph.image()}"
            )
        return f'<div class="bpfsim">{"".join(blocks)}</div>'


def races(kernel: Any, scripts: Mapping[str, tuple[Any, Script]], at: str = "call", limit: int = 2000) -> Races:
    """Runs the scripts in every interleaving and returns each different outcome with a schedule that leads to it.

    ``scripts`` maps a name to (task, function of the task). Turns change before each call that a script makes; with
    ``at="reference"`` also wherever a counter changes inside a call, of an object that more than one script touches:
    one that is there now, or one that a script makes and another finds. Two ends are one outcome where the answers,
    who holds whom, and what the maps hold are the same.

    Stops after ``limit`` schedules; ``.complete`` tells. The machine itself stays as it is; a script that calls it
    anyway raises RuntimeError, as does a machine without a history.
    """
    if at not in ("call", "reference"):
        raise ValueError(f'at is "call" or "reference", not {at!r}')
    _check_scripts(kernel, scripts)
    if kernel.history.ended:
        raise RuntimeError(f"races start from the machine as it is now, but {kernel.history.ended}")
    stage = _Stage(kernel, scripts)
    held_at: set[_Name] = set()
    while True:
        found, shared = _search(stage, held_at, limit)
        if at == "call" or shared <= held_at:
            return found
        held_at |= shared


def _search(stage: _Stage, held_at: set[_Name], limit: int) -> tuple[Races, set[_Name]]:
    """Every schedule with turns at the counters of these objects, and which objects several scripts were seen to touch.

    A schedule may show that a further object is shared.
    """
    outcomes: dict[Any, Outcome] = {}
    shared: set[_Name] = set()
    tried = 0
    prefix: list[str] | None = []
    while prefix is not None and tried < limit:
        results, fork, turns, choices, seen = stage.play(prefix, held_at)
        tried += 1
        shared |= seen
        graph, held = object_graph(fork), _contents(fork)
        key = (repr(results), str(graph), repr(held))
        outcomes.setdefault(key, Outcome(results, graph, held, turns, Schedules())).add(turns)
        prefix = _next(turns, choices)
    return Races(list(outcomes.values()), tried, prefix is None), shared


def _check_scripts(kernel: Any, scripts: Mapping[str, tuple[Any, Script]]) -> None:
    if not isinstance(scripts, Mapping) or not 2 <= len(scripts) <= 3:
        raise ValueError("two or three scripts race: {name: (task, function of the task), ...}")
    for who, script in scripts.items():
        if not (isinstance(script, tuple) and len(script) == 2 and callable(script[1])):
            raise ValueError(f"the script {who!r} is (task, function of the task), not {script!r}")
        if getattr(script[0], "kernel", None) is not kernel:
            raise ValueError(f"the script {who!r} runs as a task of this machine, not as {script[0]!r}")


class _Stage:
    """Where schedules are played: a fresh fork for each."""

    def __init__(self, kernel: Any, scripts: Mapping[str, tuple[Any, Script]]):
        self._kernel, self._scripts = kernel, scripts
        self._start = len(kernel.history)

    def play(
        self, prefix: list[str], held_at: set[_Name]
    ) -> tuple[dict[str, str], Any, Schedule, list[list[str]], set[_Name]]:
        """One schedule: turns as the prefix has them, then the one who ran last goes on as long as it can."""
        fork = self._kernel.history.fork_from(self._start)
        answers: dict[str, str] = {}
        self._ended_by: BaseException | None = None
        guests = _core.Guests(fork, held_at)
        try:
            number = {who: guests.start(partial(self._run, who, fork, answers)) for who in self._scripts}
            turns = Schedule()
            choices: list[list[str]] = []
            while ready := [who for who in number if guests.parked(number[who])]:
                if len(turns) < len(prefix):
                    who = prefix[len(turns)]
                else:
                    last = turns[-1].who if turns else ""
                    who = last if last in ready else ready[0]
                choices.append(ready)
                turns.append(Turn(who, guests.where(number[who])))
                guests.resume(number[who])
        finally:
            guests.finish()
        if self._ended_by is not None:
            raise self._ended_by
        if len(self._kernel.history) != self._start:
            raise RuntimeError(
                "a script called the machine itself, not the task it was given: use m.on(task), descriptors or paths"
            )
        return {who: answers[who] for who in number}, fork, turns, choices, guests.shared()

    def _run(self, who: str, fork: Any, answers: dict[str, str]) -> None:
        task, script = self._scripts[who]
        try:
            answers[who] = _answer(script, fork.task(task.pid))
        except BaseException as error:  # noqa: BLE001  (SystemExit and the like: for who asked for the race)
            self._ended_by = error


def _answer(script: Script, task: Any) -> str:
    """What the script returned, or what it raised."""
    try:
        return repr(script(task))
    except OSError as error:
        return getattr(error, "errname", None) or repr(error)
    except Exception as error:  # noqa: BLE001  (whatever a learner's script raises is its answer)
        return repr(error)


def _contents(machine: Any) -> Contents:
    return {label: dict(sorted(contents(data).items())) for label, data in _core.maps_inside(machine, _ELEMENTS)}


def _told_graph(graph: ObjectGraph) -> list[str]:
    """Each object with its counters, and each reference, a line each."""
    name = {node.serial: node.label for node in graph.nodes}
    return [
        *(f"{node.label}" + (f" [{node.counters}]" if node.counters else "") for node in graph.nodes),
        *(
            f"{name.get(e.holder, '?')} {'->' if e.strong else '.>'} {name.get(e.held, '?')} ({e.via})"
            for e in graph.edges
        ),
    ]


def _told_contents(held: Contents, outcomes: list[Outcome]) -> list[str]:
    """What the maps hold, a line for each key that some outcome has; of maps that every outcome has."""
    lines = []
    for label, elements in held.items():
        others = [outcome.contents[label] for outcome in outcomes if label in outcome.contents]
        keys = dict.fromkeys(key for other in others for key in other) if len(others) == len(outcomes) else elements
        lines += [
            f"{label}[{key}] = {cut(elements[key], 60)}" if key in elements else f"{label}[{key}]: none" for key in keys
        ]
    return lines


def _many(count: int, word: str) -> str:
    return f"{count} {word}" + "s" * (count != 1)


def _next(turns: list[Turn], choices: list[list[str]]) -> list[str] | None:
    """The next schedule in depth-first order: the last turn that could have been another's becomes the next one's."""
    taken = [turn.who for turn in turns]
    for at in reversed(range(len(turns))):
        untried = _order(taken, choices, at)
        if untried:
            return [*taken[:at], untried[0]]
    return None


def _order(taken: list[str], choices: list[list[str]], at: int) -> list[str]:
    """Who may still have turn ``at``: first tried was who had the turn before, then the others in their order."""
    last = taken[at - 1] if at else ""
    order = sorted(choices[at], key=lambda who: (who != last, choices[at].index(who)))
    return order[order.index(taken[at]) + 1 :]
