"""A program before and after every pass of its load."""

from __future__ import annotations

import difflib
import html
from collections.abc import Iterator
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
    matcher = difflib.SequenceMatcher(a=before, b=after, autojunk=False)
    for tag, a0, a1, b0, b1 in matcher.get_opcodes():
        if tag == "equal":
            yield from (("same", after[i], slots[i]) for i in range(b0, b1))
        else:
            yield from (("gone", before[i], None) for i in range(a0, a1))
            yield from (("new", after[i], slots[i]) for i in range(b0, b1))


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
