"""What a program will be attached to inside the kernel, by name: ``task.prog_load(..., target=...)``.

The target is a function of the kernel's, a hook of its security modules, a tracepoint or an iterator; or a function of
another program. Both are known by their number in BTF, which is looked up here.
"""

from __future__ import annotations

import contextlib
import ctypes
import struct
from collections.abc import Iterator
from typing import Any

from . import _core, handles
from .attr import bpf, raise_if_too_old

_FUNC = 12
_NO_PROGRAM = b"\xff" * 8  # one instruction that no kernel has
_TRAILING = {1: 4, 3: 12, 14: 4, 17: 4}  # bytes behind a type of this kind: INT, ARRAY, VAR, DECL_TAG
_PER_ENTRY = {4: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12}  # STRUCT, UNION, ENUM, FUNC_PROTO, DATASEC, ENUM64


@contextlib.contextmanager
def attach_target(
    task: Any, prog_type: str | int, target: Any, function: str, fields: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """The fields of ``bpf_attr`` that name ``target``, for as long as the load lasts."""
    kind = _core.type_number("ProgType", prog_type) if isinstance(prog_type, str) else prog_type
    if target is None:
        yield {}
    elif isinstance(target, str):
        yield _in_kernel(task, kind, target, fields)
    elif isinstance(target, handles.Prog):
        fd = handles.descriptor(task, target, "the target")
        btf_id = target.info["btf_id"]
        if not btf_id:
            raise ValueError(f"program {target.id} has no BTF: nobody knows its functions")
        btf = bpf(task, "BTF_GET_FD_BY_ID", btf_id=btf_id)
        try:
            # An extension must bring BTF that says the same of its function as the target's: that of the target does.
            lends = kind == _core.type_number("ProgType", "ext") and "prog_btf_fd" not in fields
            yield {"attach_prog_fd": fd} | _in_program(task, target, int(btf), function, lends)
        finally:
            handles.close_fd(task, int(btf))
    else:
        raise TypeError(f"a target is a name or a Prog, not of type {type(target).__name__}")


def _in_kernel(task: Any, kind: int, name: str, fields: dict[str, Any]) -> dict[str, Any]:
    if not hasattr(task, "kernel"):
        raise TypeError("on the live kernel say attach_btf_id=")
    if kind == _core.type_number("ProgType", "lsm"):
        fields = {"expected_attach_type": "lsm_mac"} | fields
        prefix = "bpf_lsm_"
    else:
        at = fields.get("expected_attach_type", 0)
        at = _core.type_number("AttachType", at) if isinstance(at, str) else at
        prefixes = {"trace_raw_tp": "btf_trace_", "trace_iter": "bpf_iter_"}
        prefix = next((text for word, text in prefixes.items() if at == _core.type_number("AttachType", word)), "")
    fields = {key: fields[key] for key in ("expected_attach_type",) if key in fields}
    try:
        return {"attach_btf_id": task.kernel.btf_id(name if name.startswith(prefix) else prefix + name)} | fields
    except ValueError:
        raise_if_too_old(task, "PROG_LOAD", prog_type=kind, insns=_NO_PROGRAM, license="", **fields)
        raise


def _in_program(task: Any, target: handles.Prog, btf: int, function: str, lends: bool) -> dict[str, Any]:
    functions = _functions(task, btf)
    if function not in functions:
        known = ", ".join(functions)
        raise ValueError(f"which function of program {target.id}? function= is {function!r}; its BTF knows {known}")
    number = functions[function]
    found: dict[str, Any] = {"attach_btf_id": number}
    if lends:
        found |= {"prog_btf_fd": btf, "func_info": struct.pack("<II", 0, number)}
        found |= {"func_info_rec_size": 8, "func_info_cnt": 1}
    return found


def _functions(task: Any, btf: int) -> dict[str, int]:
    """The functions that BTF describes, and their numbers."""
    room = bytearray(32)  # struct bpf_btf_info
    bpf(task, "OBJ_GET_INFO_BY_FD", bpf_fd=btf, info_len=len(room), info=room)
    blob = ctypes.create_string_buffer(struct.unpack_from("<I", room, 8)[0])
    room = bytearray(struct.pack("<QI20x", ctypes.addressof(blob), len(blob)))
    bpf(task, "OBJ_GET_INFO_BY_FD", bpf_fd=btf, info_len=len(room), info=room)
    header, type_off, type_len, str_off = struct.unpack_from("<IIII", blob, 4)
    names, at, number, functions = header + str_off, header + type_off, 0, {}
    while at < header + type_off + type_len:
        name, info, _ = struct.unpack_from("<III", blob, at)
        number, kind = number + 1, info >> 24 & 31
        at += 12 + _TRAILING.get(kind, 0) + _PER_ENTRY.get(kind, 0) * (info & 0xFFFF)
        if kind == _FUNC:
            functions[blob.raw[names + name :].split(b"\0", 1)[0].decode()] = number
    return functions
