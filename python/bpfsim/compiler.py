"""C to a BPF object file, by the clang of this machine."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

INCLUDE = Path(__file__).parent / "include"  # a small header of our own, so that no kernel header is needed
_VERSIONS = range(22, 12, -1)


class CompileError(ValueError):
    """The C source does not compile; the text is clang's own diagnostics, with the cell's name and line."""


class NoClang(FileNotFoundError):
    """No clang that can write BPF was found on this machine."""

    def __init__(self) -> None:
        super().__init__(
            "no clang found, and C programs need one: apt install clang (Debian, Ubuntu), brew install llvm (macOS), "
            "or set BPFSIM_CLANG to its path. Every lesson also ships its compiled objects, so it runs without."
        )


@functools.cache
def find_clang() -> str:
    """The path of a clang with a BPF back end: $BPFSIM_CLANG, then `clang`, then `clang-22` down to `clang-13`.

    Raises NoClang.
    """
    names = [os.environ.get("BPFSIM_CLANG", ""), "clang", *(f"clang-{v}" for v in _VERSIONS)]
    for name in names:
        path = shutil.which(name) if name else None
        if (
            path
            and "bpf" in subprocess.run([path, "--print-targets"], capture_output=True, text=True, check=False).stdout
        ):
            return path
    raise NoClang


def compile_c(source: str, name: str = "prog.c", cflags: Sequence[str] = (), mcpu: str = "v3") -> bytes:
    """The bytes of a BPF ELF object for C source. ``name`` stands in diagnostics and debug information.

    ``mcpu`` is LLVM's BPF level, v1 to v4. Raises CompileError with clang's diagnostics, NoClang without one.
    """
    clang = find_clang()
    with tempfile.TemporaryDirectory(prefix="bpfsim-") as folder:
        source_file, output = Path(folder) / Path(name).name, Path(folder) / "out.o"
        source_file.write_text(source)
        command = [
            *(clang, "-target", "bpf", f"-mcpu={mcpu}", "-O2", "-g", "-Wall", "-Wno-unused-value"),
            *("-I", str(INCLUDE), f"-fdebug-prefix-map={folder}=.", f"-ffile-prefix-map={folder}/=", *cflags),
            *("-c", str(source_file), "-o", str(output)),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        diagnostics = done.stderr.replace(f"{folder}/", "")
        if done.returncode != 0:
            raise CompileError(diagnostics.strip())
        return output.read_bytes()
