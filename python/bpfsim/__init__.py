"""A kernel-faithful simulator of the Linux BPF subsystem, for learning how it works.

>>> import bpfsim
>>> k = bpfsim.Kernel(version="6.18")
>>> task = k.spawn("bash")
>>> m = task.map_create("hash", key_size=4, value_size=8, max_entries=16, name="counts")
>>> m[1] = 5
>>> m[1]
5
"""

from __future__ import annotations

from typing import Any

from . import _core, attach, attr, handles, history, map_types, objects, races, struct_ops, trace
from ._core import Kernel, LiveKernel, LiveTask, Program, Task, assemble
from .attr import BpfError, Reply
from .compiler import CompileError, NoClang, compile_c, compile_file
from .handles import Link, Map, Prog, VerifierError
from .history import Break, diff
from .map_types import map_ops
from .objects import LoadedObject, ObjectFile, open_object
from .trace import Trace

__version__ = _core.__version__
__all__ = [
    "BpfError",
    "Break",
    "CompileError",
    "Kernel",
    "Link",
    "LiveKernel",
    "LiveTask",
    "LoadedObject",
    "Map",
    "NoClang",
    "ObjectFile",
    "Prog",
    "Program",
    "Reply",
    "Task",
    "Trace",
    "VerifierError",
    "assemble",
    "compile_c",
    "compile_file",
    "diff",
    "load_ipython_extension",
    "map_ops",
    "open_object",
]

# Handles and named calls are Python over sys_bpf(): the simulator's tasks and the live kernel's have the same.
BpfError.__module__ = VerifierError.__module__ = "bpfsim"  # as a traceback names them
_tasks: Any = (Task, LiveTask)
for _task in _tasks:
    _task.bpf = attr.bpf
    _task.map_create = handles.map_create
    _task.prog_load = handles.prog_load
    _task.link_create = attach.link_create
    _task.prog_attach = attach.prog_attach
    _task.prog_detach = attach.prog_detach
    _task.prog_query = attach.prog_query
    _task.load = objects.load


class _Sysctl:
    """``k.sysctl["net.core.bpf_jit_enable"] = 0``: the knobs of /proc/sys that BPF has."""

    def __init__(self, kernel: Any):
        self._kernel = kernel

    def __getitem__(self, name: str) -> int:
        return self._kernel.sysctl_read(name)

    def __setitem__(self, name: str, value: int) -> None:
        self._kernel.sysctl_write(name, value)

    def __iter__(self) -> Any:
        return iter(self._kernel.sysctl_names())

    def __repr__(self) -> str:
        return "\n".join(f"{name} = {self[name]}" for name in self)


_simulated: Any = Task
_simulated.rtnl_setlink_xdp = objects.rtnl_setlink_xdp
_simulated.struct_ops = struct_ops.struct_ops

_machine: Any = Kernel
_machine.sysctl = property(_Sysctl, doc="The sysctls of the machine, by name.")
_machine.trace = trace.record
_machine.graph = trace.graph
_machine.gates = property(objects.gates, doc="What differs between kernel versions, with the evidence for it.")
_machine.history = property(history.History, doc="Every call that entered the machine, forwards and back.")
_machine.break_on = history.break_on
_machine.races = races.races
_machine.leaks = trace.leaks
_machine.cycles = trace.cycles
_machine.struct_ops_member = struct_ops.struct_ops_member
_machine.net_device = objects.net_device
_machine.add_net_device = objects.add_net_device
_machine.add_netkit = objects.add_netkit
_machine.remove_net_device = objects.remove_net_device
_machine.register_map_type = map_types.register_map_type


trace.record.__name__, trace.record.__qualname__ = "trace", "Kernel.trace"  # as a traceback names them
trace.graph.__qualname__ = "Kernel.graph"


def load_ipython_extension(shell: Any) -> None:
    """``%load_ext bpfsim``: brings ``%%bpf NAME`` and ``%%bpf_asm NAME``."""
    from .magics import BpfMagics

    shell.register_magics(BpfMagics)
