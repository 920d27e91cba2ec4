"""Which program type may call which helper: asks a kernel, and with --write makes sim/hook/helpers_allowed.def anew.

Each pair is a program that calls the helper with nothing in its registers: refused with "cannot use helper", or for
anything else, or not at all. Nothing is attached and nothing runs. The types that want a target are not asked.
"""

import sys
from pathlib import Path

import contexts
import wire
from bpfsim import _core

TABLE = Path(__file__).resolve().parents[2] / "sim/hook/helpers_allowed.def"
HEAD = """\
// Models: the functions *_func_proto of kernel/bpf, kernel/trace and net/core (Linux 6.18)
//
// Which program types may call a helper, as numbers of enum bpf_prog_type: measured on a live 6.18, and written by
// `./dev run python tests/agree/helpers_allowed.py --write`. Types that want a target were not asked.
// Guarded are those of them that may call it only if the loader has CAP_PERFMON, where they load without.
// HELPER_ALLOWED(name, types, guarded)
"""
MORE = {13: (0, 3), 15: (0, 6)}  # attach types, besides those of contexts.py
REFUSALS = ("cannot use helper", "invalid func")


def names():
    """{number: name without bpf_}"""
    return {row["id"]: row["name"].removeprefix("bpf_") for row in _core.helper_rows() if row["id"]}


def load(task, programs, code, prog_type, attach_type):
    """The log of a program; None when it loads."""
    flags = wire.WITHOUT_TARGET[prog_type][1]
    fd, log = programs.load(task, code, prog_type, attach_type=attach_type, flags=flags)
    if fd >= 0:
        task.close(fd)
    return None if fd >= 0 else log


def attach_types(task, programs, prog_type):
    """Those with which the type loads at all, of those that make a difference."""
    wanted = {
        wire.WITHOUT_TARGET[prog_type][0],
        *contexts.CONTEXTS.get(prog_type, (0, ()))[1],
        *MORE.get(prog_type, ()),
    }
    return [one for one in sorted(wanted) if load(task, programs, contexts.RETURN_1, prog_type, one) is None]


def allowed(task):
    """{number of a helper: the numbers of the types that may call it}, with one of its attach types at least"""
    programs, table = wire.Programs(bytes(64)), {helper: [] for helper in names()}
    for kind in sorted(wire.WITHOUT_TARGET):
        places = attach_types(task, programs, kind)
        for helper, types in table.items():
            code = bytes((0x85, 0, 0, 0)) + helper.to_bytes(4, "little") + bytes((0x95, *bytes(7)))
            logs = (load(task, programs, code, kind, place) for place in places)
            if any(log is None or not any(words in log for words in REFUSALS) for log in logs):
                types.append(kind)
    return table


def ranges(numbers):
    """ "1-4 6" of 1, 2, 3, 4, 6."""
    runs = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return " ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def measured(task):
    """{name of a helper: (the types that may call it, those that may not without CAP_PERFMON though they load)}"""
    table = allowed(task)
    with wire.without_perfmon(task):
        without = allowed(task)
    loading = set().union(*without.values())
    return {
        names()[helper]: (ranges(types), ranges(sorted(loading.intersection(types) - set(without[helper]))))
        for helper, types in table.items()
        if types
    }


def text(found):
    return HEAD + "".join(f'HELPER_ALLOWED({name}, "{types}", "{lost}")\n' for name, (types, lost) in found.items())


if __name__ == "__main__":
    import bpfsim

    found = text(measured(bpfsim.LiveKernel().spawn("helpers")))
    if "--write" in sys.argv:
        TABLE.write_text(found)
    else:
        print(found, end="")
