"""A program before and after every pass of its load."""

from __future__ import annotations

import difflib
import html
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from .page import Frame, Stepper, live

_SIGN = {"same": " ", "gone": "-", "new": "+"}
_BACK = {"same": "transparent", "gone": "rgba(214,48,49,.16)", "new": "rgba(0,148,68,.16)"}


@dataclass(frozen=True)
class Stage:
    """The program as one pass left it: the pass's kernel function, and the listing, one instruction a line."""

    name: str
    listing: tuple[str, ...]


def changes(before: tuple[str, ...], after: tuple[str, ...]) -> Iterator[tuple[str, str, int | None]]:
    """(same, gone or new; the line; its new index) in reading order."""
    slots, at = [], 0  # a 64-bit immediate takes two, as jumps count
    for line in after:
        slots.append(at)
        at += 2 if line.startswith("(18)") else 1
    for tag, a0, a1, b0, b1 in opcodes(before, after):
        if tag == "equal":
            yield from (("same", after[i], slots[i]) for i in range(b0, b1))
        else:
            yield from (("gone", before[i], None) for i in range(a0, a1))
            yield from (("new", after[i], slots[i]) for i in range(b0, b1))


Opcode = tuple[str, int, int, int, int]
_SMALL = 200  # lines that difflib, whose time grows with the square where lines are alike, does at once


def opcodes(a: Sequence[str], b: Sequence[str], alike: int = 10) -> Iterator[Opcode]:
    """What makes ``b`` of ``a``, as difflib tells it, in a time that grows with their length.

    Passes change a program in places. So a difference ends at the nearest places from which both go on ``alike`` for
    so many lines; one that is large is looked through again for fewer.
    """
    i = j = 0
    while i < len(a) or j < len(b):
        same = 0
        while i + same < len(a) and j + same < len(b) and a[i + same] == b[j + same]:
            same += 1
        if same:
            yield "equal", i, i + same, j, j + same
            i, j = i + same, j + same
        rest = len(a) - i + len(b) - j
        to_i, to_j = (len(a), len(b)) if rest <= _SMALL else _meet(a, b, i, j, alike)
        yield from _difference(a[i:to_i], b[j:to_j], i, j, alike)
        i, j = to_i, to_j


def _difference(a: Sequence[str], b: Sequence[str], i: int, j: int, alike: int) -> Iterator[Opcode]:
    if len(a) + len(b) <= _SMALL:
        found: Iterable[Opcode] = difflib.SequenceMatcher(a=a, b=b, autojunk=False).get_opcodes()
    elif alike > 1 and a and b:
        found = opcodes(a, b, alike // 3)
    else:
        found = [("replace", 0, len(a), 0, len(b))]
    yield from ((tag, i + a0, i + a1, j + b0, j + b1) for tag, a0, a1, b0, b1 in found)


def _meet(a: Sequence[str], b: Sequence[str], i: int, j: int, alike: int) -> tuple[int, int]:
    """The nearest places at or after ``i`` and ``j`` from which the next lines are the same; the ends if none are."""
    in_a: dict[tuple[str, ...], int] = {}
    in_b: dict[tuple[str, ...], int] = {}
    for ahead in range(max(len(a) - i, len(b) - j)):
        of_a, of_b = (tuple(lines[at + ahead : at + ahead + alike]) for lines, at in ((a, i), (b, j)))
        if len(of_a) == alike:
            in_a.setdefault(of_a, i + ahead)
        if len(of_b) == alike:
            in_b.setdefault(of_b, j + ahead)
        if of_a in in_b:
            return i + ahead, in_b[of_a]
        if of_b in in_a:
            return in_a[of_b], j + ahead
    return len(a), len(b)


class Stages:
    """The stages of one load, a sequence of Stage; only those that changed something are drawn."""

    def __init__(self, stages: list[Stage]):
        self._all = stages

    def __len__(self) -> int:
        return len(self._all)

    def __getitem__(self, at: int) -> Stage:
        return self._all[at]

    def __iter__(self) -> Iterator[Stage]:
        return iter(self._all)

    def changed(self) -> list[tuple[Stage, Stage]]:
        """(before, after) for each pass that changed the program."""
        return [(a, b) for a, b in zip(self._all, self._all[1:], strict=False) if a.listing != b.listing]

    def _frames(self) -> list[Frame]:
        if not self._all:
            return []
        first = self._all[0]
        frames = [_frame(f"{first.name}: the program as user space gave it", first.listing, first.listing)]
        for before, after in self.changed():
            lines = list(changes(before.listing, after.listing))
            gone, new = (sum(kind == k for kind, _, _ in lines) for k in ("gone", "new"))
            frames.append(_frame(f"{after.name}: {gone} out, {new} in", before.listing, after.listing))
        quiet = [b.name for a, b in zip(self._all, self._all[1:], strict=False) if a.listing == b.listing]
        if quiet:
            note = "These passes looked and changed nothing: " + ", ".join(dict.fromkeys(quiet)) + "."
            frames.append(Frame("nothing to change", f"<p>{html.escape(note)}</p>", note))
        return frames

    def __str__(self) -> str:
        return str(Stepper(self._frames())) or "No stages were recorded."

    __repr__ = __str__

    def _repr_html_(self) -> str:
        frames = self._frames()
        if not frames:
            return "<p>No stages were recorded.</p>"
        static = "".join(
            f"<details{' open' if i == 0 else ''}><summary>{html.escape(f.caption)}</summary>{f.html}</details>"
            for i, f in enumerate(frames)
        )
        return live(static, frames)


def _frame(caption: str, before: tuple[str, ...], after: tuple[str, ...]) -> Frame:
    text, rows = [], []
    for kind, line, index in changes(before, after):
        number = "" if index is None else str(index)
        text.append(f"{_SIGN[kind]} {number:>4}: {line}")
        words = f"{_SIGN[kind]} {number:>4}: {html.escape(line)}"
        rows.append(f'<span style="display:block;background:{_BACK[kind]}">{words}\n</span>')
    body = "".join(rows)
    style = "font-family:var(--jp-code-font-family,ui-monospace,monospace);line-height:1.45;margin:0"
    return Frame(caption, f'<pre style="{style}">{body}</pre>', "\n".join(text))
