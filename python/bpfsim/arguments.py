"""Wrong arguments to a function of the core, in words: which one, what is wanted, what came.

pybind11 tells every signature that it knows and every argument that came; python/bind/arguments.cpp brings that here.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import _core

_INT = "typing.SupportsInt | typing.SupportsIndex"
_WORDS = {
    "str": "a str",
    "bool": "True or False",
    "bytes": "bytes",
    _INT: "an int",
    "typing_extensions.Buffer": "bytes or another buffer",
    "collections.abc.Sequence[str]": "a list of str",
    f"collections.abc.Sequence[tuple[str, {_INT}]]": "a list of names with an int each",
    "collections.abc.Mapping[str, bool]": "a dict of names to True or False",
}


@dataclass(frozen=True)
class Parameter:
    """One parameter of a signature: its name, pybind11's words for its type, and whether it may be left out."""

    name: str
    type: str
    optional: bool

    @property
    def wanted(self) -> str:
        """What it takes, in words."""
        kind = self.type.removesuffix(" | None")
        short = _short(kind)
        word = _WORDS.get(kind, f"a{'n' if short[:1] in 'AEIOU' else ''} {short}")
        return word if kind == self.type else f"{word} or None"

    def fits(self, value: Any) -> bool:
        """Whether a value may go here, as far as its type tells; what is not known here fits."""
        kind = self.type.removesuffix(" | None")
        if value is None:
            return kind != self.type or kind == "object"
        if kind == "str":
            return isinstance(value, str | bytes)
        if kind == "bytes":
            return isinstance(value, bytes)
        if kind == "bool":
            return isinstance(value, bool)
        if kind == _INT:
            return hasattr(value, "__index__")
        if kind == "typing_extensions.Buffer":
            return is_buffer(value)
        if kind.startswith("collections.abc.Sequence"):
            return isinstance(value, Sequence) and not isinstance(value, str | bytes)
        if kind.startswith("collections.abc.Mapping"):
            return isinstance(value, Mapping)
        bound = getattr(_core, _short(kind), None)
        return isinstance(value, bound) if isinstance(bound, type) else True


def explain(message: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """What to tell instead of pybind11's ``message`` on a call with these arguments."""
    signatures = re.findall(r"^    \d+\. ([\w.]+)?\((.*)\)(?: -> .*)?$", message, re.M)
    name = message.split("(", 1)[0]
    if name == "__init__":
        args = args[1:]
        name = signatures[0][0].rsplit(".", 1)[-1]
    complaints = [_complaint(_parameters(text), args, kwargs) for _, text in signatures]
    return f"{name}(): " + " or: ".join(dict.fromkeys(complaints))


def _complaint(parameters: list[Parameter], args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    own = [p for p in parameters if p.name != "self"]
    args = args[len(parameters) - len(own) :]
    given: dict[str, Any] = dict(zip((p.name for p in own), args, strict=False))
    if len(args) > len(own):
        return f"{len(args)} arguments came{_takes(own)}" if own else "it takes no arguments"
    for name, value in kwargs.items():
        if name in given:
            return f"{name} came twice, by its place and by its name"
        if name not in {p.name for p in own}:
            near = difflib.get_close_matches(name, [p.name for p in own], 1)
            return f"it has no argument {name!r}" + (f"; did you mean {near[0]!r}?" if near else _takes(own))
        given[name] = value
    for p in own:
        if p.name not in given and not p.optional:
            return f"{p.name} is missing: {p.wanted}"
        if p.name in given and not p.fits(given[p.name]):
            return f"{p.name} must be {p.wanted}, is {shown(given[p.name])}"
    for p in own:
        value = given.get(p.name)
        if isinstance(value, int) and p.type.startswith(_INT) and not 0 <= value < 1 << 31:
            return f"{p.name} is out of range: {value}"
    return "these arguments do not fit" + _takes(own)


def _parameters(text: str) -> list[Parameter]:
    """``self: bpfsim._core.Task, path: str, mode: int = 511`` in its parts; commas in brackets or quotes stay."""
    parts = re.findall(r"(\w+): ((?:'[^']*'|\[[^\[\]]*(?:\[[^\[\]]*\][^\[\]]*)*\]|\{[^}]*\}|[^,])+)", text)
    split = [(name, *rest.partition(" = ")) for name, rest in parts]
    return [Parameter(name, kind, bool(equals)) for name, kind, equals, _ in split]


def _takes(parameters: list[Parameter]) -> str:
    names = ", ".join(f"[{p.name}]" if p.optional else p.name for p in parameters)
    return f"; it takes {names}" if names else ""


def _short(kind: str) -> str:
    """``Task`` of ``bpfsim._core.Task`` and, where a class was bound later than a use of it, ``bpfsim::PyTask``."""
    return re.split(r"\.|::", kind)[-1].removeprefix("Py")


def is_buffer(value: Any) -> bool:
    """Whether there are bytes behind a value."""
    try:
        memoryview(value)
    except TypeError:
        return False
    return True


def shown(value: Any) -> str:
    """A value as short as a message can bear it; of what is no plain value its type."""
    if value is None or isinstance(value, int | float | str | bytes):
        text = repr(value)
        return text if len(text) <= 40 else f"{text[:36]} ..., of type {type(value).__name__}"
    return f"of type {type(value).__name__}"
