"""Disagreements that are known, each with its reason. What is not listed here makes ``./dev agree`` fail.

A row's pattern is searched in the disagreement's own words: for programs ``kind | ours | theirs`` with the verdicts and
last lines, and the helpers called; for commands ``case | the line before | our line | their line``.
"""

import re
from typing import NamedTuple


class Known(NamedTuple):
    part: str
    pattern: str
    reason: str


KNOWN = (
    Known(
        "programs",
        r"verdict \| ENOTSUP bpfsim: not modelled yet: .* \| ENOENT ldimm64 insn specifies invalid btf_id",
        "addresses of kernel variables (BPF_PSEUDO_BTF_ID) are not modelled",
    ),
    Known(
        "programs",
        r"verdict \| \S+ bpfsim: not modelled yet: (a call of|the kernel function|functions as values)",
        "kernel functions and callbacks are not modelled",
    ),
    Known(
        "programs",
        r"verdict \| ENOTSUP bpfsim: not modelled yet: the helper ",
        "helpers without a body are not modelled",
    ),
    Known(
        "commands", r"prog_test_run .* TEST_RUN type 6 flags 2: ENOTSUP ", "BPF_F_TEST_XDP_LIVE_FRAMES is not modelled"
    ),
    Known(
        "lifetimes",
        r"^(rename|rmdir|mkdir|unlink|listdir) .*'/sys/fs/?(bpf/?)?'",
        "BPFFS is the only file system: the directories above it refuse with another errno (EXDEV, EPERM)",
    ),
    Known(
        "lifetimes",
        r"PROG_LOAD [^|]*map types \[.*\b33\b[^|]*\|[^|]*\| ENOTSUP ",
        "programs that use an arena are not modelled",
    ),
)


def reason(part, words):
    """Why this disagreement is known, or None."""
    return next((row.reason for row in KNOWN if row.part == part and re.search(row.pattern, words)), None)
