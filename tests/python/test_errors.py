"""What a refused call raises: BpfError with its errno and reason, as the OSError that Python has for the errno."""

from __future__ import annotations

import copy
import errno
import json
import pickle
import re
from pathlib import Path

import bpfsim
import pytest

SIM = Path(__file__).resolve().parents[2] / "sim"
SPIN = "r6 = 0\nl: r6 += 1\nif r6 < 60000 goto l\n"


@pytest.fixture
def task():
    return bpfsim.Kernel().spawn()


def refused(call):
    with pytest.raises(bpfsim.BpfError) as caught:
        call()
    return caught.value


def test_every_refused_call_raises_a_bpf_error_that_says_why(task):
    error = refused(lambda: task.map_create("array", key_size=8))
    assert (error.errno, error.errname, error.check) == (errno.EINVAL, "EINVAL", "array_map_alloc_check")
    assert "key_size" in error.reason and error.reason in str(error)
    assert error.args[0] == errno.EINVAL and type(error) is bpfsim.BpfError


@pytest.mark.parametrize(
    "call,kind",
    [
        (lambda t: t.bpf("OBJ_GET", pathname="/sys/fs/bpf/none"), FileNotFoundError),
        (lambda t: t.mkdir("/sys/fs/bpf/a/b"), FileNotFoundError),
        (lambda t: t.close(99), OSError),
        (lambda t: t.kernel.spawn(uid=1000).bpf("PROG_GET_NEXT_ID"), PermissionError),
    ],
)
def test_it_is_the_os_error_that_python_has_for_the_errno(task, call, kind):
    with pytest.raises(kind) as caught:
        call(task)
    assert isinstance(caught.value, bpfsim.BpfError)
    assert (type(caught.value).__module__, type(caught.value).__name__) == ("bpfsim", "BpfError")


def test_an_error_can_be_copied_and_pickled(task):
    error = refused(lambda: task.bpf("OBJ_GET", pathname="/sys/fs/bpf/none"))
    for other in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(other) is type(error) and str(other) == str(error)
        assert (other.errname, other.check, other.reason) == (error.errname, error.check, error.reason)


def test_a_refused_program_is_a_bpf_error_too(task):
    error = refused(lambda: task.prog_load("xdp", "exit"))
    assert isinstance(error, bpfsim.VerifierError) and error.reason == "R0 !read_ok"
    assert str(error) == "[Errno 13] Permission denied (check_reg_arg: R0 !read_ok) [Linux 6.18]"


def test_the_field_that_an_old_kernel_lacks_stands_in_the_message():
    error = refused(lambda: bpfsim.Kernel("4.14").spawn().map_create("array", name="ab"))
    assert error.reason.endswith("; byte 28 is map_name, which came with Linux 4.15") and error.reason in str(error)


def test_a_byte_of_a_name_is_no_byte_of_the_attr(task):
    error = refused(lambda: task.map_create("array", name="a-b"))
    assert "map_ifindex" not in str(error)


@pytest.mark.parametrize("level", [1, 2, 4, 5, 7])
def test_the_reason_is_no_line_of_statistics(level):
    task = bpfsim.Kernel(history=False).spawn()  # how long it took is another line each time
    error = refused(lambda: task.prog_load("xdp", "r0 = r9\nexit", log_level=level))
    assert error.reason == "R9 !read_ok"


def test_a_program_whose_log_is_too_long_is_loaded_without_one(task):
    prog = task.prog_load("xdp", SPIN + "r0 = 0\nexit")
    assert "does not fit" in prog.log and "log_size=" in prog.log
    assert len(prog.stages) and prog.stages[0].name == task.prog_load("xdp", "r0 = 0\nexit").stages[0].name
    names = [stage.name for stage in prog.stages]
    assert len(names) == len(set(names))  # one load's


@pytest.mark.parametrize("own", [{"log_size": 1 << 20}, {"log_level": 1}])
def test_who_asks_for_a_log_hears_that_it_does_not_fit(task, own):
    error = refused(lambda: task.prog_load("xdp", SPIN + "r0 = 0\nexit", **own))
    assert error.errname == "ENOSPC" and "the log needs" in error.reason


def test_a_bad_program_whose_log_is_too_long_is_refused_for_what_it_does(task):
    error = refused(lambda: task.prog_load("xdp", SPIN + "r0 = r9\nexit"))
    assert (error.errname, error.reason) == ("EACCES", "R9 !read_ok")
    assert len(error.log) > 1 << 19


def test_the_last_line_of_a_log_whose_beginning_was_kept_is_no_reason():
    task = bpfsim.Kernel("6.1").spawn()  # since 6.4 the end is kept
    error = refused(lambda: task.prog_load("xdp", SPIN + "r0 = r9\nexit"))
    assert (error.errname, error.reason) == ("EACCES", "R9 !read_ok")
    assert error.log.startswith("0: R1=ctx()") and "!read_ok" not in error.log


def test_a_reply_lists_its_fields(task):
    reply = task.prog_load("xdp", "r0 = 2\nexit").test_run(bytes(14))
    assert {"retval", "duration", "data_size_out"} <= set(dir(reply))


def test_test_run_takes_the_room_that_the_caller_gives(task):
    prog = task.prog_load("xdp", "r0 = 2\nexit")
    room = bytearray(14)
    error = refused(lambda: prog.test_run(bytes(range(14)), data_out=room, data_size_out=10))
    assert error.errname == "ENOSPC" and bytes(room) == bytes(range(10)) + bytes(4)
    assert prog.test_run(bytes(range(14)), data_out=room).data == bytes(range(14)) == bytes(room)
    assert refused(lambda: prog.test_run(bytes(14), data_size_out=10)).errname == "ENOSPC"


def test_a_refusal_is_plain_data_and_names_program_and_kernel():
    task = bpfsim.Kernel("5.4").spawn()
    with pytest.raises(bpfsim.VerifierError) as found:
        task.prog_load("xdp", "r0 = r9\nexit", name="mine")
    error = found.value
    assert str(error).endswith("R9 !read_ok) [program 'mine', Linux 5.4]")
    record = json.loads(json.dumps(error.as_dict()))
    assert (record["errno"], record["errname"], record["program"], record["version"]) == (13, "EACCES", "mine", "5.4")
    assert record["check"] == error.check and record["reason"] == error.reason and "R9 !read_ok" in record["log"]
    with pytest.raises(bpfsim.BpfError) as found:
        task.map_create("array", map_flags=1 << 20)
    made = found.value.as_dict()
    assert list(made) == list(record) and (made["log"], made["program"], made["version"]) == (None, None, "5.4")
    with pytest.raises(bpfsim.VerifierError) as found:
        task.prog_load("xdp", "r0 = r9\nexit")
    assert str(found.value).endswith("R9 !read_ok) [Linux 5.4]") and found.value.as_dict()["program"] == ""


def test_parts_of_a_kernel_function_are_functions_that_refuse():
    parts = dict(re.findall(r"^PART\((\w+), (\w+)\)$", (SIM / "uapi/parts.def").read_text(), re.M))
    files = [path.read_text() for path in sorted(SIM.rglob("*.cpp"))]
    for ours in parts:
        function = rf"^( *)(?:\w[^\n(=]* )?[&*]*{ours}\([^;{{]*\)(?: const)? \{{\n(.*?)^\1\}}"
        bodies = [body for text in files for _, body in re.findall(function, text, re.M | re.S)]
        assert len(bodies) == 1, ours
        assert re.search(r"\b(refuse|reject|verifier_bug)\(", bodies[0]), ours
    assert not set(parts) & set(parts.values())
