"""BPF object files: what clang wrote, and what the loader made of it, step by step."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import _core
from .arguments import is_buffer, shown
from .handles import Map, Prog, VerifierError, close_fd
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


class ObjectFile:
    """A BPF object file. Opened it can be looked into; ``load(task)`` creates its maps and loads its programs.

    After the load ``maps`` and ``progs`` are handles by name.
    """

    def __init__(self, code: bytes, name: str = "object"):
        self.code, self.name = bytes(code), name
        self._file = _core.open_object_file(self.code, name)
        self.maps: dict[str, Map] = {}
        self.progs: dict[str, Prog] = {}
        self._task: Any = None
        self._closed = False

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
        """What the loader did, in order; each change of an instruction with before and after.

        What it merely read stands in ``sections`` and ``symbols``.
        """
        return LoadSteps(
            LoadStep(
                row["kind"],
                row["text"],
                row["program"],
                row["insn"],
                _line(row["before"]),
                _line(row["after"]),
            )
            for row in self._file.step_rows()
            if row["kind"] not in ("section", "symbol")
        )

    def set_attach_target(self, program: str, target: Prog, function: str) -> None:
        """Says what ``SEC("freplace")`` replaces, or ``SEC("fentry")`` watches: a function of another program.

        To be called before ``load``.
        """
        self._file.set_attach_target(program, target.fd, function)

    def load(self, task: Any, log_level: int = 1, reuse_maps: Sequence[tuple[str, int]] = ()) -> ObjectFile:
        """Does what libbpf does: BTF_LOAD, MAP_CREATE, patch descriptors into the instructions, PROG_LOAD.

        ``task`` is one of a simulated machine or of the live kernel. Raises VerifierError with ``.log`` where a
        program is refused, OSError for any other refused call; what was created before it is closed again.
        ``reuse_maps`` names maps that are there already and their descriptors, which the load takes over.
        """
        reuse = list(reuse_maps)
        try:
            if isinstance(task, _core.LiveTask):
                _core.load_live(self._file, log_level, reuse)
            else:
                _core.load_simulated(self._file, task, log_level, reuse)
        except OSError as error:
            if not self._file.log:
                raise
            refused = VerifierError(*error.args)
            refused.__dict__.update(error.__dict__)
            refused.log = self._file.log
            raise refused.explained() from None
        self._task, self._closed = task, False
        self.maps = {row["name"]: Map(task, row["fd"]) for row in self._file.map_rows() if row["fd"] >= 0}
        self.progs = {
            row["name"]: Prog(task, row["fd"], row["log"]) for row in self._file.program_rows() if row["fd"] >= 0
        }
        for row in self._file.program_rows():
            if row["fd"] >= 0:
                self.progs[row["name"]].expected_attach_type = row["expected_attach_type"] or None
        return self

    def close(self) -> None:
        """Closes every descriptor that the load left: programs, maps, types."""
        for handle in (*self.progs.values(), *self.maps.values()):
            handle.close()
        if self._task is not None and not self._closed:
            close_fd(self._task, self._file.btf_fd)
        self._closed = True

    def __repr__(self) -> str:
        programs = ", ".join(f"{p['name']} ({p['section']})" for p in self.programs)
        maps = ", ".join(m["name"] for m in self.map_definitions)
        return f"<ObjectFile {self.name}: programs {programs or 'none'}; maps {maps or 'none'}>"


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

    def descriptor(given: Any) -> Any:
        return getattr(given, "fd", given)

    if not isinstance(device, str | _core.NetDevice):
        raise TypeError(f"device must be a NetDevice or its name, is {shown(device)}")
    name = device if isinstance(device, str) else device.name
    return NetlinkMessage(_core.rtnl_setlink_xdp(task, name, descriptor(prog), flags, descriptor(expected)))


def load(task: Any, object_file: ObjectFile, log_level: int = 1) -> ObjectFile:
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
