"""Cells in C and in assembler, in an IPython of this process."""

import sys
from pathlib import Path

import pytest
from bpfsim import ObjectFile, Program
from bpfsim.compiler import NoClang, find_clang

IPython = pytest.importorskip("IPython", reason="IPython is not installed: there are no cells")
ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"
sys.path.insert(0, str(ROOT / "tools"))
import lesson_objects  # noqa: E402
from IPython.testing.globalipapp import start_ipython  # noqa: E402

DROP = '#include <linux/bpf.h>\nSEC("xdp")\nint drop(struct xdp_md *ctx) {\n  return XDP_DROP;\n}\n'


@pytest.fixture(scope="module")
def shell():
    shell = start_ipython() or IPython.get_ipython()
    shell.run_line_magic("load_ext", "bpfsim")
    return shell


def test_an_assembler_cell_names_its_program(shell, capsys):
    shell.run_cell_magic("bpf_asm", "two", "r0 = 2\nexit\n")
    assert isinstance(shell.user_ns["two"], Program)
    assert shell.user_ns["two"].listing == ["(b7) r0 = 2", "(95) exit"]
    assert "two: 2 instructions" in capsys.readouterr().out


def test_a_mistake_in_assembler_says_line_and_column_also_where_the_name_is_used(shell, capsys):
    shell.user_ns["bad"] = "an older program"
    shell.run_cell_magic("bpf_asm", "bad", "r0 = 2\nr11 = 3\nexit\n")
    said = capsys.readouterr()
    assert "line 2, column 1" in said.out and said.err == ""
    with pytest.raises(RuntimeError, match="'bad' did not compile: .*line 2, column 1"):
        shell.user_ns["bad"].listing  # noqa: B018


@pytest.mark.parametrize("magic", ["bpf", "bpf_asm"])
@pytest.mark.parametrize("line", ["", "2x", "a-b"])
def test_a_cell_without_a_name_says_how(shell, capsys, magic, line):
    shell.run_cell_magic(magic, line, "exit")
    assert f"as in: %%{magic} my_program" in capsys.readouterr().out


def test_a_c_cell_names_its_object(shell, capsys):
    try:
        find_clang()
    except NoClang:
        pytest.skip("no clang on this machine: C cannot be compiled to BPF here")
    shell.run_cell_magic("bpf", "dropper", DROP)
    assert isinstance(shell.user_ns["dropper"], ObjectFile)
    assert [row["name"] for row in shell.user_ns["dropper"].programs] == ["drop"]
    assert "bytes of ELF" in capsys.readouterr().out
    shell.run_cell_magic("bpf", "passer -DVERDICT=XDP_PASS", DROP.replace("XDP_DROP", "VERDICT"))
    shell.run_cell_magic("bpf", "wrong", DROP.replace("return", "retrun"))
    said = capsys.readouterr()
    assert "wrong.c:4:3: error:" in said.out and said.err == ""
    assert shell.user_ns["passer"].program("drop") != shell.user_ns["dropper"].program("drop")
    with pytest.raises(RuntimeError, match="'wrong' did not compile"):
        shell.user_ns["wrong"].load(None)


def test_a_c_cell_without_clang_says_what_to_install(shell, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("BPFSIM_CLANG", raising=False)
    find_clang.cache_clear()
    try:
        shell.run_cell_magic("bpf", "unmade", DROP)
    finally:
        find_clang.cache_clear()
    assert "apt install clang" in capsys.readouterr().out
    assert repr(shell.user_ns["unmade"]) == "<unmade: did not compile>"


def test_a_lesson_cell_works_without_clang(shell, capsys, monkeypatch):
    def none() -> str:
        raise NoClang

    monkeypatch.setattr("bpfsim.compiler.find_clang", none)
    monkeypatch.chdir(NOTEBOOKS)
    cells = lesson_objects.c_cells()
    assert cells
    for name, source in cells.items():
        shell.run_cell_magic("bpf", name, source)
        assert isinstance(shell.user_ns[name], ObjectFile)
        assert "ships with this lesson" in capsys.readouterr().out
    shell.run_cell_magic("bpf", "first", "int changed;")
    assert "no clang found" in capsys.readouterr().out
