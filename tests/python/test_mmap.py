"""task.mmap() and task.fdinfo(): what a lesson sees, and that no misuse touches freed memory."""

import errno
import gc
import mmap

import bpfsim
import pytest

MMAPABLE = 1 << 10


@pytest.fixture
def task():
    return bpfsim.Kernel().spawn("loader")


def counts(task, entries=10):
    return task.map_create("array", key_size=4, value_size=8, max_entries=entries, map_flags=MMAPABLE, name="counts")


def test_a_mapping_shares_its_bytes_with_the_map(task):
    counted = counts(task)
    pages = task.mmap(counted.fd, 80)
    assert (len(pages), pages.length, pages[0], pages[-1]) == (80, 80, 0, 0)
    pages[8:16] = (7).to_bytes(8, "little")
    pages[16] = 9
    assert [int.from_bytes(pages[at : at + 8], "little") for at in (0, 8, 16)] == [0, 7, 9]
    assert bytes(pages)[8] == 7
    assert counted[1] == 7 and counted[2] == 9
    counted[3] = 1000
    assert int.from_bytes(pages[24:32], "little") == 1000


def test_an_access_that_would_be_a_segmentation_fault_raises(task):
    counted = counts(task)
    writable, readable = task.mmap(counted.fd, 4096), task.mmap(counted.fd, 4096, prot=mmap.PROT_READ)
    with pytest.raises(OSError) as caught:
        readable[0] = 1
    assert caught.value.errno == errno.EFAULT
    with pytest.raises(IndexError):
        writable[4096]
    with pytest.raises(ValueError, match="no step"):
        writable[0:8:2]
    with pytest.raises(ValueError, match="the slice has 4 bytes, the value 3"):
        writable[0:4] = b"abc"
    writable.munmap()
    for use in (lambda: writable[0], lambda: bytes(writable), lambda: writable.__setitem__(0, 1)):
        with pytest.raises(OSError) as caught:
            use()
        assert caught.value.errno == errno.EFAULT
    task.exit()
    with pytest.raises(OSError):
        readable[0]


def test_a_mapping_keeps_its_machine_alive():
    def only_pages():
        task = bpfsim.Kernel().spawn("short")
        return task.mmap(counts(task).fd, 4096)

    pages = only_pages()
    gc.collect()
    pages[0] = 5
    assert pages[0] == 5 and pages.task.comm == "short"


def test_a_mapping_is_a_reference(task):
    counted = counts(task)
    number = counted.id
    with task.mmap(counted.fd, 4096):
        counted.close()
        second = task.bpf("MAP_GET_FD_BY_ID", map_id=number)
        task.close(second)
    with pytest.raises(OSError) as caught:
        task.bpf("MAP_GET_FD_BY_ID", map_id=number)
    assert caught.value.errno == errno.ENOENT
    assert task.kernel.leaks() == []


def test_fdinfo_is_the_text_of_proc(task):
    lines = task.fdinfo(counts(task).fd).splitlines()
    assert lines[:2] == ["pos:\t0", "flags:\t02000002"]
    assert "memlock:\t4096" not in lines
    assert "memlock:\t8192" in lines  # the struct's page, and one for the values
    with pytest.raises(OSError) as caught:
        task.fdinfo(99)
    assert caught.value.errno == errno.ENOENT


def test_a_program_and_what_is_not_open_cannot_be_mapped(task):
    with pytest.raises(OSError) as caught:
        task.mmap(99, 4096)
    assert caught.value.errno == errno.EBADF
    with pytest.raises(OSError) as caught:
        task.mmap(counts(task).fd, 4096, flags=mmap.MAP_PRIVATE)
    assert caught.value.errno == errno.EINVAL


def test_an_arena_that_was_mapped_for_writing_is_never_frozen():
    """The kernel counts its writers at mmap and forgets to count them out."""
    task = bpfsim.Kernel().spawn()
    arena = task.map_create("arena", key_size=0, value_size=0, max_entries=1, map_flags=MMAPABLE)
    with task.mmap(arena.fd, 4096, prot=mmap.PROT_READ):
        pass
    other = task.map_create("arena", key_size=0, value_size=0, max_entries=1, map_flags=MMAPABLE)
    with task.mmap(other.fd, 4096):
        pass
    arena.freeze()
    with pytest.raises(OSError) as refused:
        other.freeze()
    assert refused.value.errno == errno.EBUSY


def test_an_arena_lies_at_the_same_place_in_every_task(task):
    arena = task.map_create("arena", key_size=0, value_size=0, max_entries=2, map_flags=MMAPABLE)
    pages = task.mmap(arena.fd, 8192)
    assert arena.view().data["user_vm_start"] == pages.address, "whoever maps it first says where"
    pages[5000] = 7
    child = task.fork()
    child.munmap(pages.address, 8192)
    for wrong, errname in ((0, "EINVAL"), (pages.address + 8192, "EINVAL")):
        with pytest.raises(OSError) as caught:
            child.mmap(arena.fd, 8192, address=wrong)
        assert caught.value.errname == errname
    again = child.mmap(arena.fd, 8192, address=pages.address)
    assert (again.address, again[5000]) == (pages.address, 7)
    with pytest.raises(OSError) as caught:
        task.mmap(arena.fd, 8192, address=pages.address)
    assert caught.value.errname == "EBUSY", "something is there in this task: the arena itself"


def test_map_extra_says_where_an_arena_lies(task):
    where = 1 << 44
    arena = task.map_create("arena", key_size=0, value_size=0, max_entries=1, map_flags=MMAPABLE, map_extra=where)
    with pytest.raises(OSError, match="the arena lies at 17592186044416, not at 0"):
        task.mmap(arena.fd, 4096)
    pages = task.mmap(arena.fd, 4096, address=where)
    pages[1] = 3
    assert (pages.address, pages[1]) == (where, 3)


def test_the_second_copy_of_a_ring_shows_the_first(task):
    ring = task.map_create("ringbuf", key_size=0, value_size=0, max_entries=4096)
    prog = task.prog_load(
        "socket_filter",
        """
        r1 = map[ring]
        r2 = r10
        r2 += -8
        *(u64 *)(r10 -8) = 77
        r3 = 8
        r4 = 0
        call bpf_ringbuf_output
        r0 = 0
        exit
        """,
        maps={"ring": ring},
    )
    prog.test_run(bytes(64))
    first = task.mmap(ring.fd, 4096, mmap.PROT_READ, offset=2 * 4096)
    second = task.mmap(ring.fd, 4096, mmap.PROT_READ, offset=3 * 4096)
    assert (first[8], second[8]) == (77, 77)


def test_positions_that_user_space_made_up_show_no_records(task):
    ring = task.map_create("user_ringbuf", key_size=0, value_size=0, max_entries=4096)
    task.mmap(ring.fd, 4096, offset=4096)[0:8] = (1 << 60).to_bytes(8, "little")
    assert ring.view().data["records"] == []
