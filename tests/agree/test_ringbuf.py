"""Programs that use a ring buffer: verdict, the verifier's whole log at level 2, and what they return.

What each comes to stands in the table, so it is tested without a live kernel too; the live kernel is asked where the
test may. Two program types only load, two run as well.
"""

import errno
import re

import bpfsim
import pytest


def reserve(size, then, flags=0):
    """Reserves a record and goes on, or leaves with 7 where there is none."""
    return f"""
        r1 = map[ring]
        r2 = {size}
        r3 = {flags}
        call bpf_ringbuf_reserve
        if r0 == 0 goto none
        {then}
        r0 = 2
        exit
    none:
        r0 = 7
        exit"""


SUBMIT = "r1 = r0\nr2 = 0\ncall bpf_ringbuf_submit"
RUNS = [  # what it does, the program, what it returns the first time
    ("a record is submitted", reserve(16, f"*(u64 *)(r0 +8) = 7\n{SUBMIT}"), 2),
    ("a record is discarded", reserve(8, SUBMIT.replace("submit", "discard")), 2),
    ("a record of no size", reserve(0, SUBMIT), 2),
    ("a record larger than the ring", reserve(5000, SUBMIT), 7),
    ("flags that reserve does not take", reserve(8, SUBMIT, flags=1), 7),
    ("flags that submit does not know", reserve(8, SUBMIT.replace("r2 = 0", "r2 = 77")), 2),
    (
        "a record is a key",
        reserve(
            8,
            "r6 = r0\n*(u64 *)(r6 +0) = 1\nr2 = r6\nr1 = map[hash]\ncall bpf_map_lookup_elem\n"
            + SUBMIT.replace("r0", "r6"),
        ),
        2,
    ),
    (
        "two records at a time, the younger one discarded first",
        reserve(
            8,
            "r6 = r0\nr1 = map[ring]\nr2 = 8\nr3 = 0\ncall bpf_ringbuf_reserve\nif r0 == 0 goto one\n"
            "r1 = r0\nr2 = 0\ncall bpf_ringbuf_discard\none:\nr1 = r6\nr2 = 1\ncall bpf_ringbuf_submit",
        ),
        2,
    ),
    (
        "a record's address goes over the stack",
        """r1 = map[ring]\nr2 = 8\nr3 = 0\ncall bpf_ringbuf_reserve\n*(u64 *)(r10 -8) = r0\nr1 = *(u64 *)(r10 -8)
        if r1 == 0 goto none\nr2 = 0\ncall bpf_ringbuf_submit\nnone:\nr0 = 2\nexit""",
        2,
    ),
    (
        "bytes are put out, and the ring is asked how many wait",
        """*(u64 *)(r10 -8) = 99\nr1 = map[ring]\nr2 = r10\nr2 += -8\nr3 = 8\nr4 = 0\ncall bpf_ringbuf_output\nr6 = r0
        r1 = map[ring]\nr2 = 0\ncall bpf_ringbuf_query\nr0 += r6\nexit""",
        16,
    ),
    ("the ring is asked for its size", "r1 = map[ring]\nr2 = 1\ncall bpf_ringbuf_query\nexit", 4096),
]
REFUSED = [  # what it does, the program, errno
    ("a record is forgotten", reserve(8, ""), "EINVAL"),
    ("a record may not be there", f"r1 = map[ring]\nr2 = 8\nr3 = 0\ncall bpf_ringbuf_reserve\n{SUBMIT}\nr0 = 0\nexit",
     "EACCES"),
    ("a write goes past the record", reserve(8, f"*(u64 *)(r0 +8) = 1\n{SUBMIT}"), "EACCES"),
    ("a record is submitted twice",
     reserve(8, f"r6 = r0\n{SUBMIT}\n{SUBMIT.replace('r0', 'r6')}"), "EACCES"),
    ("another address than the record's is submitted", reserve(8, f"r0 += 4\n{SUBMIT}"), "EINVAL"),
    ("the size is not known", "r2 = *(u32 *)(r1 +0)\nr1 = map[ring]\nr3 = 0\ncall bpf_ringbuf_reserve\nr0 = 0\nexit",
     "EACCES"),
    ("a hash is no ring", reserve(8, SUBMIT).replace("map[ring]", "map[hash]"), "EINVAL"),
    ("a ring has no elements",
     "*(u64 *)(r10 -8) = 0\nr1 = map[ring]\nr2 = r10\nr2 += -8\ncall bpf_map_lookup_elem\nr0 = 0\nexit", "EACCES"),
]  # fmt: skip
TYPES = ["xdp", "socket_filter", "tracepoint", "cgroup_sock"]


def told(task, kind, program):
    """What loading says, and what three runs return."""
    maps = {
        "ring": task.map_create("ringbuf", key_size=0, value_size=0, max_entries=4096),
        "hash": task.map_create("hash", key_size=8, value_size=8, max_entries=4),
    }
    code, log, returned = 0, "", []
    try:
        prog = task.prog_load(kind, program, maps=maps, log_level=2)
        log = prog.log
        if kind in ("xdp", "socket_filter"):
            returned = [prog.test_run(bytes(64)).retval for _ in range(3)]
        prog.close()
    except OSError as refused:
        code, log = refused.errno, refused.log
    for m in maps.values():
        m.close()
    log = re.sub(r"0xffff[0-9a-f]{12}", "ADDRESS", log)
    return code, re.sub(r"verification time \d+ usec\n", "", log), returned


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize(("program", "wanted"), [p[1:] for p in RUNS + REFUSED], ids=[p[0] for p in RUNS + REFUSED])
def test_a_program_that_uses_a_ring(kind, program, wanted):
    ours = told(bpfsim.Kernel().spawn(), kind, program)
    if kind != "cgroup_sock" or isinstance(wanted, str):  # its return value may only be 0 or 1
        assert ours[0] == (getattr(errno, wanted) if isinstance(wanted, str) else 0), ours[1]
    assert not ours[2] or ours[2][0] == wanted
    try:
        live = bpfsim.LiveKernel().spawn("ring")
    except PermissionError as refused:
        pytest.skip(f"the live kernel is not asked: {refused}")
    assert ours == told(live, kind, program)
