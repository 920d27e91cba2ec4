"""What ./dev agree found where the simulator answered otherwise than the live 6.18 kernel."""

import ctypes
import errno
import struct

import bpfsim
import pytest

PASS = "r0 = 0\nexit"
PROG_TEST_RUN, PROG_QUERY = 10, 16


@pytest.fixture
def task():
    return bpfsim.Kernel().spawn("admin")


def iterator(task, target):
    function = task.kernel.btf_id(f"bpf_iter_{target}")
    return task.prog_load("tracing", PASS, expected_attach_type="trace_iter", attach_btf_id=function)


@pytest.mark.parametrize(
    ("kind", "fields", "data", "answer"),
    [
        ("flow_dissector", {}, 13, errno.EINVAL),
        ("sk_lookup", {"expected_attach_type": "sk_lookup"}, 64, errno.EINVAL),
        ("flow_dissector", {}, 64, errno.EFAULT),  # no packet at address 0
        ("cgroup_device", {}, 64, 524),
    ],
)
def test_what_test_run_refuses_depends_on_the_type(task, kind, fields, data, answer):
    prog = task.prog_load(kind, PASS, **fields)
    attr = bytearray(struct.pack("<4I", prog.fd, 0, data, 0).ljust(168, b"\0"))
    assert task.sys_bpf(PROG_TEST_RUN, attr) == -answer


def test_an_iterator_is_run_by_nobody_but_its_reader(task):
    prog = iterator(task, "bpf_map")
    for flags, answer in ((0, errno.EFAULT), (1, errno.EINVAL)):
        attr = bytearray(168)
        struct.pack_into("<I", attr, 0, prog.fd)
        struct.pack_into("<I", attr, 64, flags)
        assert task.sys_bpf(PROG_TEST_RUN, attr) == -answer


def test_a_query_of_a_map_that_takes_no_programs_still_writes_the_count(task):
    array = task.map_create("array", key_size=4, value_size=4, max_entries=1)
    attr = bytearray(struct.pack("<4IQI", array.fd, 5, 0, 7, 0, 9).ljust(168, b"\0"))
    assert task.sys_bpf(PROG_QUERY, attr) == -errno.EOPNOTSUPP
    assert struct.unpack_from("<I", attr, 12)[0] == struct.unpack_from("<I", attr, 24)[0] == 0


def test_the_text_of_a_task_iterators_link_tells_which_tasks(task):
    for target, told in (("task", True), ("bpf_map", False)):
        link = task.bpf("LINK_CREATE", prog_fd=iterator(task, target).fd, attach_type="trace_iter")
        assert ("task_type:\tALL\n" in task.fdinfo(link)) == told


def test_a_barrier_follows_a_store_into_bytes_that_nobody_has_written(task):
    """Without CAP_PERFMON; where a speculative path comes to that barrier, it ends."""
    task.set_caps(["CAP_BPF"])
    beside = "r2 = *(u32 *)(r1 +0)\n*(u32 *)(r10 -12) = r2\nr3 = 5\nif r3 == 5 goto out\n*(u16 *)(r10 {}) = r2\nout:"
    for at, walked in ((-14, 7), (-10, 9)):  # 9: to the exit
        log = task.prog_load("socket_filter", f"{beside.format(at)}\n{PASS}", log_level=2).log
        assert f"processed {walked} insns" in log


@pytest.mark.parametrize(("version", "answer"), [("6.8", errno.EPERM), ("6.18", 0)])
def test_cap_sys_admin_attaches_to_a_cgroup_too(version, answer):
    task = bpfsim.Kernel(version).spawn("admin")
    prog, group = task.prog_load("cgroup_skb", PASS), task.open("/sys/fs/cgroup")
    task.set_caps(["CAP_SYS_ADMIN"])
    attr = bytearray(struct.pack("<4I", prog.fd, group, 0, 0).ljust(168, b"\0"))
    assert min(task.sys_bpf(28, attr), 0) == -answer  # LINK_CREATE


TWO_FUNCTIONS = "call one\nexit\none:\nr0 = 1\nexit"


def test_a_dumped_call_between_functions_tells_the_distance_and_the_functions_number(task):
    prog = task.prog_load("socket_filter", TWO_FUNCTIONS)
    _, source, distance, function = struct.unpack_from("<BBhi", prog.xlated.code)
    assert (source >> 4, distance, function) == (1, 1, 1)
    assert prog.xlated.listing[0].endswith("call pc+1")


def test_room_that_is_short_is_said_before_room_that_cannot_be_written(task):
    prog = task.prog_load("xdp", PASS)
    packet = ctypes.create_string_buffer(64)
    for room, answer in ((63, errno.ENOSPC), (64, errno.EFAULT)):
        attr = bytearray(168)
        struct.pack_into("<4IQQ", attr, 0, prog.fd, 0, 64, room, ctypes.addressof(packet), 16)
        assert task.sys_bpf(PROG_TEST_RUN, attr) == -answer


@pytest.mark.parametrize("path", ["/sys/fs/bpf", "/sys/fs/cgroup"])
def test_a_directory_is_opened_again_and_again_and_never_read(task, path):
    for _ in range(3):
        fd = task.open(path)
        with pytest.raises(IsADirectoryError):
            task.read(fd)
        task.close(fd)
    for mode in (1, 2, 3):
        with pytest.raises(IsADirectoryError):
            task.open(path, mode)


def test_the_text_of_an_open_iterator_tells_how_far_it_was_read(task):
    code = "r6 = r1\nr1 = *(u64 *)(r6 + 0)\nr1 = *(u64 *)(r1 + 0)\nr2 = r10\nr2 += -8\nr3 = 0\n"
    code += "*(u64 *)(r10 - 8) = r3\nr3 = 8\ncall bpf_seq_write\nr0 = 0\nexit"
    target = task.kernel.btf_id("bpf_iter_bpf_prog")
    prog = task.prog_load("tracing", code, expected_attach_type="trace_iter", attach_btf_id=target)
    link = task.bpf("LINK_CREATE", prog_fd=prog.fd, attach_type="trace_iter")
    fd = task.bpf("ITER_CREATE", link_fd=link)
    assert task.read(fd, 5) and task.fdinfo(fd).startswith("pos:\t5\n")


def test_new_directories_belong_to_the_group_of_theirs(task):
    task.mkdir("/sys/fs/bpf/d")
    task.chmod("/sys/fs/bpf/d", 0o2755)
    task.mkdir("/sys/fs/bpf/d/e")
    assert task.stat("/sys/fs/bpf/d/e")["mode"] == 0o42755
