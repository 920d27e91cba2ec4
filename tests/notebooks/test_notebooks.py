"""Every lesson runs from top to bottom in a new kernel, says nothing on stderr, and does not take long."""

import time
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted(p for p in (ROOT / "notebooks").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
SECONDS = 120  # a cell that runs longer hangs
TIMES = ROOT / "build" / "log" / "lesson-times.txt"


@pytest.fixture(scope="module", autouse=True)
def new_list_of_times():
    TIMES.parent.mkdir(parents=True, exist_ok=True)
    TIMES.write_text("")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: str(p.relative_to(ROOT / "notebooks")))
def test_lesson_runs(path):
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    start = time.monotonic()
    NotebookClient(
        book, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    ).execute()
    seconds = time.monotonic() - start
    with open(TIMES, "a") as times:
        times.write(f"{path.relative_to(ROOT)} {seconds:.1f} s\n")
    complaints = [
        output.text
        for cell in book.cells
        for output in cell.get("outputs", [])
        if output.output_type == "stream" and output.name == "stderr"
    ]
    assert not complaints, "a lesson prints nothing on stderr:\n" + "".join(complaints)
