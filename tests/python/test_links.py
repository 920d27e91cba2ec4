"""Links from Python: netfilter's hooks, many functions or places at once, netkit devices, maps of sockets."""

import bpfsim
import pytest


def drop_nothing(task, kind, expected):
    return task.prog_load(kind, "r0 = 1\nexit", expected_attach_type=expected)


def test_a_netfilter_program_hangs_on_the_namespace():
    kernel = bpfsim.Kernel()
    task = kernel.spawn("bash")
    prog = drop_nothing(task, "netfilter", "netfilter")
    link = task.link_create(prog, netfilter_pf=2, netfilter_hooknum=0, netfilter_priority=10)
    with pytest.raises(OSError, match="priority 10 is there already") as refused:
        task.link_create(prog, netfilter_pf=2, netfilter_hooknum=0, netfilter_priority=10)
    assert refused.value.errname == "EBUSY"
    assert "prio:\t10\n" in task.fdinfo(link.fd)


def test_one_program_at_many_functions():
    kernel = bpfsim.Kernel(config={"CONFIG_FPROBE": True})
    task = kernel.spawn("bash")
    prog = drop_nothing(task, "kprobe", "trace_kprobe_multi")
    link = task.link_create(prog, functions=["do_exit", "wake_up_new_task"], cookies=[7, 8])
    text = task.fdinfo(link.fd)
    assert "kprobe_cnt:\t2\n" in text and "7\t do_exit+0x0/" in text
    with pytest.raises(OSError, match="no function nothing"):
        task.link_create(prog, functions=["nothing"])
    with pytest.raises(ValueError, match="1 cookies for 2 places"):
        task.link_create(prog, functions=["do_exit", "wake_up_new_task"], cookies=[7])


def test_a_machine_as_the_measured_one_has_no_fprobes():
    task = bpfsim.Kernel().spawn("bash")
    with pytest.raises(OSError, match="CONFIG_FPROBE"):
        task.link_create(drop_nothing(task, "kprobe", "trace_kprobe_multi"), functions=["do_exit"])


def test_one_program_at_many_places_of_a_file():
    task = bpfsim.Kernel().spawn("bash")
    prog = drop_nothing(task, "kprobe", "trace_uprobe_multi")
    link = task.link_create(prog, "/bin/bash", offsets=[64, 128], cookies=[1, 2])
    assert "path:\t/bin/bash\n" in task.fdinfo(link.fd)
    with pytest.raises(TypeError, match="must be its path"):
        task.link_create(prog, offsets=[64])


def test_netkit_devices_come_in_pairs():
    kernel = bpfsim.Kernel(config={"CONFIG_NETKIT": True})
    task = kernel.spawn("bash")
    primary, peer = kernel.add_netkit("nk0", "nk1")
    prog = drop_nothing(task, "sched_cls", 0)
    link = task.link_create(prog, primary, "netkit_peer")
    assert f"ifindex:\t{peer.ifindex}\nattach_type:\t55 (peer)" in task.fdinfo(link.fd)
    assert task.prog_query(primary, "netkit_peer") == [prog.id]
    for device, errname in ((peer, "EACCES"), (kernel.net_device("lo"), "ENXIO")):
        with pytest.raises(OSError) as refused:
            task.link_create(prog, device, "netkit_primary")
        assert refused.value.errname == errname
    kernel.remove_net_device("nk0")
    with pytest.raises(KeyError):
        kernel.net_device("nk1")
    assert "ifindex:\t0\n" in task.fdinfo(link.fd)


def test_a_machine_as_the_measured_one_has_no_netkit_devices():
    with pytest.raises(OSError, match="CONFIG_NETKIT"):
        bpfsim.Kernel().add_netkit("nk0", "nk1")


def test_a_link_to_a_map_of_sockets_holds_both():
    kernel = bpfsim.Kernel()
    task = kernel.spawn("bash")
    prog = drop_nothing(task, "sk_msg", 0)
    socks = task.map_create("sockmap", key_size=4, value_size=4, max_entries=4, name="socks")
    link = task.link_create(prog, socks)
    assert f"map_id:\t{socks.id}\n" in task.fdinfo(link.fd)
    with pytest.raises(OSError, match="a link is attached"):
        task.prog_attach(prog, socks)
    socks.close()
    prog.close()
    assert [kind for kind in ("map", "prog") if kernel.leaks()] == []
    link.close()
    assert not kernel.leaks()
