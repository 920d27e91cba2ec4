"""Counts the rows of the tables; ``--missing`` names those without a verdict."""

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TESTS / "syscall"), str(TESTS / "support")]
from errno_6_1 import counts, rows  # noqa: E402 the folder must be in the path first

table = rows()
print(f"{len(table)} checks of 6.1: {', '.join(f'{n} {what}' for what, n in counts(table).most_common())}")
for area in dict.fromkeys(row.area for row in table):
    here = counts([row for row in table if row.area == area])
    print(f"  {area:16} {here['case']:4} case {here['explained']:4} explained {here['missing']:4} missing")
if "--missing" in sys.argv:
    for row in table:
        if row.verdict == "missing":
            print(f"{row.area}\t{row.function}:{row.line}\t{row.errno}")
