"""Programs on hooks by names: devices, cgroups, namespaces, maps, perf events; with links and without."""

import bpfsim
import pytest

PASS = "r0 = 1\nexit"
GROUP = "/sys/fs/cgroup/web"


@pytest.fixture
def task():
    task = bpfsim.Kernel().spawn("admin")
    task.mkdir(GROUP)
    return task


def load(task, kind, **fields):
    return task.prog_load(kind, PASS, **fields)


@pytest.mark.parametrize(
    ("kind", "fields", "target", "attach_type"),
    [
        ("xdp", {}, "eth0", None),
        ("xdp", {}, 2, "xdp"),
        ("sched_cls", {}, "eth0", None),
        ("sched_cls", {}, "eth0", "tcx_egress"),
        ("cgroup_device", {}, GROUP, None),
        ("cgroup_skb", {"expected_attach_type": "cgroup_inet_egress"}, GROUP, None),
        ("cgroup_skb", {}, GROUP, "cgroup_inet_ingress"),
        ("flow_dissector", {}, "/proc/self/ns/net", None),
    ],
)
def test_a_link_takes_whatever_names_its_hook(task, kind, fields, target, attach_type):
    before = dict(task.fds)
    prog = load(task, kind, **fields)
    link = task.link_create(prog, target, attach_type)
    info = link.info
    assert info["prog_id"] == prog.id
    told = {"BPF_LINK_TYPE_XDP": "ifindex", "BPF_LINK_TYPE_TCX": "ifindex", "BPF_LINK_TYPE_CGROUP": "cgroup_id"}
    assert info[told.get(info["type_name"], "netns_ino")]
    assert info["type_name"] == "BPF_LINK_TYPE_XDP" or info["attach_type_name"].lower().startswith("bpf_")
    link.close()
    prog.close()
    assert task.fds == before, "what was opened to name the hook is closed again"


def test_a_link_on_a_perf_event_takes_its_descriptor(task):
    event = task.perf_event_open("tracepoint", "sched:sched_switch")
    prog = task.prog_load("tracepoint", "r0 = 0\nexit")
    assert task.link_create(prog, event).info["prog_id"] == prog.id


def test_a_link_of_an_iterator_takes_the_map_whose_elements_it_walks(task):
    m = task.map_create("hash", key_size=4, value_size=8)
    target = task.kernel.btf_id("bpf_iter_bpf_map_elem")
    prog = task.prog_load("tracing", "r0 = 0\nexit", expected_attach_type="trace_iter", attach_btf_id=target)
    before = m.refcnt
    link = task.link_create(prog, m)
    assert m.refcnt == before + 1, "the link holds the map"
    assert link.info["map_id"] == m.id
    link.close()
    assert m.refcnt == before


def test_programs_are_attached_asked_for_and_taken_off_without_a_link(task):
    before = dict(task.fds)
    one, two = load(task, "cgroup_device"), load(task, "cgroup_device")
    multi = 2  # BPF_F_ALLOW_MULTI
    task.prog_attach(one, GROUP, flags=multi)
    task.prog_attach(two, GROUP, flags=multi)
    assert task.prog_query(GROUP, "cgroup_device") == [one.id, two.id]
    task.prog_detach(one, GROUP)
    assert task.prog_query(GROUP, "cgroup_device") == [two.id]
    with pytest.raises(FileNotFoundError):
        task.prog_detach(one, GROUP)
    task.prog_detach(two, GROUP)
    assert task.prog_query(GROUP, "cgroup_device") == []
    one.close()
    two.close()
    assert task.fds == before


def test_a_hook_with_one_program_is_emptied_without_naming_it(task):
    task.prog_attach(load(task, "cgroup_device"), GROUP)
    task.prog_detach(None, GROUP, "cgroup_device")
    assert task.prog_query(GROUP, "cgroup_device") == []
    with pytest.raises(ValueError, match="say attach_type="):
        task.prog_detach(None, GROUP)


def test_more_programs_than_the_first_question_has_room_for(task):
    multi, effective = 2, 1
    inner = f"{GROUP}/inner"
    task.mkdir(inner)
    progs = [load(task, "cgroup_device") for _ in range(66)]
    for nth, prog in enumerate(progs):
        task.prog_attach(prog, inner if nth < 33 else GROUP, flags=multi)
    assert task.prog_query(inner, "cgroup_device", effective) == [prog.id for prog in progs]


def test_a_program_for_a_map_of_sockets(task):
    socks = task.map_create("sockmap", key_size=4, value_size=4, max_entries=2)
    prog = task.prog_load("sk_skb", PASS)
    task.prog_attach(prog, socks, "sk_skb_stream_verdict")
    assert task.prog_query(socks, "sk_skb_stream_verdict") == [prog.id]


def test_what_is_not_clear_is_asked_for(task):
    with pytest.raises(ValueError, match="CGROUP_SKB attach in several ways: say attach_type="):
        task.link_create(load(task, "cgroup_skb"), GROUP)
    with pytest.raises(ValueError, match="another machine"):
        task.link_create(load(bpfsim.Kernel().spawn(), "xdp"), "eth0")
    with pytest.raises(KeyError, match="eth7"):
        task.link_create(load(task, "xdp"), "eth7")
    with pytest.raises(FileNotFoundError):
        task.link_create(load(task, "cgroup_device"), "/sys/fs/cgroup/none")


def test_who_holds_an_xdp_program_depends_on_its_mode():
    k = bpfsim.Kernel()
    task = k.spawn()
    native, generic = (task.prog_load("xdp", "r0 = 2\nexit") for _ in range(2))
    task.rtnl_setlink_xdp("eth0", native)
    task.rtnl_setlink_xdp("lo", generic)
    assert "netdev 2 (eth0) by xdp in the driver" in native.holders()
    assert "netdev 1 (lo) by xdpgeneric as dev->xdp_prog" in generic.holders()
    assert not any("driver" in line for line in generic.holders())
    task.rtnl_setlink_xdp("lo", -1)
    causes = [row["cause"] for row in generic.ledger]
    assert "dev->xdp_prog of netdev 1" in causes and "no more dev->xdp_prog of netdev 1" in causes
    assert not any("driver" in cause for cause in causes)


def test_a_cgroup_s_program_decides_on_devices(task):
    task.mkdir("/sys/fs/cgroup/box")
    only_null = """
        r0 = *(u32 *)(r1 +4)
        if r0 == 1 goto yes
        r0 = 0
        exit
    yes:
        r0 = 1
        exit
    """
    task.link_create(task.prog_load("cgroup_device", only_null), "/sys/fs/cgroup/box")
    task.open_device("b", 8, 0, "rw")
    task.join_cgroup("/sys/fs/cgroup/box")
    task.open_device("c", 1, 3, "rw")
    with pytest.raises(OSError) as caught:
        task.open_device("b", 8, 0)
    assert (caught.value.errname, caught.value.check) == ("EPERM", "cgroup_bpf_check_dev_permission")
    with pytest.raises(OSError, match="access is of m, r and w, not x"):
        task.open_device("c", 1, 3, "x")
