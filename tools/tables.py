"""README's tables that a command can make: printed, or written between their markers with --write.

A table stands between `<!-- begin: NAME -->` and `<!-- end: NAME -->`; tests/python/test_house.py holds that
what stands there is what this prints. A new table is a function below and a row in TABLES.
"""

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from house import ROOT, rooms  # noqa: E402

MARKED = re.compile(r"<!-- begin: (?P<name>\S+) -->\n(?P<body>.*?)<!-- end: (?P=name) -->", re.S)


def rooms_table() -> str:
    """One row for each room of sim/, from the first lines of its file."""
    rows = ["| room | models | what it is |", "| --- | --- | --- |"]
    for room in rooms():
        stem = room.path.with_suffix("")
        claim = room.models.removeprefix("Models: ").removesuffix(" (Linux 6.18)")
        claim = re.sub(r"^No kernel counterpart: ", "none: ", claim)
        cells = (f"[{'/'.join(stem.parts[1:])}]({room.path})", claim, room.says)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


TABLES: dict[str, Callable[[], str]] = {"rooms": rooms_table}


def fill(text: str) -> str:
    """The text with every marked table made anew."""

    def replace(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in TABLES:
            raise SystemExit(f"a marker names the table '{name}', but there is only: {', '.join(TABLES)}")
        return f"<!-- begin: {name} -->\n{TABLES[name]()}<!-- end: {name} -->"

    return MARKED.sub(replace, text)


def main() -> None:
    parser = argparse.ArgumentParser(prog="./dev tables", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the tables into README.md")
    parser.add_argument("name", nargs="*", help=f"only these: {', '.join(TABLES)}")
    args = parser.parse_args()
    if args.write:
        readme = ROOT / "README.md"
        readme.write_text(fill(readme.read_text()))
        return
    for name in args.name or TABLES:
        if name not in TABLES:
            parser.error(f"no table '{name}', only: {', '.join(TABLES)}")
        print(TABLES[name]())


if __name__ == "__main__":
    main()
