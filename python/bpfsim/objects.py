"""BPF object files: what clang wrote, and what the loader made of it, step by step."""

from __future__ import annotations

import contextlib
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import _core
from .arguments import is_buffer, shown
from .attr import name_byte
from .handles import Map, Prog, VerifierError, _recording, close_fd, descriptor, same_machine
from .views.page import Rows, mono, table

_KINDS = {0: "NULL", 1: "PROGBITS", 2: "SYMTAB", 3: "STRTAB", 8: "NOBITS", 9: "REL"}


@dataclass(frozen=True)
class LoadStep:
    """One thing that the loader did: what kind, in words, and the instruction before and after where one changed."""

    kind: str
    text: str
    program: str = ""
    insn: int = -1
    before: str = ""
    after: str = ""


class LoadSteps(list[LoadStep]):
    """The loader's steps in order."""

    def __repr__(self) -> str:
        lines = []
        for number, step in enumerate(self, 1):
            lines.append(f"{number:3}. {step.kind:10} {step.text}")
            if step.before != step.after:
                lines += [f"       - {step.before}", f"       + {step.after}"]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = []
        for number, step in enumerate(self, 1):
            text = html.escape(step.text)
            if step.before != step.after:
                text += (
                    f'<div style="background:rgba(214,48,49,.16)">{mono("- " + step.before)}</div>'
                    f'<div style="background:rgba(0,148,68,.16)">{mono("+ " + step.after)}</div>'
                )
            rows.append([str(number), html.escape(step.kind), text])
        return f'<div class="bpfsim">{table(["", "step", "what happened"], rows)}</div>'


class LoadedObject:
    """What one load of an ObjectFile made in a task: ``maps`` and ``progs`` are handles by name.

    ``close()`` closes them, as does the end of ``with ob.load(task) as loaded:``. A handle that was taken out of
    ``maps`` or ``progs`` before stays open.
    """

    def __init__(self, task: Any, made: _core.ObjectFile):
        self.task, self._made, self._btf_fd = task, made, made.btf_fd
        self.maps = {row["name"]: Map(task, row["fd"]) for row in made.map_rows() if row["fd"] >= 0}
        programs = [row for row in made.program_rows() if row["fd"] >= 0]
        self.progs = {row["name"]: Prog(task, row["fd"], row["log"]) for row in programs}
        for row in programs:
            self.progs[row["name"]].expected_attach_type = row["expected_attach_type"] or None

    @property
    def steps(self) -> LoadSteps:
        """What the loader did, in order."""
        return _steps(self._made)

    def close(self) -> None:
        """Closes every descriptor that the load left: programs, maps, types. Harmless when already closed."""
        for handle in (*self.progs.values(), *self.maps.values()):
            handle.close()
        fd, self._btf_fd = self._btf_fd, -1
        close_fd(self.task, fd)

    def __enter__(self) -> LoadedObject:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __repr__(self) -> str:
        def listed(handles: dict[str, Any]) -> str:
            return ", ".join(f"{name} {handle}" for name, handle in handles.items()) or "none"

        return f"<LoadedObject {self._made.name}: programs {listed(self.progs)}; maps {listed(self.maps)}>"


class ObjectFile:
    """A BPF object file. Opened it can be looked into; ``load(task)`` creates its maps and loads its programs.

    It may be loaded any number of times, into any machine. ``maps`` and ``progs`` are those of the latest load.
    """

    def __init__(self, code: bytes, name: str = "object"):
        self.code, self.name = bytes(code), name
        self._file = _core.open_object_file(self.code, name)
        self._made = self._file  # by the latest load, also a refused one
        self._loaded: LoadedObject | None = None
        self._targets: dict[str, Prog] = {}

    @property
    def maps(self) -> dict[str, Map]:
        """The maps of the latest load, by name."""
        return self._loaded.maps if self._loaded else {}

    @property
    def progs(self) -> dict[str, Prog]:
        """The programs of the latest load, by name."""
        return self._loaded.progs if self._loaded else {}

    @property
    def license(self) -> str:
        """The text of the ``license`` section."""
        return self._file.license

    @property
    def sections(self) -> Rows:
        """The ELF sections: name, type, size in bytes. Those of the C debugger (DWARF) are left out."""
        rows = [row | {"type": _KINDS.get(row["type"], hex(row["type"]))} for row in self._file.section_rows()]
        shown = [row for row in rows if row["name"] and not row["name"].startswith((".debug", ".rel.debug"))]
        return Rows(shown, ["index", "name", "type", "size"])

    @property
    def symbols(self) -> Rows:
        """The symbols: functions, maps, variables."""
        rows = [row for row in self._file.symbol_rows() if row["name"] and row["type"] in (0, 1, 2)]
        return Rows(rows, ["name", "section", "value", "size"])

    @property
    def map_definitions(self) -> Rows:
        """The maps that the file asks for."""
        return Rows(self._file.map_rows(), ["name", "type", "key_size", "value_size", "max_entries"])

    @property
    def programs(self) -> Rows:
        """The programs in the file, with their section and type."""
        rows = [row | {"insns": len(row["code_in_file"]) // 8} for row in self._file.program_rows()]
        return Rows(rows, ["name", "section", "type", "insns"])

    def program(self, name: str) -> Any:
        """The instructions of one program as the file has them."""
        for row in self._file.program_rows():
            if row["name"] == name:
                return _core.Program(row["code_in_file"])
        raise KeyError(f"{self.name} has no program {name!r}; it has {[p['name'] for p in self.programs]}")

    @property
    def steps(self) -> LoadSteps:
        """What the loader did in the latest load, in order; each change of an instruction with before and after.

        What it merely read stands in ``sections`` and ``symbols``.
        """
        return _steps(self._made)

    def set_attach_target(self, program: str, target: Prog, function: str) -> None:
        """Says what ``SEC("freplace")`` replaces, or ``SEC("fentry")`` watches: a function of another program.

        To be called before ``load``.
        """
        self._file.set_attach_target(program, target.fd, function)
        self._targets[program] = target

    def load(self, task: Any, log_level: int = 1, reuse_maps: Sequence[tuple[str, int]] = ()) -> LoadedObject:
        """Does what libbpf does: BTF_LOAD, MAP_CREATE, patch descriptors into the instructions, PROG_LOAD.

        ``task`` is one of a simulated machine or of the live kernel. Raises VerifierError with ``.log`` and, of a
        simulated machine, ``.trace`` where a program is refused, OSError for any other refused call; ``.check`` and
        ``.reason`` are the kernel's, ``.step`` is what the loader was at. What was created before is closed again.
        ``reuse_maps`` names maps that are there already and their descriptors; the load works on copies of them. It
        stops at the first program that is refused, as libbpf does; ``load_each`` tries all.
        """
        made = self._made = self._file.copy()
        self._load(made, task, log_level, reuse_maps)
        self._loaded = LoadedObject(task, made)
        return self._loaded

    def load_each(
        self, task: Any, log_level: int = 1, reuse_maps: Sequence[tuple[str, int]] = ()
    ) -> dict[str, OSError | None]:
        """Whether the kernel takes each program: its name, and None or the error that ``load`` would have raised.

        Each is loaded by itself, with all maps of the object, and closed again: nothing stays. For a matrix of kernels:
        ``{name: error and error.as_dict() for name, error in o.load_each(task).items()}``.
        """
        verdicts: dict[str, OSError | None] = {}
        for row in self._file.program_rows():
            if row["is_subprog"]:
                continue
            made = self._file.copy()
            made.only_program(row["name"], row["type"])
            verdicts[row["name"]] = None
            try:
                self._load(made, task, log_level, reuse_maps)
                LoadedObject(task, made).close()
            except OSError as error:
                # A prog array may want another program, which is not loaded: no matter of this one.
                done = any(s["command"] == "BPF_PROG_LOAD" and s["result"] >= 0 for s in made.step_rows())
                verdicts[row["name"]] = None if done and made.refused is None else error
        return verdicts

    def _load(self, made: _core.ObjectFile, task: Any, log_level: int, reuse_maps: Sequence[tuple[str, int]]) -> None:
        """Loads a copy of the file."""
        if not isinstance(task, _core.Task | _core.LiveTask):
            raise TypeError(f"load(): task must be a Task, as kernel.spawn() makes one, is {shown(task)}")
        for target in self._targets.values():
            descriptor(task, target, "the attach target")
        trace = _recording(task)
        try:
            with contextlib.nullcontext() if trace is None else trace:
                if isinstance(task, _core.LiveTask):
                    _core.load_live(made, log_level, reuse_maps)
                else:
                    _core.load(made, task, log_level, reuse_maps)
        except OSError as error:
            raise _refused(error, task, made, trace) from None

    def close(self) -> None:
        """Closes every descriptor that the latest load left: programs, maps, types."""
        if self._loaded:
            self._loaded.close()

    def __repr__(self) -> str:
        programs = ", ".join(f"{p['name']} ({p['section']})" for p in self.programs)
        maps = ", ".join(m["name"] for m in self.map_definitions)
        return f"<ObjectFile {self.name}: programs {programs or 'none'}; maps {maps or 'none'}>"


def _refused(error: Any, task: Any, made: _core.ObjectFile, trace: Any) -> OSError:
    """The kernel's refusal of a bpf(2) call, and what the loader wanted with that call. The loader's own stays."""
    error.step = None
    if made.refused is None:
        return error
    command, error.step = made.refused
    error.check, error.reason = error.check or None, error.reason or None  # the live kernel tells neither
    error.version = getattr(getattr(task, "kernel", None), "version", None)
    if command == "BPF_PROG_LOAD" and not getattr(task, "exited", False):
        program = error.step.partition("'")[2].rpartition("'")[0]
        error = VerifierError.of(error, made.log, trace, program).explained(task)
    error = name_byte(error, _core.command_number(command))
    error.strerror = f"{error.step}: {error.args[-1]}"
    error.args = (error.errno, error.strerror)
    return error


def _steps(made: _core.ObjectFile) -> LoadSteps:
    return LoadSteps(
        LoadStep(
            row["kind"],
            row["text"],
            row["program"],
            row["insn"],
            _line(row["before"]),
            _line(row["after"]),
        )
        for row in made.step_rows()
        if row["kind"] not in ("section", "symbol")
    )


def _line(code: bytes) -> str:
    return " ".join(_core.Program(code).listing) if code else ""


def open_object(source: bytes | str | Path, name: str | None = None) -> ObjectFile:
    """A BPF object file from its bytes or its path. Raises ValueError that says what is wrong with the file."""
    if isinstance(source, str | Path):
        path = Path(source)
        return ObjectFile(path.read_bytes(), name or path.name.split(".")[0])
    if not is_buffer(source):
        raise TypeError(f"an object file is a path or its bytes, not {shown(source)}")
    return ObjectFile(bytes(source), name or "object")


class NetlinkMessage(bytes):
    """A message of rtnetlink: its bytes, shown as their headers and attributes, nested as they are."""

    @property
    def parts(self) -> Rows:
        """Offset, size, name and value of each piece."""
        rows = [row | {"name": "  " * row["depth"] + row["name"]} for row in _core.netlink_parts(self)]
        return Rows(rows, ["offset", "size", "name", "value"])

    def __repr__(self) -> str:
        return repr(self.parts)

    def _repr_html_(self) -> str:
        return self.parts._repr_html_()


def rtnl_setlink_xdp(
    task: _core.Task,
    device: str | _core.NetDevice,
    prog: Prog | int,
    flags: int = 0,
    expected: Prog | int | None = None,
) -> NetlinkMessage:
    """Attaches a program (a Prog or a descriptor; -1 detaches) to a device by an RTM_SETLINK message, as
    ``ip link set dev eth0 xdp`` does. Returns the message. ``flags`` are XDP_FLAGS_*; with XDP_FLAGS_REPLACE (16)
    ``expected`` is what must be there. Raises OSError with the check that refused.
    """

    def number(given: Any) -> Any:
        return descriptor(task, given, "the program") if isinstance(given, Prog) else given

    if not isinstance(device, str | _core.NetDevice):
        raise TypeError(f"device must be a NetDevice or its name, is {shown(device)}")
    if not isinstance(device, str):
        same_machine(task, device, "the device")
    name = device if isinstance(device, str) else device.name
    return NetlinkMessage(_core.rtnl_setlink_xdp(task, name, number(prog), flags, number(expected)))


def load(task: Any, object_file: ObjectFile, log_level: int = 1) -> LoadedObject:
    """Loads a BPF object file: creates its maps and loads its programs. As ``object_file.load(task)``."""
    if not isinstance(object_file, ObjectFile):
        raise TypeError(f"an ObjectFile is wanted (bpfsim.open_object makes one), not {shown(object_file)}")
    return object_file.load(task, log_level)


def gates(kernel: Any) -> Rows:
    """Every version gate: since when, whether this machine has it, and how that is known.

    One that is not ``modelled`` is there for reading: also an older machine does what holds after it.
    """
    return Rows(_core.gate_rows(kernel), ["name", "since", "here", "modelled", "evidence", "before", "after"])


def net_device(kernel: Any, name: str) -> _core.NetDevice:
    """A network device of the machine by its name; ``lo`` and ``eth0`` are there from boot. KeyError otherwise."""
    return _core.net_device(kernel, name)


def add_net_device(kernel: Any, name: str, native_xdp: bool = True) -> _core.NetDevice:
    """A new network device; without ``native_xdp`` only generic XDP. ValueError if the name is taken."""
    return _core.add_net_device(kernel, name, native_xdp)


def add_netkit(kernel: Any, primary: str, peer: str) -> tuple[_core.NetDevice, _core.NetDevice]:
    """A pair of netkit devices, for a machine with CONFIG_NETKIT. OSError EEXIST if a name is taken."""
    return _core.add_netkit(kernel, primary, peer)


def remove_net_device(kernel: Any, name: str) -> None:
    """The device goes: programs come off it, links lose it, maps forget it."""
    _core.remove_net_device(kernel, name)
