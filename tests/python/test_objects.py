"""BPF object files: loaded again and again, refused with the kernel's own words, damaged, and read back."""

import contextlib
import random
from pathlib import Path

import bpfsim
import pytest

TESTS = Path(__file__).resolve().parents[1]
DATA = TESTS / "data"
SHIPPED = sorted([*DATA.glob("*.o"), *(TESTS.parent / "notebooks" / "data").glob("*.o")])


def opened(name):
    return bpfsim.open_object(DATA / f"{name}.o")


def refused(ob, task, **arguments):
    with pytest.raises(OSError) as caught:
        ob.load(task, **arguments)
    return caught.value


def packet(port):
    ethernet, ip = bytes(12) + b"\x08\x00", b"\x45" + bytes(8) + b"\x11" + bytes(10)
    return ethernet + ip + bytes(2) + port.to_bytes(2, "big") + bytes(24)


# ---- loading ----


def test_an_object_loads_into_every_version():
    ob = opened("xdp_drop")
    loads = [ob.load(bpfsim.Kernel(version).spawn()) for version in ("4.14", "4.19", "5.4", "5.15", "6.1", "6.18")]
    for loaded in loads:
        loaded.maps["blocked_ports"][53] = 0
        assert loaded.progs["xdp_drop"].test_run(packet(53)).retval == 1
        assert loaded.maps["blocked_ports"][53] == 1, "each has a map of its own"


def test_a_load_touches_no_descriptor_of_another():
    ob, task = opened("maps"), bpfsim.Kernel().spawn()
    first = ob.load(task)
    there = bpfsim.Kernel().spawn()
    maps = [there.map_create("array", max_entries=n) for n in range(1, 5)]
    second = ob.load(there)
    second.close()
    second.close()
    assert [m.info["max_entries"] for m in maps] == [1, 2, 3, 4] and len(there.fds) == 3 + 4
    assert first.progs["entry"].test_run(bytes(60)).retval == 3, "the first load lives on"


def test_the_object_shows_its_latest_load_and_each_load_its_own():
    ob, task = opened("xdp_drop"), bpfsim.Kernel().spawn()
    assert ob.maps == {} and ob.progs == {}
    first, second = ob.load(task), task.load(ob)
    assert ob.progs is second.progs and ob.maps is second.maps
    assert first.progs["xdp_drop"].id != second.progs["xdp_drop"].id
    assert "xdp_drop <Prog fd" in repr(first)
    assert len(first.steps) == len(second.steps) == len(ob.steps)
    ob.close()
    assert first.progs["xdp_drop"].test_run(bytes(60)).retval == 2
    first.close()
    assert len(task.fds) == 3


def test_a_block_closes_what_it_loaded_but_not_what_was_taken_out():
    ob, task = opened("maps"), bpfsim.Kernel().spawn()
    with ob.load(task) as loaded:
        kept = loaded.progs.pop("target")
    assert [label for fd, label in task.fds.items() if fd > 2] == [f"file (bpf-prog): {kept.object.label}"]
    assert kept.name == "target"


def test_a_refused_load_leaves_nothing_and_the_one_before_it_whole():
    k = bpfsim.Kernel("5.4")
    ob, task, new = opened("maps"), k.spawn(), bpfsim.Kernel().spawn()
    loaded, before = ob.load(new), task.fds
    refused(ob, task)
    assert task.fds == before
    assert ob.progs is loaded.progs and ob.steps[-1].text == "create map events"


def test_a_map_that_is_given_stays_its_owners():
    ob, task = opened("xdp_drop"), bpfsim.Kernel().spawn()
    ports = task.map_create("hash", key_size=2, value_size=8, max_entries=8)
    with ob.load(task, reuse_maps=[("blocked_ports", ports.fd)]) as loaded:
        ports[53] = 0
        assert loaded.progs["xdp_drop"].test_run(packet(53)).retval == 1
        assert loaded.maps["blocked_ports"].id == ports.id
    assert ports[53] == 1
    gone = refused(ob, task, reuse_maps=[("blocked_ports", 77)])
    assert gone.errname == "EBADF" and gone.reason == "map 'blocked_ports': fd 77, given for it, cannot be copied"
    assert ports[53] == 1 and len(task.fds) == 4


def test_an_object_of_the_core_that_is_loaded_keeps_its_descriptors_when_loaded_again():
    task, ob = bpfsim.Kernel().spawn(), opened("xdp_drop")
    bpfsim._core.load(ob._file, task, 1)
    before = task.fds
    with pytest.raises(OSError, match="object 'xdp_drop' is loaded already"):
        bpfsim._core.load(ob._file, task, 1)
    assert task.fds == before


# ---- refusals ----


def test_a_refused_map_says_what_the_kernel_said_and_which_map_it_was():
    task = bpfsim.Kernel("5.4").spawn()
    error = refused(opened("maps"), task)
    words = "BPF_MAP_TYPE_RINGBUF came with Linux 5.8; this is 5.4"
    assert (error.check, error.reason) == task.last_refusal == ("map_create", words)
    assert error.step == "MAP_CREATE of 'events' (type 27)" and not isinstance(error, bpfsim.VerifierError)
    assert str(error) == f"[Errno 22] {error.step}: Invalid argument (map_create: {words})"


def test_a_program_refused_before_the_verifier_says_why():
    error = refused(opened("sections"), bpfsim.Kernel("5.15").spawn())
    assert isinstance(error, bpfsim.VerifierError) and error.log == ""
    assert (error.check, error.reason) == (
        "bpf_prog_load",
        "prog_flags has BPF_F_XDP_HAS_FRAGS, which came with Linux 5.18; this is 5.15",
    )
    assert error.step == "PROG_LOAD of 'frags'" and "enter" in {record.kind for record in error.trace}


def test_a_field_that_an_older_kernel_lacks_is_named():
    error = refused(opened("sections"), bpfsim.Kernel("4.14").spawn())
    assert error.errname == "E2BIG" and error.reason.endswith(
        "byte 68 is expected_attach_type, which came with Linux 4.17"
    )
    assert error.reason in str(error)


@pytest.mark.parametrize("log_level", [0, 1, 2])
def test_a_program_that_the_verifier_refuses_brings_its_log(log_level):
    error = refused(opened("refused"), bpfsim.Kernel().spawn(), log_level=log_level)
    assert isinstance(error, bpfsim.VerifierError) and error.errname == "EACCES"
    assert "invalid access to packet" in error.log
    assert (error.check, error.reason) == ("check_packet_access", "R1 offset is outside of the packet")
    assert str(error).startswith("[Errno 13] PROG_LOAD of 'careless': Permission denied (check_packet_access: R1")


def test_what_the_loader_itself_refuses_is_no_step_of_the_kernel():
    error = refused(opened("core"), bpfsim.Kernel().spawn())
    assert error.step is None and error.check == "load_program" and "CO-RE" in error.reason


def test_the_live_kernel_gives_a_log_but_no_reason():
    try:
        task = bpfsim.LiveKernel().spawn()
    except PermissionError as why:
        pytest.skip(str(why))
    error = refused(opened("refused"), task)
    assert "invalid access to packet" in error.log and error.trace is None
    data = bytearray((DATA / "maps.o").read_bytes())
    ob = bpfsim.open_object(bytes(data))
    error = refused(ob, task, reuse_maps=[("events", opened("maps").load(task).maps["queue"].fd)])
    assert error.step and error.errname


@pytest.mark.parametrize("version", ["4.14", "4.19", "4.20", "5.0", "6.18"])
def test_a_kprobe_names_the_kernel_that_it_is_loaded_into(version):
    ob = opened("sections")
    ob._file.only_program("probe", "kprobe")
    assert ob.load(bpfsim.Kernel(version).spawn()).progs["probe"].type == "BPF_PROG_TYPE_KPROBE"


@pytest.mark.parametrize("kind", ["sk_lookup", "syscall", "netfilter"])
@pytest.mark.parametrize("caps", [None, ["CAP_BPF"]])
def test_a_program_type_of_a_later_version_is_unknown_before_it_is_asked_anything(kind, caps):
    task = bpfsim.Kernel("5.8").spawn(uid=1 if caps else 0, caps=caps)
    with pytest.raises(OSError, match=r"find_prog_type: program type \d+ came with Linux (5.9|5.14|6.4)") as caught:
        task.prog_load(kind, "r0 = 1\nexit")
    assert caught.value.errname == "EINVAL"


def test_an_attach_type_of_a_later_version_is_none():
    with pytest.raises(OSError, match="expected_attach_type 49 came with Linux 6.7"):
        bpfsim.Kernel("5.4").spawn().prog_load("cgroup_sock_addr", "r0 = 1\nexit", expected_attach_type=49)


# ---- bytes that are no text ----


def test_a_name_that_is_no_utf_8_is_shown():
    code = (DATA / "xdp_pass.o").read_bytes().replace(b"\0pass\0", b"\0p\x80\xffs\0")
    ob = bpfsim.open_object(code, "odd")
    assert [row["name"] for row in ob.programs] == [r"p\x80\xffs"]
    assert r"p\x80\xffs" in {row["name"] for row in ob.symbols} and r"\x80" in repr(ob.steps)
    code = (DATA / "maps.o").read_bytes().replace(b"\0max_entries\0", b"\0max_\x80ntries\0")
    with pytest.raises(ValueError, match=r"unknown field 'max_\\x80ntries'"):
        bpfsim.open_object(code)


def test_text_of_any_bytes_comes_back_from_everywhere():
    k = bpfsim.Kernel()
    task = k.spawn(b"\xffcomm")
    m = task.map_create("array")
    task.bpf("OBJ_PIN", bpf_fd=m.fd, pathname=b"/sys/fs/bpf/\xfe\0")
    device = k.add_net_device(b"eth\x80")
    assert task.comm == r"\xffcomm" and r"\xfe" in m.why_alive() and r"\xff" in repr(k.history)
    assert device.name == r"eth\x80" and r"\x80" in str(k.graph())
    k.remove_net_device(b"eth\x80")
    for call, says in {
        lambda: bpfsim.Kernel(b"\xff"): ValueError,
        lambda: bpfsim.Kernel(config={b"\xff": True}): KeyError,
        lambda: bpfsim.assemble(b"\xff"): SyntaxError,
        lambda: bpfsim.open_object(b"").load(task): ValueError,
        lambda: k.net_device(b"\xff"): KeyError,
        lambda: device.counters: ReferenceError,
        lambda: task.bpf("OBJ_GET", pathname="/sys/fs/bpf/" + "é" * 30): OSError,
        lambda: bpfsim._core.type_number("MapType", b"\xff"): ValueError,
    }.items():
        with pytest.raises(says) as caught:
            call()
        assert type(caught.value) is says or isinstance(caught.value, OSError)
        assert str(caught.value)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.name)
def test_a_damaged_object_is_refused_in_words_or_loads(path):
    """3,000 damaged copies of each object that the project ships."""
    rng, good, reached = random.Random(5), path.read_bytes(), 0
    for number in range(3000):
        bad = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            bad[rng.randrange(len(bad))] = rng.choice([0x80, 0xFF, rng.randrange(256)])
        try:
            ob = bpfsim.open_object(bytes(bad))
            assert all(map(repr, (ob, ob.sections, ob.symbols, ob.map_definitions, ob.steps)))
            reached += 1
            if number % 10:
                continue
            task = bpfsim.Kernel(history=False).spawn()
            with contextlib.closing(ob.load(task)) as loaded:
                assert repr(loaded) and repr(loaded.steps)
        except (ValueError, OSError) as error:
            assert not isinstance(error, UnicodeError) and str(error.args[-1]).strip(), (number, repr(error))
            assert isinstance(error, ValueError) or len(task.fds) == 3, number
    assert reached > 1000, "not all are refused by their first bytes"


def test_a_ring_is_told_along_its_references():
    k = bpfsim.Kernel()
    t = k.spawn()
    maps = [t.map_create("prog_array", name=f"j{n}", key_size=4, value_size=4, max_entries=1) for n in range(3)]
    call = "r2 = map[j]\nr3 = 0\ncall bpf_tail_call\nr0 = 2\nexit"
    progs = [t.prog_load("xdp", call, maps={"j": m}, name=f"p{n}") for n, m in enumerate(maps)]
    for n in range(3):
        maps[(n + 1) % 3][0] = progs[n].fd
    (ring,) = k.cycles()
    assert ring == ["map 1 (j0)", "prog 3 (p2)", "map 3 (j2)", "prog 2 (p1)", "map 2 (j1)", "prog 1 (p0)"]
    assert str(ring).startswith("map 1 (j0) -> prog 3 (p2) (slot 0), prog 3 (p2) -> map 3 (j2) (used_maps[0]), ")
    assert str(ring).endswith("prog 1 (p0) -> map 1 (j0) (used_maps[0])")


def test_the_root_cgroup_has_no_counter_and_a_child_has():
    k = bpfsim.Kernel()
    t = k.spawn()
    t.mkdir("/sys/fs/cgroup/web")
    prog = t.prog_load("cgroup_skb", "r0 = 1\nexit")
    for path in ("/sys/fs/cgroup", "/sys/fs/cgroup/web"):
        t.link_create(prog, path, "BPF_CGROUP_INET_INGRESS")
    counters = {node.label: node.counters for node in k.graph().nodes if node.kind == "cgroup"}
    assert list(counters.values())[0] == "" and list(counters.values())[1].startswith("refcnt "), counters


def test_help_calls_the_graph_by_its_name():
    assert bpfsim.Kernel.graph.__name__ == "graph"
