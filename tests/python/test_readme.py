"""README's minute of Python does what README says."""

import re
from pathlib import Path

import bpfsim
import pytest

README = Path(__file__).resolve().parents[2] / "README.md"


def test_the_minute_of_python_runs_and_ends_in_the_refusal_it_shows():
    block, _ = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)
    space: dict = {}
    with pytest.raises(bpfsim.VerifierError, match="back-edge from insn 2 to 1"):
        exec(block, space)
    assert space["counts"][1] == 6
    assert len(space["prog"].stages) > 3
    assert "eth0" in space["prog"].why_alive() or "task" in space["prog"].why_alive()


def test_what_was_written_for_bcc_runs():
    _, block = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)
    space: dict = {}
    try:
        exec(block, space)
    except bpfsim.NoClang as missing:
        pytest.skip(str(missing))
    shown = re.search(r"#\s*(.*)$", block.strip())[1]
    assert repr(space["b"]["counts"].items()) == shown
