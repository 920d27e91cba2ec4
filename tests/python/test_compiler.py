"""C to BPF: what comes out, what a learner reads when it does not compile, and what when there is no clang."""

import os
import struct

import bpfsim
import pytest
from bpfsim import compiler
from bpfsim.compiler import CompileError, NoClang, compile_c, find_clang

try:
    find_clang()
    CLANG = True
except NoClang:
    CLANG = False
needs_clang = pytest.mark.skipif(not CLANG, reason="no clang on this machine: C cannot be compiled to BPF here")

DROP = '#include <linux/bpf.h>\nSEC("xdp")\nint drop(struct xdp_md *ctx) {\n  return XDP_DROP;\n}\n'


@needs_clang
def test_an_object_for_bpf_comes_out():
    code = compile_c(DROP)
    assert code[:4] == b"\x7fELF"
    assert struct.unpack_from("<H", code, 18)[0] == 247  # EM_BPF
    assert b"xdp\0" in code


@needs_clang
def test_the_same_source_gives_the_same_bytes():
    assert compile_c(DROP) == compile_c(DROP)


@needs_clang
def test_no_path_of_this_machine_is_in_the_object():
    code = compile_c(DROP, "lesson.c")
    assert b"lesson.c" in code
    assert b"/tmp" not in code and os.getcwd().encode() not in code
    assert str(compiler.INCLUDE).encode() not in code


@needs_clang
def test_btf_quotes_the_learners_lines():
    assert b"  return XDP_DROP;" in compile_c(DROP), "the verifier's log cannot show source lines"


@needs_clang
def test_a_mistake_is_reported_with_name_and_line_of_the_cell():
    with pytest.raises(CompileError, match=r"mine\.c:4:3: error:") as caught:
        compile_c(DROP.replace("return", "retrun"), "mine.c")
    assert "bpfsim-" not in str(caught.value), "the temporary folder means nothing to a learner"


@needs_clang
@pytest.mark.parametrize("mcpu", ["v1", "v2", "v3", "v4"])
def test_the_level_of_instructions_can_be_chosen(mcpu):
    assert compile_c(DROP, mcpu=mcpu)[:4] == b"\x7fELF"


@needs_clang
def test_flags_reach_clang(tmp_path, monkeypatch):
    (tmp_path / "own.h").write_text("#define VERDICT XDP_PASS\n")
    monkeypatch.chdir(tmp_path)
    source = '#include "own.h"\n' + DROP.replace("XDP_DROP", "VERDICT")
    with pytest.raises(CompileError, match=r"own\.h"):
        compile_c(source)
    assert compile_c(source, cflags=["-I."])
    assert compile_c(DROP.replace("XDP_DROP", "VERDICT"), cflags=["-DVERDICT=1"])


def test_without_clang_the_word_is_helpful(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("BPFSIM_CLANG", raising=False)
    find_clang.cache_clear()
    try:
        with pytest.raises(NoClang, match="apt install clang"):
            compile_c(DROP)
    finally:
        find_clang.cache_clear()


def test_a_compiler_that_cannot_write_bpf_is_passed_over(monkeypatch, tmp_path):
    fake = tmp_path / "clang"
    fake.write_text("#!/bin/sh\necho '  Registered Targets:'\necho '    x86-64'\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("BPFSIM_CLANG", str(fake))
    find_clang.cache_clear()
    try:
        with pytest.raises(NoClang):
            find_clang()
        fake.write_text("#!/bin/sh\necho '    bpf'\n")
        assert find_clang() == str(fake)
    finally:
        find_clang.cache_clear()


THREE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
char LICENSE[] SEC("license") = "GPL";
struct {
  __uint(type, BPF_MAP_TYPE_HASH); __type(key, int); __type(value, long); __uint(max_entries, 1);
} m SEC(".maps");
int last(struct xdp_md *ctx);
struct {
  __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 1); __uint(key_size, 4); __array(values, int(void *));
} jumps SEC(".maps") = {.values = {[0] = (void *)&last}};
SEC("xdp") int first(struct xdp_md *ctx) { int k = 0; long *v = bpf_map_lookup_elem(&m, &k); return *v; }
SEC("xdp") int second(struct xdp_md *ctx) { bpf_tail_call(ctx, &jumps, 0); return 2; }
SEC("xdp") int last(struct xdp_md *ctx) { return *(int *)(long)ctx->data; }
"""


def test_each_program_of_an_object_can_be_tried():
    o = bpfsim.open_object(compile_c(THREE))
    k = bpfsim.Kernel()
    task = k.spawn()
    with pytest.raises(bpfsim.VerifierError, match="PROG_LOAD of"):
        o.load(task)
    tried = o.load_each(task)
    assert {name: error and error.errname for name, error in tried.items()} == {
        "first": "EACCES",
        "second": None,
        "last": "EACCES",
    }
    assert sorted(e.as_dict()["program"] for e in tried.values() if e) == ["first", "last"]
    assert "PROG_LOAD of 'first'" in str(tried["first"]) and str(tried["last"]).endswith("[program 'last', Linux 6.18]")
    assert o.maps == {} and len(task.fds) == len(k.spawn().fds), "nothing stays"
    assert all(e for e in o.load_each(k.spawn(uid=1000, caps=[])).values())
