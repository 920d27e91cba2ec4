"""``%load_ext bpfsim``: cells in C (``%%bpf NAME``) and in BPF assembler (``%%bpf_asm NAME``)."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from IPython.core.magic import Magics, cell_magic, magics_class

from . import _core
from .compiler import CompileError, NoClang, compile_c


def _shipped_object(name: str, cell: str) -> bytes | None:
    """The compiled form of a lesson's cell, in ``data/`` beside the notebook, while the cell is unchanged."""
    source, compiled = Path("data") / f"{name}.c", Path("data") / f"{name}.o"
    if source.is_file() and compiled.is_file() and source.read_text().strip() == cell.strip():
        return compiled.read_bytes()
    return None


class NotCompiled:
    """What a cell's name stands for when the cell did not compile: a use of it says so, and no older object hides."""

    def __init__(self, name: str, words: str):
        self._name, self._words = name, words

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("_"):
            raise AttributeError(attribute)
        raise RuntimeError(f"the cell {self._name!r} did not compile: {self._words}")

    def __repr__(self) -> str:
        return f"<{self._name}: did not compile>"


@magics_class
class BpfMagics(Magics):
    """The cell magics of bpfsim."""

    @cell_magic
    def bpf(self, line: str, cell: str) -> None:
        """``%%bpf NAME [clang options]``: compiles the cell to a BPF object and names it NAME.

        Without a clang, a cell that a lesson ships compiled still works.
        """
        name, options = self._name(line, "bpf")
        if not name:
            return
        try:
            code = compile_c(cell, f"{name}.c", options)
        except CompileError as error:
            self._failed(name, error)
            return
        except NoClang as error:
            shipped = _shipped_object(name, cell)
            if shipped is None:
                self._failed(name, error)
                return
            print("No clang on this machine: taking the object that ships with this lesson.")
            code = shipped
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
            self._failed(name, error)
            return
        self._put(name, program)
        print(f"{name}: {len(program)} instructions")

    def _name(self, line: str, magic: str) -> tuple[str, list[str]]:
        words = shlex.split(line)
        if not words or not words[0].isidentifier():
            print(f"%%{magic} needs a name for the result, as in: %%{magic} my_program")
            return "", []
        return words[0], words[1:]

    def _failed(self, name: str, error: Exception) -> None:
        print(error)
        self._put(name, NotCompiled(name, str(error).splitlines()[0]))

    def _put(self, name: str, value: Any) -> None:
        assert self.shell is not None
        self.shell.user_ns[name] = value
