"""Every check of 6.1's bpf(2) that tests/syscall/errno_6_1 calls a case, run into on a machine of that version."""

import sys
from pathlib import Path

import bpfsim
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/syscall"))
import errno_6_1  # noqa: E402 the folder must be in the path first
from errno_6_1.world import World  # noqa: E402

TABLE, CASES = errno_6_1.rows(), errno_6_1.cases()
NAMED = [row for row in TABLE if row.verdict == "case"]


@pytest.mark.parametrize("row", NAMED, ids=lambda row: f"{row.function}:{row.line}")
def test_the_check_refuses(row):
    world = World(bpfsim)
    with pytest.raises(OSError) as refused:  # noqa: PT011 which one is judged below
        CASES[f"{row.function}:{row.line}"](world)
    error = refused.value
    assert error.errname == row.errno, error
    assert "not modelled" not in error.reason
    assert error.check == (row.refuses or row.function)


def test_table_and_cases_are_one_to_one():
    assert sorted(f"{row.function}:{row.line}" for row in NAMED) == sorted(CASES)
    assert len({(row.function, row.line, row.errno) for row in TABLE}) == len(TABLE)


def test_what_is_left_is_counted():
    found = errno_6_1.counts()
    assert sum(found.values()) == len(TABLE) and found["case"] > 150
