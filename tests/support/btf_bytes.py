"""BTF written type by type, each in a line, so that one word can be wrong.

A type refers to another by its number, the first is 1. A text among the words of a type stands for its offset in the
string section. Every function takes ``vlen``, ``kflag`` and ``name`` to bend what it would write. `blob` makes the
bytes of a list of types, `Types` collects them and gives each its number.
"""

import struct
from typing import NamedTuple

KINDS = "void int ptr array struct union enum fwd typedef volatile const restrict func func_proto var datasec float"
KINDS = {name: number for number, name in enumerate(f"{KINDS} decl_tag type_tag enum64".split())}


class Type(NamedTuple):
    info: int
    name: str | int
    size: int  # or the type that this one refers to
    words: tuple = ()


def of(kind, name="", size=0, *words, vlen=0, kflag=0):
    return Type(vlen | KINDS[kind] << 24 | kflag << 31, name, size, words)


def integer(bits=32, size=4, at=0, encoding=0, name="int", **bent):
    return of("int", name, size, encoding << 24 | at << 16 | bits, **bent)


def to(kind, target, name="", **bent):
    """PTR, CONST, TYPEDEF, TYPE_TAG, ..."""
    return of(kind, name, target, **bent)


def array(element, index=1, count=1, name="", size=0, **bent):
    return of("array", name, size, element, index, count, **bent)


def parts(kind, size, members, name="", **bent):
    return of(kind, name, size, *(word for member in members for word in member), **{"vlen": len(members)} | bent)


def record(size, *members, **bent):
    """A struct of members (name, type, offset in bits)."""
    return parts("struct", size, members, **bent)


def enum(*enumerators, size=4, kind="enum", **bent):
    """Enumerators are (name, value), those of an enum64 (name, low, high)."""
    return parts(kind, size, enumerators, **bent)


def proto(returns, *parameters, **bent):
    """Parameters are (name, type)."""
    return parts("func_proto", returns, parameters, **bent)


def section(size, *variables, name=".data", **bent):
    """Variables are (type, offset, size)."""
    return parts("datasec", size, variables, name, **bent)


def blob(*types, missing=0, **header):
    """The bytes for BTF_LOAD, without the ``missing`` last ones of the types; ``header`` bends its fields."""
    strings = b"\0"

    def number(word):
        nonlocal strings
        if not isinstance(word, str):
            return word & 0xFFFFFFFF
        if not word:
            return 0
        strings += word.encode() + b"\0"
        return len(strings) - len(word) - 1

    words = [number(word) for t in types for word in (t.name, t.info, t.size, *t.words)]
    body = struct.pack(f"<{len(words)}I", *words)
    return with_header(body[: len(body) - missing], strings, **header)


def with_header(types=b"", strings=b"\0", **header):
    """The two sections behind a header, whose fields ``header`` bends."""
    fields = {"magic": 0xEB9F, "version": 1, "flags": 0, "hdr_len": 24, "type_off": 0, "type_len": len(types)}
    fields |= {"str_off": len(types), "str_len": len(strings)}
    return struct.pack("<HBBIIIII", *(fields | header).values()) + types + strings


class Types:
    """A list of types that grows; each method gives the new type's number. The first is an int."""

    def __init__(self):
        self._types = []
        self.int = self.add(integer(encoding=1))

    def add(self, new):
        self._types.append(new)
        return len(self._types)

    def integer(self, size, bits=None):
        return self.add(integer(bits or size * 8, size, name=f"int{size * 8}"))

    def array(self, element, count):
        return self.add(array(element, self.int, count))

    def struct(self, name, size, *members, kind="struct"):
        """Members are (name, type, offset in bytes)."""
        return self.add(parts(kind, size, [(one, target, at * 8) for one, target, at in members], name))

    def pointer(self, target, *tags):
        for tag in tags:
            target = self.add(to("type_tag", target, tag))
        return self.add(to("ptr", target))

    @property
    def blob(self):
        return blob(*self._types)
