#include "isa/disasm.h"

#include "catch.h"
#include "isa/opcodes.h"

using namespace bpfsim;

static std::string print(const bpf_insn& insn) { return print_bpf_insn({&insn, 1}, 0); }
static std::string print(const TwoSlots& slots, const DisasmOptions& options = {}) {
  return print_bpf_insn(slots, 0, options);
}

// Measured on Linux 6.18: the same text for each of these that a program may hold.
TEST_CASE("An instruction prints as in the verifier log") {
  struct Case {
    bpf_insn insn;
    const char* text;
  };
  const Case cases[] = {
      {alu64_imm(BPF_ADD, 1, -5), "(07) r1 += -5"},
      {alu32_reg(BPF_MUL, 1, 2), "(2c) w1 *= w2"},
      {alu64_imm(BPF_ARSH, 3, 7), "(c7) r3 s>>= 7"},
      {neg64(4), "(87) r4 = -r4"},
      {neg32(4), "(84) w4 = -w4"},
      {mov32_reg(1, 2), "(bc) w1 = w2"},
      {mov64_imm(0, -1), "(b7) r0 = -1"},
      {movsx64(1, 2, 32), "(bf) r1 = (s32)r2"},
      {movsx32(1, 2, 8), "(bc) w1 = (s8)w2"},
      {make_insn(0x3f, 1, 2, 1, 0), "(3f) r1 s/= r2"},
      {make_insn(0x94, 1, 0, 1, 3), "(94) w1 s%= 3"},
      {to_le(1, 16), "(d4) r1 = le16 r1"},
      {to_be(1, 64), "(dc) r1 = be64 r1"},
      {bswap(1, 32), "(d7) r1 = bswap32 r1"},
      {addr_space_cast(1, 2, 0, 1), "(bf) r1 = addr_space_cast(r2, 0, 1)"},
      {addr_space_cast(1, 2, 1, 0), "(bf) r1 = addr_space_cast(r2, 1, 0)"},
      {mov64_percpu_reg(1, 2), "(bf) r1 = &(void __percpu *)(r2)"},
      {jmp_imm(BPF_JNE, 0, 0, 1), "(55) if r0 != 0x0 goto pc+1"},
      {jmp_imm(BPF_JSLT, 0, -1, -7), "(c5) if r0 s< 0xffffffff goto pc-7"},
      {jmp32_reg(BPF_JSET, 1, 2, 3), "(4e) if w1 & w2 goto pc+3"},
      {ja(2), "(05) goto pc+2"},
      {gotol(-100000), "(06) gotol pc-100000"},
      {may_goto(5), "(e5) may_goto pc+5"},
      {call_helper(1), "(85) call bpf_map_lookup_elem#1"},
      {call_helper(0), "(85) call bpf_unspec#0"},
      {call_helper(9999), "(85) call unknown#9999"},
      {call_helper(-1), "(85) call unknown#-1"},
      {call_local(-3), "(85) call pc-3"},
      {call_kfunc(1234), "(85) call kernel-function#1234"},
      {exit_insn(), "(95) exit"},
      {ldx_mem(BPF_W, 1, 1, 76), "(61) r1 = *(u32 *)(r1 +76)"},
      {ldx_memsx(BPF_H, 1, 10, -8), "(89) r1 = *(s16 *)(r10 -8)"},
      {st_mem(BPF_DW, 10, -8, -1), "(7a) *(u64 *)(r10 -8) = -1"},
      {stx_mem(BPF_B, 10, 1, -1), "(73) *(u8 *)(r10 -1) = r1"},
      {atomic_op(BPF_DW, BPF_ADD, 1, 2, 0), "(db) lock *(u64 *)(r1 +0) += r2"},
      {atomic_op(BPF_W, BPF_XOR, 1, 2, 0), "(c3) lock *(u32 *)(r1 +0) ^= r2"},
      {atomic_op(BPF_W, BPF_ADD | BPF_FETCH, 1, 2, 4), "(c3) r2 = atomic_fetch_add((u32 *)(r1 +4), r2)"},
      {atomic_op(BPF_DW, BPF_OR | BPF_FETCH, 1, 2, 4), "(db) r2 = atomic64_fetch_or((u64 *)(r1 +4), r2)"},
      {atomic_op(BPF_DW, BPF_XCHG, 1, 2, 8), "(db) r2 = atomic64_xchg((u64 *)(r1 +8), r2)"},
      {atomic_op(BPF_W, BPF_CMPXCHG, 1, 2, 8), "(c3) r0 = atomic_cmpxchg((u32 *)(r1 +8), r0, r2)"},
      {load_acquire(BPF_H, 1, 2, 8), "(cb) r1 = load_acquire((u16 *)(r2 +8))"},
      {store_release(BPF_B, 1, 2, 8), "(d3) store_release((u8 *)(r1 +8), r2)"},
      {ld_abs(BPF_B, 14), "(30) r0 = *(u8 *)skb[14]"},
      {ld_ind(BPF_W, 7, -4), "(40) r0 = *(u32 *)skb[r7 + -4]"},
      {st_nospec(), "(c2) nospec"},
  };
  for (const Case& c : cases) CHECK(print(c.insn) == c.text);
}

TEST_CASE("What the kernel's printer has no words for prints as the kernel's bug marks") {
  CHECK(print(make_insn(BPF_LDX | BPF_PROBE_MEM | BPF_DW, 1, 2, 0, 0)) == "BUG_ldx_39");
  CHECK(print(make_insn(BPF_ST | BPF_PROBE_MEM32 | BPF_W, 1, 0, 0, 0)) == "BUG_st_a2");
  CHECK(print(make_insn(BPF_STX | BPF_PROBE_MEM32 | BPF_W, 1, 0, 0, 0)) == "BUG_a3");
  CHECK(print(make_insn(BPF_LD | BPF_IMM | BPF_W, 1, 0, 0, 0)) == "BUG_ld_00");
  CHECK(print(atomic_op(BPF_W, 0x77, 1, 2, 0)) == "BUG_c3");
}

TEST_CASE("A field that the kernel's printer does not look at does not change the text") {
  CHECK(print(make_insn(BPF_ALU64 | BPF_MOV | BPF_X, 1, 2, 5, 0)) == "(bf) r1 = r2");
  CHECK(print(make_insn(BPF_ALU64 | BPF_DIV | BPF_K, 1, 0, 7, 3)) == "(37) r1 /= 3");
  CHECK(print(make_insn(BPF_ALU | BPF_END, 1, 0, 0, 8)) == "(d4) r1 = le8 r1");
  CHECK(print(atomic_op(BPF_H, BPF_ADD, 1, 2, 4)) == "(cb) lock *(u16 *)(r1 +4) += r2");
  CHECK(print(make_insn(BPF_JMP | BPF_JCOND, 1, 3, 2, 0)) == "(e5) if r1 (null) 0x0 goto pc+2");
}

TEST_CASE("An LD_IMM64 prints its 64 bits, and addresses only to those who may see them") {
  CHECK(print(ld_imm64(1, 0)) == "(18) r1 = 0x0");
  CHECK(print(ld_imm64(1, 0x1122334455667788)) == "(18) r1 = 0x1122334455667788");
  const TwoSlots map_pointer = ld_imm64_raw(1, BPF_PSEUDO_MAP_FD, 0x12345678, 0xffff8880);
  CHECK(print(map_pointer) == "(18) r1 = 0xffff888012345678");
  CHECK(print(map_pointer, {.allow_ptr_leaks = false}) == "(18) r1 = 0x0");
  const bpf_insn alone = ld_imm64(1, 0x100000005)[0];
  CHECK(print(alone) == "(18) r1 = 0x5");
}

TEST_CASE("Callbacks name kernel functions and values") {
  DisasmOptions options;
  options.call_name = [](const bpf_insn& insn) -> std::optional<std::string> {
    if (insn.imm == 7) return "bpf_rcu_read_lock";
    return {};
  };
  options.imm_text = xlated_imm;
  const auto insns = program(call_kfunc(7), call_kfunc(8), call_helper(1), ld_map_fd(1, 5),
                             ld_map_value(1, 5, 8), ld_func(2, 12), ld_imm64(3, 0xff), exit_insn());
  CHECK(disassemble(insns, options) ==
        "   0: (85) call bpf_rcu_read_lock#7\n"
        "   1: (85) call kernel-function#8\n"
        "   2: (85) call bpf_map_lookup_elem#1\n"
        "   3: (18) r1 = map[id:5]\n"
        "   5: (18) r1 = map[id:5][0]+8\n"
        "   7: (18) r2 = subprog[+12]\n"
        "   9: (18) r3 = 0xff\n"
        "  11: (95) exit\n");
}
