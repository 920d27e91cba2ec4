"""Programs on hooks, by links and without: ``task.link_create``, ``prog_attach``, ``prog_detach``, ``prog_query``.

A hook is named by what one has of it: a network device or its name, a path (of a cgroup, of a network namespace), a
descriptor, a map. Which field of ``bpf_attr`` that becomes depends on the attach type.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator, Sequence
from typing import Any

from . import _core, targets
from .attr import bpf
from .handles import Link, Map, Prog, descriptor, same_machine

_EFFECTIVE = 1  # BPF_F_QUERY_EFFECTIVE
_ON_DEVICES = ("BPF_XDP", "BPF_TCX_INGRESS", "BPF_TCX_EGRESS", "BPF_NETKIT_PRIMARY", "BPF_NETKIT_PEER")
# Where programs of a type go unless something else is said; the other types have several places.
_USUAL: dict[str, str | int] = {
    "XDP": "BPF_XDP",
    "SCHED_CLS": "BPF_TCX_INGRESS",
    "KPROBE": "BPF_PERF_EVENT",
    "TRACEPOINT": "BPF_PERF_EVENT",
    "PERF_EVENT": "BPF_PERF_EVENT",
    "SOCK_OPS": "BPF_CGROUP_SOCK_OPS",
    "CGROUP_DEVICE": "BPF_CGROUP_DEVICE",
    "CGROUP_SYSCTL": "BPF_CGROUP_SYSCTL",
    "FLOW_DISSECTOR": "BPF_FLOW_DISSECTOR",
    "SK_LOOKUP": "BPF_SK_LOOKUP",
    "SK_MSG": "BPF_SK_MSG_VERDICT",
    "LSM": "BPF_LSM_MAC",
    "EXT": 0,  # as its load says, or its target
}


def link_create(
    task: Any,
    prog: Prog | Map,
    target: Any = None,
    attach_type: str | int | None = None,
    *,
    function: str = "",
    functions: Sequence[str] = (),
    offsets: Sequence[int] = (),
    cookies: Sequence[int] = (),
    **fields: Any,
) -> Link:
    """BPF_LINK_CREATE: ties a program to a hook for as long as somebody holds the link.

    ``target`` is a network device, its name or its ifindex; a path such as "/sys/fs/cgroup/web" or
    "/proc/self/ns/net", which is opened for the call; a descriptor (of a cgroup, a namespace, a perf event); a Map for
    an iterator over its elements, or of sockets; nothing where the program itself says what it traces.
    ``attach_type`` is a name or a number; without it the one that the program was loaded for, or the only one that its
    type has.

    An extension may go to another program than the one of its load: ``target`` is that Prog, ``function`` what it
    replaces there.

    A program for many places at once gets the names of kernel ``functions``, or ``offsets`` in the file whose path
    ``target`` is, and may have a cookie for each. A netfilter program says ``netfilter_pf=2, netfilter_hooknum=0,
    netfilter_priority=10``.

    In place of a program a map of struct_ops (``task.struct_ops(..., link=True)``) is registered for as long.

    Raises OSError with the check that refused, such as EBUSY where a device runs a program already.
    """
    if isinstance(prog, Map):
        fd = descriptor(task, prog, "the map")
        if target is not None:
            raise TypeError(f"a program is linked to a hook, and {prog.name or 'this'} is a map ({prog.short_type})")
        kind = _number("BPF_STRUCT_OPS" if attach_type is None else attach_type)
        return Link(task, int(bpf(task, "LINK_CREATE", map_fd=fd, attach_type=kind, **fields)))
    _is_prog(prog)
    fd = descriptor(task, prog, "the program")
    kind = _attach_type(prog, attach_type)
    if functions or offsets:
        target, fields = None, _many(target, functions, offsets, cookies) | fields
    if isinstance(target, Prog):
        at = descriptor(task, target, "the target")
        with targets.attach_target(task, prog.type, target, function, fields) as named:
            fields = {"target_fd": at, "target_btf_id": named["attach_btf_id"]} | fields
        target = None
    if isinstance(target, Map) and prog.type == "BPF_PROG_TYPE_TRACING":
        info = descriptor(task, target, "the map").to_bytes(4, "little").ljust(16, b"\0")  # union bpf_iter_link_info
        target, fields = None, {"iter_info": info, "iter_info_len": len(info)} | fields
    if target is None and kind in _device_types() and "target_ifindex" not in fields:
        raise ValueError(
            "this program goes onto a network device: target must be one, its name or its ifindex, is None"
        )
    with _named(task, target, kind) as hook:
        link = bpf(task, "LINK_CREATE", prog_fd=fd, attach_type=kind, **(hook | fields))
    return Link(task, int(link))


def _many(path: Any, functions: Sequence[str], offsets: Sequence[int], cookies: Sequence[int]) -> dict[str, Any]:
    """The fields of a kprobe_multi or a uprobe_multi link."""
    count = len(functions or offsets)
    if cookies and len(cookies) != count:
        raise ValueError(f"{len(cookies)} cookies for {count} places")
    numbers = ctypes.c_uint64 * count
    if functions:
        names = (ctypes.c_char_p * count)(*(name.encode() for name in functions))
        fields: dict[str, Any] = {"kprobe_multi_syms": names, "kprobe_multi_cnt": count}
    else:
        if not isinstance(path, str):
            raise TypeError(f"offsets are in a file: target must be its path, is of type {type(path).__name__}")
        fields = {"uprobe_multi_path": path.encode() + b"\0", "uprobe_multi_offsets": numbers(*offsets)}
        fields["uprobe_multi_cnt"] = count
    if cookies:
        fields["kprobe_multi_cookies" if functions else "uprobe_multi_cookies"] = numbers(*cookies)
    return fields


def prog_attach(
    task: Any, prog: Prog, target: Any = None, attach_type: str | int | None = None, flags: int = 0, **fields: Any
) -> None:
    """BPF_PROG_ATTACH: puts a program on a hook without a link; it stays there until it is taken off.

    ``target`` and ``attach_type`` as for ``link_create``; a Map (of sockets) takes the program that serves it.
    ``flags`` are BPF_F_*, such as BPF_F_ALLOW_OVERRIDE 1 and BPF_F_ALLOW_MULTI 2. Raises OSError.
    """
    _is_prog(prog)
    fd = descriptor(task, prog, "the program")
    kind = _attach_type(prog, attach_type)
    with _named(task, target, kind) as hook:
        bpf(task, "PROG_ATTACH", attach_bpf_fd=fd, attach_type=kind, attach_flags=flags, **(hook | fields))


def prog_detach(
    task: Any, prog: Prog | None = None, target: Any = None, attach_type: str | int | None = None, **fields: Any
) -> None:
    """BPF_PROG_DETACH: takes a program off a hook where ``prog_attach`` put it. OSError ENOENT where it is not.

    Where a hook has one program only, ``prog`` may be None; then ``attach_type`` must be given.
    """
    if prog is not None:
        _is_prog(prog)
        fields = {"attach_bpf_fd": descriptor(task, prog, "the program")} | fields
    kind = _attach_type(prog, attach_type)
    with _named(task, target, kind) as hook:
        bpf(task, "PROG_DETACH", attach_type=kind, **(hook | fields))


def prog_query(task: Any, target: Any, attach_type: str | int, flags: int = 0) -> list[int]:
    """BPF_PROG_QUERY: the ids of the programs on a hook, in the order in which they run. Raises OSError.

    ``flags``: BPF_F_QUERY_EFFECTIVE 1 asks a cgroup for those that it has from its parents too.
    """
    kind = _number(attach_type)
    room = 64
    with _named(task, target, kind) as hook:
        while True:
            ids = (ctypes.c_uint32 * room)()
            words: dict[str, Any] = {"prog_ids": ids, "prog_cnt": room} | hook
            if kind == _number("lsm_cgroup") and not flags & _EFFECTIVE:  # of these the flags must be asked for too
                words["prog_attach_flags"] = (ctypes.c_uint32 * room)()
            try:
                reply = bpf(task, "PROG_QUERY", attach_type=kind, query_flags=flags, **words)
            except OSError as error:
                if getattr(error, "errname", "") != "ENOSPC" or room >= 1 << 16:
                    raise
                room *= 4
                continue
            return list(ids[: reply.prog_cnt])


def _number(attach_type: str | int) -> int:
    if isinstance(attach_type, str):
        return _core.type_number("AttachType", attach_type)
    if isinstance(attach_type, int):
        return attach_type
    raise TypeError(f"attach_type is a name such as 'xdp' or a number, not {type(attach_type).__name__}")


def _attach_type(prog: Prog | None, given: str | int | None) -> int:
    if given is None and prog is not None:
        kind = prog.type.removeprefix("BPF_PROG_TYPE_")
        given = prog.expected_attach_type or _USUAL.get(kind)
        if given is None:
            raise ValueError(f"programs of type {kind} attach in several ways: say attach_type=")
    if given is None:
        raise ValueError("without a program, say attach_type=")
    return _number(given)


def _device_types() -> set[int]:
    return {_core.type_number("AttachType", name) for name in _ON_DEVICES}


def _is_prog(prog: Any) -> None:
    if not isinstance(prog, Prog):
        raise TypeError(f"the program must be a Prog, is of type {type(prog).__name__}")


@contextlib.contextmanager
def _named(task: Any, target: Any, attach_type: int) -> Iterator[dict[str, int]]:
    """The field of ``bpf_attr`` that names a hook. What had to be opened for it is closed afterwards."""
    if target is None:
        yield {}
    elif isinstance(target, str) and "/" in target:
        if not hasattr(task, "open"):
            raise TypeError("on the live kernel the hook is a descriptor, not a path")
        fd = task.open(target)
        try:
            yield {"target_fd": fd}
        finally:
            task.close(fd)
    elif isinstance(target, str):
        yield {"target_ifindex": task.kernel.net_device(target).ifindex}
    elif isinstance(target, Map):
        yield {"target_fd": descriptor(task, target, "the map")}
    elif isinstance(target, int):
        yield {"target_ifindex" if attach_type in _device_types() else "target_fd": target}
    elif hasattr(target, "ifindex"):
        same_machine(task, target, "the device")
        yield {"target_ifindex": target.ifindex}
    else:
        wanted = "a network device, its name, a path, a descriptor or a Map"
        raise TypeError(f"a hook is {wanted}, not of type {type(target).__name__}")
