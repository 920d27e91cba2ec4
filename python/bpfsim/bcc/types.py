"""ctypes for the keys and leaves of tables, from the BTF that clang wrote: what BCC makes of its own descriptions."""

from __future__ import annotations

import ctypes
import struct
from typing import Any, NamedTuple

_INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM = 1, 2, 3, 4, 5, 6
_TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _VAR, _FLOAT, _TYPE_TAG, _ENUM64 = 8, 9, 10, 11, 14, 16, 18, 19
# Bytes after the common twelve, and those for each of the vlen members, by kind.
_MORE = {1: (4, 0), 3: (12, 0), 4: (0, 12), 5: (0, 12), 6: (0, 8), 13: (0, 8), 14: (4, 0), 15: (0, 12), 17: (4, 0),
         19: (0, 12)}  # fmt: skip
_INTS: dict[tuple[int, bool], Any] = {
    (1, False): ctypes.c_ubyte, (2, False): ctypes.c_ushort, (4, False): ctypes.c_uint, (8, False): ctypes.c_ulonglong,
    (1, True): ctypes.c_byte, (2, True): ctypes.c_short, (4, True): ctypes.c_int, (8, True): ctypes.c_longlong,
}  # fmt: skip
_SIGNED, _BOOL = 1, 4


class _Type(NamedTuple):
    kind: int
    name: str
    size: int  # or the type that it refers to
    bitfields: bool  # a struct whose member offsets hold a width too
    rest: bytes
    members: int


class MapTypes:
    """The types that one object file's BTF gives to its maps."""

    def __init__(self, btf: bytes):
        magic, _, _, head, type_off, type_len, str_off, str_len = struct.unpack_from("<HBBIIIII", btf)
        if magic != 0xEB9F:
            raise ValueError(f"BTF begins with 0xeb9f, not {magic:#x}")
        self._strings = btf[head + str_off : head + str_off + str_len]
        self._types = [_Type(0, "void", 0, False, b"", 0)]
        self._made: dict[int, Any] = {}
        at, end = head + type_off, head + type_off + type_len
        while at < end:
            name, info, size = struct.unpack_from("<III", btf, at)
            kind, count = info >> 24 & 31, info & 0xFFFF
            fixed, each = _MORE.get(kind, (0, 0))
            length = fixed + each * count
            rest = btf[at + 12 : at + 12 + length]
            self._types.append(_Type(kind, self._string(name), size, bool(info >> 31), rest, count))
            at += 12 + length

    def of_map(self, name: str) -> tuple[Any, Any]:
        """The ctypes of a map's key (None where it has none) and value."""
        variable = next((t for t in self._types if t.kind == _VAR and t.name == name), None)
        if variable is None:
            raise KeyError(f"BTF has no map {name!r}")
        fields = {m.name: m for m in self._members(self._types[variable.size])}

        def pointee(field: str) -> Any:
            if field not in fields:
                return None
            return self.ctype(self._types[fields[field].type].size)

        return pointee("key"), pointee("value")

    def _string(self, offset: int) -> str:
        return self._strings[offset : self._strings.index(b"\0", offset)].decode(errors="replace")

    class _Member(NamedTuple):
        name: str
        type: int
        offset: int  # in bits
        width: int  # of a bit field, else 0

    def _members(self, owner: _Type) -> list[_Member]:
        members = []
        for i in range(owner.members):
            name, number, offset = struct.unpack_from("<III", owner.rest, 12 * i)
            width = offset >> 24 if owner.bitfields else 0
            offset = offset & 0xFFFFFF if owner.bitfields else offset
            members.append(self._Member(self._string(name), number, offset, width))
        return members

    def ctype(self, number: int) -> Any:
        """The ctypes type of a BTF type; the same one for the same number."""
        if number not in self._made:
            self._made[number] = self._make(self._types[number])
        return self._made[number]

    def _make(self, t: _Type) -> Any:
        if t.kind == _INT:
            encoding = t.rest[3] & 15
            if encoding & _BOOL:
                return ctypes.c_bool
            if t.name == "char":
                return ctypes.c_char
            if t.size == 16:
                return _INTS[8, bool(encoding & _SIGNED)] * 2
            return _INTS[t.size, bool(encoding & _SIGNED)]
        if t.kind == _PTR:
            return ctypes.c_ulonglong  # an address of the machine means nothing in this process
        if t.kind == _ARRAY:
            element, _, count = struct.unpack("<III", t.rest)
            return self.ctype(element) * count
        if t.kind in (_STRUCT, _UNION):
            return self._aggregate(t)
        if t.kind in (_ENUM, _ENUM64):
            return _INTS[t.size, t.bitfields]  # the same bit says "signed" here
        if t.kind in (_TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _TYPE_TAG):
            return self.ctype(t.size)
        if t.kind == _FLOAT:
            return ctypes.c_float if t.size == 4 else ctypes.c_double
        raise ValueError(f"a value of BTF kind {t.kind} ({t.name or 'no name'}) has no ctypes type")

    def _aggregate(self, t: _Type) -> Any:
        """A struct or union: laid out by ctypes itself, or packed with explicit gaps where the C source said so."""
        members = self._members(t)
        fields: list[Any] = []
        nameless = []
        for i, m in enumerate(members):
            name = m.name or f"_unnamed_{i}"
            if not m.name:
                nameless.append(name)
            fields.append((name, self.ctype(m.type), m.width) if m.width else (name, self.ctype(m.type)))
        base: Any = ctypes.Union if t.kind == _UNION else ctypes.Structure
        extra: dict[str, Any] = {"_anonymous_": nameless} if nameless else {}
        made = type(t.name or "unnamed", (base,), {"_fields_": fields, "__repr__": _show, **extra})
        offsets_agree = all(getattr(made, f[0]).offset * 8 == m.offset for f, m in zip(fields, members, strict=True)
                            if not m.width)  # fmt: skip
        if (ctypes.sizeof(made) == t.size and offsets_agree) or t.kind == _UNION:
            return made
        padded: list[Any] = []
        at = 0
        for field, m in zip(fields, members, strict=True):
            if m.width:
                raise ValueError(f"struct {t.name}: bit fields in a packed struct have no ctypes type")
            if m.offset // 8 > at:
                padded.append((f"_gap_{at}", ctypes.c_char * (m.offset // 8 - at)))
            padded.append(field)
            at = m.offset // 8 + ctypes.sizeof(field[1])
        if t.size > at:
            padded.append((f"_gap_{at}", ctypes.c_char * (t.size - at)))
        return type(t.name, (base,), {"_pack_": 1, "_fields_": padded, "__repr__": _show, **extra})


def _show(self: Any) -> str:
    values = ", ".join(f"{f[0]}={getattr(self, f[0])!r}" for f in self._fields_ if not f[0].startswith("_gap_"))
    return f"{type(self).__name__}({values})"
