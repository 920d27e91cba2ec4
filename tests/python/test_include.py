"""The C header of lessons says what the project's own tables say."""

import importlib.util
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
INCLUDE = ROOT / "python" / "bpfsim" / "include"

LAYOUT = r"""
#include "bpfsim.h"
#define CHECK(condition) _Static_assert(condition, #condition)
CHECK(sizeof(struct xdp_md) == 24);
CHECK(sizeof(struct __sk_buff) == 192);
CHECK(offsetof(struct __sk_buff, data) == 76);
CHECK(offsetof(struct __sk_buff, data_meta) == 140);
CHECK(offsetof(struct __sk_buff, tstamp) == 152);
CHECK(offsetof(struct __sk_buff, gso_size) == 176);
CHECK(sizeof(struct ethhdr) == 14);
CHECK(sizeof(struct iphdr) == 20);
CHECK(sizeof(struct ipv6hdr) == 40);
CHECK(sizeof(struct tcphdr) == 20);
CHECK(sizeof(struct udphdr) == 8);
CHECK(sizeof(struct icmphdr) == 8);
"""

STUDENTS_WAY = r"""
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/types.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
SEC("xdp") int f(struct xdp_md *ctx) { bpf_printk("%d", bpf_htons(80)); return XDP_PASS; }
char LICENSE_TEXT[] SEC("license") = "GPL";
"""


def module_at(path: Path):
    """A module by its file: these need no compiled core."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compile_bpf(tmp_path: Path, text: str) -> str:
    """Clang's complaints about the source, or a skip where there is no clang."""
    try:
        clang = module_at(ROOT / "python" / "bpfsim" / "compiler.py").find_clang()
    except FileNotFoundError as reason:
        pytest.skip(str(reason))
    source = tmp_path / "test.c"
    source.write_text(text)
    flags = ["-target", "bpf", "-O2", "-g", "-Wall", "-Werror", f"-I{INCLUDE}"]
    command = [clang, *flags, "-c", str(source), "-o", str(tmp_path / "test.o")]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


def test_generated_headers_are_those_of_the_tables(monkeypatch, tmp_path):
    regenerate = module_at(INCLUDE / "regenerate.py")
    monkeypatch.setattr(regenerate, "HERE", tmp_path)
    regenerate.main()
    for name in ("bpfsim_helpers.h", "bpfsim_types.h"):
        assert (tmp_path / name).read_text() == (INCLUDE / name).read_text()


def test_structs_have_the_kernels_layout(tmp_path):
    assert compile_bpf(tmp_path, LAYOUT) == ""


def test_kernel_headers_as_students_spell_them(tmp_path):
    assert compile_bpf(tmp_path, STUDENTS_WAY) == ""
