"""Writes which file each function of a map_ops table stands in: here, and in the kernel.

A table is filled in by OP(function), mostly in the file that defines the function, sometimes in another, or by
OP_LATER(function), with a name alone. The kernel's file is what the first line of ours says that it models. Run by
CMake: map_sources.py SIM OUTPUT.
"""

import re
import sys
from pathlib import Path

USED = re.compile(r"\bOP(?:_LATER)?\((\w+)\)")
MODELS = re.compile(r"// Models: .*?((?:kernel|net|drivers|include|security)/[\w./-]+\.[ch])")


def definitions(text: str) -> set[str]:
    """The functions whose definitions begin a line of this text."""
    return set(re.findall(r"^[A-Za-z][^\n;=#]*?\b(\w+)\([^;]*?\)[^;()]*?\{", text, re.M))


def rows(sim: Path) -> list[tuple[str, str, str, str]]:
    """(file of the table, function, file of the function, the kernel's file) for each OP()."""
    texts = {path.relative_to(sim.parent).as_posix(): path.read_text() for path in sorted(sim.rglob("*.cpp"))}
    tables = {name: text for name, text in texts.items() if USED.search(text) and name.startswith("sim/map/")}
    defined = {name: definitions(text) for name, text in texts.items()}
    found = []
    for table, text in tables.items():
        for function in sorted(set(USED.findall(text))):
            home = next((name for name in [table, *texts] if function in defined[name]), table)
            models = MODELS.match(texts[home])
            found.append((table, function, home, models[1] if models else ""))
    return found


if __name__ == "__main__":
    sim, output = map(Path, sys.argv[1:])
    text = "".join(f'{{"{a}", "{b}", "{c}", "{d}"}},\n' for a, b, c, d in rows(sim))
    if not output.exists() or output.read_text() != text:
        output.write_text(text)
