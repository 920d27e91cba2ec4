"""Maps from inside (ops, view) and map types written in Python."""

from __future__ import annotations

import errno
import gc
import re
import weakref
from pathlib import Path

import bpfsim
import btf_bytes
import pytest
from bpfsim import _core
from bpfsim.views import MapView
from bpfsim.views.map_ops import MEMBERS, _short
from cells import Cells

ROOT = Path(__file__).resolve().parents[2]
BPF_F_ZERO_SEED, BPF_F_NO_COMMON_LRU, BPF_F_NO_PREALLOC = 1 << 6, 1 << 1, 1


BOOT = bpfsim.Kernel.__init__


@pytest.fixture
def k():
    return bpfsim.Kernel(cpus=4)


@pytest.fixture
def task(k):
    return k.spawn()


def sound(k):
    assert _core.graph_disagreements(k) == []
    assert k.leaks() == []


# ---- The tables


def test_the_members_are_those_of_our_struct_in_its_order():
    text = (ROOT / "sim" / "object" / "ops.h").read_text()
    struct = text[text.index("struct MapOps {") : text.index("struct MapOpEvent")]
    ours = {"map_mmap_page"}  # the kernel's has no such member
    declared = [m for m in re.findall(r"OpsEntry<.*?>\s+(map_\w+);", struct, re.S) if m not in ours]
    for _, rows in _core.map_ops_matrix():
        assert [member for member, *_ in rows] == declared
    assert list(MEMBERS) == declared, "views/map_ops.py says what each member is for"


def test_every_function_is_where_the_table_says():
    for _, rows in _core.map_ops_matrix():
        for _, function, kernel_file, file in rows:
            if function:
                assert kernel_file.endswith(".c")
            if function and file:
                source = (ROOT / file).read_text()
                assert re.search(rf"\b{function}\(", source), f"{function} is not in {file}"
                assert kernel_file in source.splitlines()[0]


def test_a_queue_takes_no_keys(task):
    queue = task.map_create("queue", key_size=0, value_size=4, max_entries=4)
    for key in (1, "hello", {}):
        with pytest.raises(TypeError, match="a queue has no keys: push"):
            queue[key] = 3
    with pytest.raises(ValueError, match="a queue has no keys"):
        queue[1]
    queue.update(None, 3)
    assert queue.pop() == 3


def test_a_walk_over_a_trie_shows_prefixes_that_are_its_keys(task):
    keys = [bytes([16, 0, 0, 0, 10, 1, 0, 0]), bytes([8, 0, 0, 0, 10, 0, 0, 0])]
    trie = task.map_create("lpm_trie", key_size=8, value_size=4, max_entries=4, map_flags=BPF_F_NO_PREALLOC)
    for n, key in enumerate(keys):
        trie[key] = n
    assert repr(sorted(trie)) == "[10.0.0.0/8, 10.1.0.0/16]"
    assert dict(trie.items()) == {keys[0]: 0, keys[1]: 1}
    del trie[next(iter(trie))]
    assert len(trie) == 1


def test_the_queue_s_table(task):
    ops = task.map_create("queue", key_size=0, value_size=4).ops
    assert ops["map_pop_elem"].function == "queue_map_pop_elem"
    assert ops["map_pop_elem"].kernel_file == "kernel/bpf/queue_stack_maps.c"
    assert ops["map_meta_equal"].kernel_file == "kernel/bpf/map_in_map.c"
    assert ops["map_lookup_batch"].null and ops["map_lookup_batch"].when_null == "ENOTSUPP"
    assert len(ops.filled) + len(ops.null) == len(ops) == len(MEMBERS)
    with pytest.raises(KeyError, match="has no map_pup"):
        ops["map_pup"]


def test_what_is_said_of_null_members_is_what_bpf_answers(task):
    """Those of the answers that bpf(2) can give."""
    array = task.map_create("array", value_size=4, max_entries=2)
    queue = task.map_create("queue", key_size=0, value_size=4)
    jumps = task.map_create("prog_array", value_size=4, max_entries=2)

    def answer(command, **fields):
        with pytest.raises(OSError) as refused:
            task.bpf(command, **fields)
        return refused.value.errname

    word = dict(key=bytes(4), value=bytearray(4))
    assert array.ops["map_lookup_and_delete_elem"].null
    assert answer("MAP_LOOKUP_AND_DELETE_ELEM", map_fd=array.fd, **word) == "ENOTSUPP"
    assert jumps.ops["map_meta_equal"].null
    sizes = dict(key_size=4, value_size=4, max_entries=1)
    assert answer("MAP_CREATE", map_type="array_of_maps", inner_map_fd=jumps.fd, **sizes) == "ENOTSUPP"
    room = dict(keys=bytearray(8), values=bytearray(8), count=2, out_batch=bytearray(4))
    assert queue.ops["map_lookup_batch"].null
    assert answer("MAP_LOOKUP_BATCH", map_fd=queue.fd, **room) == "ENOTSUPP"


def test_the_matrix_of_all_types():
    matrix = bpfsim.map_ops()
    assert {"queue", "stack"} <= set(matrix.users("map_pop_elem")) < {_short(one.type) for one in matrix}
    assert matrix["hash"].type == matrix["BPF_MAP_TYPE_HASH"].type == "BPF_MAP_TYPE_HASH"
    with pytest.raises(KeyError):
        matrix["hush"]
    assert len(matrix) == len(matrix.to_json())


# ---- The inside


def test_a_hash_shows_its_chains(task):
    m = task.map_create("hash", value_size=4, max_entries=6, map_flags=BPF_F_ZERO_SEED)
    for key in range(6):
        m[key] = key + 100
    data = m.view().data
    chained = [e for index, chain in data["buckets"] for e in chain if e["hash"] % data["n_buckets"] == index]
    assert {int.from_bytes(e["key"], "little") for e in chained} == set(range(6))
    assert (data["count"], data["free_elements"]) == (6, 0)
    assert sum(len(chain) for _, chain in m.view(limit=2).data["buckets"]) == 2


def test_the_lists_of_an_lru_hash(task):
    m = task.map_create("lru_hash", value_size=4, max_entries=16, map_flags=BPF_F_ZERO_SEED | BPF_F_NO_COMMON_LRU)
    for key in range(12):
        m[key] = 1
    view = m.view()
    assert len(view.data["lists"]) == 4, "one for each CPU"
    assert sorted(m) == [8, 9, 10, 11], "a quarter of the room is this CPU's"
    assert "inactive of CPU 0" in str(view)


def test_a_trie_shows_what_only_joins(task):
    m = task.map_create("lpm_trie", key_size=8, value_size=4, max_entries=8, map_flags=BPF_F_NO_PREALLOC)
    m[bytes([16, 0, 0, 0, 10, 1, 0, 0])] = 1
    m[bytes([16, 0, 0, 0, 10, 2, 0, 0])] = 2
    top, *below = m.view().data["nodes"]
    assert top["intermediate"] and [node["intermediate"] for node in below] == [False, False]
    text = str(m.view())
    assert "10.0.0.0/14" in text and "10.1.0.0/16" in text and "(intermediate)" in text


def test_a_ring_shows_head_and_tail(task):
    m = task.map_create("queue", key_size=0, value_size=4, max_entries=3)
    for value in (1, 2, 3):
        m.push(value)
    m.pop()
    m.push(4)
    data = m.view().data
    assert (data["size"], data["head"], data["tail"]) == (4, 0, 1)
    assert [slot for slot, _ in data["slots"]] == [1, 2, 3]


def ringbuf_view():
    """A picture of one busy, one discarded and one committed record."""
    records = [(4000, False, True, 40, bytes(32)), (4048, True, False, 8, bytes(8)), (4064, False, False, 8, bytes(8))]
    positions = dict(consumer_pos=4000, producer_pos=4080, pending_pos=4048, wakeups=1)
    return MapView("events", dict(kind="ringbuf", size=4096, count=3, records=records, **positions), list)


MAPS = {
    "array": dict(value_size=4, max_entries=300),
    "percpu_array": dict(max_entries=3),
    "hash": dict(max_entries=4),
    "percpu_hash": dict(max_entries=4),
    "lru_hash": dict(max_entries=8),
    "lru_percpu_hash": dict(max_entries=8),
    "lpm_trie": dict(key_size=8, max_entries=4, map_flags=BPF_F_NO_PREALLOC),
    "queue": dict(key_size=0, max_entries=4),
    "stack": dict(key_size=0, max_entries=4),
    "bloom_filter": dict(key_size=0, max_entries=40),
    "ringbuf": dict(key_size=0, value_size=0, max_entries=4096),
    "prog_array": dict(value_size=4, max_entries=4),
}


@pytest.mark.parametrize("full", [False, True], ids=["empty", "filled"])
@pytest.mark.parametrize("kind", MAPS)
def test_every_picture_is_drawn_and_fits(task, kind, full):
    m = task.map_create(kind, name="m", **MAPS[kind])
    prog = task.prog_load("xdp", "r0 = 2\nexit")
    if full and kind != "ringbuf":
        for n in range(3):
            if m.key_size == 0:
                m.push(n)
            else:
                key = n.to_bytes(8, "big") if m.key_size == 8 else n
                m[key] = prog.fd if kind == "prog_array" else n
    view = m.view()
    assert view.kind != "none"
    width = float(re.search(r'width="(\d+)"', view.svg())[1])
    assert width <= 800, "readable at 800 px"
    assert view.facts() in str(view)
    assert view.to_json()["kind"] == view.kind


def an_int():
    """BTF with one type, the int."""
    return btf_bytes.blob(btf_bytes.integer())


def test_a_storage_shows_its_owners(k, task):
    raw = an_int()
    types = {"btf_fd": task.bpf("BTF_LOAD", btf=raw, btf_size=len(raw)), "btf_key_type_id": 1, "btf_value_type_id": 1}
    m = task.map_create("task_storage", value_size=4, max_entries=0, map_flags=BPF_F_NO_PREALLOC, **types)
    assert "no owner has a value" in m.view().svg() and m.view().facts() == "0 values"
    other = k.spawn("sleepy")
    m[task.pidfd_open(other.pid)] = 77
    view = m.view()
    assert view.kind == "owned" and view.data["count"] == 1
    assert view.facts() == "1 value, with its owner, which the map does not hold"
    assert "sleepy" in str(view) and "77" in str(view)
    assert "sleepy" in view.svg() and "77" in view.svg()
    other.exit()
    assert m.view().data["owned"] == []


@pytest.mark.parametrize("percpu", [False, True])
def test_a_cgroup_s_storage_comes_by_attaching(task, percpu):
    kind = "percpu_cgroup_storage" if percpu else "cgroup_storage"
    m = task.map_create(kind, key_size=16, max_entries=0)
    prog = task.prog_load("cgroup_skb", "r1 = map[m]\nr0 = 1\nexit", maps={"m": m})
    task.mkdir("/sys/fs/cgroup/web")
    link = task.link_create(prog, "/sys/fs/cgroup/web", "cgroup_inet_ingress")
    ((_, label, at, values),) = m.view().data["owned"]
    assert label == "cgroup /sys/fs/cgroup/web" and at == "BPF_CGROUP_INET_INGRESS"
    assert values == [bytes(8)] * (4 if percpu else 1)
    assert label in m.view()._repr_html_()
    link.close()
    assert m.view().data["count"] == 1, "it stays with the group"
    task.rmdir("/sys/fs/cgroup/web")
    assert m.view().data["count"] == 0


def test_an_arena_s_pages(task):
    m = task.map_create("arena", key_size=0, value_size=0, max_entries=3, map_flags=1 << 10)
    assert "nobody has mapped them" in str(m.view())
    pages = task.mmap(m.fd, 3 * 4096)
    assert "user addresses from 0x" in str(m.view()) and "they lie at 0xffff" in str(m.view())
    assert len(pages) == 3 * 4096 and m.view().svg().count("<rect") == 3


OTHERS = {
    "user_ringbuf": (dict(key_size=0, value_size=0, max_entries=4096), "ringbuf"),
    "devmap": (dict(value_size=4, max_entries=4), "objects"),
    "devmap_hash": (dict(value_size=4, max_entries=4), "objects"),
    "cpumap": (dict(value_size=4, max_entries=2), "objects"),
    "xskmap": (dict(value_size=4, max_entries=4), "objects"),
    "sockmap": (dict(value_size=4, max_entries=4), "objects"),
    "sockhash": (dict(value_size=4, max_entries=4), "objects"),
    "reuseport_sockarray": (dict(max_entries=4), "objects"),
    "perf_event_array": (dict(value_size=4, max_entries=2), "objects"),
    "cgroup_array": (dict(value_size=4, max_entries=2), "objects"),
    "stack_trace": (dict(value_size=16, max_entries=2), "stacks"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_every_type_says_what_is_inside(task, kind):
    fields, picture = OTHERS[kind]
    view = task.map_create(kind, **fields).view()
    assert view.kind == picture
    assert view.facts() in str(view) and kind in view._repr_html_()


def test_a_cpumap_s_slots(task):
    m = task.map_create("cpumap", value_size=8, max_entries=4)
    prog = task.prog_load("xdp", "r0 = 2\nexit", name="on_cpu", expected_attach_type="BPF_XDP_CPUMAP")
    m[0] = (192).to_bytes(4, "little") + prog.fd.to_bytes(4, "little")
    m[1] = 64
    view = str(m.view())
    assert "2 of 4 slots hold something" in view and "0x0" not in view
    assert "a queue of 192 frames, prog 1 (on_cpu)" in view and "a queue of 64 frames\n" in view + "\n"


def test_a_bloom_filter_is_asked_about_values(task):
    bf = task.map_create("bloom_filter", key_size=0, value_size=4, max_entries=10)
    bf.push(3)
    assert 3 in bf and bf.peek(3) is True
    assert 4 not in bf and bf.peek(4) is False
    for ask in (bf.peek, lambda: bf.peek(1, 2)):
        with pytest.raises(TypeError, match="wants one value; ask a bloom filter .*: 3 in bf"):
            ask()
    for ask in (lambda: bf[3], lambda: bf.get(3)):
        with pytest.raises(ValueError, match="has no keys; ask a bloom filter .*: 3 in bf"):
            ask()
    queue = task.map_create("queue", key_size=0, value_size=4, max_entries=2)
    with pytest.raises(TypeError, match="takes no value"):
        queue.peek(3)


def test_a_ring_buffer_s_records():
    text = str(ringbuf_view())
    assert "busy" in text and "discarded" in text and "committed" in text
    assert "80 bytes in 3 records" in text
    assert ringbuf_view().svg().count("<rect") >= 4


# ---- Types written in Python


def test_a_type_of_one_s_own_is_a_mapping(k, task):
    assert k.register_map_type("cells", Cells) == 1000
    m = task.map_create("cells", value_size=4, max_entries=2, name="mine")
    with k.trace() as calls:
        m[1] = 10
    assert calls.of("map_op")[0].fields["function"] == "Cells.map_update_elem"
    m[2] = 20
    assert (dict(m.items()), 1 in m, 9 in m, m.type) == ({1: 10, 2: 20}, True, False, "cells")
    with pytest.raises(OSError) as full:
        m[3] = 30
    assert (full.value.errname, full.value.reason) == ("E2BIG", "all cells are taken")
    assert full.value.check == "Cells.map_update_elem"
    del m[1]
    with pytest.raises(KeyError):
        del m[1]
    assert int(task.bpf("MAP_CREATE", map_type=1000, key_size=4, value_size=4, max_entries=1)) > 0
    sound(k)
    task.exit()
    sound(k)


def test_a_program_gets_the_address_of_an_element(k, task):
    k.register_map_type("cells", Cells)
    m = task.map_create("cells", value_size=4, max_entries=2)
    m[1] = 10
    prog = task.prog_load(
        "xdp",
        """
        *(u32 *)(r10 -4) = 1
        r2 = r10
        r2 += -4
        r1 = map[m]
        call bpf_map_lookup_elem
        if r0 == 0 goto out
        r1 = *(u32 *)(r0 +0)
        r1 += 7
        *(u32 *)(r0 +0) = r1
    out:
        r0 = 2
        exit
        """,
        maps={"m": m},
    )
    prog.test_run(bytes(64))
    assert m[1] == 17
    del m[1]
    prog.test_run(bytes(64))  # a lookup that finds nothing
    assert 1 not in m


def test_a_map_without_keys_pushes_and_pops(k, task):
    class Bag:
        def map_alloc(attr):
            return []

        def map_push_elem(map, value, flags):
            map.state.append(value)

        def map_peek_elem(map):
            return min(map.state, default=None)

        def map_pop_elem(map):
            least = min(map.state, default=None)
            if least is not None:
                map.state.remove(least)
            return least

    k.register_map_type("bag", Bag)
    m = task.map_create("bag", key_size=0, value_size=1, max_entries=9)
    for value in (5, 3, 8):
        m.push(value)
    assert [m.peek(), m.pop(), m.pop(), m.pop()] == [3, 3, 5, 8]
    with pytest.raises(KeyError):
        m.pop()


def test_what_a_class_leaves_out_is_not_supported(k, task):
    class Deaf:
        def map_update_elem(map, key, value, flags):
            pass

    k.register_map_type("deaf", Deaf)
    m = task.map_create("deaf", value_size=4, max_entries=1)
    m[1] = 1
    for call in (lambda: m[1], lambda: m.__delitem__(1), lambda: list(m)):
        with pytest.raises(OSError) as refused:
            call()
        assert refused.value.errname == "EOPNOTSUPP"
    assert m.ops["map_lookup_elem"].null and m.ops["map_lookup_elem"].when_null == "EOPNOTSUPP"


class Wrong:
    """Every way to be wrong, by key."""

    def map_lookup_elem(map, key):
        what = key[0]
        if what == 1:
            raise KeyError("a slip")
        if what == 2:
            return b"too long for the value"
        if what == 3:
            return 5
        if what == 4:
            raise OSError("no number")
        if what == 5:
            Wrong.task.close(3)
        if what == 6:
            raise OSError(errno.ENOSPC, "x" * 300)
        return b"good"

    def map_free(map):
        raise ValueError("cannot let go")


@pytest.mark.parametrize(
    ("key", "error", "says"),
    [
        (1, KeyError, "a slip"),
        (2, TypeError, "must return 4 bytes, not 22"),
        (3, TypeError, "must return bytes, not int"),
        (4, OSError, "no number"),
        (5, RuntimeError, "in the middle of a call"),
        (6, OSError, "x" * 117),
    ],
)
def test_a_slip_in_a_method_reaches_the_caller_and_harms_nothing(k, task, key, error, says):
    k.register_map_type("wrong", Wrong)
    Wrong.task = task
    m = task.map_create("wrong", value_size=4, max_entries=1)
    with pytest.raises(error, match=says):
        task.bpf("MAP_LOOKUP_ELEM", map_fd=m.fd, key=bytes([key, 0, 0, 0]), value=bytearray(4))
    assert m[0] == int.from_bytes(b"good", "little"), "the map goes on"
    sound(k)
    with pytest.raises(ValueError, match="cannot let go"):
        task.exit()
    sound(k)


def test_a_refused_creation_leaves_nothing(k, task):
    class Picky:
        def map_alloc_check(attr):
            if attr.value_size != 4:
                raise OSError(errno.EINVAL, f"value_size must be 4, is {attr.value_size}")

        def map_alloc(attr):
            if attr.max_entries > 2:
                raise OSError(errno.ENOMEM, "too many")
            if attr.max_entries == 2:
                raise ZeroDivisionError

        def map_lookup_elem(map, key):
            return None

    k.register_map_type("picky", Picky)
    with pytest.raises(OSError, match="must be 4, is 8"):
        task.map_create("picky", value_size=8)
    with pytest.raises(OSError, match="too many"):
        task.map_create("picky", value_size=4, max_entries=3)
    with pytest.raises(ZeroDivisionError):
        task.map_create("picky", value_size=4, max_entries=2)
    assert list(task.fds) == [0, 1, 2]
    sound(k)


@pytest.mark.parametrize(
    ("name", "ops", "says"),
    [
        ("hash", Cells, "already"),
        ("two words", Cells, "one word"),
        ("empty", type("Empty", (), {}), "no method"),
        ("slip", type("Slip", (), {"map_lookup_elm": lambda m, k: None}), "did you mean map_lookup_elem"),
        ("closed", type("Closed", (), {"map_mmap": lambda m: None}), "cannot be written in Python"),
        ("value", type("Value", (), {"map_lookup_elem": 3}), "must be a function"),
    ],
)
def test_a_class_that_cannot_be_is_told_at_once(k, name, ops, says):
    with pytest.raises(ValueError, match=says):
        k.register_map_type(name, ops)
    with pytest.raises(ValueError, match="at least 1000"):
        k.register_map_type("low", Cells, number=7)


def test_a_type_belongs_to_one_machine(k):
    k.register_map_type("cells", Cells, number=2000)
    with pytest.raises(ValueError, match="no map type is called 'cells'"):
        bpfsim.Kernel().spawn().map_create("cells")
    with pytest.raises(ValueError, match="did you mean 'cells'"):
        k.spawn().map_create("cels")
    assert k.register_map_type("more", Cells) == 2001
    assert k.spawn().map_create("hash").short_type == "hash"


class Doubled(Cells):
    def map_update_elem(map, key, value, flags):
        map.state[key] = map.element((2 * int.from_bytes(value, "little")).to_bytes(len(value), "little"))


def test_a_class_that_is_registered_again_serves_the_maps_made_from_then_on(k):
    task = k.spawn()
    assert k.register_map_type("cells", Cells) == 1000
    old = task.map_create("cells", key_size=4, value_size=4, max_entries=4)
    old[1] = 5
    assert k.register_map_type("cells", Doubled) == 1001
    new = task.map_create("cells", key_size=4, value_size=4, max_entries=4)
    old[2] = new[2] = 5
    assert (dict(old.items()), dict(new.items())) == ({1: 5, 2: 5}, {2: 10})
    assert old.type == new.type == "cells"
    assert [f.on(k.history.fork_from(len(k.history)).task(task.pid))[2] for f in (old, new)] == [5, 10]
    assert k.history.check() == ""
    with pytest.raises(ValueError, match="number 1001 already"):
        k.register_map_type("cells", Cells, number=1000)


def test_what_a_class_printed_and_raised_is_not_said_again(k, capfd):
    class Chatty:
        def map_update_elem(map, key, value, flags):
            print("update")
            raise RuntimeError("a mistake")

    k.register_map_type("chatty", Chatty)
    task = k.spawn()
    m = task.map_create("chatty", key_size=4, value_size=4, max_entries=4)
    with pytest.raises(RuntimeError, match="a mistake"):
        m[1] = 1
    assert capfd.readouterr().out == "update\n"
    repr(k.history), k.history.film()._repr_html_(), k.history[-1].events
    fork = k.history.fork_from(len(k.history))
    k.races({"a": (task, lambda t: t.dup(m.fd)), "b": (k.spawn(), lambda t: t.exit())})
    assert k.history.check() == ""
    del fork
    gc.collect()
    assert capfd.readouterr() == ("", "")
    fork = k.history.fork_from(len(k.history))
    with pytest.raises(RuntimeError, match="a mistake"):
        m.on(fork.task(task.pid))[1] = 1
    assert capfd.readouterr().out == "update\n", "a call of the fork's own is heard"


def test_a_type_that_cannot_be_walked_does_not_look_empty(k):
    class Blind:
        def map_alloc(attr):
            return {}

        def map_update_elem(map, key, value, flags):
            map.state[key] = value

    k.register_map_type("blind", Blind)
    m = k.spawn().map_create("blind", key_size=4, value_size=4, max_entries=4)
    m[1] = 10
    assert "cannot be listed: map type 'blind' has no map_get_next_key" in str(m.view())
    assert "0 elements" not in m.view()._repr_html_()


class Owner:
    """Refers back to its machine, and is every map's state."""

    def map_alloc(self, attr):
        return self

    def map_lookup_elem(self, map, key):
        self.last = map
        return b"\1\0\0\0"

    def map_free(self, map):
        self.freed.append(map.value_size)


@pytest.mark.parametrize("back", ["kernel", "task"])
def test_a_ring_through_a_machine_is_collected(back):
    owner = Owner()
    owner.freed = []
    kernel = _core.Kernel.__new__(_core.Kernel)
    BOOT(kernel)  # not one that conftest.py keeps
    kernel.register_map_type("owner", owner)
    task = kernel.spawn()
    m = task.map_create("owner", value_size=4)
    assert m[0] == 1
    owner.back = kernel if back == "kernel" else task
    gone = weakref.ref(owner)
    del owner, kernel, task, m
    gc.collect()
    assert gone() is None


def test_what_outlives_its_map_says_so(k, task):
    owner = Owner()
    owner.freed = []
    k.register_map_type("owner", owner)
    m = task.map_create("owner", value_size=4)
    assert m[0] == 1
    m.close()
    assert owner.freed == [4]
    with pytest.raises(ReferenceError):
        _ = owner.last.value_size
    kept = []

    class Keeper(Cells):
        def map_update_elem(map, key, value, flags):
            map.state[key] = map.element(value)
            kept.append(map.state[key])

    k.register_map_type("keeper", Keeper)
    m = task.map_create("keeper", value_size=4)
    m[1] = 5
    (element,) = kept
    assert element.value == b"\5\0\0\0"
    m.close()
    with pytest.raises(ReferenceError):
        _ = element.value


def test_the_past_and_forks_have_the_type_too(k, task):
    k.register_map_type("cells", Cells)
    m = task.map_create("cells", value_size=4, max_entries=2)
    m[1] = 10
    steps = len(k.history)
    m[1] = 20
    assert any("map" in node.kind for node in k.history[steps - 1].graph().nodes)
    fork = k.history.fork_from(steps)
    (there,) = [other for other in fork.tasks if other.pid == task.pid]
    assert bpfsim.Map(there, m.fd)[1] == 10
    assert m[1] == 20
    del k
    gc.collect()
    assert bpfsim.Map(there, m.fd)[1] == 10, "a fork lives on its own"


class Returns:
    """Every method that returns an errno, as the kernel's do."""

    def map_alloc_check(attr):
        return -22 if attr.max_entries == 2 else None

    def map_update_elem(map, key, value, flags):
        return -errno.E2BIG

    def map_delete_elem(map, key):
        return 0

    def map_push_elem(map, value, flags):
        return "full"


def test_an_errno_that_a_method_returns_is_no_success(k, task):
    k.register_map_type("returns", Returns)
    m = task.map_create("returns", value_size=4)
    with pytest.raises(TypeError, match=r"Returns.map_update_elem returned -7: .* raise OSError\(errno.E2BIG\)"):
        m[2] = 2
    with pytest.raises(TypeError, match="Returns.map_delete_elem returned 0: it returns nothing"):
        del m[2]
    with pytest.raises(TypeError, match="Returns.map_push_elem returned a value of type str"):
        task.map_create("returns", key_size=0, value_size=4).push(1)
    with pytest.raises(TypeError, match=r"map_alloc_check returned -22: .* raise OSError\(errno.EINVAL\)"):
        task.map_create("returns", max_entries=2)


def test_a_key_error_of_a_method_is_not_a_missing_key(k, task):
    class Slip:
        def map_lookup_elem(map, key):
            return {}["data"]

        def map_get_next_key(map, key):
            return None if key else bytes(4)

    k.register_map_type("slip", Slip)
    m = task.map_create("slip", value_size=4)
    for ask in (lambda: m.get(1), lambda: 1 in m, lambda: list(m.items()), lambda: m[1]):
        with pytest.raises(KeyError, match="data"):
            ask()
    assert "raised KeyError: 'data'" in str(m.view())


def test_what_a_program_writes_to_a_copy_of_bytes_is_missed(k, task):
    class Plain:
        def map_alloc(attr):
            return {bytes([1, 0, 0, 0]): bytes([5, 0, 0, 0])}

        def map_lookup_elem(map, key):
            return map.state.get(key)

        def map_update_elem(map, key, value, flags):
            map.state[key] = value

    k.register_map_type("plain", Plain)
    m = task.map_create("plain", value_size=4)
    look = "*(u32 *)(r10 - 4) = 1\nr2 = r10\nr2 += -4\nr1 = map[m]\ncall bpf_map_lookup_elem\nif r0 == 0 goto out\n"
    reads = task.prog_load("xdp", look + "r0 = *(u32 *)(r0 + 0)\nout: exit", maps={"m": m})
    assert [reads.test_run(bytes(64)).retval for _ in range(3)] == [5] * 3 and m[1] == 5
    writes = task.prog_load("xdp", look + "r1 = 12\n*(u32 *)(r0 + 0) = r1\nr0 = 0\nout: exit", maps={"m": m})
    writes.test_run(bytes(64))
    with pytest.raises(TypeError, match=r"map_lookup_elem returned bytes, and a program wrote .* map.element\(\)"):
        _ = m[1]
    assert m[1] == 5
    m[1] = 12
    writes.test_run(bytes(64))
    assert m[1] == 12


def test_a_walk_that_does_not_end_says_so(k, task):
    class Round:
        def map_get_next_key(map, key):
            return bytes([key[0] ^ 1 if key else 0, 0, 0, 0])

        def map_lookup_elem(map, key):
            return bytes(4)

    class Onwards(Round):
        def map_get_next_key(map, key):
            return (int.from_bytes(key or b"", "little") + 1).to_bytes(4, "little")

    k.register_map_type("round", Round)
    k.register_map_type("onwards", Onwards)
    m = task.map_create("round", value_size=4, max_entries=4)
    assert "2 elements, " in str(m.view()) and "map_get_next_key gave 0 a second time" in str(m.view())
    for walk in (lambda: list(m), lambda: len(m)):
        with pytest.raises(RuntimeError, match="the walk does not end: map_get_next_key of map type 'round' gave 0 a"):
            walk()
    m = task.map_create("onwards", value_size=4, max_entries=4)
    assert "at least 256 elements, and max_entries is 4: does map_get_next_key end?" in str(m.view())
    assert "at least 2 elements, as" in str(m.view(2))


def test_what_a_type_lacks_is_told_by_its_name(k, task):
    k.register_map_type("cells", Cells)
    m = task.map_create("cells", value_size=8, max_entries=4)
    refused = {}
    for call in (
        lambda: task.bpf("MAP_LOOKUP_AND_DELETE_ELEM", map_fd=m.fd, key=bytes(4), value=bytearray(8)),
        lambda: task.bpf("MAP_LOOKUP_BATCH", map_fd=m.fd, count=1),
        lambda: task.map_create("array_of_maps", value_size=4, inner_map_fd=m.fd),
    ):
        with pytest.raises(OSError, match="map type 'cells'") as caught:
            call()
        refused[caught.value.errno] = caught.value.reason
    assert list(refused) == [524]


def test_an_element_s_value_is_bytes(k, task):
    kept = []

    class Shows:
        def map_lookup_elem(map, key):
            map.state = map.state or map.element(bytes(8))
            kept.append(map.state)
            return map.state

    k.register_map_type("shows", Shows)
    m = task.map_create("shows", value_size=8, max_entries=4)
    assert m[1] == 0
    with pytest.raises(TypeError, match=r"value\(\): value must be bytes, is 5"):
        kept[0].value = 5
