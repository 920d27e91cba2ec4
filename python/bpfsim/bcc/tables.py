"""BCC's tables: mappings whose keys and leaves are ctypes objects with ``.value``."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

from ..handles import Map


def _bytes(kind: Any, value: Any, what: str) -> bytes:
    """A key or leaf as the machine wants it: from a ctypes object, an int, bytes, or a tuple of a struct's fields."""
    if not isinstance(value, kind):
        try:
            value = kind(*value) if isinstance(value, tuple | list) else kind(getattr(value, "value", value))
        except TypeError as error:
            raise TypeError(f"the {what} of this table is a {kind.__name__}: {error}") from None
    return bytes(value)


class Table(MutableMapping[Any, Any]):
    """A table: ``table[key]`` gives a Leaf; keys may be Key objects or plain ints. ``map`` is the bpfsim handle."""

    per_cpu = False

    def __init__(self, name: str, handle: Map, key: Any, leaf: Any, reducer: Callable[..., Any] | None = None):
        self.name, self.map, self.Key, self.Leaf, self.reducer = name, handle, key, leaf, reducer
        self.map_fd, self.max_entries = handle.fd, handle.max_entries

    @property
    def map_id(self) -> int:
        """The map's id, which ``bpftool map`` would show."""
        return self.map.id

    def _leaf(self, raw: Any) -> Any:
        return self.Leaf.from_buffer_copy(_raw(raw, self.map.value_size))

    def _pack_leaf(self, leaf: Any) -> Any:
        return _bytes(self.Leaf, leaf, "leaf")

    def _pack_key(self, key: Any) -> bytes:
        return _bytes(self.Key, key, "key")

    def __getitem__(self, key: Any) -> Any:
        try:
            return self._leaf(self.map[self._pack_key(key)])
        except KeyError:
            raise KeyError(key) from None

    def __setitem__(self, key: Any, leaf: Any) -> None:
        self.map[self._pack_key(key)] = self._pack_leaf(leaf)

    def __delitem__(self, key: Any) -> None:
        try:
            del self.map[self._pack_key(key)]
        except KeyError:
            raise KeyError(key) from None

    def __iter__(self) -> Iterator[Any]:
        return (self.Key.from_buffer_copy(_raw(key, self.map.key_size)) for key in self.map)

    def __len__(self) -> int:
        return len(self.map)

    def items(self) -> list[tuple[Any, Any]]:  # type: ignore[override]
        """Every key with its leaf, as a list; a key that goes meanwhile is left out."""
        found = []
        for key in list(self):
            try:
                found.append((key, self[key]))
            except KeyError:
                continue
        return found

    def keys(self) -> list[Any]:  # type: ignore[override]
        """Every key, as a list."""
        return list(self)

    def values(self) -> list[Any]:  # type: ignore[override]
        """Every leaf, as a list."""
        return [leaf for _, leaf in self.items()]

    iterkeys = keys
    itervalues = values
    iteritems = items

    def clear(self) -> None:
        """Deletes every key; in arrays, zeroes every leaf."""
        for key in list(self):
            self.pop(key, None)

    def zero(self) -> None:
        """Zeroes every leaf, deletes none."""
        for key in list(self):
            self[key] = self._zero()

    def _zero(self) -> Any:
        return self.Leaf()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {self.map.type[len('BPF_MAP_TYPE_') :].lower()}>"


class HashTable(Table):
    """BPF_HASH and its kin."""


class ArrayTable(Table):
    """BPF_ARRAY and its kin: keys 0 to max_entries - 1, which are always there."""

    def _pack_key(self, key: Any) -> bytes:
        number = getattr(key, "value", key)
        if isinstance(number, int) and not 0 <= number < self.max_entries:
            raise IndexError(f"{self.name} has keys 0 to {self.max_entries - 1}, not {number}")
        return super()._pack_key(key)

    def __delitem__(self, key: Any) -> None:
        self[key] = self._zero()

    def __len__(self) -> int:
        return self.max_entries

    clear = Table.zero


class _PerCpu(Table):
    """One leaf for each possible CPU: ``table[key]`` is a ctypes array of them, or what the reducer makes of it."""

    per_cpu = True

    def __getitem__(self, key: Any) -> Any:
        leaves = self.getvalue(key)
        if self.reducer is None:
            return leaves
        result = leaves[0]
        for leaf in leaves[1:]:
            result = self.reducer(result, leaf)
        return result

    def getvalue(self, key: Any) -> Any:
        """The leaves of all CPUs."""
        return super().__getitem__(key)

    def _leaf(self, raw: Any) -> Any:
        joined = b"".join(_raw(one, self.map.value_size) for one in raw)
        return (self.Leaf * len(raw)).from_buffer_copy(joined)

    def _pack_leaf(self, leaf: Any) -> Any:
        if isinstance(leaf, ctypes.Array | list | tuple):
            return [_bytes(self.Leaf, one, "leaf") for one in leaf]
        return [_bytes(self.Leaf, leaf, "leaf")] * self.map._cpus

    def _numbers(self, key: Any) -> list[Any]:
        leaves = self.getvalue(key)
        if issubclass(self.Leaf, ctypes.Structure | ctypes.Union | ctypes.Array):
            raise IndexError(f"the leaves of {self.name} are no numbers: use getvalue()")
        return list(leaves)

    def sum(self, key: Any) -> Any:
        """The sum over all CPUs, as a Leaf."""
        return self.Leaf(sum(self._numbers(key)))

    def max(self, key: Any) -> Any:
        """The largest, as a Leaf."""
        return self.Leaf(max(self._numbers(key)))

    def average(self, key: Any) -> float:
        """The mean over all CPUs."""
        numbers = self._numbers(key)
        return sum(numbers) / len(numbers)


class PerCpuHash(_PerCpu, HashTable):
    """BPF_PERCPU_HASH."""


class PerCpuArray(_PerCpu, ArrayTable):
    """BPF_PERCPU_ARRAY."""


class ProgArray(ArrayTable):
    """BPF_PROG_ARRAY: ``table[1] = function`` for tail calls; empty slots are no keys."""

    def __setitem__(self, key: Any, leaf: Any) -> None:
        super().__setitem__(key, getattr(leaf, "fd", leaf))

    def __delitem__(self, key: Any) -> None:
        Table.__delitem__(self, key)

    def clear(self) -> None:
        """Empties every slot."""
        Table.clear(self)


class QueueStack:
    """BPF_QUEUE and BPF_STACK: leaves without keys."""

    def __init__(self, name: str, handle: Map, leaf: Any):
        self.name, self.map, self.Leaf = name, handle, leaf
        self.map_fd, self.max_entries = handle.fd, handle.max_entries

    def push(self, leaf: Any, flags: int = 0) -> None:
        """Puts a leaf in; OSError E2BIG when full (flags 2, BPF_EXIST: drops the oldest)."""
        self.map.push(_bytes(self.Leaf, leaf, "leaf"), flags)

    def pop(self) -> Any:
        """Takes the next leaf; KeyError when empty."""
        return self.Leaf.from_buffer_copy(_raw(self.map.pop(), self.map.value_size))

    def peek(self) -> Any:
        """Shows the next leaf; KeyError when empty."""
        return self.Leaf.from_buffer_copy(_raw(self.map.peek(), self.map.value_size))

    def itervalues(self) -> Iterator[Any]:
        """Takes leaf after leaf until it is empty."""
        while True:
            try:
                yield self.pop()
            except KeyError:
                return

    def values(self) -> list[Any]:
        """Takes all leaves."""
        return list(self.itervalues())


def _raw(value: Any, size: int) -> bytes:
    """The handle gives small values as ints."""
    return value.to_bytes(size, "little") if isinstance(value, int) else bytes(value)


def make_table(
    kind: str, name: str, handle: Map, key: Any, leaf: Any, *, reducer: Callable[..., Any] | None = None
) -> Table | QueueStack:
    """The table object for a table of one of the dialect's types."""
    if kind in ("queue", "stack"):
        return QueueStack(name, handle, leaf)
    classes = {"percpu_hash": PerCpuHash, "lru_percpu_hash": PerCpuHash, "percpu_array": PerCpuArray, "prog": ProgArray,
               "array": ArrayTable, "devmap": ArrayTable, "cpumap": ArrayTable}  # fmt: skip
    return classes.get(kind, HashTable)(name, handle, key, leaf, reducer)
