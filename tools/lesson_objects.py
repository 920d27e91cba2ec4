"""Compiles the C cells of the lessons into notebooks/data/, so that the lessons run on machines without clang."""

import json
from pathlib import Path

from bpfsim import compile_c

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"


def c_cells() -> dict[str, str]:
    """The source of every %%bpf cell, by its name."""
    cells: dict[str, str] = {}
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        for cell in json.loads(path.read_text())["cells"]:
            head, _, body = "".join(cell["source"]).partition("\n")
            if head.startswith("%%bpf "):
                cells[head.split()[1]] = body
    return cells


def main() -> None:
    for name, source in c_cells().items():
        (NOTEBOOKS / "data" / f"{name}.c").write_text(source.rstrip() + "\n")
        (NOTEBOOKS / "data" / f"{name}.o").write_bytes(compile_c(source, f"{name}.c"))


if __name__ == "__main__":
    main()
