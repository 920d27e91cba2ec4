"""The kernel's functions in the order in which they were entered, as ftrace's function_graph tracer draws them."""

from __future__ import annotations

import html
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from .page import FAINT, mono


@dataclass
class Call:
    """One function: its name, simulated time inside (ns), and what happened in it, calls and events in order."""

    name: str
    begin_ns: int = 0
    end_ns: int = 0
    inside: list[Call | str] = field(default_factory=list)

    def walk(self, depth: int = 0) -> Iterable[tuple[int, Call | str]]:
        """Every call and event below this one with its depth, in order."""
        for item in self.inside:
            yield depth, item
            if isinstance(item, Call):
                yield from item.walk(depth + 1)


def sentence(kind: str, fields: dict[str, Any]) -> str:
    """One event as a short line: what happened, then its values."""
    values = " ".join(f"{name}={value}" for name, value in fields.items())
    return f"{kind}: {values}"


class FunctionGraph:
    """The tree of kernel functions that a recording holds. ``names()`` is their order; ``events=False`` hides the
    smaller events between them."""

    def __init__(self, records: Iterable[Any], events: bool = True):
        self.root = Call("")
        stack = [self.root]
        for record in records:
            if record.kind == "enter":
                call = Call(record.fields["function"], record.time_ns, record.time_ns)
                stack[-1].inside.append(call)
                stack.append(call)
            elif record.kind == "leave":
                if len(stack) > 1:
                    stack.pop().end_ns = record.time_ns
            elif events:
                stack[-1].inside.append(sentence(record.kind, record.fields))

    def names(self) -> list[str]:
        """The functions in the order in which they were entered."""
        return [item.name for _, item in self.root.walk() if isinstance(item, Call)]

    def __str__(self) -> str:
        lines: list[str] = []
        self._text(self.root, 0, lines)
        return "\n".join(lines)

    __repr__ = __str__

    def _text(self, call: Call, depth: int, lines: list[str]) -> None:
        for item in call.inside:
            pad = "  " * depth
            if isinstance(item, str):
                lines.append(f"{pad}/* {item} */")
            elif item.inside:
                lines.append(f"{pad}{item.name}() {{")
                self._text(item, depth + 1, lines)
                lines.append(f"{pad}}}")
            else:
                lines.append(f"{pad}{item.name}();")

    def _repr_html_(self) -> str:
        return f'<div class="bpfsim">{self._html(self.root, 0)}</div>'

    def _html(self, call: Call, depth: int) -> str:
        parts: list[str] = []
        for item in call.inside:
            if isinstance(item, str):
                parts.append(f'<li style="color:{FAINT}">{mono(item)}</li>')
            elif item.inside:
                opened = " open" if depth < 3 else ""
                count = sum(isinstance(i, Call) for _, i in item.walk())
                note = f' <span style="color:{FAINT}">{count} call{"s" * (count > 1)}</span>' if count else ""
                name = f"<summary>{mono(item.name + '()')}{note}</summary>"
                parts.append(f"<li><details{opened}>{name}{self._html(item, depth + 1)}</details></li>")
            else:
                parts.append(f'<li style="padding-left:1em">{mono(item.name + "()")}</li>')
        return f'<ul style="list-style:none;margin:0;padding-left:1.2em">{"".join(parts)}</ul>'

    def to_json(self) -> dict[str, Any]:
        """The tree as plain data."""
        return _plain(self.root)


def _plain(call: Call) -> dict[str, Any]:
    return {
        "name": call.name,
        "begin_ns": call.begin_ns,
        "end_ns": call.end_ns,
        "inside": [_plain(item) if isinstance(item, Call) else item for item in call.inside],
    }


def heading(text: str) -> str:
    """A small heading above a view."""
    return f'<div style="font-weight:600">{html.escape(text)}</div>'
