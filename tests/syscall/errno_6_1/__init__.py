"""Which bpf(2) call is refused by which check of Linux 6.1, and whether a machine of that version refuses it there.

The tables (``syscall.tsv``, ``maps.tsv``, ...) have a row for each check of 6.1's bpf(2) that answers an errno: its
function and line in 6.1.192, the errno, the command, and a verdict: ``case`` (CASES in the module of the table's name
holds a call that runs into it; the last column names the function that refuses where it is another), a reason
why no call can, or ``missing``. ``python tests/syscall/errno_6_1`` counts them; ``--missing`` names those without one.
"""

import csv
import importlib
from collections import Counter
from pathlib import Path
from typing import NamedTuple

TABLES = sorted(Path(__file__).parent.glob("*.tsv"))


class Row(NamedTuple):
    area: str
    function: str
    line: str
    errno: str
    command: str
    verdict: str
    refuses: str  # the function that refuses here, where it is not this one


def rows():
    found = []
    for table in TABLES:
        with table.open(newline="") as file:
            found += [Row(*line) for line in csv.reader(file, delimiter="\t") if line and not line[0].startswith("#")]
    return found


def cases():
    """Every table's calls, by function and line."""
    found = {}
    for table in TABLES:
        if table.with_suffix(".py").exists():
            found |= importlib.import_module(f"{__name__}.{table.stem}").CASES
    return found


def counts(table=None):
    found = Counter()
    for row in table or rows():
        found[row.verdict if row.verdict in ("case", "missing") else "explained"] += 1
    return found
