"""Exercises that check themselves: what was expected, what is there, and a hint that fits the mistake.

Checks look at kernel objects and values, print to stdout only, and never raise for a wrong answer.

A lesson's exercise that comes in variants is a function from a random generator to an Exercise::

    def one_pop(rng):
        values = rng.sample(range(2, 99), 3)
        machine = bpfsim.Kernel()                       # the answer is asked of a machine, not written down
        queue = machine.spawn().map_create("queue", key_size=0, value_size=4, max_entries=3)
        ...
        return expect(f"... {values} ...", queue.pop(), "Right: ...", (values[-1], "That is a stack."))

    q1 = from_seed(one_pop, name="q1")    # what the lesson shows
    q1 = q1.variant(7)                    # the same question with other numbers

What is right stands in names that begin with ``_``, so that no learner meets it by the Tab key.
"""

from __future__ import annotations

import html
import inspect
import random
import re
from collections.abc import Callable, Sequence
from numbers import Number
from typing import Any

from .views.page import ACCENT, FAINT

Mistakes = Sequence[tuple[Callable[[Any], bool], str]]


class NotAnAnswer(Exception):
    """Raised by a test where it cannot judge what it was given: says what is wanted. No hint is looked for."""


class Verdict:
    """The result of one check. True in a condition when it passed."""

    def __init__(self, passed: bool, text: str):
        self.passed, self.text = passed, text
        if text.startswith("Right: "):  # it is said anyway
            text = text.removeprefix("Right: ")
            self.text = text[:1].upper() + text[1:]

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        return f"{'Right' if self.passed else 'Not yet'}: {self.text}"

    def _repr_html_(self) -> str:
        colour = "#1a9c4b" if self.passed else "#d0443a"
        word = "✓ Right." if self.passed else "✗ Not yet."
        bar = f"border-left:4px solid {colour};padding-left:.8em"
        return f'<div class="bpfsim" style="{bar}"><b>{word}</b> {html.escape(self.text, quote=False)}</div>'


class Exercise:
    """One question. ``check(answer)`` judges an answer, ``q = q.variant(2)`` asks the same with other numbers."""

    def __init__(self, question: str, test: Callable[[Any], tuple[bool, str]], mistakes: Mistakes = ()):
        """``test`` gives (passed, what it found); ``mistakes`` maps a wrong answer to the hint that fits."""
        self.question, self.seed, self.tries = question, 0, 0
        self._test, self._mistakes, self._name = test, mistakes, ""
        self._how = ""  # how a variant that is only shown becomes the one that is asked
        self._make: Callable[[random.Random], Exercise] | None = None
        self._key: Any = None  # the right answer, where there is only one

    def variant(self, seed: int) -> Exercise:
        """The same question with other numbers; the same seed gives the same numbers. This one stays as it is."""
        if self._make is None:
            raise ValueError("this exercise has no variants: it was not made by from_seed()")
        other = from_seed(self._make, seed, self._name)
        other._how = f"{self._name} = {self._name}.variant({seed})" if self._name else ""
        return other

    def check(self, answer: Any) -> Verdict:
        """Checks an answer (``...`` counts as none given)."""
        if answer is ...:
            return Verdict(False, "Put your answer in place of the dots, then run the cell again.")
        self.tries += 1
        try:
            _no_coroutine(answer)
            passed, found = self._test(answer)
        except NotAnAnswer as wanted:
            return Verdict(False, str(wanted))
        except OSError as error:
            return Verdict(False, f"A call in it was refused: {error}")
        except (Exception, SystemExit) as error:  # whatever a learner's object does, the lesson goes on
            return Verdict(False, f"The check could not use this answer: {type(error).__name__}: {error}")
        if passed:
            return Verdict(True, found)
        for matches, hint in self._mistakes:
            try:
                if matches(answer):
                    return Verdict(False, f"{found if found.endswith(('.', '?', '!')) else found + '.'} {hint}")
            except Exception:
                continue
        return Verdict(False, found)

    def _repr_html_(self) -> str:
        keep = f'<div style="color:{FAINT}">It is checked after <code>{self._how}</code>.</div>' if self._how else ""
        return (
            f'<div class="bpfsim" style="border-left:3px solid {ACCENT};padding-left:.8em">{self.question}{keep}</div>'
        )

    def __repr__(self) -> str:
        how = self._how
        return html.unescape(re.sub(r"</?\w+>", "", self.question)) + (f"\nIt is checked after {how}." if how else "")


def _no_coroutine(answer: Any) -> None:
    """A function that only makes a coroutine or a generator would do nothing, and nobody would see why."""
    for function in [answer, *(vars(answer).values() if isinstance(answer, type) else ())]:
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise NotAnAnswer(f"{function.__name__} begins with async def: write a plain def.")
        if inspect.isgeneratorfunction(function):
            raise NotAnAnswer(
                f"{function.__name__} has a yield in it, so a call of it does nothing: leave the yield out."
            )


def expect(question: str, answer: Any, right: str, *mistakes: tuple[Any, str]) -> Exercise:
    """An exercise with one right value. ``mistakes`` are pairs: a wrong value, or a function that tells whether an
    answer is this mistake, and the hint. The first that fits is given."""

    def test(given: Any) -> tuple[bool, str]:
        if isinstance(answer, int) and not isinstance(given, Number):
            raise NotAnAnswer("A number is wanted" + (", without quotes." if isinstance(given, str) else "."))
        return given == answer, right if given == answer else f"{given!r} is not what the kernel answers."

    def is_(wrong: Any) -> Callable[[Any], bool]:
        return wrong if callable(wrong) else lambda given: bool(given == wrong)

    exercise = Exercise(question, test, [(is_(wrong), hint) for wrong, hint in mistakes if wrong != answer])
    exercise._key = answer
    return exercise


def from_seed(make: Callable[[random.Random], Exercise], seed: int = 0, name: str = "") -> Exercise:
    """The exercise that ``make`` draws from a seeded random generator; ``.variant(seed)`` draws another. ``name`` is
    the variable that the lesson keeps it in."""
    exercise = make(random.Random(seed))
    exercise._make, exercise.seed, exercise._name = make, seed, name
    return exercise
