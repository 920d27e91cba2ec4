"""The rules of the house, read from the files themselves (see CONTRIBUTING.md)."""

import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import house  # noqa: E402
import tables  # noqa: E402

SOURCE = {".cpp", ".h", ".py", ".def"}
INCLUDE = re.compile(r'^\s*#\s*include\s+["<]([^">]+)[">]', re.M)


def lines_with(pattern: re.Pattern[str], paths: list[Path]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in paths
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if pattern.search(line)
    ]


def source_files() -> list[Path]:
    me = Path(__file__).resolve()
    return [path for path in house.tracked() if path.suffix in SOURCE and path != me]


def wrong_includes(name: str, text: str) -> list[str]:
    """Includes of one file of sim/ that run against the floors, or bring in what the core must not see."""
    wrong = []
    parts = Path(name).parts
    station = parts[1] if len(parts) > 2 else None
    for included in INCLUDE.findall(text):
        other = included.split("/")[0]
        if station and included == "kernel.h":
            wrong.append(f"{name} includes kernel.h, the roof")
        if station and "/" in included and other in house.STATIONS and not house.may_include(station, other):
            wrong.append(f"{name} ({station}) includes {included}")
        if re.match(r"linux/|asm/|signal\.h|csignal|pybind11/|Python\.h", included):
            wrong.append(f"{name} includes {included}: the core is portable and knows no Python")
        if included.startswith("boost/") and not name.endswith(".cpp"):
            wrong.append(f"{name} includes {included}: Boost only in .cpp files, it costs seconds for each")
    return wrong


def test_includes_run_down_the_floors():
    files = house.sim_files()
    assert files, "git lists no file in sim/: is this a clone?"
    wrong = [w for path in files for w in wrong_includes(str(path.relative_to(ROOT)), path.read_text())]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("name", "include", "allowed"),
    [
        ("sim/map/hashtab.cpp", '"object/ops.h"', True),
        ("sim/map/hashtab.cpp", '"map/arraymap.h"', True),
        ("sim/map/hashtab.cpp", '"verifier/env.h"', False),
        ("sim/object/prog.h", '"map/hashtab.h"', False),
        ("sim/base/machine.h", '"isa/insn.h"', False),
        ("sim/base/machine.h", '"kernel.h"', False),
        ("sim/loader/elf.cpp", '"btf/btf.h"', True),
        ("sim/loader/elf.cpp", '"object/prog.h"', False),
        ("sim/kernel.cpp", '"syscall/bpf.h"', True),
        ("sim/verifier/cfg.cpp", "<boost/graph/depth_first_search.hpp>", True),
        ("sim/verifier/cfg.h", "<boost/graph/depth_first_search.hpp>", False),
        ("sim/uapi/bpf.h", "<linux/bpf.h>", False),
        ("sim/map/hashtab.cpp", "<map>", True),
    ],
)
def test_the_reader_of_includes_judges_rightly(name, include, allowed):
    assert (not wrong_includes(name, f"#include {include}\n")) == allowed


def test_every_folder_of_sim_is_a_station():
    folders = {path.relative_to(ROOT).parts[1] for path in house.sim_files() if len(path.relative_to(ROOT).parts) > 2}
    assert folders <= set(house.STATIONS)


def test_every_file_of_sim_opens_with_what_it_models():
    wrong = []
    for path in house.sim_files():
        first, says = house.opening(path.read_text())
        if not house.OPENING.match("// " + first):
            wrong.append(f"{path.relative_to(ROOT)}: {first}")
        elif not says:
            wrong.append(f"{path.relative_to(ROOT)}: no paragraph below the first line")
    wanted = "the first line is '// Models: FILE (Linux 6.18)' or '// No kernel counterpart: WHY':\n"
    assert not wrong, wanted + "\n".join(wrong)


def test_files_stay_under_800_lines():
    long = {str(p.relative_to(ROOT)): n for p in source_files() if (n := p.read_text().count("\n")) > 800}
    assert not long


def functions(text: str) -> list[tuple[str, int, int]]:
    """Blocks that open and close at the left margin, as functions do: head, lines, rows of tables."""
    found, start = [], None
    text = re.sub(r"(?m)(^[A-Za-z].*[,(=])\n\s+", r"\1 ", text)  # a head that wraps is one line
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if start is None and re.match(r"^[A-Za-z].*\)[^;]*\{$", line):
            start = number
        elif start is not None and line.startswith("}"):
            body = lines[start:number]
            rows = sum(1 for row in body if re.match(r"\s*(case |default:|\{|[A-Z_]+\()", row))
            found.append((lines[start], len(body), rows))
            start = None
    return found


def test_functions_stay_short_unless_they_are_tables():
    long = [
        f"{path.relative_to(ROOT)}: {head} {length} lines"
        for path in house.tracked("sim/*.cpp", "sim/*.h", "python/bind/*.cpp")
        for head, length, rows in functions(path.read_text())
        if length > 120 and rows * 5 < length
    ]
    assert not long, "functions stay under about 100 lines:\n" + "\n".join(long)


def test_no_word_of_unfinished_work():
    words = re.compile(r"\b(TODO|FIXME|XXX|HACK|(?i:not implemented|unimplemented|placeholder|stub(bed)?))\b")
    found = [line for line in lines_with(words, source_files()) if "NotImplemented" not in line]
    assert not found, "say in the opening paragraph what is not modelled:\n" + "\n".join(found)


def test_no_path_of_one_machine():
    kinds = SOURCE | {".md", ".ipynb", ".txt", ".toml", ".sh", ".json", ".yaml", ".csv"}
    paths = [path for path in house.tracked() if path.suffix in kinds or path.suffix == ""]
    # The brackets keep this line from finding itself.
    found = lines_with(re.compile(r"(?<![\w.])/(wor[k]|roo[t]|far[m]|hom[e])/[A-Za-z]"), paths)
    assert not found, "\n".join(found)


def test_notebooks_are_committed_without_outputs():
    wrong = []
    for path in house.tracked("*.ipynb"):
        for number, cell in enumerate(json.loads(path.read_text())["cells"]):
            if cell.get("outputs") or cell.get("execution_count"):
                wrong.append(f"{path.relative_to(ROOT)}: cell {number}")
    assert not wrong, "clear all outputs before the commit:\n" + "\n".join(wrong)


def test_no_file_is_over_one_mebibyte():
    big = {str(p.relative_to(ROOT)): p.stat().st_size for p in house.tracked() if p.stat().st_size > 1 << 20}
    assert not big


def test_every_catch2_test_checks_something():
    empty = []
    head = re.compile(r'^(?:TEST_CASE|SCENARIO|TEMPLATE_TEST_CASE)\s*\(\s*"([^"]*)"', re.M)
    checks = re.compile(r"REQUIRE|CHECK|FAIL|\b(check|expect|require|agree|compare)\w*\(")
    for path in house.tracked("tests/*.cpp"):
        text = path.read_text()
        starts = list(head.finditer(text))
        ends = [match.start() for match in starts[1:]] + [len(text)]
        for match, end in zip(starts, ends, strict=False):
            if not checks.search(text, match.end(), end):
                empty.append(f"{path.relative_to(ROOT)}: {match[1]}")
    assert not empty


def test_readme_names_the_two_commands_and_its_tables_are_what_the_command_prints():
    readme = (ROOT / "README.md").read_text()
    assert "./dev lab" in readme and "./dev test" in readme
    assert tables.fill(readme) == readme, "run ./dev tables --write"
