"""What can happen when tasks run at the same time: every interleaving of two or three scripts, tried out.

Each schedule runs on a fork of the machine, so that nothing of it stays. A script is a function that gets the task it
runs as; it names what it uses by descriptors, paths and ids, or through a handle rebound to that task (``m.on(task)``),
since the machine it runs on is a fork.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from . import _core
from .trace import object_graph
from .views import ObjectGraph
from .views.page import mono, table

Script = Callable[[Any], Any]
_Name = tuple[int, int]  # of an object, the same in every schedule: see python/bind/guests.cpp


@dataclass(frozen=True)
class Turn:
    """Who ran, and where it had been held before."""

    who: str
    where: str

    def __repr__(self) -> str:
        return f"{self.who}: {self.where}"


@dataclass
class Outcome:
    """One thing that can happen: what each script answered (or raised), and the machine afterwards.

    ``schedules`` is how many interleavings end like this, ``schedule`` one of them with the fewest changes of turn.
    """

    results: dict[str, str]
    graph: ObjectGraph
    schedule: list[Turn]
    schedules: int = 1

    @property
    def runs(self) -> list[str]:
        """The schedule in words: the turns of each script that it has in a row."""
        lines: list[str] = []
        last = ""
        for turn in self.schedule:
            if turn.who == last:
                lines[-1] += f", {turn.where}"
            else:
                lines.append(repr(turn))
            last = turn.who
        return lines

    def __repr__(self) -> str:
        answers = "; ".join(f"{who} -> {answer}" for who, answer in self.results.items())
        return "\n".join(
            [
                f"{answers}   ({self.schedules} schedule{'s' * (self.schedules > 1)})",
                *(f"    {line}" for line in self.runs),
            ]
        )


class Races(list[Outcome]):
    """The different outcomes. ``tried`` schedules were run; ``complete`` says whether these were all there are."""

    def __init__(self, outcomes: list[Outcome], tried: int, complete: bool):
        super().__init__(outcomes)
        self.tried, self.complete = tried, complete

    @property
    def summary(self) -> str:
        """How much was tried."""
        which = "every one of the" if self.complete else "the first"
        return f"{len(self)} different outcomes of {which} {self.tried} schedules"

    def __repr__(self) -> str:
        return "\n\n".join([self.summary, *map(repr, self)])

    def _repr_html_(self) -> str:
        blocks = [f"<p>{html.escape(self.summary)}. Each with one of its schedules, turn by turn:</p>"]
        for number, outcome in enumerate(self, 1):
            scripts = list(outcome.results)
            rows = [
                [str(n), *(html.escape(turn.where) if who == turn.who else "" for who in scripts)]
                for n, turn in enumerate(outcome.schedule, 1)
            ]
            rows.append(["answer", *(mono(outcome.results[who], "font-weight:600") for who in scripts)])
            caption = (
                f"{number}. {outcome.schedules} of {self.tried} schedules end{'s' * (outcome.schedules == 1)} like this"
            )
            blocks.append(
                table(["turn", *scripts], rows, caption) + f"<p>The objects afterwards:</p>{outcome.graph.image()}"
            )
        return f'<div class="bpfsim">{"".join(blocks)}</div>'


def races(kernel: Any, scripts: Mapping[str, tuple[Any, Script]], at: str = "call", limit: int = 2000) -> Races:
    """Runs the scripts in every interleaving and returns each different outcome with a schedule that leads to it.

    ``scripts`` maps a name to (task, function of the task). Turns change before each call that a script makes; with
    ``at="reference"`` also wherever a counter changes inside a call, of an object that more than one script touches:
    one that is there now, or one that a script makes and another finds. Stops after ``limit`` schedules; ``.complete``
    tells. The machine itself stays as it is; a script that calls it anyway raises RuntimeError, as does a machine
    without a history.
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
        results, graph, turns, choices, seen = stage.play(prefix, held_at)
        tried += 1
        shared |= seen
        key = (tuple(results.items()), str(graph))
        if key in outcomes:
            outcomes[key].schedules += 1
            if _changes(turns) < _changes(outcomes[key].schedule):
                outcomes[key].schedule = turns
        else:
            outcomes[key] = Outcome(results, graph, turns)
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
    ) -> tuple[dict[str, str], ObjectGraph, list[Turn], list[list[str]], set[_Name]]:
        """One schedule: turns as the prefix has them, then the one who ran last goes on as long as it can."""
        fork = self._kernel.history.fork_from(self._start)
        answers: dict[str, str] = {}
        self._ended_by: BaseException | None = None
        guests = _core.Guests(fork, held_at)
        try:
            number = {who: guests.start(partial(self._run, who, fork, answers)) for who in self._scripts}
            turns: list[Turn] = []
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
        return {who: answers[who] for who in number}, object_graph(fork), turns, choices, guests.shared()

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


def _changes(turns: list[Turn]) -> int:
    return sum(a.who != b.who for a, b in zip(turns, turns[1:], strict=False))


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
