"""Exercises that check themselves: what was expected, what is there, and a hint that fits the mistake.

Checks look at kernel objects and values, print to stdout only, and never raise for a wrong answer. TypeError is for an
exercise that is wrong itself; ``exercise.try_all()`` finds such faults before a class does.

Questions may have plain HTML tags (<code>, <b>, <br>, <pre>, lists, ...); any other "<" is the character itself.

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
import operator
import random
import re
from collections.abc import Callable, Iterable, Sequence
from numbers import Number
from typing import Any

from .arguments import shown
from .views.page import ACCENT, FAINT

Mistakes = Sequence[tuple[Callable[[Any], bool], str]]

_TAGS = "a|b|br|code|div|em|hr|i|kbd|li|ol|p|pre|small|span|strong|sub|sup|table|tbody|td|th|thead|tr|tt|ul"
_TAG = re.compile(rf'</?(?:{_TAGS})(?:\s+[\w-]+="[^"]*")*\s*/?>', re.IGNORECASE)


class NotAnAnswer(Exception):
    """Raised by a test where it cannot judge what it was given: says what is wanted. No hint is looked for."""


class Verdict:
    """The result of one check. True in a condition when it passed. ``judged`` is False where the check came to no
    end, which may be the exercise's fault."""

    def __init__(self, passed: bool, text: str, judged: bool = True):
        self.passed, self.text, self.judged = passed, text, judged
        if text.startswith("Right: "):  # it is said anyway
            text = text.removeprefix("Right: ")
            self.text = text[:1].upper() + text[1:]

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        return f"{self._word}: {self.text}"

    @property
    def _word(self) -> str:
        return "Right" if self.passed else "Not yet" if self.judged else "Not judged"

    def _repr_html_(self) -> str:
        colour = "#1a9c4b" if self.passed else "#d0443a"
        word = f"{'✓' if self.passed else '✗' if self.judged else '?'} {self._word}."
        bar = f"border-left:4px solid {colour};padding-left:.8em"
        return f'<div class="bpfsim" style="{bar}"><b>{word}</b> {html.escape(self.text, quote=False)}</div>'


class Exercise:
    """One question. ``check(answer)`` judges an answer, ``q = q.variant(2)`` asks the same with other numbers."""

    def __init__(self, question: str, test: Callable[[Any], tuple[bool, str]], mistakes: Mistakes = ()):
        """``test`` gives (passed, what it found); ``mistakes`` are pairs: a function that tells whether an answer is
        this mistake (where it raises, the answer is not), and the hint."""
        if not isinstance(question, str):
            raise TypeError(f"a question is a str, not {shown(question)}")
        for mistake in mistakes:
            _pair(mistake)
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
        other._how = f"{self._name} = {self._name}.variant({other.seed})" if self._name else ""
        return other

    def check(self, answer: Any) -> Verdict:
        """Checks an answer (``...`` counts as none given)."""
        if answer is ...:
            return Verdict(False, "Put your answer in place of the dots, then run the cell again.")
        self.tries += 1
        try:
            _no_coroutine(answer)
            judged = self._test(answer)
        except NotAnAnswer as wanted:
            return Verdict(False, str(wanted))
        except OSError as error:
            return Verdict(False, f"A call in it was refused: {error}")
        except (Exception, SystemExit) as error:  # whatever a learner's object does, the lesson goes on
            why = f"The check could not use this answer: {type(error).__name__}: {error}"
            return Verdict(False, f"{why} (If it seems right to you, the fault may be the exercise's.)", judged=False)
        passed, found = self._judgement(judged)
        if passed:
            return Verdict(True, found)
        for matches, hint in self._mistakes:
            try:
                if matches(answer):
                    return Verdict(False, f"{found if found.endswith(('.', '?', '!')) else found + '.'} {hint}")
            except Exception:
                continue
        return Verdict(False, found)

    @staticmethod
    def _judgement(judged: Any) -> tuple[bool, str]:
        """What a test gave; TypeError where it is no judgement, whatever the answer was."""
        if isinstance(judged, tuple) and len(judged) == 2 and isinstance(judged[1], str):
            return bool(judged[0]), judged[1]
        raise TypeError(f"the exercise's test has to give (passed, what it found), and gave {shown(judged)}")

    def try_all(
        self,
        seeds: Iterable[int] = range(20),
        wrong: Iterable[Any] = (),
        right: Callable[[Exercise], Any] | None = None,
    ) -> list[tuple[int, Any, Verdict]]:
        """For who writes exercises: tries the variants (or this one, where there are none) and raises what is wrong.

        Of each variant ``right(variant)`` has to pass (by default the answer that expect() was given), and each of
        ``wrong`` has not; no test and no mistake's function may raise for them. Returns (seed, answer, verdict).
        """
        tried = []
        for exercise in [self.variant(seed) for seed in seeds] if self._make else [self]:
            known = right(exercise) if right else exercise._key
            cases = [(known, True)] * (known is not None) + [(answer, False) for answer in wrong]
            for answer, wanted in cases:
                try:
                    exercise._judgement(exercise._test(answer))
                    for matches, _ in () if wanted else exercise._mistakes:
                        matches(answer)
                except NotAnAnswer:
                    pass  # a judgement too
                except Exception as error:
                    error.add_note(f"in the variant of seed {exercise.seed}, for the answer {shown(answer)}")
                    raise
                verdict = exercise.check(answer)
                if verdict.passed != wanted:
                    what = "is right, and was refused" if wanted else "is wrong, and passed"
                    raise AssertionError(f"seed {exercise.seed}: {shown(answer)} {what} ({verdict})")
                tried.append((exercise.seed, answer, verdict))
        return tried

    def _repr_html_(self) -> str:
        keep = f'<div style="color:{FAINT}">It is checked after <code>{self._how}</code>.</div>' if self._how else ""
        question = _markup(self.question)
        return f'<div class="bpfsim" style="border-left:3px solid {ACCENT};padding-left:.8em">{question}{keep}</div>'

    def __repr__(self) -> str:
        how = self._how
        return html.unescape(_TAG.sub("", self.question)) + (f"\nIt is checked after {how}." if how else "")


def _markup(question: str) -> str:
    """A question as HTML: what is no tag of ours is words."""
    tags, words = _TAG.findall(question), _TAG.split(question)
    escaped = [word.replace("<", "&lt;").replace(">", "&gt;") for word in words]
    return "".join(part for pair in zip(escaped, [*tags, ""], strict=True) for part in pair)


def _pair(mistake: Any) -> None:
    if not isinstance(mistake, tuple) or len(mistake) != 2 or not isinstance(mistake[1], str):
        raise TypeError(f"a mistake is (a wrong value or a function, the hint), not {shown(mistake)}")


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
    answer is this mistake, and the hint. The first that fits is given. Where ``answer`` is a number or a bool, only
    such answers are judged; others are told what is wanted."""
    for mistake in mistakes:
        _pair(mistake)

    def test(given: Any) -> tuple[bool, str]:
        if isinstance(answer, bool) and not isinstance(given, bool):
            raise NotAnAnswer("True or False is wanted" + (", without quotes." if isinstance(given, str) else "."))
        if not isinstance(answer, bool) and isinstance(answer, int) and not _number(given):
            raise NotAnAnswer("A number is wanted" + (", without quotes." if isinstance(given, str) else "."))
        return given == answer, right if given == answer else f"{given!r} is not what the kernel answers."

    def is_(wrong: Any) -> Callable[[Any], bool]:
        return wrong if callable(wrong) else lambda given: bool(given == wrong)

    exercise = Exercise(question, test, [(is_(wrong), hint) for wrong, hint in mistakes if wrong != answer])
    exercise._key = answer
    return exercise


def _number(given: Any) -> bool:
    return isinstance(given, Number) and not isinstance(given, bool)


def from_seed(make: Callable[[random.Random], Exercise], seed: int = 0, name: str = "") -> Exercise:
    """The exercise that ``make`` draws from a seeded random generator; ``.variant(seed)`` draws another. ``name`` is
    the variable that the lesson keeps it in."""
    if not hasattr(seed, "__index__"):
        raise TypeError(f"a seed is a whole number, not {shown(seed)}")
    seed = operator.index(seed)
    exercise = make(random.Random(seed))
    if not isinstance(exercise, Exercise):
        raise TypeError(f"what from_seed() calls has to return an Exercise, and gave {shown(exercise)}")
    exercise._make, exercise.seed, exercise._name = make, seed, name
    return exercise
