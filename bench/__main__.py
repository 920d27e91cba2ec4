"""`./dev bench [maps] [run] [history] [python] [--write]`: how fast it is, beside the live kernel where that lets us.

Each part runs its benchmarks several times in an order that mixes them, takes medians of the CPU time, and prints a
table in Markdown; --write puts the tables into README between their markers. The raw figures are kept as JSON in
build/bench/. Ratios within one run are what counts: the machine's mood is in the nanoseconds.
"""

from __future__ import annotations

import argparse
import ctypes
import datetime
import json
import platform
import re
import statistics
import subprocess
import sys
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
EXECUTABLES = ROOT / "build" / "release" / "bench"
Medians = dict[str, float]  # the name of a benchmark: ns per operation


def run_executable(name: str, repetitions: int) -> tuple[Medians, dict[str, str]]:
    """The medians of one Google Benchmark executable, each divided by its counter `ops`; and what it says beside them:
    its context, and what the live kernel of this machine refused."""
    command = [EXECUTABLES / f"bench_{name}", "--benchmark_format=json", f"--benchmark_repetitions={repetitions}"]
    command += ["--benchmark_min_time=0.05", "--benchmark_enable_random_interleaving=true"]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    samples: dict[str, list[float]] = {}
    said: dict[str, str] = dict(found["context"])
    refused = set()
    for row in found["benchmarks"]:
        if row["run_type"] != "iteration":
            continue
        if row.get("error_occurred") and ":live" in row["name"]:
            refused.add(f"{row['name'].split('/')[0]} ({row['error_message']})")
            continue
        if row.get("error_occurred"):
            sys.exit(f"bench_{name}: {row['name']}: {row['error_message']}")
        # Manual times are in real_time; everything else is judged by the CPU it took.
        time = row["real_time" if "manual_time" in row["name"] else "cpu_time"]
        ops = row.get("ops") or row["cpu_time"] * row["items_per_second"] * 1e-9
        samples.setdefault(row["name"].split("/")[0], []).append(time / ops)
    order = {row["run_name"].split("/")[0]: row["family_index"] for row in found["benchmarks"]}
    said["refused live"] = ", ".join(sorted(refused))
    return {name: statistics.median(samples[name]) for name in sorted(samples, key=order.__getitem__)}, said


def figure(ns: float | None) -> str:
    """Nanoseconds with as many digits as they deserve."""
    return "" if ns is None else f"{ns:.0f}" if ns >= 20 else f"{ns:.1f}"


def in_words(ns: float) -> str:
    """Nanoseconds in the unit that suits them."""
    unit, size = next(((u, s) for u, s in (("ms", 1e6), ("µs", 1e3)) if ns >= s), ("ns", 1))
    return f"{figure(ns / size)} {unit}"


def ratio(ours: float | None, theirs: float | None) -> str:
    """How many times the live kernel's time ours is."""
    return f"{ours / theirs:.2f}" if ours is not None and theirs else ""


def markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def maps_table(repetitions: int) -> tuple[str, Medians]:
    """ns per operation on a map: through its table, through bpf(2), from a program."""
    medians, said = run_executable("maps", repetitions)
    rows = []
    for subject in dict.fromkeys(name.split(":")[0] for name in medians):
        how = {name.split(":")[1]: ns for name, ns in medians.items() if name.split(":")[0] == subject}
        ours, live = how.get("sys_bpf"), how.get("live sys_bpf")
        program, live_program = how.get("program"), how.get("live program")
        cells = [how.get("table"), ours, live], [program, live_program]
        rows.append([subject, *map(figure, cells[0]), ratio(ours, live), *map(figure, cells[1]), ratio(program, live_program)])  # fmt: skip  # noqa: E501
    head = ["ns per operation", "table", "bpf(2)", "live", "ratio", "program", "live (JIT)", "ratio"]
    lacking = said["types without a row"]
    below = [f"Map types without a row: {lacking}." if lacking else "Every map type has a row."]
    below.append("Where a live kernel updates a cpumap it starts a thread; ours has none.")
    if said["not asked live"]:
        below.append(f"Not asked of the live kernel, where a registered map may stay: {said['not asked live']}.")
    if said["refused live"]:
        below.append(f"The live kernel of this machine refused: {said['refused live']}.")
    return f"{markdown(head, rows)}\n{' '.join(below)}\n", medians


def run_table(repetitions: int) -> tuple[str, Medians]:
    """ns per instruction in the interpreter."""
    medians, _ = run_executable("run", repetitions)
    return markdown(["ns per instruction", "interpreter"], [[n, f"{ns:.2f}"] for n, ns in medians.items()]), medians


def history_table(repetitions: int) -> tuple[str, Medians]:
    """What a history of 64 MiB costs, and going back in it."""
    medians, _ = run_executable("history", repetitions)
    return markdown(["", "time"], [[name, in_words(ns)] for name, ns in medians.items()]), medians


def median_ns(make: Callable[[], Callable[[], Any]], repetitions: int, calls: int = 20_000) -> float:
    """The median over repetitions, each with a fresh call from `make`: a history would grow to its bound otherwise."""
    return statistics.median(timeit.timeit(make(), number=calls) / calls * 1e9 for _ in range(repetitions))


def python_table(repetitions: int) -> tuple[str, Medians]:
    """ns per call from Python: task.sys_bpf of a simulated task, and ctypes calling the live kernel."""
    import bpfsim  # noqa: PLC0415  (only this part needs the built module)
    from bpfsim import attr  # noqa: PLC0415

    medians: Medians = {}

    def lookup(fd: int) -> bytearray:
        key, value, alive = bytearray(8), bytearray(8), []
        raw = bytearray(attr.ATTR_SIZE)
        raw[0:4] = fd.to_bytes(4, "little")
        raw[8:16] = attr.address_of(key, alive).to_bytes(8, "little")
        raw[16:24] = attr.address_of(value, alive).to_bytes(8, "little")
        keep.append(alive)
        return raw

    keep: list[Any] = []

    def simulated(history: bool) -> Callable[[], Any]:
        task = bpfsim.Kernel(history=history).spawn()
        m = task.map_create("hash", key_size=8, max_entries=16)
        m[0] = 1
        attr_bytes = lookup(m.fd)
        return lambda: task.sys_bpf(1, attr_bytes)

    def live() -> Callable[[], Any]:
        m = host.map_create("hash", key_size=8, max_entries=16)
        m[0] = 1
        attr_bytes = lookup(m.fd)
        buffer = (ctypes.c_char * len(attr_bytes)).from_buffer(attr_bytes)
        libc = ctypes.CDLL(None, use_errno=True)
        return lambda: libc.syscall(321, 1, ctypes.byref(buffer), len(attr_bytes))

    medians["task.sys_bpf, lookup in a hash"] = median_ns(lambda: simulated(True), repetitions)
    medians["the same without a history"] = median_ns(lambda: simulated(False), repetitions)
    try:
        host = bpfsim.LiveKernel().spawn("bench")
        medians["ctypes, the same on the live kernel"] = median_ns(live, repetitions)
    except OSError:
        pass  # not permitted here: the table says what there is
    return markdown(["ns per call", "Python"], [[n, figure(ns)] for n, ns in medians.items()]), medians


def write_table(part: str, text: str) -> None:
    """Puts a part's table into README between its markers. Unlike the tables of tools/tables.py no test makes it again:
    another run measures other figures."""
    readme = ROOT / "README.md"
    marks = re.compile(rf"(<!-- begin measured: {part} -->\n).*?(<!-- end measured: {part} -->)", re.S)
    filled, count = marks.subn(lambda m: m[1] + text + m[2], readme.read_text())
    if count != 1:
        sys.exit(f"README.md has no place for the figures of {part} (<!-- begin measured: {part} -->)")
    readme.write_text(filled)


PARTS = {"maps": maps_table, "run": run_table, "history": history_table, "python": python_table}


def main() -> None:
    """Runs the parts that the command line names, all by default."""
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--repetitions", type=int, default=5, help="how often each benchmark is run (5)")
    parser.add_argument("--write", action="store_true", help="put the tables into README")
    options = parser.parse_args()
    if unknown := [part for part in options.parts if part not in PARTS]:
        parser.error(f"no such part: {unknown[0]} (there are {', '.join(PARTS)})")
    where = ROOT / "build" / "bench"
    where.mkdir(parents=True, exist_ok=True)
    for part in options.parts or PARTS:
        table, medians = PARTS[part](options.repetitions)
        when_and_where = f"{datetime.date.today()}, {platform.system()} {platform.release()}"
        stamp = f"{(PARTS[part].__doc__ or '').rstrip('.')} ({when_and_where})"
        print(f"\n{stamp}\n\n{table}")
        (where / f"{part}.json").write_text(json.dumps(medians, indent=1) + "\n")
        if options.write:
            write_table(part, f"{stamp}\n\n{table}")


if __name__ == "__main__":
    main()
