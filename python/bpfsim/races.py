"""What can happen when tasks run at the same time: every interleaving of two or three scripts, tried out.

Each schedule runs on a fork of the machine, so that nothing of it stays. A script is a function that gets the task it
runs as; it names what it uses by descriptors, paths and ids, or through a handle rebound to that task (``m.on(task)``),
since the machine it runs on is a fork. It runs once for each schedule, so it must do the same each time.
"""

from __future__ import annotations

import html
import inspect
import itertools
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from . import _core
from .arguments import shown
from .trace import graph as object_graph
from .views import ObjectGraph
from .views.drawing import cut
from .views.map_words import compared, contents
from .views.page import mono, table

KEPT = 100  # schedules of each outcome that can be looked at
_TOLD = 12  # lines of what differs
_ELEMENTS = 4096  # of each map that count
_QUIET = 5.0  # seconds, after which a search says how far it is
Script = Callable[[Any], Any]
Contents = dict[str, dict[str, str]]  # of every map, by its label: see views.map_words.contents
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

    That is ``graph``, who holds whom, and ``contents``, what the maps hold: of a map with more than 4096 elements those
    that a walk meets first, of a type in Python its ``map.state``. ``differs`` says which of it is not so in every
    outcome. ``schedules`` is how many interleavings end like this, ``schedule`` one of them with the fewest changes of
    turn, and ``every_schedule`` all of them, at most the first 100.
    """

    results: dict[str, str]
    graph: ObjectGraph
    contents: Contents
    schedule: Schedule
    every_schedule: Schedules
    schedules: int = 0
    differs: list[str] = field(default_factory=list)

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
    """The different outcomes. ``tried`` schedules were run; ``complete`` says whether these were all there are, and
    ``not_compared`` of which maps the contents, or a part of them, do not count."""

    def __init__(self, outcomes: list[Outcome], tried: int, complete: bool, not_compared: list[str]):
        super().__init__(outcomes)
        self.tried, self.complete, self.not_compared = tried, complete, not_compared
        facts = [[*_told_graph(outcome.graph), *_told_contents(outcome.contents, self)] for outcome in self]
        shared = set.intersection(*map(set, facts)) if facts else set()
        for outcome, lines in zip(self, facts, strict=True):
            outcome.differs = [line for line in lines if line not in shared]

    @property
    def summary(self) -> str:
        """How much was tried, and what was not compared."""
        if self.complete and self.tried == 1:
            return "There is one schedule, and so one outcome"
        ends = f"{len(self)} different outcomes" if len(self) > 1 else "the same outcome"
        tried = f"{_many(self.tried, 'schedule')}" + ("" if self.complete else " of more, taken here and there,")
        lead = f"{'All ' if self.complete else ''}{tried} lead{'s' * (self.tried == 1)} to {ends}"
        return f"{lead}; not compared: {', '.join(self.not_compared)}" if self.not_compared else lead

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

    Stops after ``limit`` schedules; ``.complete`` tells. Where there are more, those that are tried are spread over all
    of them, the same ones each time. A search that takes seconds says how far it is, in a terminal or a notebook.

    The machine itself stays as it is; a script that calls it anyway raises RuntimeError, as does one that does not do
    the same each time (it draws lots, it uses up a list), and a machine without a history. TypeError for a script that
    is a generator or a coroutine, ValueError for other arguments that cannot be.
    """
    if not isinstance(limit, int) or limit < 1:
        raise ValueError(f"limit is how many schedules to try, at least 1, not {shown(limit)}")
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


@dataclass
class _Play:
    """One schedule as it went: ``choices`` are, at each turn, who could have it and where each of them was held."""

    results: dict[str, str]
    fork: Any
    turns: Schedule
    choices: list[dict[str, str]]
    shared: set[_Name]

    @property
    def rank(self) -> list[int]:
        """Its place among all schedules: that in which nobody is interrupted comes first, then what differs late."""
        return [_order(self, at).index(turn.who) for at, turn in enumerate(self.turns)]


@dataclass(frozen=True)
class _Branch:
    """A schedule to be tried: as a play until a turn, which is another's."""

    play: _Play
    at: int
    who: str


@dataclass
class _Found:
    """An outcome in the making: its schedules, each with its rank, those with the fewest changes of turn first."""

    play: _Play
    contents: Contents
    graph: ObjectGraph
    schedules: list[tuple[list[int], Schedule]] = field(default_factory=list)

    def outcome(self) -> Outcome:
        ranked = sorted(self.schedules, key=lambda one: one[0])
        fewest = min((one for _, one in ranked), key=lambda one: one.changes)
        kept = Schedules(one for _, one in ranked[:KEPT])
        return Outcome(self.play.results, self.graph, self.contents, fewest, kept, len(ranked))


def _search(stage: _Stage, held_at: set[_Name], limit: int) -> tuple[Races, set[_Name]]:
    """Every schedule with turns at the counters of these objects, and which objects several scripts were seen to touch.

    A schedule may show that a further object is shared. Each schedule that was tried leads to further ones, by any of
    its turns after the one that made it different; which of these is next is drawn by lot, from the same seed always.
    """
    outcomes: dict[Any, _Found] = {}
    shared: set[_Name] = set()
    partly: dict[str, None] = {}
    untried: list[_Branch] = []
    lot = random.Random(0)
    tried = 0
    branch: _Branch | None = None
    with _Progress() as progress:
        while not tried or (untried and tried < limit):
            if untried:
                drawn = lot.randrange(len(untried))
                untried[drawn], untried[-1] = untried[-1], untried[drawn]
                branch = untried.pop()
            play = stage.play(branch, held_at)
            graph, held, lacking = _afterwards(play)
            if not tried:
                _same_again(play, stage.play(None, held_at))
            tried += 1
            shared |= play.shared
            partly |= dict.fromkeys(lacking)
            found = outcomes.setdefault(_key(play, graph, held), _Found(play, held, graph))
            found.schedules.append((play.rank, play.turns))
            play.fork = None  # a machine is too much to keep
            untried += _branches(play, branch.at + 1 if branch else 0)
            progress.tell(f"{_many(tried, 'schedule')}, {_many(len(outcomes), 'outcome')} so far; at most {limit}")
    ended = [
        found.outcome() for found in sorted(outcomes.values(), key=lambda one: min(rank for rank, _ in one.schedules))
    ]
    return Races(ended, tried, not untried, list(partly)), shared


def _afterwards(play: _Play) -> tuple[ObjectGraph, Contents, list[str]]:
    """Who holds whom and what the maps hold when a schedule has ended, and what of that does not count."""
    inside = _core.maps_inside(play.fork, _ELEMENTS)
    lacking = [f"{label} ({why})" for label, data in inside if (why := compared(data, _ELEMENTS))]
    return object_graph(play.fork), {label: dict(sorted(contents(data).items())) for label, data in inside}, lacking


def _key(play: _Play, graph: ObjectGraph, held: Contents) -> tuple[str, str, str]:
    return repr(play.results), str(graph), repr(held)


def _same_again(first: _Play, again: _Play) -> None:
    """The scripts with the same turns once more: what is different now is not the machine's doing."""
    nothing: dict[str, Any] = {}
    for before, now in itertools.zip_longest(first.choices, again.choices, fillvalue=nothing):
        _as_before(before, now)
    for who, answer in first.results.items():
        if again.results[who] != answer:
            raise _changed(
                f"the script {who!r}", f"it answered {cut(answer, 60)} once, and {cut(again.results[who], 60)} then"
            )
    if _key(first, *_afterwards(first)[:2]) != _key(again, *_afterwards(again)[:2]):
        raise _changed("one of the scripts", "what the machine holds afterwards is different")


def _changed(who: str, how: str) -> RuntimeError:
    told = "a script runs once for each schedule, and may depend on its task alone"
    return RuntimeError(f"{who} does not do the same each time: {how} ({told})")


def _order(play: _Play, at: int) -> list[str]:
    """Who may have turn ``at``: first who had the turn before, then the others in their order."""
    last = play.turns[at - 1].who if at else ""
    return sorted(play.choices[at], key=lambda who: who != last)


def _branches(play: _Play, start: int) -> Iterator[_Branch]:
    """The schedules that go as this one until some turn from ``start`` on, which is another's."""
    for at in range(start, len(play.turns)):
        yield from (_Branch(play, at, who) for who in play.choices[at] if who != play.turns[at].who)


class _Progress:
    """Says how far a long search is: in a line of the terminal, or below the cell of a notebook. Gone at the end."""

    def __init__(self) -> None:
        self._next = time.monotonic() + _QUIET
        self._cell: Any = None
        shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
        self._notebook = hasattr(shell, "kernel")
        self._said = False

    def tell(self, text: str) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + 1
            self._show(text)

    def _show(self, text: str) -> None:
        if self._notebook:
            from IPython.display import HTML, display

            if self._cell is None:
                self._cell = display(HTML(text), display_id=True)
            else:
                self._cell.update(HTML(text))
        elif sys.stderr.isatty():
            sys.stderr.write(f"\r{text}\033[K")
            sys.stderr.flush()
        self._said = True

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: Any) -> None:
        if self._said:
            self._show("")


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

    def play(self, branch: _Branch | None, held_at: set[_Name]) -> _Play:
        """One schedule: turns as the branch has them, then the one who ran last goes on as long as it can."""
        fork = self._kernel.history.fork_from(self._start)
        answers: dict[str, str] = {}
        self._ended_by: BaseException | None = None
        guests = _core.Guests(fork, held_at)
        turns = Schedule()
        choices: list[dict[str, str]] = []
        try:
            number = {who: guests.start(partial(self._run, who, fork, answers)) for who in self._scripts}
            while True:
                ready = {who: guests.where(number[who]) for who in number if guests.parked(number[who])}
                if self._ended_by is None and branch and len(turns) <= branch.at:
                    _as_before(branch.play.choices[len(turns)], ready)
                if not ready:
                    break
                choices.append(ready)
                who = self._whose_turn(branch, turns, ready)
                turns.append(Turn(who, ready[who]))
                guests.resume(number[who])
        finally:
            guests.finish()
        if self._ended_by is not None:
            raise self._ended_by
        if len(self._kernel.history) != self._start:
            raise RuntimeError(
                "a script called the machine itself, not the task it was given: use m.on(task), descriptors or paths"
            )
        return _Play({who: answers[who] for who in number}, fork, turns, choices, guests.shared())

    @staticmethod
    def _whose_turn(branch: _Branch | None, turns: Schedule, ready: dict[str, str]) -> str:
        if branch and len(turns) < branch.at:
            return branch.play.turns[len(turns)].who
        if branch and len(turns) == branch.at:
            return branch.who
        last = turns[-1].who if turns else ""
        return last if last in ready else next(iter(ready))

    def _run(self, who: str, fork: Any, answers: dict[str, str]) -> None:
        task, script = self._scripts[who]
        try:
            answers[who] = _answer(who, script, fork.task(task.pid))
        except BaseException as error:  # noqa: BLE001  (SystemExit and the like: for who asked for the race)
            self._ended_by = error


def _as_before(before: dict[str, str], now: dict[str, str]) -> None:
    """After the same turns every script must be held where it was."""
    for who in {**before, **now}:
        was, at = (where.get(who, "at its end") for where in (before, now))
        if was != at:
            raise _changed(f"the script {who!r}", f"after the same turns it was {was} once, and {at} then")


def _answer(who: str, script: Script, task: Any) -> str:
    """What the script returned, or what it raised."""
    try:
        made = script(task)
        text = repr(made)
    except OSError as error:
        return getattr(error, "errname", None) or repr(error)
    except Exception as error:  # noqa: BLE001  (whatever a learner's script raises is its answer)
        return repr(error)
    if inspect.iscoroutine(made) or inspect.isgenerator(made) or inspect.isasyncgen(made):
        if not inspect.isasyncgen(made):
            made.close()
        raise TypeError(f"the script {who!r} is a function that calls the kernel, not one with yield, and not async")
    return text


def _told_graph(graph: ObjectGraph) -> list[str]:
    """Each object with its counters, and each reference, a line each."""
    labels = {node.serial: node.label for node in graph.nodes}
    return [*(node.text for node in graph.nodes), *(edge.text(labels) for edge in graph.edges)]


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
