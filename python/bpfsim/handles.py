"""Handles for lessons: a map, program or link behind a file descriptor of a task.

A handle is a task and a descriptor, nothing more; everything it does is a bpf(2) call, so the same code works on a
simulated machine and on the live kernel. What only a simulator can show (who holds it, its ledger, its stages) comes
from the object behind the descriptor.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import operator
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

from . import _core, history, map_types, targets
from .arguments import is_buffer, shown
from .attr import BpfError, Reply, address_of, bpf
from .views.map_inside import MapView
from .views.map_ops import OpsTable
from .views.map_words import prefix
from .views.page import Rows

_SCALARS = {1, 2, 4, 8}
_LOG_SIZE = 1 << 20
_STATISTICS = ("processed ", "verification time ", "stack depth ")  # the last lines of a log
_BLOOM_FILTER = "BPF_MAP_TYPE_BLOOM_FILTER"
_LPM_TRIE = "BPF_MAP_TYPE_LPM_TRIE"


def close_fd(task: Any, fd: int) -> None:
    """close(2), unless there is nothing to close (-1) or the task has exited, and its descriptors with it."""
    if fd >= 0 and not getattr(task, "exited", False):
        task.close(fd)


class Handle:
    """A descriptor of ``task``. Usable as a context manager: it is closed at the end of the block."""

    _info_kind = ""

    def __init__(self, task: Any, fd: int):
        _is_task(task)
        self.task, self._fd = task, fd
        # The object, by which a number given anew is noticed, and which outlives the task; None on the live kernel.
        self._object = found = task.object_at(fd) if hasattr(task, "object_at") else None
        kind = found.kind if found else self._info_kind
        if kind != self._info_kind:
            raise ValueError(f"fd {fd} leads to a {kind}, not to a {self._info_kind}")

    @property
    def fd(self) -> int:
        """The descriptor. ValueError once it is closed, and on a simulated machine where somebody else has closed it
        and its number is another object's by now."""
        if self._fd < 0:
            raise ValueError(f"this {type(self).__name__.lower()}'s descriptor is closed")
        if other := self._another():
            what = type(self).__name__.lower()
            raise ValueError(f"descriptor {self._fd} is not this {what}'s any more: it leads to {other.label}")
        return self._fd

    def _another(self) -> Any:
        """The object that the descriptor's number leads to where that is not this one's; None also where it leads to
        nothing, which is for the kernel to refuse."""
        if self._object is None or self.task.exited:
            return None
        found = self._at(self.task)
        return None if found is None or found.serial == self._object.serial else found

    def _at(self, task: Any) -> Any:
        """What a task has under the descriptor's number; None for nothing."""
        try:
            return task.object_at(self._fd)
        except OSError:
            return None

    @property
    def info(self) -> dict[str, Any]:
        """BPF_OBJ_GET_INFO_BY_FD as a dictionary, with the field names of struct bpf_map_info and so on, as far as this
        kernel's struct goes."""
        raw = bytearray(_core.info_size(self._info_kind))
        reply = bpf(self.task, "OBJ_GET_INFO_BY_FD", bpf_fd=self.fd, info_len=len(raw), info=raw)
        return _core.parse_info(self._info_kind, bytes(raw[: reply.info_len]))

    @property
    def id(self) -> int:
        """The number under which any task with the right to may find the object (``*_GET_FD_BY_ID``)."""
        return int(self.info["id"])

    @property
    def object(self) -> Any:
        """The kernel object itself (simulated machines only): its counters, holders and ledger. It can be asked also
        after the task has exited, for as long as somebody holds it: looking is no call. ReferenceError once it is gone.
        """
        task = self._simulated("the kernel object itself")
        return self._object if self._fd >= 0 and task.exited else task.object_at(self.fd)

    def _simulated(self, what: str) -> Any:
        """The task, where it is one of a simulated machine; what the live kernel keeps to itself is missing there."""
        if not hasattr(self.task, "object_at"):
            raise AttributeError(f"{what} can be seen on simulated machines only, this is the live kernel")
        return self.task

    @property
    def refcnt(self) -> int:
        """The object's reference count now (simulated machines only)."""
        return int(self.object.refcnt)

    def holders(self) -> list[str]:
        """Who holds a reference, found by walking the holders' own fields."""
        return self.object.holders()

    def why_alive(self) -> str:
        """The path from a root to the object, in words."""
        return self.object.why_alive()

    @property
    def ledger(self) -> Rows:
        """Every +1 and -1 with its cause, as a list of dicts that shows itself as a table."""
        return Rows(self.object.ledger, ["seq", "counter", "delta", "after", "cause"])

    def pin(self, path: str) -> None:
        """BPF_OBJ_PIN: gives the object a name in BPFFS that keeps it alive."""
        if not isinstance(path, str):
            raise TypeError(f"a path is a str such as '/sys/fs/bpf/counts', not {type(path).__name__}")
        bpf(self.task, "OBJ_PIN", pathname=path, bpf_fd=self.fd)

    def on(self, task: Any) -> Self:
        """The same descriptor number of another task: of a child, or of a fork of the machine. ValueError when it is
        used, where that leads to another object there."""
        _is_task(task)
        kernels: list[Any] = [getattr(one, "kernel", None) for one in (self.task, task)]
        if kernels[0] is not kernels[1] and (None in kernels or not _core.are_forks(*kernels)):
            raise ValueError("the task belongs to another machine, and neither is a fork of the other")
        other = copy.copy(self)
        other.task = task
        if self._object is not None:
            other._object = _core.object_on(task.kernel, self._object)
        return other

    def close(self) -> None:
        """close(2) on the descriptor; the object goes if nobody else holds it. Harmless when already closed."""
        fd = -1 if self._fd < 0 or self._another() else self._fd
        self._fd = -1
        close_fd(self.task, fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} fd {self._fd}>" if self._fd >= 0 else f"<{type(self).__name__} closed>"


class Prefix(bytes):
    """A key of an LPM trie (struct bpf_lpm_trie_key) as a walk over the trie gives it: shown as 10.1.0.0/16."""

    def __repr__(self) -> str:
        return prefix(self[4:], int.from_bytes(self[:4], "little"))


class Map(Handle):
    """A map, usable like a mapping: ``m[1] = 5``, ``m[1]``, ``del m[1]``, ``1 in m``, ``for key in m``, ``len(m)``.

    Keys and values of 1, 2, 4 or 8 bytes are ints (little-endian, unsigned); others are bytes of exactly that size,
    as are the keys of a trie.
    Per-CPU maps give and take a list, one value for each possible CPU. A missing key raises KeyError, every other
    refusal OSError.
    """

    _info_kind = "map"

    def __init__(self, task: Any, fd: int):
        super().__init__(task, fd)
        info = self.info
        self.key_size, self.value_size = int(info["key_size"]), int(info["value_size"])
        self.name, self.max_entries = info["name"], int(info["max_entries"])
        self.type: str = info["type_name"] or map_types.type_name(task, int(info["type"]))
        self._cpus = int(getattr(task, "possible_cpus", 1)) if _core.is_percpu_map(int(info["type"])) else 0

    @property
    def short_type(self) -> str:
        """The type as ``map_create`` takes it: "lru_hash"."""
        return self.type.removeprefix("BPF_MAP_TYPE_").lower()

    @property
    def usercnt(self) -> int:
        """The references that come from user space, files and pins, ``map->usercnt`` (simulated machines only)."""
        return int(self.object.usercnt)

    def _pack(self, value: Any, size: int, what: str) -> bytes:
        if size == 0:
            raise ValueError(f"a {self.short_type} has no {what}s{self._asked}")
        if isinstance(value, Handle):
            raise TypeError(f"a {what} is an int or bytes: of a {type(value).__name__} give its .fd")
        if isinstance(value, str | float) or not (
            hasattr(value, "__index__") or isinstance(value, list | tuple) or is_buffer(value)
        ):
            raise TypeError(f"a {what} is an int or bytes, not {shown(value)}")
        if hasattr(value, "__index__"):
            value = operator.index(value)
            if not -(1 << (size * 8 - 1)) <= value < 1 << (size * 8):
                raise ValueError(f"{what} {value} does not fit into {size} bytes")
            return (value & ((1 << size * 8) - 1)).to_bytes(size, "little")
        raw = bytes(value)
        if len(raw) != size:
            raise ValueError(f"{what} must have {size} bytes, has {len(raw)}")
        return raw

    @staticmethod
    def _unpack(raw: bytes) -> int | bytes:
        return int.from_bytes(raw, "little") if len(raw) in _SCALARS else raw

    def _stride(self) -> int:
        return (self.value_size + 7) & ~7

    def _pack_value(self, value: Any) -> bytes:
        if not self._cpus:
            return self._pack(value, self.value_size, "value")
        values = list(value) if isinstance(value, list | tuple) else [value] * self._cpus
        if len(values) != self._cpus:
            raise ValueError(f"a per-CPU value has one entry for each of {self._cpus} CPUs, not {len(values)}")
        return b"".join(self._pack(v, self.value_size, "value").ljust(self._stride(), b"\0") for v in values)

    def _value_buffer(self) -> bytearray:
        return bytearray(self._stride() * self._cpus if self._cpus else self.value_size)

    def _unpack_value(self, raw: bytes) -> Any:
        if not self._cpus:
            return self._unpack(raw)
        return [self._unpack(raw[at : at + self.value_size]) for at in range(0, len(raw), self._stride())]

    def _lookup(self, key: Any) -> Any:
        """The value. FileNotFoundError where the key is missing: a KeyError is one that a lesson's own type raises."""
        value = self._value_buffer()
        bpf(self.task, "MAP_LOOKUP_ELEM", map_fd=self.fd, key=self._pack(key, self.key_size, "key"), value=value)
        return self._unpack_value(bytes(value))

    def __getitem__(self, key: Any) -> Any:
        try:
            return self._lookup(key)
        except FileNotFoundError:
            raise KeyError(key) from None

    def get(self, key: Any, default: Any = None) -> Any:
        """The value, or ``default`` where the key is missing."""
        try:
            return self._lookup(key)
        except FileNotFoundError:
            return default

    def __contains__(self, key: Any) -> bool:
        if self._asked:
            return self.peek(key)
        missing = object()
        return self.get(key, missing) is not missing

    def update(self, key: Any, value: Any, flags: int = 0) -> None:
        """BPF_MAP_UPDATE_ELEM with flags: BPF_ANY 0, BPF_NOEXIST 1 (create only), BPF_EXIST 2 (replace only)."""
        if not self.key_size and key is not None:
            raise TypeError(f"a {self.short_type} has no keys: push(value)")
        packed = self._pack(key, self.key_size, "key") if self.key_size else None
        bpf(
            self.task,
            "MAP_UPDATE_ELEM",
            map_fd=self.fd,
            key=packed,
            value=self._pack_value(value),
            flags=flags,
        )

    def __setitem__(self, key: Any, value: Any) -> None:
        self.update(key, value)

    def __delitem__(self, key: Any) -> None:
        try:
            bpf(self.task, "MAP_DELETE_ELEM", map_fd=self.fd, key=self._pack(key, self.key_size, "key"))
        except FileNotFoundError:
            raise KeyError(key) from None

    def __iter__(self) -> Iterator[Any]:
        key: bytes | None = None
        given: set[bytes] | None = set() if map_types.is_own(self.task, self.type) else None
        while True:
            following = bytearray(self.key_size)
            try:
                bpf(self.task, "MAP_GET_NEXT_KEY", map_fd=self.fd, key=key, next_key=following)
            except FileNotFoundError:
                return
            key = bytes(following)
            if given is not None:
                if key in given:
                    said = f"map_get_next_key of map type {self.type!r} gave {self._unpack(key)!r} a second time"
                    raise RuntimeError(f"the walk does not end: {said}, and returns None only after the last key")
                given.add(key)
            yield Prefix(key) if self.type == _LPM_TRIE else self._unpack(key)

    keys = __iter__

    def items(self) -> Iterator[tuple[Any, Any]]:
        """Every key with its value; a key that goes while we walk is left out."""
        for key in self:
            try:
                value = self._lookup(key)
            except FileNotFoundError:
                continue
            yield key, value

    def values(self) -> Iterator[Any]:
        """Every value."""
        return (value for _, value in self.items())

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def push(self, value: Any, flags: int = 0) -> None:
        """Queues and stacks: UPDATE without a key pushes. OSError E2BIG when full (BPF_EXIST 2: drop the oldest)."""
        self._has_no_keys("write it as m[key] = value")
        bpf(self.task, "MAP_UPDATE_ELEM", map_fd=self.fd, value=self._pack_value(value), flags=flags)

    def peek(self, *value: Any) -> Any:
        """Queues and stacks: LOOKUP without a key shows the next value. KeyError when empty.

        A bloom filter is asked about a value: ``bf.peek(3)``, or ``3 in bf``. False: it was never pushed. True: it may
        have been.
        """
        self._has_no_keys("read it as m[key]")
        if len(value) != bool(self._asked):
            raise TypeError("peek() wants one value" + self._asked if self._asked else "peek() takes no value here")
        if not value:
            return self._next("MAP_LOOKUP_ELEM")
        try:
            bpf(self.task, "MAP_LOOKUP_ELEM", map_fd=self.fd, value=bytearray(self._pack_value(value[0])))
        except FileNotFoundError:
            return False
        return True

    def pop(self) -> Any:
        """Queues and stacks: LOOKUP_AND_DELETE takes the next value. KeyError when empty."""
        self._has_no_keys("read it as m[key]")
        return self._next("MAP_LOOKUP_AND_DELETE_ELEM")

    @property
    def _asked(self) -> str:
        """How a map that only answers yes or no is asked; empty for every other."""
        return "; ask a bloom filter whether a value is in it: 3 in bf" if self.type == _BLOOM_FILTER else ""

    def _has_no_keys(self, instead: str) -> None:
        if self.key_size:
            raise TypeError(f"a {self.type} has keys: {instead}")

    def _next(self, command: str) -> Any:
        value = self._value_buffer()
        try:
            bpf(self.task, command, map_fd=self.fd, value=value)
        except FileNotFoundError:
            raise KeyError("empty") from None
        return self._unpack_value(bytes(value))

    def freeze(self) -> None:
        """BPF_MAP_FREEZE: user space may never write to it again."""
        bpf(self.task, "MAP_FREEZE", map_fd=self.fd)

    @property
    def ops(self) -> OpsTable:
        """The vtable: which member of struct bpf_map_ops this type fills, with which function, in which file of the
        kernel (simulated machines only)."""
        return OpsTable(self.type, self.object.ops)

    def view(self, limit: int = 256) -> MapView:
        """The inside, drawn: buckets and chains, lists, a tree, a ring with its positions, each CPU's slots. At most
        ``limit`` elements. Any map of the live kernel shows a table of its elements.

        Of a type that was written in Python the elements are asked for by bpf(2), key by key: what its methods raise
        stands in the picture, and a walk that comes back to a key ends there."""
        data = _core.map_inside(self.object, limit) if hasattr(self.task, "object_at") else {"kind": "none"}
        if data["kind"] == "none" and self.short_type == "struct_ops" and hasattr(self.task, "object_at"):
            from .struct_ops import inside  # which stands on this module

            data = inside(self)
        if data["kind"] == "none" and map_types.is_own(self.task, self.type):
            data = self._own_inside(limit)
        title = f"{self.name or 'map'} ({self.short_type})"
        return MapView(title, {"max_entries": self.max_entries} | data, self._listed, limit)

    def _own_inside(self, limit: int) -> dict[str, Any]:
        """The elements of a lesson's own type, each (key, value, what its lookup raised); of one without keys the next
        value. ``ended`` is why the walk ended before it came to the last key."""
        seen: dict[bytes, tuple[bytes, str] | None] = {}
        more, ended = False, ""
        if self.key_size:
            more, ended = self._walk(limit, seen)
        else:
            following = self._tried(None)
            ended = following[1] if following else ""
            seen[b""] = None if ended else following
        elements = [(key, *one) for key, one in seen.items() if one]
        return {"kind": "own", "keys": bool(self.key_size), "elements": elements, "more": more, "ended": ended}

    def _walk(self, limit: int, seen: dict[bytes, tuple[bytes, str] | None]) -> tuple[bool, str]:
        """Looks up key after key. Whether there are more than ``limit``, and what else ended the walk too early."""
        fd, key = self.fd, None
        while True:
            following = bytearray(self.key_size)
            try:
                bpf(self.task, "MAP_GET_NEXT_KEY", map_fd=fd, key=key, next_key=following)
            except FileNotFoundError:
                return False, ""
            except Exception as raised:  # of the type's method, whatever it is
                return False, _reason(raised)
            key = bytes(following)
            if key in seen:
                return False, f"map_get_next_key gave {self._unpack(key)!r} a second time"
            if len(seen) == limit:
                return True, ""
            seen[key] = self._tried(key)

    def _tried(self, key: bytes | None) -> tuple[bytes, str] | None:
        """The value and no words, or none and what the lookup raised; None where nothing is there."""
        fd, value = self.fd, bytearray(self.value_size)
        try:
            bpf(self.task, "MAP_LOOKUP_ELEM", map_fd=fd, key=key, value=value)
        except FileNotFoundError:
            return None
        except Exception as raised:  # of the type's method, whatever it is
            return b"", _reason(raised)
        return bytes(value), ""

    def _listed(self) -> Iterator[tuple[Any, Any]]:
        """The elements as bpf(2) tells them. OSError of a type that cannot be walked."""
        if not self.key_size:
            raise OSError(errno.EOPNOTSUPP, "the map has no keys")
        yield from self.items()


@dataclass(frozen=True)
class StepState:
    """A program before one of its instructions: the slot ``pc`` of ``insn``, r0 to r10, the 512 bytes below r10 of the
    current frame (lowest address first), and how many instructions were executed before."""

    pc: int
    insn: str
    registers: list[int]
    stack: bytes = field(repr=False)
    executed: int
    _run: Any = field(repr=False)

    @property
    def result(self) -> int | None:
        """What the run has ended with by now, r0; None while it goes on."""
        return self._run.result


class Prog(Handle):
    """A loaded program."""

    _info_kind = "prog"

    def __init__(self, task: Any, fd: int, log: str = "", trace: Any = None):
        super().__init__(task, fd)
        self.log, self.trace = log, trace
        self.expected_attach_type: str | int | None = None  # what it was loaded for, where that was said
        info = self.info
        self.name, self.type, self.tag = info["name"], info["type_name"], info["tag"]

    @property
    def aux(self) -> Any:
        """struct bpf_prog_aux as far as it is modelled: ``prog.aux.refcnt`` (simulated machines only)."""
        return self.object

    @property
    def stages(self) -> Any:
        """The program before and after each pass of its load (simulated machines). A load that was not recorded is
        done again on a fork of the machine; RuntimeError where its history does not reach back to it."""
        if self.trace is None:
            task = self._simulated("how a program changed as it was loaded")
            self.trace = history.load_again(task.kernel, self.object)
        return self.trace.stages

    def test_run(self, data: bytes = b"", repeat: int = 1, ctx: bytes | None = None, **fields: Any) -> Reply:
        """BPF_PROG_TEST_RUN: runs the program on ``data`` and returns the reply with ``.retval``, ``.duration`` (ns)
        and ``.data`` (the packet afterwards). Further fields as in bpf_attr, such as ``data_size_out``."""
        if not is_buffer(data):
            raise TypeError(f"a packet is bytes, not {shown(data)}")
        if not isinstance(repeat, int) or repeat < 0:
            raise ValueError("repeat is how often to run: 0 or 1 for once, at most 2**32 - 1")
        room = fields.get("data_out", bytearray(max(len(data) + 512, 512)))
        out = memoryview(room).cast("B") if is_buffer(room) else memoryview(b"")
        if data:
            sizes = {"data_size_in": len(data), "data_size_out": len(out)}
            fields = {"data_in": data, "data_out": room} | sizes | fields
        if ctx is not None:
            fields = {"ctx_in": ctx, "ctx_size_in": len(ctx)} | fields
        reply = bpf(self.task, "PROG_TEST_RUN", prog_fd=self.fd, repeat=repeat, **fields)
        reply.data = bytes(out[: reply.data_size_out])  # type: ignore[attr-defined]
        return reply

    def steps(self, packet: bytes) -> Iterator[StepState]:
        """Runs an XDP program on a packet one instruction at a time (simulated machines): yields how things are before
        each instruction, a StepState. Every access is checked."""
        if not is_buffer(packet):
            raise TypeError(f"a packet is bytes, not {shown(packet)}")
        run = _core.SteppedRun(self._simulated("a run step by step"), self.fd, packet)
        goes_on = True
        while goes_on:
            yield StepState(run.pc, run.insn, run.registers, run.stack, run.executed, run)
            goes_on = run.step()

    @property
    def xlated(self) -> Any:
        """The program as the kernel keeps it after verification: a listing that also is its bytes (``.code``)."""
        length = int(self.info["xlated_prog_len"])
        code, raw = bytearray(length), bytearray(_core.info_size("prog"))
        alive: list[Any] = []
        _core.set_prog_info_array(raw, "xlated", address_of(code, alive), length)
        bpf(self.task, "OBJ_GET_INFO_BY_FD", bpf_fd=self.fd, info_len=len(raw), info=raw)
        return _core.Program(bytes(code), xlated=True)


class Link(Handle):
    """A link: it holds its program attached, and is detached when the last descriptor or pin of it goes."""

    _info_kind = "link"

    def detach(self) -> None:
        """BPF_LINK_DETACH: off the hook at once; the link object stays while somebody holds it."""
        bpf(self.task, "LINK_DETACH", link_fd=self.fd)

    def update(self, prog: Prog | Map, flags: int = 0, **fields: Any) -> None:
        """BPF_LINK_UPDATE: another program, or for struct_ops another map, without a gap."""
        if not isinstance(prog, Prog | Map):
            raise TypeError(f"the program must be a Prog, is of type {type(prog).__name__}")
        field = "new_map_fd" if isinstance(prog, Map) else "new_prog_fd"
        new = {field: descriptor(self.task, prog, f"the {prog._info_kind}")}
        bpf(self.task, "LINK_UPDATE", link_fd=self.fd, flags=flags, **new, **fields)


class VerifierError(BpfError):
    """A program was refused. ``.log`` is the verifier's log, ``.program`` the name that it was given; ``.errname``,
    ``.check``, ``.reason`` and ``.version`` as for every refused call."""

    log: str = ""
    program: str = ""
    trace: Any = None

    @classmethod
    def of(cls, error: OSError, log: str, trace: Any, program: str) -> Self:
        """A refused PROG_LOAD, with what is known of the program beside the kernel's answer."""
        refused = cls(*error.args)
        refused.__dict__.update(error.__dict__)
        refused.log, refused.trace, refused.program = log, trace, program
        return refused

    def __reduce__(self) -> Any:
        """What another process gets: all but the trace, which is the machine's."""
        return type(self), self.args, self.__dict__ | {"trace": None}

    def explained(self, task: Any, cut: bool = False, prog_type: str | int = 0, insns: Any = b"") -> VerifierError:
        """Takes the reason from the log, where the verifier's last words before its statistics stand whole. A log that
        is ``cut`` has them where the kernel keeps its end, since 6.4. On an older simulated kernel the reason adds
        which later one has what was refused."""
        lines = self.log.splitlines()
        words = [line for line in lines if not line.startswith(_STATISTICS)]
        if self.errno == errno.ENOSPC and lines:  # the log is cut, and what stands last in it is not why
            self.tell(self.check or "bpf_check", self.reason or "the log does not fit into log_size bytes")
        elif cut and not any(line.startswith(_STATISTICS) for line in lines):
            self.tell(self.check or "bpf_check", self.reason or "why stands in the log, which log_size= gives room")
        elif words:
            kernel = getattr(task, "kernel", None)
            number = _core.type_number("ProgType", prog_type) if isinstance(prog_type, str) else prog_type
            text = bytes(insns) if isinstance(insns, bytes | bytearray | _core.Program) else b""
            later = kernel and _core.came_later(words[-1], kernel.version, number & 0xFFFFFFFF, text)
            self.tell(self.check or "bpf_check", f"{words[-1]} ({later})" if later else words[-1])
        else:
            self.tell(self.check, self.reason)
        return self

    def tell(self, check: str | None, reason: str | None) -> None:
        """Says why, and of which program and kernel, in the attributes and in the message."""
        super().tell(check, reason)
        whose = [f"program {self.program!r}"] * bool(self.program) + [f"Linux {self.version}"] * bool(self.version)
        if whose:
            self.strerror = f"{self.strerror} [{', '.join(whose)}]"
            self.args = (self.errno, self.strerror)


def map_create(
    task: Any,
    map_type: str | int,
    *,
    key_size: int = 4,
    value_size: int = 8,
    max_entries: int = 1,
    name: str = "",
    **fields: Any,
) -> Map:
    """BPF_MAP_CREATE. Sizes in bytes; further fields as in bpf_attr. Raises OSError with the check that refused."""
    sizes = {"key_size": key_size, "value_size": value_size, "max_entries": max_entries}
    for label, size in sizes.items():
        if isinstance(size, int) and size < 0:
            raise ValueError(f"{label} is not negative, is {size}")
    try:
        fd = bpf(task, "MAP_CREATE", map_type=map_type, map_name=name, **sizes, **fields)
    except BpfError as error:
        if error.check == "__bpf_map_get" and "inner_map_fd" not in fields:
            error.tell(error.check, f"{error.reason}; inner_map_fd=, the descriptor of a map to take after, is missing")
        raise
    return Map(task, int(fd))


def prog_load(
    task: Any,
    prog_type: str | int,
    insns: Any,
    *,
    license: str = "GPL",
    name: str = "",
    maps: dict[str, Map] | None = None,
    target: str | Prog | None = None,
    function: str = "",
    log_level: int | None = None,
    log_size: int | None = None,
    **fields: Any,
) -> Prog:
    """BPF_PROG_LOAD of assembler text, bytes or a Program. Raises VerifierError with the verifier's log.

    In text, ``map[name]`` means the Map given as ``maps={"name": m}``. On a simulated machine the load is recorded:
    ``prog.trace`` and ``prog.stages``, or ``error.trace`` of a refused program.

    ``target`` names what an LSM, TRACING or EXT program will be attached to: a hook ("file_open"), a function of the
    kernel's, a tracepoint or an iterator; or a Prog, of which ``function`` is watched or replaced. An extension needs
    BTF like its target's, and takes the target's own where none is given.

    ``log_level`` is 1 and ``log_size`` 1 MiB. Where a log does not fit, the call is refused with ENOSPC; unless either
    was given, the program is loaded again without a log then, so that the answer is about the program.
    """
    if isinstance(insns, str):
        if not isinstance(maps, dict | None):
            raise TypeError(f"maps is a dict of names to Map objects, not {shown(maps)}")
        for label, m in (maps or {}).items():
            if not isinstance(m, Map):
                raise TypeError(f"maps[{label!r}] must be a Map, is {type(m).__name__}")
        fds = {label: descriptor(task, m, f"map {label!r}") for label, m in (maps or {}).items()}
        insns = _core.assemble(insns).link(fds)
    if license is None:
        raise TypeError("license must be a str such as 'GPL', is None")
    if log_size is not None and (not isinstance(log_size, int) or log_size < 0):
        raise ValueError(f"log_size is the room for the log in bytes, not {shown(log_size)}")
    log = bytearray((_LOG_SIZE if log_size is None else log_size) if log_level != 0 else 0)
    call = {"prog_type": prog_type, "insns": insns, "license": license, "prog_name": name} | fields
    logged = {"log_level": log_level or 1, "log_buf": log, "log_size": len(log)} if log_level != 0 else {}
    try:
        return _load(task, call | logged, target, function, log)
    except VerifierError as error:
        if error.errno != errno.ENOSPC or log_level is not None or log_size is not None:
            raise
    return _load(task, call, target, function, log, cut=True)


def _load(task: Any, call: dict[str, Any], target: Any, function: str, log: bytearray, *, cut: bool = False) -> Prog:
    trace = _recording(task)
    try:
        with (
            targets.attach_target(task, call["prog_type"], target, function, call) as named,
            contextlib.nullcontext() if trace is None else trace,
        ):
            fd = bpf(task, "PROG_LOAD", **call | named)
    except OSError as error:
        if getattr(task, "exited", False):  # no program was judged
            raise
        name = call["prog_name"]
        refused = VerifierError.of(error, _text(log), trace, name if isinstance(name, str) else _text(name))
        raise refused.explained(task, cut, call["prog_type"], call["insns"]) from None
    text = f"the log does not fit into {len(log)} bytes: loaded again without one; log_size= gives it room\n"
    prog = Prog(task, int(fd), text if cut else _text(log), trace)
    prog.expected_attach_type = (call | named).get("expected_attach_type")
    return prog


def _recording(task: Any) -> Any:
    """A recording of one load; None for the live kernel. Inside a trace it is that trace's part."""
    kernel = getattr(task, "kernel", None)
    if kernel is None:
        return None
    from .trace import LoadTrace

    return LoadTrace(kernel)


def _reason(raised: Exception) -> str:
    """What an exception says, in one line."""
    said = getattr(raised, "reason", None) or f"{type(raised).__name__}: {raised}"
    return str(said).splitlines()[0]


def _is_task(task: Any) -> None:
    if not hasattr(task, "sys_bpf"):
        raise TypeError(f"descriptors are a task's: a Task is wanted, not {shown(task)}")


def descriptor(task: Any, handle: Handle, what: str) -> int:
    """The number by which ``task`` names a handle's object to the kernel; every argument that is a handle passes here.

    ValueError where the handle is of another machine, or of another task and this one has something else, or nothing,
    under its number: the kernel would take what stands there.
    """
    same_machine(task, handle.task, what)
    fd = handle.fd
    if task == handle.task or handle._object is None or task.exited:
        return fd
    there = handle._at(task)
    if there is not None and there.serial == handle._object.serial:
        return fd
    whose, who = (f"task {one.pid} ({one.comm})" for one in (handle.task, task))
    raise ValueError(
        f"{what} is descriptor {fd} of {whose}, and {who} has {there.label if there else 'nothing'} under that number. "
        "handle.on(task) is for a task that has it under the same one, as after fork; else open it there: OBJ_GET of a "
        f"pin or {handle._info_kind.upper()}_GET_FD_BY_ID, then {type(handle).__name__}(task, fd)"
    )


def same_machine(task: Any, other: Any, what: str) -> None:
    """Numbers mean nothing on another machine: raises ValueError before one hits the wrong object there."""
    if getattr(task, "kernel", None) is not getattr(other, "kernel", None):
        raise ValueError(f"{what} belongs to another machine")


def _text(log: bytearray) -> str:
    return bytes(log).split(b"\0", 1)[0].decode(errors="replace")
