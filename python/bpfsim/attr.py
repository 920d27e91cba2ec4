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


class BpfError(OSError):
    """A call that the kernel refused. Refused with ENOENT it is a FileNotFoundError too, and so on, as every OSError.

    ``errno`` and its name ``errname``; on a simulated machine also ``check``, what refused (by the name of the kernel's
    function where it has one), ``reason``, what it wanted and got, and ``version``, the kernel's. ``as_dict()`` is all
    of it, for ``json.dumps``.
    """

    errno: int
    errname: str = ""
    check: str | None = None
    reason: str | None = None
    version: str | None = None
    program: str | None = None
    log: str | None = None

    def as_dict(self) -> dict[str, int | str | None]:
        """The refusal as plain data, the same keys for each: errno, errname, check, reason, version, and of a refused
        program its name and the verifier's log. None for what is not known or is not there."""
        names = ("errno", "errname", "check", "reason", "version", "program", "log")
        return {name: getattr(self, name) for name in names}

    def __new__(cls, *args: Any) -> BpfError:
        made = _kind(type(OSError(*args))) if cls is BpfError else cls
        return super().__new__(made, *args)

    def tell(self, check: str | None, reason: str | None) -> None:
        """Says why, in the attributes and in the message."""
        self.check, self.reason = check, reason
        self.strerror = _core.errno_text(self.errno)[1] + (f" ({check}: {reason})" if check else "")
        self.args = (self.errno, self.strerror)


_kinds: dict[Any, type[BpfError]] = {OSError: BpfError}


def _kind(kind: type[OSError]) -> type[BpfError]:
    """BpfError as the kind of OSError that Python has for an errno."""
    if kind not in _kinds:
        members = {"__module__": "bpfsim", "__reduce__": lambda self: (BpfError, self.args, self.__dict__)}
        _kinds[kind] = type("BpfError", (BpfError, kind), members)
    return _kinds[kind]


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

    def __repr__(self) -> str:
        if "retval" not in self.fields:
            return int.__repr__(self)
        return f"<retval {self.fields['retval']}, duration {self.fields['duration']} ns>"  # of a program that was run

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.fields]


def bpf(task: SysBpf, command: str | int, size: int | None = None, **fields: Any) -> Reply:
    """One bpf(2) call with named fields: ``task.bpf("MAP_CREATE", map_type="hash", key_size=4, ...)``.

    ``command`` is a name with or without ``BPF_``, or a number. Pointer fields take bytes, a writable buffer
    (ctypes, bytearray, numpy) or an address; map, program and attach types take a name or a number; ``insns`` takes
    bytes or assembler text and sets ``insn_cnt``. ``size`` is the attr size passed (bytes; default: 6.18's).

    Raises BpfError, an OSError that says what refused; TypeError and ValueError for names that do not exist.
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
            alike = [n for n, (_, _, kind) in layout.items() if (kind != "Number") != hasattr(value, "__index__")]
            near = difflib.get_close_matches(name, alike, 1) or difflib.get_close_matches(name, layout, 1)
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


def refused(task: Any, errno: int) -> BpfError:
    """The error for an errno that ``task`` just got, with the simulator's reason where there is one."""
    error = BpfError(errno, _core.errno_text(errno)[1])
    error.errname = _core.errno_text(errno)[0]
    error.version = getattr(getattr(task, "kernel", None), "version", None)
    refusal = getattr(task, "last_refusal", None)
    if refusal and refusal[0]:
        error.tell(*refusal)
    return error


def _layout(cmd: int) -> dict[str, tuple[int, int, str]]:
    """The fields of a command's part of bpf_attr: offset, width and kind."""
    return {name: (offset, width, kind) for name, offset, width, kind, _ in _core.attr_fields(cmd)}


def name_byte(error: BpfError, cmd: int) -> BpfError:
    """Says which field a byte of the attr is that the kernel refused to see set: an older kernel lacks the field."""
    byte = re.search(r"byte (\d+)\b", error.reason or "")
    if byte and "union bpf_attr" in (error.reason or ""):
        fields = [row for row in _core.attr_fields(cmd) if row[1] <= int(byte[1]) < row[1] + row[2]]
        for name, _, _, _, since in fields[:1]:
            error.tell(error.check, f"{error.reason}; byte {byte[1]} is {name}, which came with Linux {since}")
    return error


def raise_if_too_old(task: SysBpf, command: str, **fields: Any) -> None:
    """Raises what a call is refused with where the reason is this kernel's version. It must be refused anyway."""
    try:
        bpf(task, command, **fields)
    except OSError as error:
        if "came with Linux" in (getattr(error, "reason", "") or ""):
            raise


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
