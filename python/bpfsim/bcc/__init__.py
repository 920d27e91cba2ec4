"""BCC's names over bpfsim: a program written for BCC runs here with one import changed.

>>> from bpfsim.bcc import BPF
>>> b = BPF(text="int drop_all(struct xdp_md *ctx) { return XDP_DROP; }")
>>> fn = b.load_func("drop_all", BPF.XDP)
>>> b.attach_xdp("eth0", fn, 0)
>>> b.remove_xdp("eth0", 0)

Which machine? One for all: the first ``BPF(...)`` boots a ``bpfsim.Kernel()``, whose device ``eth0`` waits for packets,
and every later one uses it too; ``BPF.machine()`` is that kernel. ``BPF(kernel=k)`` and ``BPF(task=t)`` take another.
Nothing runs by itself in a simulated machine, so what waits for the kernel in BCC (``trace_print``) returns here when
there is nothing more to read.

Not modelled, and refused by name: kprobes, uprobes, tracepoints, perf events, ring and perf buffers, raw sockets.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from .. import _core
from ..compiler import INCLUDE, CompileError, compile_files, preprocess
from ..handles import Map, Prog, close_fd, descriptor
from ..objects import LoadedObject, ObjectFile
from .dialect import Dialect, translate
from .tables import QueueStack, Table, make_table
from .types import MapTypes

__all__ = ["BPF", "BPFAttachType", "CompileError", "QueueStack", "Table"]

_NAME = "prog.c"
# /sys/kernel/tracing/trace_pipe: task-pid [cpu] flags time: function: message
_TRACE_LINE = re.compile(r"\s*(.{1,16}?)-(\d+)\s+\[(\d+)\]\s+(\S+)\s+([\d.]+):\s+(?:\w+:\s)?(.*)", re.S)


class BPFAttachType:
    """enum bpf_attach_type, as far as BCC's programs name it."""

    CGROUP_INET_INGRESS, CGROUP_INET_EGRESS, XDP = 0, 1, 37


class BPF:
    """A BPF program text in BCC's dialect, compiled, with its tables made; functions are loaded on demand.

    ``text`` or ``src_file`` is the source, ``cflags`` goes to clang. ``kernel`` or ``task`` chooses the machine; see
    the module's own words. Raises CompileError with clang's diagnostics, NoClang where there is no clang.
    """

    SOCKET_FILTER, KPROBE, SCHED_CLS, SCHED_ACT, TRACEPOINT, XDP, PERF_EVENT, CGROUP_SKB = range(1, 9)
    CGROUP_SOCK, LWT_IN, LWT_OUT, LWT_XMIT, SOCK_OPS, SK_SKB, CGROUP_DEVICE, SK_MSG = range(9, 17)
    RAW_TRACEPOINT, CGROUP_SOCK_ADDR, TRACING, LSM = 17, 18, 26, 29

    XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX, XDP_REDIRECT = range(5)
    XDP_FLAGS_UPDATE_IF_NOEXIST, XDP_FLAGS_SKB_MODE, XDP_FLAGS_DRV_MODE, XDP_FLAGS_HW_MODE = 1, 2, 4, 8
    XDP_FLAGS_REPLACE = 16

    _default: ClassVar[Any] = None  # the task of the machine that all share

    def __init__(
        self,
        src_file: str | os.PathLike[str] | bytes = "",
        hdr_file: str = "",
        text: str | bytes | None = None,
        debug: int = 0,
        cflags: Sequence[str] = (),
        *,
        kernel: Any = None,
        task: Any = None,
    ):
        if (text is None) == (not src_file):
            raise ValueError("BPF() takes its program as text=... or src_file=..., one of them")
        if hdr_file:
            raise ValueError("hdr_file is not modelled: put the header's text into the program's")
        name, source = _NAME, text
        if source is None:
            path = Path(os.fsdecode(src_file))
            name, source = path.name, path.read_text()
        source = source.decode() if isinstance(source, bytes) else source
        if kernel and task and getattr(task, "kernel", None) is not kernel:
            raise ValueError("task= belongs to another machine than kernel=")
        self.task = task or (kernel.spawn("python3") if kernel else self._shared_task())
        self.kernel: Any = getattr(self.task, "kernel", None)
        self.debug = debug
        self.funcs: dict[str, Prog] = {}
        self.tables: dict[str, Any] = {}
        self._fds: dict[str, int] = {}
        self._lines: list[str] = []
        self.dialect, code = _compile(source, name, [os.fsdecode(flag) for flag in cflags])
        _refuse_names_that_attach(self.dialect.functions)
        self._object = ObjectFile(code, name.rsplit(".", 1)[0])
        btf = next(row["data"] for row in self._object._file.section_rows() if row["name"] == ".BTF")
        self._types = MapTypes(btf)
        with self._load("", "") as loaded:
            self._fds = {name: loaded.maps.pop(name).fd for name in list(loaded.maps)}

    @classmethod
    def _shared_task(cls) -> Any:
        if BPF._default is None:
            BPF._default = _core.Kernel().spawn("python3")
        return BPF._default

    @classmethod
    def machine(cls) -> Any:
        """The simulated machine that every BPF() without ``kernel`` or ``task`` uses."""
        return cls._shared_task().kernel

    # ---- functions ---------------------------------------------------------------------------------------------------

    def load_func(self, func_name: str | bytes, prog_type: int, device: Any = None, attach_type: int = -1) -> Prog:
        """Loads one function of the text as a program of this type, such as ``BPF.XDP``.

        Raises KeyError for a function that the text does not have, VerifierError where the kernel refuses it.
        """
        name = os.fsdecode(func_name)
        if name in self.funcs:
            return self.funcs[name]
        if name not in self.dialect.functions:
            there = ", ".join(self.dialect.functions) or "none (a program is a function that is not static)"
            raise KeyError(f"the text has no function {name!r} to load; it has {there}")
        if device is not None or attach_type != -1:
            raise ValueError("load_func: device and attach_type are not modelled")
        types = {number: type_name for number, type_name, _ in _core.prog_type_rows()}
        if prog_type not in types:
            raise ValueError(f"no program type has the number {prog_type}; BPF.XDP is one")
        with self._load(name, types[prog_type]) as loaded:
            prog = loaded.progs.pop(name)
        if self.debug:
            print(prog.log)
        self.funcs[name] = prog
        return prog

    def load_funcs(self, prog_type: int = KPROBE) -> list[Prog]:
        """Loads every function of the text as this type."""
        return [self.load_func(name, prog_type) for name in self.dialect.functions]

    def _load(self, name: str, type_name: str) -> LoadedObject:
        """Loads one program, or with an empty name the maps alone."""
        self._object._file.only_program(name, type_name)
        return self._object.load(self.task, reuse_maps=list(self._fds.items()))

    # ---- tables ------------------------------------------------------------------------------------------------------

    def get_table(
        self,
        name: str | bytes,
        keytype: Any = None,
        leaftype: Any = None,
        reducer: Callable[..., Any] | None = None,
    ) -> Any:
        """A table of the text, by name. ``reducer`` joins the leaves that CPUs have in a per-CPU table."""
        name = os.fsdecode(name)
        if name not in self.dialect.tables:
            raise KeyError(f"the text has no table {name!r}; it has {', '.join(self.dialect.tables) or 'none'}")
        if name not in self.tables or keytype or leaftype or reducer:
            key, leaf = self._types.of_map(name)
            handle = Map(self.task, self._fds[name])
            self.tables[name] = make_table(
                self.dialect.tables[name], name, handle, keytype or key, leaftype or leaf, reducer=reducer
            )
        return self.tables[name]

    def __getitem__(self, name: str | bytes) -> Any:
        return self.get_table(name)

    def __len__(self) -> int:
        return len(self.dialect.tables)

    def __iter__(self) -> Iterator[str]:
        return iter(self.dialect.tables)

    # ---- hooks -------------------------------------------------------------------------------------------------------

    def attach_xdp(self, dev: str | bytes, fn: Prog, flags: int = 0) -> None:
        """Attaches a function to a device, as ``ip link set dev ... xdp`` does: by a message of rtnetlink."""
        self._set_xdp(dev, descriptor(self.task, fn, "the function"), flags)

    def remove_xdp(self, dev: str | bytes, flags: int = 0) -> None:
        """Takes the program off the device."""
        self._set_xdp(dev, -1, flags)

    def _set_xdp(self, dev: str | bytes, fd: int, flags: int) -> None:
        if isinstance(self.task, _core.LiveTask):
            raise PermissionError("bpfsim attaches nothing to devices of the live kernel")
        self.task.rtnl_setlink_xdp(os.fsdecode(dev), fd, flags)

    # ---- trace_pipe --------------------------------------------------------------------------------------------------

    def trace_readline(self, nonblocking: bool = False) -> bytes | None:
        """The next line of trace_pipe; None when there is none. It never waits: see the module's own words."""
        if not self._lines:
            # a format that ends in a newline leaves an empty line behind, as on every kernel since 5.9
            text = "\n".join(self.kernel.read_trace_pipe())
            self._lines = [line for line in text.splitlines() if line.strip()]
        return self._lines.pop(0).encode() if self._lines else None

    def trace_fields(self, nonblocking: bool = False) -> tuple[Any, ...]:
        """The next line of trace_pipe as (task, pid, cpu, flags, seconds, message); six times None when there is none.

        Without ``nonblocking`` an empty pipe raises EOFError, since BCC would wait, and nothing here would ever come.
        """
        while (line := self.trace_readline(True)) is not None:
            if match := _TRACE_LINE.fullmatch(line.decode()):
                task, pid, cpu, flags, seconds, text = match.groups()
                return task.encode(), int(pid), int(cpu), flags.encode(), float(seconds), text.encode()
        if nonblocking:
            return (None,) * 6
        raise EOFError("trace_pipe is empty: run the program, for example by a packet for its device, then read again")

    def trace_print(self, fmt: str | None = None) -> None:
        """Prints the lines of trace_pipe that nobody has read yet, or with ``fmt`` ("{5}") fields of them."""
        if fmt is None:
            while (line := self.trace_readline(True)) is not None:
                print(line.decode(errors="replace"))
            return
        while (fields := self.trace_fields(True))[0] is not None:
            print(fmt.format(*(f.decode() if isinstance(f, bytes) else f for f in fields)))

    # ---- the end -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Closes every descriptor of programs and tables. What is attached stays attached, as in BCC's own."""
        for prog in self.funcs.values():
            prog.close()
        for fd in self._fds.values():
            close_fd(self.task, fd)
        self.funcs, self._fds = {}, {}

    cleanup = close

    def __enter__(self) -> BPF:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __repr__(self) -> str:
        functions, tables = ", ".join(self.dialect.functions), ", ".join(self.dialect.tables)
        return f"<BPF functions: {functions or 'none'}; tables: {tables or 'none'}>"

    def __getattr__(self, name: str) -> Any:
        for beginning, what in _NOT_MODELLED.items():
            if name.startswith(beginning):
                raise AttributeError(f"BPF.{name} is not modelled here ({what})")
        raise AttributeError(f"BPF has no {name!r}")


_NOT_MODELLED = {
    "attach_kprobe": "kprobes", "attach_kretprobe": "kprobes", "detach_k": "kprobes", "attach_uprobe": "uprobes",
    "attach_uretprobe": "uprobes", "attach_tracepoint": "tracepoints", "attach_raw_tracepoint": "tracepoints",
    "attach_perf_event": "perf events", "attach_raw_socket": "sockets", "attach_func": "cgroups and socket maps",
    "attach_kfunc": "tracing of functions", "attach_lsm": "LSM hooks", "perf_buffer": "perf buffers",
    "ring_buffer": "ring buffers", "ksym": "addresses of kernel functions", "sym": "addresses of functions",
}  # fmt: skip


_ATTACH_BY_NAME = {
    "kprobe__": "kprobes", "kretprobe__": "kprobes", "tracepoint__": "tracepoints", "raw_tracepoint__": "tracepoints",
    "kfunc__": "tracing of functions", "kretfunc__": "tracing of functions", "lsm__": "LSM hooks",
}  # fmt: skip


def _refuse_names_that_attach(functions: Iterable[str]) -> None:
    """BCC attaches functions with such names by itself. Here nothing would call them, and nobody would be told."""
    for name in functions:
        for beginning, what in _ATTACH_BY_NAME.items():
            if name.startswith(beginning):
                raise ValueError(f"{name}: by its name BCC attaches this, and {what} are not modelled here")


def _compile(source: str, name: str, cflags: list[str]) -> tuple[Dialect, bytes]:
    """Preprocesses, translates, compiles. The learner's own text lies beside it, for BTF to quote its lines."""
    options = ["-nostdinc", "-I", str(INCLUDE / "bcc"), "-include", "bcc/helpers.h", *cflags]
    dialect = translate(preprocess(source + '\n#include "bcc/footer.h"\n', name, options))
    if not dialect.functions:
        raise CompileError(f"{name}: error: no function to load: a program is a function that is not static")
    stem = name.rsplit(".", 1)[0]
    files = {f"{stem}.translated.i": dialect.code, name: source}
    warnings = [flag for flag in cflags if flag.startswith(("-w", "-W", "-O", "-f", "-m"))]
    if not any(flag.startswith("-mcpu") for flag in warnings):
        warnings.append("-mcpu=v3")
    return dialect, compile_files(files, ["-Wno-unused-command-line-argument", *warnings])
