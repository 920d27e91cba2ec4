"""C to BPF: what comes out, what a learner reads when it does not compile, and what when there is no clang."""

import os
import struct

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
