"""``%load_ext bpfsim``: cells in C (``%%bpf NAME``) and in BPF assembler (``%%bpf_asm NAME``)."""

from __future__ import annotations

import shlex
from typing import Any

from IPython.core.magic import Magics, cell_magic, magics_class

from . import _core
from .compiler import CompileError, NoClang, compile_c


@magics_class
class BpfMagics(Magics):
    """The cell magics of bpfsim."""

    @cell_magic
    def bpf(self, line: str, cell: str) -> None:
        """``%%bpf NAME [clang options]``: compiles the cell to a BPF object and names it NAME."""
        name, options = self._name(line, "bpf")
        if not name:
            return
        try:
            code = compile_c(cell, f"{name}.c", options)
        except (CompileError, NoClang) as error:
            print(error)
            return
        from . import open_object

        self._put(name, open_object(code, name))
        print(f"{name}: {len(code)} bytes of ELF")

    @cell_magic
    def bpf_asm(self, line: str, cell: str) -> None:
        """``%%bpf_asm NAME``: assembles the cell and names the Program NAME."""
        name, _ = self._name(line, "bpf_asm")
        if not name:
            return
        try:
            program = _core.assemble(cell)
        except SyntaxError as error:
            print(error)
            return
        self._put(name, program)
        print(f"{name}: {len(program)} instructions")

    def _name(self, line: str, magic: str) -> tuple[str, list[str]]:
        words = shlex.split(line)
        if not words or not words[0].isidentifier():
            print(f"%%{magic} needs a name for the result, as in: %%{magic} my_program")
            return "", []
        return words[0], words[1:]

    def _put(self, name: str, value: Any) -> None:
        assert self.shell is not None
        self.shell.user_ns[name] = value
