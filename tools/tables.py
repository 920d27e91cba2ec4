"""README's tables that a command can make: printed, or written between their markers with --write.

A table stands between `<!-- begin: NAME -->` and `<!-- end: NAME -->`; tests/python/test_house.py holds that
what stands there is what this prints. A new table is a function below and a row in TABLES.
"""

import argparse
import re
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


def split_by(names: list[str], modelled: Callable[[str], bool]) -> tuple[str, str]:
    """The names that are modelled and those that are not, each in a row."""
    there = [name for name in names if modelled(name)]
    return ", ".join(there), ", ".join(name for name in names if name not in there)


def modelled_table() -> str:
    """What a machine answers, and what it refuses as not modelled yet: asked of one that has just booted."""
    import bpfsim  # noqa: PLC0415  (only this table needs the built module)
    from bpfsim import _core  # noqa: PLC0415

    task = bpfsim.Kernel().spawn()
    numbers = {name: number for rows in (_core.command_rows(), _core.map_type_rows(), _core.prog_type_rows())
               for number, name, _ in rows}  # fmt: skip

    def refused(command: str, **fields: Any) -> str:
        try:
            bpfsim.attr.bpf(task, command, **fields)
        except OSError as error:
            return f"{error.check}: {error.reason}"  # type: ignore[attr-defined]
        return ""

    def command_is(name: str) -> bool:
        return "not modelled" not in refused(name)

    def map_type_is(name: str) -> bool:
        return "not modelled" not in refused("MAP_CREATE", map_type=numbers[name])

    def prog_type_is(name: str) -> bool:
        fields = {"prog_type": numbers[name], "insns": "r0 = 0\nexit", "license": "GPL"}
        answers = (refused("PROG_LOAD", expected_attach_type=attach, **fields) for attach in range(64))
        answer = next((a for a in answers if not a.startswith("bpf_prog_load_check_attach")), "")
        return "not modelled" not in answer

    helpers = (ROOT / "sim/run/helpers/modelled.def").read_text()
    bodies = {f"bpf_{name}" for name in re.findall(r"^BPFSIM_HELPER\((\w+)\)", helpers, re.M)}
    kinds = [
        ("bpf(2) commands", "BPF_", [row[1] for row in _core.command_rows()], command_is),
        ("map types", "BPF_MAP_TYPE_", [row[1] for row in _core.map_type_rows() if row[0]], map_type_is),
        ("program types", "BPF_PROG_TYPE_", [row[1] for row in _core.prog_type_rows() if row[0]], prog_type_is),
        ("helpers", "bpf_", [row["name"] for row in _core.helper_rows() if row["id"]], bodies.__contains__),
    ]
    lists = []
    for what, prefix, names, is_modelled in kinds:
        there, missing = split_by(names, is_modelled)
        count = there.count(",") + 1
        head = f"<b>{what}</b>: {count} of {len(names)}"
        if missing and what != "helpers":
            head += f"; not yet {missing.replace(prefix, '')}"
        lists.append(
            f"<details><summary>{head}</summary>\n\n{textwrap.fill(there.replace(prefix, ''), 120)}\n\n</details>\n"
        )
    return "\n".join(lists)


TABLES: dict[str, Callable[[], str]] = {"rooms": rooms_table, "modelled": modelled_table}


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
