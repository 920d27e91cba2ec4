"""Which attach types a program is loaded with, version by version: what is not checked is taken, known or not."""

from __future__ import annotations

import ctypes
import errno
import re
from pathlib import Path

import bpfsim
import pytest
from bpfsim import _core

ROOT = Path(__file__).resolve().parents[2]
ROW = re.compile(r'^ATTACH_TYPE\(BPF_(\w+), (\d+), "([\d.]+)"', re.M)
ROWS = ROW.findall((ROOT / "sim/uapi/attach_types.def").read_text())
NAMES = {name: int(number) for name, number, _ in ROWS}
SINCE_OF = {name: since for name, _, since in ROWS}

# Of Linux's sources: the types whose expected_attach_type PROG_LOAD looks at, since when, and what it may then be, each
# with the version that added it to the list. All other types take any number since 4.17, when the field came.
CHECKED = {
    "cgroup_sock": ("4.17", {"CGROUP_INET_SOCK_CREATE": "4.17", "CGROUP_INET4_POST_BIND": "4.17",
                             "CGROUP_INET6_POST_BIND": "4.17", "CGROUP_INET_SOCK_RELEASE": "5.9"}),
    "cgroup_sock_addr": ("4.17", {
        "CGROUP_INET4_BIND": "4.17", "CGROUP_INET6_BIND": "4.17", "CGROUP_INET4_CONNECT": "4.17",
        "CGROUP_INET6_CONNECT": "4.17", "CGROUP_UDP4_SENDMSG": "4.18", "CGROUP_UDP6_SENDMSG": "4.18",
        "CGROUP_UDP4_RECVMSG": "5.2", "CGROUP_UDP6_RECVMSG": "5.2", "CGROUP_INET4_GETPEERNAME": "5.8",
        "CGROUP_INET6_GETPEERNAME": "5.8", "CGROUP_INET4_GETSOCKNAME": "5.8", "CGROUP_INET6_GETSOCKNAME": "5.8",
        "CGROUP_UNIX_CONNECT": "6.7", "CGROUP_UNIX_SENDMSG": "6.7", "CGROUP_UNIX_RECVMSG": "6.7",
        "CGROUP_UNIX_GETPEERNAME": "6.7", "CGROUP_UNIX_GETSOCKNAME": "6.7"}),
    "cgroup_skb": ("5.3", {"CGROUP_INET_INGRESS": "5.3", "CGROUP_INET_EGRESS": "5.3"}),
    "cgroup_sockopt": ("5.3", {"CGROUP_GETSOCKOPT": "5.3", "CGROUP_SETSOCKOPT": "5.3"}),
    "sk_lookup": ("5.9", {"SK_LOOKUP": "5.9"}),
    "sk_reuseport": ("5.14", {"SK_REUSEPORT_SELECT": "5.14", "SK_REUSEPORT_SELECT_OR_MIGRATE": "5.14"}),
    "syscall": ("5.14", {"CGROUP_INET_INGRESS": "5.14"}),  # the number 0
    "netfilter": ("6.4", {"NETFILTER": "6.4"}),
}  # fmt: skip
ZERO_MEANS = {"cgroup_sock": "CGROUP_INET_SOCK_CREATE", "sk_reuseport": "SK_REUSEPORT_SELECT"}
BY_BTF = {"tracing", "lsm", "ext", "struct_ops"}  # what these take, the verifier says
UNMODELLED = {"unspec", "lirc_mode2"}
# The versions at which an attach type or a check came, and those before them.
SINCE = {*SINCE_OF.values(), *(since for since, _ in CHECKED.values())}


def number(version):
    return tuple(int(n) for n in version.split("."))


def before(version):
    major, minor = number(version)
    return f"{major}.{minor - 1}" if minor else {5: "4.20", 6: "5.19"}[major]


VERSIONS = sorted({v for one in SINCE for v in (before(one), one) if number(v) >= (4, 17)} | {"6.18"}, key=number)


def takes(version, prog_type, attach_type):
    """What Linux's sources say: whether this kernel loads the type with that number."""
    since, known = CHECKED.get(prog_type, ("9.0", {}))
    if number(version) < number(since):
        return True
    if attach_type == 0 and prog_type in ZERO_MEANS:
        return True
    return any(NAMES[name] == attach_type and number(at) <= number(version) for name, at in known.items())


@pytest.mark.parametrize("version", VERSIONS)
def test_a_program_is_loaded_with_the_attach_types_that_its_kernel_checks_or_ignores(version):
    task = bpfsim.Kernel(version).spawn()
    wrong, loads = [], 0
    for _, name, came in _core.prog_type_rows():
        prog_type = name.removeprefix("BPF_PROG_TYPE_").lower()
        if prog_type in BY_BTF | UNMODELLED or number(came) > number(version):
            continue
        flags = {"prog_flags": 16} if prog_type == "syscall" else {}
        major, minor = number(version)
        later = min((n for name, n in NAMES.items() if number(SINCE_OF[name]) > number(version)), default=99)
        for attach_type in [*(NAMES.values() if prog_type in CHECKED else ()), later, 1 << 31]:
            loads += 1
            fields = {"expected_attach_type": attach_type, "kern_version": major << 16 | minor << 8} | flags
            try:
                task.prog_load(prog_type, "r0 = 1\nexit", **fields).close()
                taken = True
            except OSError as error:
                assert error.errno == errno.EINVAL, (prog_type, attach_type, error)
                taken = False
            if taken != takes(version, prog_type, attach_type):
                wrong.append((prog_type, attach_type, taken))
    assert not wrong and loads > 80, (wrong, loads)


def test_before_4_17_there_is_no_expected_attach_type():
    task = bpfsim.Kernel("4.16").spawn()
    task.prog_load("xdp", "r0 = 1\nexit")
    with pytest.raises(OSError) as refused:
        task.prog_load("xdp", "r0 = 1\nexit", expected_attach_type=1)
    assert refused.value.errname == "EINVAL"


# Tracing programs and those of the security modules, by the verifier: the first version that takes them.
BY_TARGET = [
    ("tracing", "trace_raw_tp", "btf_trace_sys_enter", "5.5"),
    ("tracing", "trace_fentry", "do_exit", "5.5"),
    ("tracing", "trace_fexit", "do_exit", "5.5"),
    ("tracing", "lsm_mac", "do_exit", "5.7"),
    ("tracing", "trace_iter", "bpf_iter_task", "5.8"),
    ("tracing", "lsm_cgroup", "do_exit", "6.0"),
    ("tracing", "xdp", "do_exit", None),
    ("tracing", "modify_return", "do_exit", None),
    ("lsm", "lsm_mac", "bpf_lsm_file_open", "5.7"),
    ("lsm", "lsm_cgroup", "bpf_lsm_file_open", "6.0"),
]


@pytest.mark.parametrize(("prog_type", "attach_type", "target", "new"), BY_TARGET, ids=str)
def test_a_program_with_a_target_takes_an_attach_type_since(prog_type, attach_type, target, new):
    first = new or "6.18"
    for version in [v for v in VERSIONS if number(v) >= ((5, 5) if prog_type == "tracing" else (5, 7))]:
        k = bpfsim.Kernel(version)
        fields = {"expected_attach_type": attach_type, "attach_btf_id": k.btf_id(target)}
        text = "r0 = 0\nexit" if attach_type != "lsm_cgroup" else "r0 = 1\nexit"
        if new and number(version) >= number(first):
            k.spawn().prog_load(prog_type, text, **fields)
            continue
        with pytest.raises(bpfsim.VerifierError) as refused:
            k.spawn().prog_load(prog_type, text, **fields)
        assert refused.value.errno == errno.EINVAL
        since = SINCE_OF[attach_type.upper()]
        if number(version) < number(since):
            assert f"BPF_{attach_type.upper()} came with Linux {since}" in refused.value.reason
            assert target not in refused.value.log, "the kernel's log says nothing of it"
        elif attach_type == "modify_return":
            assert f"{target}() is not modifiable" in refused.value.log


def answers(versions, call):
    """[(version, 0 or the errno's name)]."""
    found = []
    for version in versions:
        try:
            call(bpfsim.Kernel(version).spawn())
            found.append((version, 0))
        except OSError as error:
            found.append((version, error.errname))
    return found


@pytest.mark.parametrize(
    ("prog_type", "attach_type", "target"),
    [
        ("tracing", "trace_fentry", "do_exit"),
        ("tracing", "trace_raw_tp", "btf_trace_sys_enter"),
        ("lsm", "lsm_mac", "bpf_lsm_file_open"),
    ],
)
def test_link_create_takes_programs_with_a_target_since(prog_type, attach_type, target):
    def loaded(task):
        fields = {"expected_attach_type": attach_type, "attach_btf_id": task.kernel.btf_id(target)}
        return task.prog_load(prog_type, "r0 = 0\nexit", **fields)

    def link(task):
        task.link_create(loaded(task))

    def opened(task):
        task.bpf("RAW_TRACEPOINT_OPEN", prog_fd=loaded(task).fd)

    versions = ["5.8", "5.10", "5.18", "5.19", "6.18"]
    assert answers(versions, link) == [(v, "EINVAL" if number(v) < (5, 19) else 0) for v in versions]
    assert answers(versions, opened) == [(v, 0) for v in versions]
    with pytest.raises(OSError, match=rf"before Linux 5\.19 BPF_{attach_type.upper()} is attached by RAW_TR"):
        link(bpfsim.Kernel("5.15").spawn())


def test_a_number_that_an_older_kernel_took_means_nothing_to_it():
    def kprobe(attach_type):
        def attach(task):
            event = task.perf_event_open("kprobe", "do_exit")
            prog = task.prog_load("kprobe", "r0 = 7\nexit", expected_attach_type=attach_type)
            task.link_create(prog, event, "perf_event")

        return attach

    assert answers(["5.15", "5.17", "5.18"], kprobe("trace_kprobe_multi")) == [
        ("5.15", 0),
        ("5.17", 0),
        ("5.18", "EINVAL"),
    ]
    assert answers(["6.5", "6.6"], kprobe("trace_uprobe_multi")) == [("6.5", 0), ("6.6", "EINVAL")]

    def returns_7(task):
        task.prog_load("kprobe", "r0 = 7\nexit", expected_attach_type="trace_kprobe_session")

    assert answers(["6.9", "6.10"], returns_7) == [("6.9", 0), ("6.10", "EINVAL")]

    def on_a_device(attach_type):
        def attach(task):
            prog = task.prog_load("xdp", "r0 = 2\nexit", expected_attach_type=attach_type)
            task.rtnl_setlink_xdp("eth0", prog)

        return attach

    assert answers(["5.7", "5.8"], on_a_device("xdp_devmap")) == [("5.7", 0), ("5.8", "EINVAL")]
    assert answers(["5.8", "5.9"], on_a_device("xdp_cpumap")) == [("5.8", 0), ("5.9", "EINVAL")]


def test_programs_of_one_prog_array_have_one_expected_attach_type_since():
    def fill(task):
        table = task.map_create("prog_array", value_size=4, max_entries=2)
        for i in (0, 1):
            table[i] = task.prog_load("sched_cls", "r0 = 0\nexit", expected_attach_type=i).fd

    assert answers(["5.10", "6.17", "6.18"], fill) == [("5.10", 0), ("6.17", 0), ("6.18", "EINVAL")]


def test_raw_tracepoint_open_asked_for_the_name_first():
    """Until 5.4: the name, the tracepoint, the program; and it looked at no byte behind its fields."""

    def opens(name, prog_type=None, **fields):
        def call(task):
            fd = task.prog_load(prog_type, "r0 = 0\nexit").fd if prog_type else 99
            task.bpf("RAW_TRACEPOINT_OPEN", name=name, prog_fd=fd, **fields)

        return call

    versions = ["4.17", "4.19", "5.4", "5.5", "6.18"]
    for call, old, new in (
        (opens(b"nothing\0"), "ENOENT", "EBADF"),
        (opens(0), "EFAULT", "EBADF"),
        (opens(b"sys_enter\0"), "EBADF", "EBADF"),
        (opens(b"nothing\0", "xdp"), "ENOENT", "EINVAL"),
        (opens(b"sys_enter\0", "xdp"), "EINVAL", "EINVAL"),
        (opens(0, "xdp"), "EFAULT", "EINVAL"),
        (opens(b"nothing\0", "raw_tracepoint"), "ENOENT", "ENOENT"),
        (opens(b"sys_enter\0", "raw_tracepoint"), 0, 0),
    ):
        assert answers(versions, call) == [(v, old if number(v) < (5, 5) else new) for v in versions]
    attr = bytearray(48)
    for version, told in (("4.17", "ENOENT"), ("5.4", "ENOENT"), ("5.5", "EINVAL"), ("6.18", "EINVAL")):
        task = bpfsim.Kernel(version).spawn()
        attr[:8], attr[40] = bytes(8), 1
        name = ctypes.create_string_buffer(b"nothing")
        attr[:8] = ctypes.addressof(name).to_bytes(8, "little")
        assert -task.sys_bpf(_core.command_number("RAW_TRACEPOINT_OPEN"), attr) == getattr(errno, told)
