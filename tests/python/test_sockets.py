"""Sockets of a task, and maps that have them."""

from __future__ import annotations

import errno

import bpfsim
import pytest
from bpfsim import _core


def agree(k: bpfsim.Kernel) -> None:
    assert _core.graph_disagreements(k) == []
    assert k.leaks() == []


def test_a_connection_in_a_sockmap_leaves_it_when_it_is_closed():
    k = bpfsim.Kernel()
    task = k.spawn("server")
    listener, client = task.socket(), task.socket("inet", "stream")
    task.bind(listener, "127.0.0.1", 8080)
    task.listen(listener)
    with pytest.raises(OSError) as refused:
        task.accept(listener)
    assert refused.value.errno == errno.EAGAIN
    task.connect(client, "127.0.0.1", 8080)
    served = task.accept(listener)
    socks = task.map_create("sockmap", key_size=4, value_size=8, max_entries=4, name="socks")
    socks[0] = served
    cookie = socks[0]
    assert cookie != served
    assert any("slot 0" in line for line in task.object_at(served).holders())
    agree(k)
    task.close(served)
    assert 0 not in socks
    agree(k)


def test_a_socket_holds_its_filter():
    k = bpfsim.Kernel()
    task = k.spawn()
    prog = task.prog_load("socket_filter", "r0 = 0\nexit", name="all")
    fd = task.socket("inet", "dgram")
    task.setsockopt(fd, "SO_ATTACH_BPF", prog.fd)
    assert any("sk_filter" in line for line in prog.holders())
    agree(k)
    task.setsockopt(fd, "SO_DETACH_BPF", 0)
    assert not any("sk_filter" in line for line in prog.holders())


def test_names_and_numbers_of_sockets():
    task = bpfsim.Kernel().spawn()
    assert task.socket(2, 2) > 0
    with pytest.raises(ValueError, match="'inet6'"):
        task.socket("ipv6")
    with pytest.raises(OSError) as refused:
        task.socket(99)
    assert refused.value.errno == errno.EAFNOSUPPORT
    one, other = task.socketpair("dgram")
    assert one != other


def test_a_redirect_through_a_devmap_shows_in_the_receipt():
    k = bpfsim.Kernel()
    task, out = k.spawn(), k.add_net_device("veth0")
    ports = task.map_create("devmap", key_size=4, value_size=4, max_entries=2)
    ports[1] = out.ifindex
    prog = task.prog_load("xdp", "r1 = map[ports]\nr2 = 1\nr3 = 0\ncall bpf_redirect_map\nexit", maps={"ports": ports})
    link = task.link_create(prog, k.net_device("eth0"))
    receipt = k.net_device("eth0").receive(bytes(64))
    assert (receipt.verdict, receipt.redirected_to) == ("XDP_REDIRECT", [out.ifindex])
    assert receipt.redirect_map_id == ports.info["id"]
    assert out.counters["tx_packets"] == 1
    del ports[1]
    assert k.net_device("eth0").receive(bytes(64)).verdict == "XDP_ABORTED"
    assert link.fd > 0


def test_a_device_that_goes_takes_programs_and_entries_along():
    k = bpfsim.Kernel()
    task, veth = k.spawn(), k.add_net_device("veth0")
    ports = task.map_create("devmap_hash", key_size=4, value_size=4, max_entries=2)
    ports[7] = veth.ifindex
    prog = task.prog_load("xdp", "r0 = 2\nexit")
    link = task.link_create(prog, veth)
    k.remove_net_device("veth0")
    assert 7 not in ports
    assert link.fd > 0
    with pytest.raises(ReferenceError, match="veth0"):
        _ = veth.counters
    with pytest.raises(OSError) as refused:
        k.remove_net_device("lo")
    assert refused.value.errno == errno.EOPNOTSUPP
    assert k.add_net_device("veth0").ifindex == veth.ifindex + 1
    agree(k)
