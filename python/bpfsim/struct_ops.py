"""Structs of the kernel's functions, filled with programs: ``task.struct_ops`` (simulated machines only).

The kernel's own BTF says which members such a struct has; a program is loaded for one of them, and a map of the
struct takes their descriptors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import handles
from .arguments import shown
from .attr import bpf, raise_if_too_old
from .handles import Map, Prog, descriptor

_F_LINK = 1 << 13
_AN_INT = bytes.fromhex(
    "9feb010018000000000000001000000010000000050000000100000000000001040000002000000100696e7400"
)  # BTF with one type, "int": a map of a kernel struct names some


def struct_ops_member(kernel: Any, struct: str, member: str) -> dict[str, int]:
    """What a load of a program for this member says: ``task.prog_load("struct_ops", code, **struct_ops_member(...))``.

    ValueError where the machine has no such struct or member.
    """
    names = [name for name, _, _, _ in kernel.btf_members(struct)]
    if member not in names:
        raise ValueError(f"struct {struct} has no member {member!r}; it has {', '.join(names)}")
    return {"attach_btf_id": kernel.btf_id(struct), "expected_attach_type": names.index(member)}


def struct_ops(task: Any, struct: str, members: dict[str, Any] | None = None, *, link: bool = False) -> Map:
    """A map of one of the kernel's structs of functions, such as "tcp_congestion_ops", filled with ``members``.

    A member that is a function takes a Prog, or the text of a program, which is loaded for it; others take a number,
    a str or bytes. Filling it registers the struct, and the map then lives until ``del m[0]``; with ``link=True`` it is
    only filled, and ``task.link_create(m)`` registers it for as long as the link lives. Without members the map stays
    empty. Raises OSError with the check that refused, VerifierError for a refused program.
    """
    if not isinstance(members, Mapping | None):
        raise TypeError(f"members is a dict of the struct's members to programs or data, not {shown(members)}")
    kernel = task.kernel
    try:
        rows = {name: (offset, size, function) for name, offset, size, function in kernel.btf_members(struct)}
    except ValueError:
        raise_if_too_old(task, "MAP_CREATE", map_type="struct_ops")
        raise
    value_type = f"bpf_struct_ops_{struct}"
    places = {name: (offset, size) for name, offset, size, _ in kernel.btf_members(value_type)}
    start, size = places["data"]
    value_size = (start + size + start - 1) // start * start  # the struct is aligned as what stands before it is
    btf = bpf(task, "BTF_LOAD", btf=_AN_INT, btf_size=len(_AN_INT))
    try:
        made = handles.map_create(
            task,
            "struct_ops",
            value_size=value_size,
            name=struct[:15],
            map_flags=_F_LINK if link else 0,
            btf_fd=int(btf),
            btf_vmlinux_value_type_id=kernel.btf_id(value_type),
        )
    finally:
        task.close(int(btf))
    loaded: list[Prog] = []
    try:
        value = bytearray(value_size)
        for name, given in (members or {}).items():
            if name not in rows:
                raise ValueError(f"struct {struct} has no member {name!r}; it has {', '.join(rows)}")
            offset, size, function = rows[name]
            packed = _program(task, struct, name, given, loaded) if function else _data(name, given, size)
            value[start + offset : start + offset + len(packed)] = packed
        if members:
            made[0] = bytes(value)
    except BaseException:
        made.close()
        raise
    finally:
        for prog in loaded:
            prog.close()  # the map holds it
    return made


def _program(task: Any, struct: str, name: str, given: Any, loaded: list[Prog]) -> bytes:
    if not isinstance(given, Prog):
        given = handles.prog_load(task, "struct_ops", given, **struct_ops_member(task.kernel, struct, name))  # type: ignore[arg-type]
        loaded.append(given)
    return descriptor(task, given, f"the program for {name}").to_bytes(8, "little")


def _data(name: str, given: Any, size: int) -> bytes:
    raw = given.encode() if isinstance(given, str) else given
    if isinstance(raw, int):
        raw = raw.to_bytes(size, "little")
    if not isinstance(raw, bytes | bytearray):
        raise TypeError(f"{name} takes a number, a str or bytes, not {type(given).__name__}")
    if len(raw) > size:
        raise ValueError(f"{name} has {size} bytes, {len(raw)} were given")
    return bytes(raw)


_STRUCTS = ("tcp_congestion_ops", "bpf_dummy_ops")  # those that this kernel takes programs for


def inside(m: Map) -> dict[str, Any]:
    """What a view of such a map shows: the struct, how it stands, and each member that is set, in words."""
    kernel, value, info = m.task.kernel, bytes(m[0]), m.info
    for struct in _STRUCTS:
        try:
            known = kernel.btf_id(f"bpf_struct_ops_{struct}") == info["btf_vmlinux_value_type_id"]
        except ValueError:  # a version that has it not
            continue
        if known:
            break
    else:
        return {"kind": "none"}
    start = next(offset for name, offset, _, _ in kernel.btf_members(f"bpf_struct_ops_{struct}") if name == "data")
    progs = {node.label.split()[1]: node.label for node in kernel.graph().nodes if node.kind == "prog"}
    members = []
    for name, offset, size, function in kernel.btf_members(struct):
        raw = value[start + offset : start + offset + size]
        number = str(int.from_bytes(raw, "little"))
        if any(raw):
            members.append((name, function, progs.get(number, f"prog {number}") if function else raw))
    state = ("only filled", "registered", "unregistered", "ready for a link")[int.from_bytes(value[4:8], "little")]
    return {"kind": "struct_ops", "struct": struct, "state": state, "members": members}
