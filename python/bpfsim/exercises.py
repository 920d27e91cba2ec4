"""Exercises that check themselves: what was expected, what is there, and a hint that fits the mistake.

Checks look at kernel objects and values, print to stdout only, and never raise for a wrong answer.

A lesson's exercise that comes in variants is a function from a random generator to an Exercise::

    def one_pop(rng):
        values = rng.sample(range(2, 99), 3)
        machine = bpfsim.Kernel()                       # the answer is asked of a machine, not written down
        queue = machine.spawn().map_create("queue", key_size=0, value_size=4, max_entries=3)
        ...
        return expect(f"... {values} ...", queue.pop(), "Right: ...", (values[-1], "That is a stack."))

    q1 = from_seed(one_pop)       # what the lesson shows
    q1.variant(7)                 # the same question with other numbers; q1.variant(7).key is its answer
"""

from __future__ import annotations

import html
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from numbers import Number
from typing import Any

from .views.page import ACCENT


class NotAnAnswer(Exception):
    """Raised by a test where it cannot judge what it was given: says what is wanted. No hint is looked for."""


@dataclass
class Verdict:
    """The result of one check. True in a condition when it passed."""

    passed: bool
    text: str

    def __post_init__(self) -> None:
        self.text = self.text.removeprefix("Right: ")  # it is said anyway
        self.text = self.text[:1].upper() + self.text[1:]

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        return f"{'Right' if self.passed else 'Not yet'}: {self.text}"

    def _repr_html_(self) -> str:
        colour = "#1a9c4b" if self.passed else "#d0443a"
        word = "✓ Right." if self.passed else "✗ Not yet."
        bar = f"border-left:4px solid {colour};padding-left:.8em"
        return f'<div class="bpfsim" style="{bar}"><b>{word}</b> {self.text}</div>'


@dataclass
class Exercise:
    """One question. ``test`` gives (passed, what it found); ``mistakes`` maps a wrong answer to the hint that fits.

    ``key`` is an answer that passes (for teachers and tests). An exercise made by ``from_seed`` has fresh variants.
    """

    question: str
    test: Callable[[Any], tuple[bool, str]]
    mistakes: list[tuple[Callable[[Any], bool], str]] = field(default_factory=list)
    key: Any = None
    make: Callable[[random.Random], Exercise] | None = None
    seed: int = 0
    tries: int = 0

    def variant(self, seed: int) -> Exercise:
        """The same question with other numbers; the same seed gives the same numbers."""
        if self.make is None:
            raise ValueError("this exercise has no variants: it was not made by from_seed()")
        return from_seed(self.make, seed)

    def check(self, answer: Any) -> Verdict:
        """Checks an answer (``...`` counts as none given)."""
        if answer is ...:
            return Verdict(False, "Put your answer in place of the dots, then run the cell again.")
        self.tries += 1
        try:
            passed, found = self.test(answer)
        except NotAnAnswer as wanted:
            return Verdict(False, str(wanted))
        except OSError as error:
            return Verdict(False, f"A call in it was refused: {error}")
        except Exception as error:  # whatever a learner's object does, the lesson goes on
            return Verdict(False, f"The check could not use this answer: {type(error).__name__}: {error}")
        if passed:
            return Verdict(True, found)
        for matches, hint in self.mistakes:
            try:
                if matches(answer):
                    return Verdict(False, f"{found if found.endswith(('.', '?', '!')) else found + '.'} {hint}")
            except Exception:
                continue
        return Verdict(False, found)

    def _repr_html_(self) -> str:
        return f'<div class="bpfsim" style="border-left:3px solid {ACCENT};padding-left:.8em">{self.question}</div>'

    def __repr__(self) -> str:
        return html.unescape(re.sub(r"</?\w+>", "", self.question))


def expect(question: str, answer: Any, right: str, *mistakes: tuple[Any, str]) -> Exercise:
    """An exercise with one right value. ``mistakes`` are pairs: a wrong value, or a function that tells whether an
    answer is this mistake, and the hint. The first that fits is given."""

    def test(given: Any) -> tuple[bool, str]:
        if isinstance(answer, int) and not isinstance(given, Number):
            raise NotAnAnswer("A number is wanted" + (", without quotes." if isinstance(given, str) else "."))
        return given == answer, right if given == answer else f"{given!r} is not what the kernel answers."

    def is_(wrong: Any) -> Callable[[Any], bool]:
        return wrong if callable(wrong) else lambda given: bool(given == wrong)

    wrongs = [(is_(wrong), hint) for wrong, hint in mistakes if wrong != answer]
    return Exercise(question, test, wrongs, key=answer)


def from_seed(make: Callable[[random.Random], Exercise], seed: int = 0) -> Exercise:
    """The exercise that ``make`` draws from a seeded random generator; ``.variant(seed)`` draws another."""
    exercise = make(random.Random(seed))
    exercise.make, exercise.seed = make, seed
    return exercise
