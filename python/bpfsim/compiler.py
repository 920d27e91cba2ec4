"""C to a BPF object file, by the clang of this machine."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
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
    if not isinstance(source, str):
        a_file = "; compile_file() takes a file" if isinstance(source, os.PathLike) else ""
        raise TypeError(f"compile_c(): source must be C text, is of type {type(source).__name__}{a_file}")
    if source.endswith(".c") and not set(source) & {";", "\n"}:
        raise ValueError(f"{source!r} is the name of a file, not C text; did you mean compile_file({source!r})?")
    return compile_files({Path(name).name: source}, [f"-mcpu={mcpu}", *cflags])


def compile_file(path: str | os.PathLike[str], cflags: Sequence[str] = (), mcpu: str = "v3") -> bytes:
    """As compile_c, for a file; it may include others that lie beside it."""
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"compile_file(): path must be a str or a Path, is of type {type(path).__name__}")
    file = Path(path)
    source = file.read_text(errors="surrogateescape")
    return compile_files({file.name: source}, [f"-mcpu={mcpu}", f"-I{file.parent.resolve()}", *cflags])


def compile_files(files: Mapping[str, str], options: Sequence[str]) -> bytes:
    """As compile_c, for the first of some files that lie in one folder: clang takes source lines from the others."""
    main = next(iter(files))
    _, code = _clang(files, ["-O2", "-g", "-Wall", "-Wno-unused-value", *options, "-c", main, "-o", "out.o"], "out.o")
    return code


def preprocess(source: str, name: str, options: Sequence[str]) -> str:
    """What clang's preprocessor makes of the source, with line markers."""
    text, _ = _clang({name: source}, [*options, "-E", name])
    return text


def _clang(files: Mapping[str, str], options: Sequence[str], output: str = "") -> tuple[str, bytes]:
    """Runs clang in a new folder that holds the files: its standard output, and the bytes of the file it writes.

    In that folder, so that names in debug information are the learner's, and BTF can quote the source.
    """
    command = [find_clang(), "-target", "bpf", "-I", str(INCLUDE), f"-ffile-prefix-map={INCLUDE}=bpfsim"]
    here = [f"-I{Path(o[2:]).resolve()}" if o.startswith("-I") and len(o) > 2 else o for o in options]
    with tempfile.TemporaryDirectory(prefix="bpfsim-") as folder:
        for name, text in files.items():
            (Path(folder) / name).write_text(text, errors="surrogateescape")
        command += ["-fdebug-compilation-dir=.", *here]
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, errors="backslashreplace", timeout=60, check=False
        )
        if done.returncode != 0:
            raise CompileError(done.stderr.strip())
        return done.stdout, (Path(folder) / output).read_bytes() if output else b""
