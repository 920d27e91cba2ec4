"""What a map's view says of its values before it shows them."""

import bpfsim
import pytest


@pytest.mark.parametrize(
    ("kind", "value_size", "says"),
    [
        ("array", 1, "300 values of 1 byte, 8 bytes from one to the next, from 0x"),
        ("array", 8, "300 values of 8 bytes, one after the other, from 0x"),
        ("array", 12, "300 values of 12 bytes, 16 bytes from one to the next, from 0x"),
    ],
)
def test_an_array_says_how_large_values_are_and_how_far_apart(kind, value_size, says):
    m = bpfsim.Kernel().spawn().map_create(kind, key_size=4, value_size=value_size, max_entries=300)
    assert m.view().facts().startswith(says)


def test_the_copies_of_a_per_cpu_array_are_not_shown_beside_each_other():
    k = bpfsim.Kernel(cpus=4)
    view = k.spawn().map_create("percpu_array", key_size=4, value_size=8, max_entries=2).view()
    assert view.facts() == "2 values of 8 bytes, each once for each of 4 CPUs"
    assert "0x" not in str(view) and "address" not in view._repr_html_() and "CPU 3" in str(view)


def test_a_devmap_shows_the_program_of_an_entry():
    t = bpfsim.Kernel().spawn()
    m = t.map_create("devmap", key_size=4, value_size=8, max_entries=2, name="dm")
    prog = t.prog_load("xdp", "r0 = 2\nexit", name="dp", expected_attach_type="BPF_XDP_DEVMAP")
    m.update(0, (2).to_bytes(4, "little") + prog.fd.to_bytes(4, "little"))
    assert "netdev 2 (eth0), prog 1 (dp)" in str(m.view())
