// The BTF checker's cases: what is built, the errno and the log's last line. One table for the simulator's
// own test and for the comparison with the live kernel.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "btf/btf_build.h"

namespace bpfsim {

struct BtfCase {
  const char* name;
  int err;  // 0 or the positive errno
  const char* last_line;
  std::function<void(BtfBuilder&)> build;
  std::function<void(std::vector<uint8_t>&)> patch = [](std::vector<uint8_t>&) {};
};

inline void set32(std::vector<uint8_t>& bytes, size_t at, uint32_t value) {
  for (int i = 0; i < 4; ++i) bytes.at(at + size_t(i)) = uint8_t(value >> 8 * i);
}

inline void an_int(BtfBuilder& b) { b.add_int("int", 4, BTF_INT_SIGNED); }

inline const std::vector<BtfCase>& btf_cases() {
  using B = BtfBuilder;
  using Bytes = std::vector<uint8_t>;
  const auto info = btf_info_enc;
  static const std::vector<BtfCase> cases = {
      {"one int", 0, "[1] INT int size=4 bits_offset=0 nr_bits=32 encoding=SIGNED", an_int},
      // header and sections
      {"cut before hdr_len", 22, "hdr_len not found", an_int, [](Bytes& d) { d.resize(7); }},
      {"empty", 22, "hdr_len not found", an_int, [](Bytes& d) { d.clear(); }},
      {"header longer than data", 22, "btf_header not found", an_int, [](Bytes& d) { set32(d, 4, 4000); }},
      {"unknown header bytes", 7, "Unsupported btf_header", an_int, [](Bytes& d) { set32(d, 4, 36); }},
      {"bad magic", 22, "Invalid magic", an_int, [](Bytes& d) { d[0] ^= 1; }},
      {"bad version", 524, "Unsupported version", an_int, [](Bytes& d) { d[2] = 2; }},
      {"bad flags", 524, "Unsupported flags", an_int, [](Bytes& d) { d[3] = 1; }},
      {"no data", 22, "No data", an_int, [](Bytes& d) { d.resize(24); }},
      {"types beyond", 22, "Unsupported section found", an_int, [](Bytes& d) { set32(d, 8, 4000); }},
      {"both beyond", 22, "Invalid section offset", an_int,
       [](Bytes& d) {
         set32(d, 8, 4000);
         set32(d, 16, 5000);
       }},
      {"gap", 22, "Unsupported section found", an_int, [](Bytes& d) { set32(d, 8, 4); }},
      {"overlap", 22, "Section overlap found", an_int, [](Bytes& d) { set32(d, 16, 12); }},
      {"too long", 22, "Total section length too long", an_int, [](Bytes& d) { set32(d, 20, 400); }},
      {"bytes after the strings", 22, "Unsupported section found", an_int, [](Bytes& d) { d.push_back(0); }},
      {"strings without final zero", 22, "Invalid string section", an_int, [](Bytes& d) { d.back() = 'x'; }},
      {"strings without first zero", 22, "Invalid string section", an_int,
       [](Bytes& d) { d[d.size() - 5] = 'x'; }},
      {"no type", 22, "No type found", [](B& b) { b.add_string("x"); }},
      // the record
      {"reserved bits", 22, "[1] Invalid btf_info:60000000", [](B& b) { b.add_raw("a", 0x60000000, 4); }},
      {"kind 0", 22, "[1] Invalid kind:0", [](B& b) { b.add_raw("a", 0, 4); }},
      {"kind 20", 22, "[1] Invalid kind:20", [=](B& b) { b.add_raw("a", info(20, false, 0), 4); }},
      {"name beyond", 22, "[1] Invalid name_offset:99", an_int, [](Bytes& d) { set32(d, 24, 99); }},
      {"record cut off", 22, "[2] meta_left:4 meta_needed:12", an_int,
       [](Bytes& d) {
         d.insert(d.begin() + 40, 4, 0);
         set32(d, 12, 20);
         set32(d, 16, 20);
       }},
      // INT
      {"int cut off", 22, "[1] INT int meta_left:0 meta_needed:4",
       [=](B& b) { b.add_raw("int", info(1, false, 0), 4); }},
      {"int vlen", 22, "[1] INT int size=4 bits_offset=0 nr_bits=32 encoding=(none) vlen != 0",
       [=](B& b) { b.add_raw("int", info(1, false, 1), 4, {32}); }},
      {"int flag", 22,
       "[1] INT int size=4 bits_offset=0 nr_bits=32 encoding=(none) Invalid btf_info kind_flag",
       [=](B& b) { b.add_raw("int", info(1, true, 0), 4, {32}); }},
      {"int reserved data", 22, "[1] INT int Invalid int_data:10000020",
       [=](B& b) { b.add_raw("int", info(1, false, 0), 4, {0x10000020}); }},
      {"int of 129 bits", 22,
       "[1] INT int size=32 bits_offset=0 nr_bits=129 encoding=(none) nr_bits exceeds 128",
       [=](B& b) { b.add_raw("int", info(1, false, 0), 32, {129}); }},
      {"int too wide", 22,
       "[1] INT int size=2 bits_offset=0 nr_bits=17 encoding=(none) nr_bits exceeds type_size",
       [=](B& b) { b.add_raw("int", info(1, false, 0), 2, {17}); }},
      {"int two encodings", 524,
       "[1] INT int size=4 bits_offset=0 nr_bits=32 encoding=UNKN Unsupported encoding",
       [](B& b) { b.add_int("int", 4, 3); }},
      // references
      {"const with a name", 22, "[1] CONST x type_id=0 Invalid name",
       [](B& b) { b.add_ref(BTF_KIND_CONST, "x", 0); }},
      {"typedef without a name", 22, "[1] TYPEDEF (anon) type_id=0 Invalid name",
       [](B& b) { b.add_ref(BTF_KIND_TYPEDEF, "", 0); }},
      {"typedef with a bad name", 22, "[1] TYPEDEF 1x type_id=0 Invalid name",
       [](B& b) { b.add_ref(BTF_KIND_TYPEDEF, "1x", 0); }},
      {"pointer to void", 0, "[1] PTR (anon) type_id=0", [](B& b) { b.add_ptr(0); }},
      {"pointer beyond", 22, "[1] PTR (anon) type_id=7 Invalid type_id", [](B& b) { b.add_ptr(7); }},
      {"pointer to itself", 17, "[1] PTR (anon) type_id=1 Loop detected", [](B& b) { b.add_ptr(1); }},
      {"two consts in a ring", 17, "[1] CONST (anon) type_id=2 Loop detected",
       [](B& b) {
         b.add_ref(BTF_KIND_CONST, "", 2);
         b.add_ref(BTF_KIND_CONST, "", 1);
       }},
      {"33 pointers deep", 7, "[1] PTR (anon) type_id=2 Exceeded max resolving depth:32",
       [](B& b) {
         for (uint32_t i = 1; i <= 33; ++i) b.add_ptr(i + 1);
         an_int(b);
       }},
      {"type tag after const", 22, "Type tags don't precede modifiers",
       [](B& b) {
         an_int(b);
         b.add_ref(BTF_KIND_TYPE_TAG, "tag", 1);
         b.add_ref(BTF_KIND_CONST, "", 2);
       }},
      {"type tag with kind_flag", 0, "[2] TYPE_TAG tag type_id=1",
       [=](B& b) {
         an_int(b);
         b.add_raw("tag", info(BTF_KIND_TYPE_TAG, true, 0), 1);
       }},
      {"forward", 0, "[1] FWD u union", [](B& b) { b.add_fwd("u", true); }},
      {"Latin-1 letters", 0, "[1] FWD caf\xe9 struct", [](B& b) { b.add_fwd("caf\xe9"); }},
      {"other Latin-1 signs", 22, "[1] FWD a\xd7 struct Invalid name", [](B& b) { b.add_fwd("a\xd7"); }},
      // ARRAY
      {"array of void", 22, "[2] ARRAY (anon) type_id=0 index_type_id=1 nr_elems=4 Invalid elem",
       [](B& b) {
         an_int(b);
         b.add_array(0, 1, 4);
       }},
      {"array by pointer", 22, "[2] ARRAY (anon) type_id=1 index_type_id=3 nr_elems=4 Invalid index",
       [](B& b) {
         an_int(b);
         b.add_array(1, 3, 4);
         b.add_ptr(1);
       }},
      {"array of itself", 17, "[2] ARRAY (anon) type_id=2 index_type_id=1 nr_elems=4 Loop detected",
       [](B& b) {
         an_int(b);
         b.add_array(2, 1, 4);
       }},
      {"array beyond 4 GiB", 22,
       "[2] ARRAY (anon) type_id=1 index_type_id=1 nr_elems=1073741824 Array size overflows U32_MAX",
       [](B& b) {
         an_int(b);
         b.add_array(1, 1, 1u << 30);
       }},
      // STRUCT
      {"struct with bitfields", 0, "\tb type_id=1 bitfield_size=5 bits_offset=3",
       [](B& b) {
         an_int(b);
         b.add_struct("s", 4, {{"a", 1, 0, 3}, {"b", 1, 3, 5}});
       }},
      {"member beyond the struct", 22, "\ta type_id=1 bits_offset=8 Member exceeds struct_size",
       [](B& b) {
         an_int(b);
         b.add_struct("s", 4, {{"a", 1, 8, 0}});
       }},
      {"offset beyond", 22, "\ta type_id=1 bits_offset=40 Member bits_offset exceeds its struct size",
       [](B& b) {
         an_int(b);
         b.add_struct("s", 4, {{"a", 1, 40, 0}});
       }},
      {"members backwards", 22, "\tb type_id=1 bits_offset=0 Invalid member bits_offset",
       [](B& b) {
         an_int(b);
         b.add_struct("s", 8, {{"a", 1, 32, 0}, {"b", 1, 0, 0}});
       }},
      {"struct in itself", 17, "[1] STRUCT s size=4 vlen=1 Loop detected",
       [](B& b) { b.add_struct("s", 4, {{"a", 1, 0, 0}}); }},
      {"struct that points to itself", 0, "[2] PTR (anon) type_id=1",
       [](B& b) {
         b.add_struct("s", 8, {{"next", 2, 0, 0}});
         b.add_ptr(1);
       }},
      {"pointer not at a byte", 22, "\tp type_id=2 bits_offset=1 Member is not byte aligned",
       [](B& b) {
         an_int(b);
         b.add_ptr(1);
         b.add_struct("s", 16, {{"p", 2, 1, 0}});
       }},
      {"pointer as bitfield", 22, "\tp type_id=2 bitfield_size=4 bits_offset=0 Invalid member bitfield_size",
       [](B& b) {
         an_int(b);
         b.add_ptr(1);
         b.add_struct("s", 16, {{"p", 2, 0, 4}});
       }},
      {"function as member", 22, "\tf type_id=1 bits_offset=0 Invalid member",
       [](B& b) {
         b.add_func_proto(0, {});
         b.add_struct("s", 8, {{"f", 1, 0, 0}});
       }},
      {"float misplaced", 22, "\tf type_id=1 bits_offset=32 Member is not properly aligned",
       [](B& b) {
         b.add_float("double", 8);
         b.add_struct("s", 16, {{"f", 1, 32, 0}});
       }},
      // ENUM, FLOAT
      {"enum, signed", 0, "\tA val=-1", [](B& b) { b.add_enum("e", 4, {{"A", -1}}, true); }},
      {"enum, unsigned", 0, "\tA val=4294967295", [](B& b) { b.add_enum("e", 4, {{"A", -1}}); }},
      {"enum64", 0, "\tA val=18446744073709551615", [](B& b) { b.add_enum64("e", 8, {{"A", -1}}); }},
      {"enum of size 3", 22, "[1] ENUM e size=3 vlen=1 Unexpected size",
       [](B& b) { b.add_enum("e", 3, {{"A", 0}}); }},
      {"unnamed enumerator", 22, "[1] ENUM e size=4 vlen=1 Invalid name",
       [](B& b) { b.add_enum("e", 4, {{"", 0}}); }},
      {"float of size 5", 22, "[1] FLOAT f size=5 Invalid type_size", [](B& b) { b.add_float("f", 5); }},
      // FUNC, FUNC_PROTO
      {"function", 0, "[3] FUNC f type_id=2",
       [](B& b) {
         an_int(b);
         b.add_func_proto(1, {{"a", 1}, {"b", 1}});
         b.add_func("f", 2);
       }},
      {"prototype with a named vararg", 22, "[2] FUNC_PROTO (anon) return=1 args=(1 a, vararg) Invalid arg#2",
       [](B& b) {
         an_int(b);
         b.add_func_proto(1, {{"a", 1}, {"b", 0}});
       }},
      {"unnamed argument", 22, "[3] FUNC f type_id=2 Invalid arg#1",
       [](B& b) {
         an_int(b);
         b.add_func_proto(1, {{"", 1}});
         b.add_func("f", 2);
       }},
      {"variable returned", 22, "[3] FUNC_PROTO (anon) return=2 args=(void) Invalid return type",
       [](B& b) {
         an_int(b);
         b.add_var("v", 1);
         b.add_func_proto(2, {});
       }},
      {"extern function", 22, "[2] FUNC f type_id=1 Invalid func linkage",
       [](B& b) {
         b.add_func_proto(0, {});
         b.add_func("f", 1, BTF_FUNC_EXTERN);
       }},
      // VAR, DATASEC
      {"variable in a section", 0, "\t type_id=2 offset=0 size=4",
       [](B& b) {
         an_int(b);
         b.add_var("v", 1);
         b.add_datasec(".data", 4, {{2, 0, 4}});
       }},
      {"section of size 0, as clang leaves it", 22, "[3] DATASEC .data size=0 vlen=1 size == 0",
       [](B& b) {
         an_int(b);
         b.add_var("v", 1);
         b.add_datasec(".data", 0, {{2, 0, 4}});
       }},
      {"variable too small", 22, "\t type_id=2 offset=0 size=2 Invalid size",
       [](B& b) {
         an_int(b);
         b.add_var("v", 1);
         b.add_datasec(".data", 4, {{2, 0, 2}});
       }},
      {"no variable in a section", 22, "\t type_id=1 offset=0 size=4 Not a VAR kind member",
       [](B& b) {
         an_int(b);
         b.add_datasec(".data", 4, {{1, 0, 4}});
       }},
      {"extern variable", 22, "[2] VAR v type_id=1 linkage=2 Linkage not supported",
       [](B& b) {
         an_int(b);
         b.add_var("v", 1, BTF_VAR_GLOBAL_EXTERN);
       }},
      {"variable of a forward type", 22, "[2] VAR v type_id=1 linkage=1 Invalid type_id",
       [](B& b) {
         b.add_fwd("s");
         b.add_var("v", 1);
       }},
      // DECL_TAG
      {"tag of a member", 0, "[3] DECL_TAG hot type=2 component_idx=0",
       [](B& b) {
         an_int(b);
         b.add_struct("s", 4, {{"a", 1, 0, 0}});
         b.add_decl_tag("hot", 2, 0);
       }},
      {"tag of a missing member", 22, "[3] DECL_TAG hot type=2 component_idx=1 Invalid component_idx",
       [](B& b) {
         an_int(b);
         b.add_struct("s", 4, {{"a", 1, 0, 0}});
         b.add_decl_tag("hot", 2, 1);
       }},
      {"tag of an int", 22, "[2] DECL_TAG hot type=1 component_idx=-1 Invalid type_id",
       [](B& b) {
         an_int(b);
         b.add_decl_tag("hot", 1);
       }},
      {"tag with kind_flag", 0, "[3] DECL_TAG hot type=2 component_idx=-1",
       [=](B& b) {
         an_int(b);
         b.add_ref(BTF_KIND_TYPEDEF, "t", 1);
         b.add_raw("hot", info(BTF_KIND_DECL_TAG, true, 0), 2, {0xffffffff});
       }},
  };
  return cases;
}

inline std::vector<uint8_t> btf_case_bytes(const BtfCase& c) {
  BtfBuilder b;
  c.build(b);
  std::vector<uint8_t> bytes = b.bytes();
  c.patch(bytes);
  return bytes;
}

// A blob that has every kind, for mutation.
inline std::vector<uint8_t> btf_of_every_kind() {
  BtfBuilder b;
  const uint32_t i = b.add_int("int", 4, BTF_INT_SIGNED), c = b.add_int("char", 1, BTF_INT_CHAR);
  const uint32_t p = b.add_ptr(i), a = b.add_array(c, i, 16), f = b.add_float("double", 8);
  const uint32_t e = b.add_enum("color", 4, {{"RED", 0}, {"BLUE", -2}}, true);
  const uint32_t e64 = b.add_enum64("big", 8, {{"HUGE", int64_t(1) << 40}});
  const uint32_t td = b.add_ref(BTF_KIND_TYPEDEF, "u32", i), co = b.add_ref(BTF_KIND_CONST, "", td);
  const uint32_t vo = b.add_ref(BTF_KIND_VOLATILE, "", co), re = b.add_ref(BTF_KIND_RESTRICT, "", p);
  const uint32_t next = b.add_ptr(p + 10);  // the struct that follows
  const uint32_t s = b.add_struct(
      "node", 64,
      {{"next", next, 0}, {"name", a, 64}, {"f", f, 192}, {"e", e, 256}, {"n", vo, 288}, {"big", e64, 320}});
  const uint32_t bits = b.add_struct("bits", 8, {{"a", i, 0, 3}, {"e", e, 3, 4}, {"p", td, 32}});
  const uint32_t u = b.add_struct("either", 64, {{"s", s, 0}, {"b", bits, 0}}, true);
  const uint32_t fwd = b.add_fwd("later"), tag = b.add_ref(BTF_KIND_TYPE_TAG, "user", fwd),
                 pt = b.add_ptr(tag);
  const uint32_t proto = b.add_func_proto(i, {{"ctx", pt}, {"x", re}, {"", 0}}),
                 fn = b.add_func("run", proto);
  const uint32_t v1 = b.add_var("head", u), v2 = b.add_var("count", i, BTF_VAR_STATIC);
  b.add_datasec(".data", 72, {{v1, 0, 64}, {v2, 64, 4}});
  b.add_decl_tag("note", s, 2);
  b.add_decl_tag("arg", fn, 1);
  return b.bytes();
}

inline std::string last_line(std::string text) {
  if (!text.empty() && text.back() == '\n') text.pop_back();
  return text.substr(text.rfind('\n') + 1);  // npos + 1 is 0
}

}  // namespace bpfsim
