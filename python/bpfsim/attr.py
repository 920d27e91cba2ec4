"""bpf(2) with names: fills in a ``union bpf_attr`` from keywords and calls ``task.sys_bpf`` with its bytes.

It works on every object with ``sys_bpf(cmd, attr) -> int``: a task of a simulated machine and one of the live kernel.
"""

from __future__ import annotations

import ctypes
import difflib
import operator
import re
from collections.abc import Mapping
from typing import Any, Protocol

from . import _core, map_types
from .arguments import is_buffer, shown

ATTR_SIZE = 168  # sizeof(union bpf_attr) of 6.18


class SysBpf(Protocol):
    """What can make the system call: ``>= 0`` or ``-errno``, nothing is raised."""

    def sys_bpf(self, cmd: int, attr: Any, size: int | None = None, /) -> int: ...


class Reply(int):
    """What a command returned, with the fields of its ``bpf_attr`` after the call as attributes.

    ``task.bpf("PROG_TEST_RUN", prog_fd=p, data_in=packet).retval`` is the program's verdict.
    """

    fields: Mapping[str, int] = {}

    def __getattr__(self, name: str) -> int:
        try:
            return self.fields[name]
        except KeyError:
            raise AttributeError(f"this command has no field {name!r}") from None


def bpf(task: SysBpf, command: str | int, size: int | None = None, **fields: Any) -> Reply:
    """One bpf(2) call with named fields: ``task.bpf("MAP_CREATE", map_type="hash", key_size=4, ...)``.

    ``command`` is a name with or without ``BPF_``, or a number. Pointer fields take bytes, a writable buffer
    (ctypes, bytearray, numpy) or an address; map, program and attach types take a name or a number; ``insns`` takes
    bytes or assembler text and sets ``insn_cnt``. ``size`` is the attr size passed (bytes; default: 6.18's).

    Raises OSError with ``errno``, ``errname``, and on a simulated machine ``check`` (what refused, by the name of the
    kernel's function where it has one) and ``reason``; TypeError and ValueError for names that do not exist.
    """
    if not isinstance(command, int | str):
        raise TypeError(f"a command is a name such as 'MAP_CREATE' or a number, not {shown(command)}")
    cmd = command if isinstance(command, int) else _core.command_number(command)
    layout = _layout(cmd)
    attr = bytearray(ATTR_SIZE)
    alive: list[Any] = []  # what the pointers point at
    if "insns" in fields and "insn_cnt" not in fields and "insn_cnt" in layout:
        fields["insns"] = _instructions(fields["insns"])
        fields["insn_cnt"] = len(fields["insns"]) // 8
    for name, value in fields.items():
        if name not in layout:
            near = difflib.get_close_matches(name, layout, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"BPF_{_core.command_name(cmd)[4:]} has no field {name!r}{hint}")
        offset, width, kind = layout[name]
        own = map_types.type_number(task, value) if kind == "MapType" and isinstance(value, str) else None
        attr[offset : offset + width] = _encode(name, value if own is None else own, width, kind, alive)
    result = task.sys_bpf(cmd, attr, size, alive) if isinstance(task, _core.Task) else task.sys_bpf(cmd, attr, size)
    if result < 0:
        raise name_byte(refused(task, -result), cmd)
    reply = Reply(result)
    reply.fields = {n: int.from_bytes(attr[o : o + w], "little") for n, (o, w, k) in layout.items() if k != "Name"}
    return reply


def refused(task: Any, errno: int) -> OSError:
    """The OSError for an errno that ``task`` just got, with the simulator's reason where there is one."""
    name, phrase = _core.errno_text(errno)
    refusal = getattr(task, "last_refusal", None)
    check, reason = refusal if refusal else (None, None)
    error = OSError(errno, f"{phrase} ({check}: {reason})" if check else phrase)
    error.errname, error.check, error.reason = name, check, reason  # type: ignore[attr-defined]
    return error


def _layout(cmd: int) -> dict[str, tuple[int, int, str]]:
    """The fields of a command's part of bpf_attr: offset, width and kind."""
    return {name: (offset, width, kind) for name, offset, width, kind in _core.attr_fields(cmd)}


def name_byte(error: OSError, cmd: int) -> OSError:
    """Says which field a byte is that the kernel refused to see set: an older kernel lacks the field."""
    reason = getattr(error, "reason", None) or ""
    layout = _layout(cmd)
    byte = re.search(r"byte (\d+)\b(?! of (?:the context|iter_info))", reason)
    if byte:
        fields = [n for n, (at, width, _) in layout.items() if at <= int(byte[1]) < at + width]
        if fields:
            error.reason = f"{reason}; byte {byte[1]} is {fields[0]}"  # type: ignore[attr-defined]
            error.args = (error.errno, str(error.args[-1]).replace(reason, error.reason))  # type: ignore[attr-defined]
    return error


def _instructions(program: Any) -> bytes:
    if isinstance(program, str):
        return _core.assemble(program).code
    if isinstance(program, int) or not (is_buffer(program) or hasattr(program, "__bytes__")):
        raise TypeError(f"insns must be assembler text, bytes or a Program, is {shown(program)}")
    code = bytes(program)
    if len(code) % 8:
        raise ValueError(f"instructions have 8 bytes each, and insns has {len(code)}: the last one is not whole")
    return code


def _encode(name: str, value: Any, width: int, kind: str, alive: list[Any]) -> bytes:
    if kind == "Name":
        if not isinstance(value, str) and not is_buffer(value):
            raise TypeError(f"{name} must be a str, is {shown(value)}")
        text = value.encode() if isinstance(value, str) else bytes(value)
        if len(text) >= width:
            raise ValueError(f"{name} holds at most {width - 1} bytes, {text!r} has {len(text)}")
        return text.ljust(width, b"\0")
    if kind in ("Pointer", "Text", "Insns") and not isinstance(value, int):
        if value is not None and not isinstance(value, str) and not is_buffer(value):
            raise TypeError(f"{name} must be bytes, a buffer or an address, is {shown(value)}")
        return address_of(value, alive).to_bytes(8, "little")
    named = kind.endswith("Type")
    if isinstance(value, str) and named:
        value = _core.type_number(kind, value)
    if not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be {'a name or a number' if named else 'an int'}, is {shown(value)}")
    number = operator.index(value)
    if not -(1 << (width * 8 - 1)) <= number < 1 << (width * 8):
        raise ValueError(f"{name} is {width * 8} bits wide, {number} does not fit")
    return (number & ((1 << (width * 8)) - 1)).to_bytes(width, "little")


def address_of(value: Any, alive: list[Any]) -> int:
    """The address of a buffer's bytes; a copy where the buffer is read-only. Keeps what it points at in ``alive``."""
    if value is None:
        return 0
    if isinstance(value, str):
        value = value.encode() + b"\0"
    view = memoryview(value)
    if view.readonly:
        held: Any = (ctypes.c_char * max(len(view.tobytes()), 1)).from_buffer_copy(view.tobytes() or b"\0")
    elif view.nbytes == 0:
        held = ctypes.c_char()
    else:
        held = (ctypes.c_char * view.nbytes).from_buffer(value)
    alive.append(held)
    return ctypes.addressof(held)
