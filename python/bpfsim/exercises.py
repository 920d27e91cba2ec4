"""Exercises that check themselves: what was expected, what is there, and a hint that fits the mistake.

Checks look at kernel objects and values, print to stdout only, and never raise for a wrong answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .views.page import ACCENT


@dataclass
class Verdict:
    """The result of one check. True in a condition when it passed."""

    passed: bool
    text: str

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        return f"{'Right' if self.passed else 'Not yet'}: {self.text}"

    def _repr_html_(self) -> str:
        colour = "#0a7d33" if self.passed else "#b3261e"
        word = "Right." if self.passed else "Not yet."
        return (
            f'<div class="bpfsim" style="border-left:3px solid {colour};padding-left:.8em">'
            f'<span style="color:{colour};font-weight:600">{word}</span> {self.text}</div>'
        )


@dataclass
class Exercise:
    """One question. ``test`` gives (passed, what it found); ``mistakes`` maps a wrong answer to the hint that fits."""

    question: str
    test: Callable[[Any], tuple[bool, str]]
    mistakes: list[tuple[Callable[[Any], bool], str]] = field(default_factory=list)
    tries: int = 0

    def check(self, answer: Any) -> Verdict:
        """Checks an answer (``...`` counts as none given)."""
        if answer is ...:
            return Verdict(False, "Put your answer in place of the dots, then run the cell again.")
        self.tries += 1
        try:
            passed, found = self.test(answer)
        except Exception as error:  # whatever a learner's object does, the lesson goes on
            return Verdict(False, f"The check could not use this answer: {type(error).__name__}: {error}")
        if passed:
            return Verdict(True, found)
        for matches, hint in self.mistakes:
            try:
                if matches(answer):
                    return Verdict(False, f"{found} {hint}")
            except Exception:
                continue
        return Verdict(False, found)

    def _repr_html_(self) -> str:
        return f'<div class="bpfsim" style="border-left:3px solid {ACCENT};padding-left:.8em">{self.question}</div>'

    def __repr__(self) -> str:
        return self.question


def expect(question: str, answer: Any, right: str, *mistakes: tuple[Any, str]) -> Exercise:
    """An exercise with one right value. ``mistakes`` are (wrong value, hint) pairs."""

    def test(given: Any) -> tuple[bool, str]:
        return given == answer, right if given == answer else f"{given!r} is not what the kernel answers."

    def is_(wrong: Any) -> Callable[[Any], bool]:
        return lambda given: bool(given == wrong)

    return Exercise(question, test, [(is_(wrong), hint) for wrong, hint in mistakes])
