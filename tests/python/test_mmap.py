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
