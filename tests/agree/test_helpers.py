"""Which program type may call which helper, as the table has it, as the machine judges, and as the live kernel does."""

import bpfsim
import helpers_allowed
import pytest
import wire


@pytest.fixture(scope="module")
def measured(live):
    return helpers_allowed.allowed(live)


def test_the_table_is_what_the_live_kernel_answers(measured):
    assert helpers_allowed.TABLE.read_text() == helpers_allowed.text(measured)


def test_the_machine_lets_the_same_types_call_a_helper():
    table = {}
    for line in helpers_allowed.TABLE.read_text().splitlines():
        if line.startswith("HELPER_ALLOWED("):
            name, types = line[len("HELPER_ALLOWED(") : -1].split(", ")
            table[name] = types.strip('"')
    ours = helpers_allowed.allowed(bpfsim.Kernel().spawn())
    names = helpers_allowed.names()
    wrong = [
        f"{names[helper]}: {helpers_allowed.ranges(types)}, live {table.get(names[helper], '')}"
        for helper, types in ours.items()
        if helpers_allowed.ranges(types) != table.get(names[helper], "")
    ]
    assert not wrong, "\n".join(wrong)


def test_a_helper_without_a_body_is_not_modelled():
    task, programs = bpfsim.Kernel().spawn(), wire.Programs(bytes(64))
    fd, log = programs.load(task, bytes((0x85, 0, 0, 0, 69, 0, 0, 0, 0x95, *bytes(7))), wire.XDP)  # bpf_fib_lookup
    assert wire.name(fd) == "ENOTSUP" and "bpfsim: not modelled yet: the helper bpf_fib_lookup" in log
    fd, log = programs.load(task, bytes((0x85, 0, 0, 0, 69, 0, 0, 0, 0x95, *bytes(7))), wire.SOCKET_FILTER)
    assert wire.name(fd) == "EINVAL" and "program of this type cannot use helper bpf_fib_lookup#69" in log
