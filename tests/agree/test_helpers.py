"""Which program type may call which helper, as the table has it, as the machine judges, and as the live kernel does."""

import bpfsim
import helpers_allowed
import wire


def test_the_table_is_what_the_live_kernel_answers(live):
    assert helpers_allowed.TABLE.read_text() == helpers_allowed.text(helpers_allowed.measured(live))


def test_the_machine_answers_as_the_table_has_it():
    rows = [line for line in helpers_allowed.TABLE.read_text().splitlines() if line.startswith("HELPER_ALLOWED(")]
    ours = helpers_allowed.text(helpers_allowed.measured(bpfsim.Kernel().spawn())).splitlines()
    assert [row for row in ours if row.startswith("HELPER_ALLOWED(")] == rows


def test_a_helper_without_a_body_is_not_modelled():
    task, programs = bpfsim.Kernel().spawn(), wire.Programs(bytes(64))
    fd, log = programs.load(task, bytes((0x85, 0, 0, 0, 69, 0, 0, 0, 0x95, *bytes(7))), wire.XDP)  # bpf_fib_lookup
    assert wire.name(fd) == "ENOTSUP" and "bpfsim: not modelled yet: the helper bpf_fib_lookup" in log
    fd, log = programs.load(task, bytes((0x85, 0, 0, 0, 69, 0, 0, 0, 0x95, *bytes(7))), wire.SOCKET_FILTER)
    assert wire.name(fd) == "EINVAL" and "program of this type cannot use helper bpf_fib_lookup#69" in log
