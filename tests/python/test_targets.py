"""Programs that are attached to a function, by name: hooks of security modules, functions of other programs."""

import bpfsim
import pytest
from one_of_each import REPLACES, load_replacement

# A global function is called even where the compiler could see what it does.
CALLS = """
#include "bpfsim.h"
#include "bpfsim_helpers.h"
__attribute__((noinline)) int verdict(struct xdp_md *ctx) { volatile int answer = XDP_PASS; return answer; }
SEC("xdp") int filter(struct xdp_md *ctx) { return verdict(ctx); }
char LICENSE[] SEC("license") = "GPL";
"""
HOOKS = """
#include "bpfsim.h"
#include "bpfsim_helpers.h"
SEC("lsm/file_open") int closed(void *ctx) { return -13; }
SEC("lsm.s/bprm_check_security") int slow(void *ctx) { return 0; }
SEC("lsm_cgroup/socket_bind") int bound(void *ctx) { return 1; }
char LICENSE[] SEC("license") = "GPL";
"""


@pytest.fixture
def task():
    return bpfsim.Kernel().spawn("bash")


def loaded(task, source):
    return bpfsim.open_object(bpfsim.compile_c(source)).load(task).progs


def target_function(task, target):
    """What BTF calls `verdict`, as a watcher's info has it."""
    watcher = task.prog_load(
        "tracing", "r0 = 0\nexit", target=target, function="verdict", expected_attach_type="trace_fentry"
    )
    return watcher.info["attach_btf_id"]


def test_a_function_of_a_program_is_replaced_by_name(task):
    target = loaded(task, CALLS)["filter"]
    extension = task.prog_load("ext", "r0 = 1\nexit", target=target, function="verdict")
    assert extension.info["attach_btf_id"] == target_function(task, target)
    assert extension.info["attach_btf_obj_id"] == target.info["btf_id"]
    link = task.link_create(extension)
    assert link.info["type_name"] == "BPF_LINK_TYPE_TRACING"
    assert link.info["target_obj_id"] == target.id
    assert f"target_obj_id:\t{target.id}\n" in task.fdinfo(link.fd)
    with pytest.raises(OSError, match="replaces the function already") as refused:
        task.link_create(task.prog_load("ext", "r0 = 2\nexit", target=target, function="verdict"))
    assert refused.value.errname == "EBUSY"
    with pytest.raises(ValueError, match="its BTF knows verdict, filter|its BTF knows filter, verdict"):
        task.prog_load("ext", "r0 = 1\nexit", target=target, function="nothing")


def test_an_extension_moves_to_another_program(task):
    first, second = loaded(task, CALLS)["filter"], loaded(task, CALLS)["filter"]
    extension = task.prog_load("ext", "r0 = 1\nexit", target=first, function="verdict")
    link = task.link_create(extension, second, function="verdict")
    assert f"target_obj_id:\t{second.id}\n" in task.fdinfo(link.fd)
    assert first.object.refcnt == 1 and second.object.refcnt == 2


def test_a_c_program_replaces_a_function(task):
    target = loaded(task, CALLS)["filter"]
    file = bpfsim.open_object(bpfsim.compile_c(REPLACES))
    with pytest.raises(OSError, match="of which program it replaces a function was not said"):
        file.load(task)
    link = task.link_create(load_replacement(task, target).progs["deny"])
    assert f"target_obj_id:\t{target.id}\n" in task.fdinfo(link.fd)


def test_a_function_of_a_program_is_watched_by_name(task):
    target = loaded(task, CALLS)["filter"]
    watcher = task.prog_load(
        "tracing", "r0 = 0\nexit", target=target, function="verdict", expected_attach_type="trace_fexit"
    )
    link = task.link_create(watcher)
    extension = task.prog_load("ext", "r0 = 1\nexit", target=target, function="verdict")
    with pytest.raises(OSError, match="trace the function already"):
        task.link_create(extension)
    link.close()
    task.link_create(extension)


def test_an_lsm_program_hangs_on_its_hook(task):
    prog = task.prog_load("lsm", "r0 = -13\nexit", target="file_open")
    link = task.link_create(prog)
    assert f"target_btf_id:\t{task.kernel.btf_id('bpf_lsm_file_open')}\n" in task.fdinfo(link.fd)
    with pytest.raises(bpfsim.VerifierError) as refused:
        task.prog_load("lsm", "r0 = 1\nexit", target="file_open")
    assert "should have been in [-4095, 0]" in refused.value.log
    with pytest.raises(bpfsim.VerifierError, match="GPL"):
        task.prog_load("lsm", "r0 = 0\nexit", target="file_open", license="MIT")


def test_lsm_programs_of_a_cgroup(task):
    task.mkdir("/sys/fs/cgroup/web")
    progs = [
        task.prog_load("lsm", "r0 = 1\nexit", target=hook, expected_attach_type="lsm_cgroup")
        for hook in ("socket_bind", "socket_connect")
    ]
    task.link_create(progs[0], "/sys/fs/cgroup/web")
    task.prog_attach(progs[1], "/sys/fs/cgroup/web")
    assert task.prog_query("/sys/fs/cgroup/web", "lsm_cgroup", 1) == [prog.id for prog in progs]
    assert task.prog_query("/sys/fs/cgroup/web", "lsm_cgroup") == [prog.id for prog in progs]
    task.prog_detach(progs[1], "/sys/fs/cgroup/web")
    assert task.prog_query("/sys/fs/cgroup/web", "lsm_cgroup") == [progs[0].id]


def test_sections_name_hooks(task):
    progs = loaded(task, HOOKS)
    assert {prog.info["attach_btf_id"] for prog in progs.values()} == {
        task.kernel.btf_id(f"bpf_lsm_{hook}") for hook in ("file_open", "bprm_check_security", "socket_bind")
    }
    task.link_create(progs["closed"])
    task.link_create(progs["slow"])
    task.mkdir("/sys/fs/cgroup/web")
    task.link_create(progs["bound"], "/sys/fs/cgroup/web")


def test_what_is_no_target_is_told_in_words(task):
    with pytest.raises(TypeError, match="a target is a name or a Prog"):
        task.prog_load("lsm", "r0 = 0\nexit", target=7)
    plain = task.prog_load("xdp", "r0 = 2\nexit")
    with pytest.raises(ValueError, match="has no BTF"):
        task.prog_load("ext", "r0 = 2\nexit", target=plain, function="main")
    with pytest.raises(ValueError, match="bpf_lsm_nothing"):
        task.prog_load("lsm", "r0 = 0\nexit", target="nothing")


def test_a_mistyped_hook_is_guessed(task):
    with pytest.raises(ValueError, match="did you mean 'bpf_lsm_file_open'"):
        task.prog_load("lsm", "r0 = 0\nexit", target="file_opn")
