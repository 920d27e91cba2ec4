"""Map types: the tables of those that the machine has, and types of a lesson's own, written in Python."""

from __future__ import annotations

import difflib
import os
from typing import Any

from . import _core
from .views.map_ops import MEMBERS, OpsMatrix, OpsTable

# The members that a class in Python may fill, with the arguments of its methods.
METHODS = {
    "map_alloc_check": "(attr)",
    "map_alloc": "(attr) -> the map's state",
    "map_free": "(map)",
    "map_lookup_elem": "(map, key) -> an Element, bytes (programs get a copy), or None",
    "map_lookup_elem_sys_only": "(map, key) -> bytes, an Element, or None",
    "map_update_elem": "(map, key, value, flags)",
    "map_delete_elem": "(map, key)",
    "map_get_next_key": "(map, key or None) -> bytes or None",
    "map_lookup_and_delete_elem": "(map, key, flags) -> bytes or None",
    "map_push_elem": "(map, value, flags)",
    "map_pop_elem": "(map) -> bytes or None",
    "map_peek_elem": "(map) -> bytes or None",
    "map_release": "(map)",
    "map_release_uref": "(map)",
    "map_mem_usage": "(map) -> int",
}
FIRST_NUMBER = 1000


def map_ops() -> OpsMatrix:
    """The tables of all map types that are modelled, side by side: ``bpfsim.map_ops()["queue"]`` is one of them."""
    return OpsMatrix(OpsTable(name, rows) for name, rows in _core.map_ops_matrix())


def register_map_type(kernel: Any, name: str, ops: Any, number: int | None = None) -> int:
    """A map type of your own for this machine: ``k.register_map_type("my_type", MyType)``. Returns its number.

    ``ops`` is a class or an object with methods under the names of struct bpf_map_ops; it is used as it is, so the
    methods of a class get no ``self``::

        class Doubler:
            def map_alloc(attr): return {}
            def map_lookup_elem(map, key): return map.state.get(key)
            def map_update_elem(map, key, value, flags): map.state[key] = value

    ``map`` has the sizes, ``map.state`` is what ``map_alloc`` returned, ``map.element(value)`` a value in memory that
    programs can write to. A program that finds bytes gets the address of a copy of them: what it writes there is lost,
    and the next lookup raises TypeError. A method answers an errno by ``raise OSError(errno.E2BIG, "full")``; any other
    exception, and TypeError for an errno that is returned, goes to whoever made the call. What the class leaves out is
    EOPNOTSUPP; map_lookup_and_delete_elem, the batch commands and use as an inner map are ENOTSUPP (524). A map without
    keys pushes and pops. A method cannot call into its own machine. ``number`` is at least 1000 (default: the next that
    is free).

    A name that is registered again (a cell that is run again, the class changed) stands for the new class from then
    on, under a number of its own; maps that are there keep the class that they were made with.

    Raises ValueError for names that struct bpf_map_ops does not have, for the name of one of the kernel's types, and
    where the number is taken.
    """
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"the name of a map type is one word of letters, digits and '_', not {name!r}")
    taken = _core.extra_map_types(kernel)
    known = _kernel_types()
    if f"BPF_MAP_TYPE_{name.upper()}" in known:
        raise ValueError(f"there is a map type {name!r} already")
    before = max((used for used, other, _ in taken if other == name), default=0)
    if number is not None and number < before:
        raise ValueError(f"the map type {name!r} has number {before} already: a later one gets a greater number")
    methods = {}
    for member in dir(ops):
        if not member.startswith("map_"):
            continue
        if member not in METHODS:
            raise ValueError(_not_a_member(member))
        method = getattr(ops, member)
        if not callable(method):
            raise ValueError(f"{member} must be a function, is {type(method).__name__}")
        methods[member] = (_function_name(method, ops, member), _place(method))
    if not methods:
        raise ValueError(f"{ops!r} has no method of struct bpf_map_ops; it may have: {', '.join(METHODS)}")
    if number is None:
        number = max([FIRST_NUMBER - 1, *(used for used, _, _ in taken)]) + 1
    _core.register_map_type(kernel, number, name, ops, methods)
    return number


def _not_a_member(member: str) -> str:
    if member in MEMBERS:
        return f"{member} cannot be written in Python; these can: {', '.join(METHODS)}"
    near = difflib.get_close_matches(member, METHODS, 1)
    return f"struct bpf_map_ops has no {member}" + (f"; did you mean {near[0]}?" if near else "")


def _function_name(method: Any, ops: Any, member: str) -> str:
    owner = getattr(ops, "__name__", type(ops).__name__)
    name = getattr(method, "__qualname__", f"{owner}.{member}").split("<locals>.")[-1]
    return name if name.endswith(f".{member}") or name == member else f"{owner}.{member}"


def _place(method: Any) -> str:
    """Where the method stands: the file's name and line."""
    code = getattr(getattr(method, "__func__", method), "__code__", None)
    if code is None:
        return "Python"
    file = os.path.basename(code.co_filename)
    return f"{'this notebook' if 'ipykernel' in code.co_filename else file}, line {code.co_firstlineno}"


def type_number(task: Any, name: str) -> int | None:
    """The number of a lesson's own map type (the latest of that name), None where the machine of ``task`` has none;
    ValueError for a name that is near to one."""
    kernel = getattr(task, "kernel", None)
    numbers = {own: number for number, own, _ in _core.extra_map_types(kernel)} if kernel is not None else {}
    if not numbers or name in numbers:
        return numbers.get(name)
    near = difflib.get_close_matches(name.lower(), numbers, 1, 0.8)
    if near and f"BPF_MAP_TYPE_{name.upper().removeprefix('BPF_MAP_TYPE_')}" not in _kernel_types():
        raise ValueError(f"no map type is called {name!r}; did you mean {near[0]!r}?")
    return None


def is_own(task: Any, name: str) -> bool:
    """Whether a map type is a lesson's own."""
    kernel = getattr(task, "kernel", None)
    return kernel is not None and any(own == name for _, own, _ in _core.extra_map_types(kernel))


def _kernel_types() -> set[str]:
    return {name for _, name, _ in _core.map_type_rows()}


def type_name(task: Any, number: int) -> str:
    """The name of a lesson's own map type, or the number."""
    kernel = getattr(task, "kernel", None)
    for own, name, _ in _core.extra_map_types(kernel) if kernel is not None else []:
        if own == number:
            return str(name)
    return f"map type {number}"
