"""Structs of the kernel's functions by name: task.struct_ops, its links, and what keeps them alive."""

import bpfsim
import pytest

RENO = {"ssthresh": "r0 = 2\nexit", "cong_avoid": "exit", "undo_cwnd": "r0 = 10\nexit"}


@pytest.fixture
def task():
    return bpfsim.Kernel().spawn("bash")


def test_a_registered_struct_outlives_its_descriptor_and_says_why(task):
    made = task.struct_ops("tcp_congestion_ops", RENO | {"name": "mine"})
    kept = made.object
    made.close()
    assert task.kernel.congestion_controls == ["reno", "cubic", "mine"]
    assert kept.why_alive() == "TCP congestion controls -- congestion control mine --> map 1 (tcp_congestion_)"
    assert kept.holders() == ["TCP congestion controls by congestion control mine"]
    assert "TCP congestion controls" in str(task.kernel.graph())
    with bpfsim.Map(task, int(task.bpf("MAP_GET_FD_BY_ID", map_id=kept.id))) as again:
        del again[0]
    assert task.kernel.congestion_controls == ["reno", "cubic"]
    assert not kept.alive and not task.kernel.leaks()


def test_the_map_keeps_its_programs_whose_ids_it_shows(task):
    prog = task.prog_load(
        "struct_ops", "r0 = 2\nexit", **task.kernel.struct_ops_member("tcp_congestion_ops", "ssthresh")
    )
    made = task.struct_ops("tcp_congestion_ops", RENO | {"name": "mine", "ssthresh": prog}, link=True)
    assert int.from_bytes(made[0][64:72], "little") == prog.id
    assert "map 1 (tcp_congestion_) by ssthresh" in prog.holders()
    kept = prog.object
    prog.close()
    assert kept.alive
    made.close()
    assert not kept.alive


def test_a_link_registers_a_filled_map_and_an_update_replaces_it(task):
    first = task.struct_ops("tcp_congestion_ops", RENO | {"name": "mine"}, link=True)
    second = task.struct_ops("tcp_congestion_ops", RENO | {"name": "mine", "flags": 2}, link=True)
    assert "mine" not in task.kernel.congestion_controls
    link = task.link_create(first)
    assert "mine" in task.kernel.congestion_controls
    assert "TCP congestion controls by congestion control mine (not counted)" in first.holders()
    with pytest.raises(OSError, match="holds map") as refused:
        link.update(second, 4, old_map_fd=second.fd)
    assert refused.value.errname == "EPERM"
    link.update(second)
    assert "link 1 (struct_ops) by link->map" in second.holders() and first.refcnt == 1
    assert f"map_id:\t{second.id}\n" in task.fdinfo(link.fd)
    link.detach()
    assert "mine" not in task.kernel.congestion_controls
    assert "map_id" not in task.fdinfo(link.fd)


@pytest.mark.parametrize(
    ("struct", "members", "error", "says"),
    [
        ("tcp_congestion_ops", {"names": "x"}, ValueError, "no member 'names'"),
        ("tcp_congestion", {}, ValueError, "no struct called"),
        ("tcp_congestion_ops", {"name": 1.5}, TypeError, "a number, a str or bytes"),
        ("tcp_congestion_ops", {"name": "x" * 17}, ValueError, "has 16 bytes, 17"),
        ("tcp_congestion_ops", {"name": "mine"}, OSError, "must implement ssthresh"),
        ("tcp_congestion_ops", RENO | {"name": "reno"}, OSError, "registered already"),
        ("tcp_congestion_ops", {"ssthresh": "exit"}, bpfsim.VerifierError, "R0 !read_ok"),
        ("bpf_dummy_ops", {"test_1": "r0 = 1\nexit"}, OSError, "cannot be registered"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_stays(task, struct, members, error, says):
    with pytest.raises(error, match=says):
        task.struct_ops(struct, members)
    kinds = [row[1] for row in bpfsim._core.graph_data(task.kernel)[0]]
    assert "task" in kinds and not {"map", "prog"} & set(kinds)
    assert not task.kernel.leaks()


def test_an_owner_makes_the_update_answer_1_and_do_nothing(task):
    """As measured on 6.18: the kernel jumps to its undoing with the 1 of the member before."""
    made = task.struct_ops("tcp_congestion_ops")
    value = bytearray(256)
    value[64 + 88], value[64 + 104] = ord("a"), 1
    assert task.bpf("MAP_UPDATE_ELEM", map_fd=made.fd, key=bytes(4), value=bytes(value)) == 1
    assert made[0] == bytes(256)


def test_a_machine_with_a_registered_struct_is_done_again(task):
    link = task.link_create(task.struct_ops("tcp_congestion_ops", RENO | {"name": "a"}, link=True))
    task.struct_ops("tcp_congestion_ops", RENO | {"name": "b"}).close()
    link.detach()
    assert not task.kernel.history.check()


def test_a_machine_without_btf_has_no_such_struct():
    task, whole = (bpfsim.Kernel(config=config).spawn("bash") for config in ({"DEBUG_INFO_BTF": False}, {}))
    an_int = (
        bytes.fromhex("9feb0100180000000000000010000000100000000500000001000000000000010400000020000001") + b"\0int\0"
    )
    fields = {"map_type": "struct_ops", "key_size": 4, "value_size": 256, "max_entries": 1}
    fields["btf_vmlinux_value_type_id"] = whole.kernel.btf_id("bpf_struct_ops_tcp_congestion_ops")
    with pytest.raises(OSError, match="no BTF of its own") as refused:
        task.bpf("MAP_CREATE", btf_fd=int(task.bpf("BTF_LOAD", btf=an_int, btf_size=len(an_int))), **fields)
    assert refused.value.errname == "ENOTSUPP"


@pytest.mark.parametrize("version", ["5.6", "5.15", "6.1", "6.4", "6.12"])
def test_older_kernels_register_it_too(version):
    task = bpfsim.Kernel(version).spawn("bash")
    made = task.struct_ops("tcp_congestion_ops", RENO | {"name": "mine", "flags": 2})
    assert task.kernel.congestion_controls[-1] == "mine"
    with pytest.raises(OSError, match="registered already"):
        task.struct_ops("tcp_congestion_ops", RENO | {"name": "mine"})
    with pytest.raises(OSError, match="not those of a congestion control"):
        task.struct_ops("tcp_congestion_ops", RENO | {"name": "other", "flags": 4})
    del made[0]
    assert "mine" not in task.kernel.congestion_controls


def test_a_struct_ops_link_is_no_neighbour_of_programs(task):
    link = task.link_create(task.struct_ops("tcp_congestion_ops", RENO | {"name": "mine"}, link=True))
    prog = task.prog_load("sched_cls", "r0 = 0\nexit")
    before_a_link = 8 | 1 << 13
    with pytest.raises(OSError, match="has no program"):
        task.link_create(prog, "eth0", "tcx_ingress", flags=before_a_link, relative_fd=link.fd)
    with pytest.raises(OSError, match="no iterator"):
        task.bpf("ITER_CREATE", link_fd=link.fd)
    link.pin("/sys/fs/bpf/link")
    link.close()
    assert "mine" in task.kernel.congestion_controls
    task.unlink("/sys/fs/bpf/link")
    assert "mine" not in task.kernel.congestion_controls


def test_a_view_shows_the_members_and_their_programs():
    k = bpfsim.Kernel()
    code = {"ssthresh": "r0 = 1\nexit", "cong_avoid": "r0 = 0\nexit", "undo_cwnd": "r0 = 1\nexit"}
    m = k.spawn().struct_ops("tcp_congestion_ops", {"name": "own", **code})
    view = m.view()
    assert view.facts() == "struct tcp_congestion_ops, registered; 3 members with a program"
    assert "prog 2" in str(view) and "undo_cwnd" in view.svg() and "own" in view.svg() and "\\x00" not in str(view)
    assert [name for name, _, _ in view.to_json()["members"]] == ["ssthresh", "cong_avoid", "undo_cwnd", "name"]
    assert k.spawn().struct_ops("tcp_congestion_ops").view().facts().endswith("only filled; 0 members with a program")
    linked = k.spawn().struct_ops("tcp_congestion_ops", {"name": "linked", **code}, link=True)
    assert "ready for a link" in linked.view().facts()
