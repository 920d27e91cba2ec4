// Models: kernel/bpf/btf.c (btf_parse_vmlinux) (Linux 6.18)
//
// See vmlinux.h. The rows of vmlinux.def become BTF: a type is written as C writes it ("struct bpf_map *",
// "char[16]"), and made when it is first named.
#include "btf/vmlinux.h"

#include <algorithm>
#include <map>
#include <stdexcept>
#include <string>

#include "btf/btf_build.h"
#include "btf/btf_check.h"
#include "uapi/bpf.h"
#include "uapi/tables.h"

namespace bpfsim {

namespace {

enum class Row : uint8_t { Struct, Union, Member, Func, Tracepoint };
struct VmlinuxRow {
  Row row;
  const char* name;
  const char* text;  // a member's type, a function's return type, a tracepoint's arguments
  const char* args;
  uint32_t number;  // size or offset
};

constexpr VmlinuxRow kRows[] = {
#define VMLINUX_STRUCT(name, size) {Row::Struct, #name, "", "", size},
#define VMLINUX_UNION(name, size) {Row::Union, #name, "", "", size},
#define VMLINUX_MEMBER(name, type, offset) {Row::Member, #name, type, "", offset},
#define VMLINUX_FUNC(name, ret, args) {Row::Func, #name, ret, args, 0},
#define VMLINUX_TRACEPOINT(name, args) {Row::Tracepoint, #name, "", args, 0},
#define LSM_HOOK(name, ret, args, sets) {Row::Func, "bpf_lsm_" #name, ret, args, 0},
#include "btf/lsm_hooks.def"
#include "btf/vmlinux.def"
#undef LSM_HOOK
#undef VMLINUX_STRUCT
#undef VMLINUX_UNION
#undef VMLINUX_MEMBER
#undef VMLINUX_FUNC
#undef VMLINUX_TRACEPOINT
};

struct Scalar {
  const char* name;
  uint32_t size, encoding;
};
constexpr Scalar kInts[] = {
    {"char", 1, BTF_INT_SIGNED},      {"unsigned char", 1, 0},     {"short int", 2, BTF_INT_SIGNED},
    {"short unsigned int", 2, 0},     {"int", 4, BTF_INT_SIGNED},  {"unsigned int", 4, 0},
    {"long int", 8, BTF_INT_SIGNED},  {"long unsigned int", 8, 0}, {"long long int", 8, BTF_INT_SIGNED},
    {"long long unsigned int", 8, 0}, {"bool", 1, BTF_INT_BOOL}};
constexpr const char* kTypedefs[][2] = {{"u8", "unsigned char"},
                                        {"u16", "short unsigned int"},
                                        {"u32", "unsigned int"},
                                        {"u64", "long long unsigned int"},
                                        {"s32", "int"},
                                        {"size_t", "long unsigned int"},
                                        {"loff_t", "long long int"},
                                        {"pid_t", "int"},
                                        {"uid_t", "unsigned int"}};

struct Arg {
  std::string type, name;
};

// "struct bpf_map * map, u32 act"
std::vector<Arg> arguments(std::string_view text) {
  std::vector<Arg> args;
  while (!text.empty()) {
    const size_t comma = std::min(text.find(", "), text.size());
    const std::string_view arg = text.substr(0, comma);
    const size_t space = arg.rfind(' ');
    args.push_back({std::string(arg.substr(0, space)), std::string(arg.substr(space + 1))});
    text.remove_prefix(std::min(comma + 2, text.size()));
  }
  return args;
}

bool is_pointer(std::string_view type) { return type.ends_with(" *"); }
constexpr std::string_view kMdPtr = "__bpf_md_ptr ";
bool is_md_ptr(std::string_view type) { return type.starts_with(kMdPtr); }
constexpr std::string_view kConst = "const ";
bool is_const(std::string_view type) { return type.starts_with(kConst) && !is_pointer(type); }
bool is_array(std::string_view type) { return type.ends_with(']'); }
constexpr std::string_view kToFunction = " (*)(";
bool is_function_pointer(std::string_view type) { return type.find(kToFunction) != type.npos; }
std::vector<Arg> arguments_of_pointer(std::string_view type) {
  const size_t from = type.find(kToFunction) + kToFunction.size();
  return arguments(type.substr(from, type.size() - from - 1));
}

constexpr struct {
  const char* name;
  uint32_t number;
} kStructOpsStates[] = {{"BPF_STRUCT_OPS_STATE_INIT", 0},
                        {"BPF_STRUCT_OPS_STATE_INUSE", 1},
                        {"BPF_STRUCT_OPS_STATE_TOBEFREE", 2},
                        {"BPF_STRUCT_OPS_STATE_READY", 3}},
  kTcpCaEvents[] = {{"CA_EVENT_TX_START", 0}, {"CA_EVENT_CWND_RESTART", 1}, {"CA_EVENT_COMPLETE_CWR", 2},
                    {"CA_EVENT_LOSS", 3},     {"CA_EVENT_ECN_NO_CE", 4},    {"CA_EVENT_ECN_IS_CE", 5}};

bool opens_struct(const VmlinuxRow& row) { return row.row == Row::Struct || row.row == Row::Union; }

// Structs refer to each other through pointers, so ids are settled before anything is made: scalars first, as
// they come, then every struct, then every pointer and array in the order in which the rows name them.
class VmlinuxBuilder {
 public:
  std::vector<uint8_t> build() {
    add_scalars();
    number_types();
    for (size_t i = 0; i < std::size(kRows); ++i)
      if (opens_struct(kRows[i])) add_struct(i);
    for (const std::string& text : derived_) add_derived(text);
    for (const VmlinuxRow& row : kRows) {
      if (row.row == Row::Func)
        builder_.add_func(row.name, add_proto(row.text, arguments(row.args)), BTF_FUNC_STATIC);
      if (row.row == Row::Tracepoint) add_tracepoint(row);
    }
    return builder_.bytes();
  }

 private:
  template <class Rows>
  void add_enum(const char* name, const Rows& rows) {
    std::vector<BtfBuilder::Enumerator> values;
    for (const auto& row : rows) values.push_back({row.name, int64_t(row.number)});
    last_ = ids_[std::string("enum ") + name] = builder_.add_enum(name, 4, values);
  }

  void add_scalars() {
    for (const Scalar& type : kInts) ids_[type.name] = builder_.add_int(type.name, type.size, type.encoding);
    for (auto [name, to] : kTypedefs) ids_[name] = builder_.add_ref(BTF_KIND_TYPEDEF, name, ids_[to]);
    add_enum("bpf_map_type", map_types());
    add_enum("bpf_prog_type", prog_types());
    add_enum("bpf_attach_type", attach_types());
    add_enum("bpf_link_type", link_types());
    add_enum("bpf_struct_ops_state", kStructOpsStates);
    add_enum("tcp_ca_event", kTcpCaEvents);
  }

  void number_derived(const std::string& text) {
    if (ids_.count(text)) return;
    if (is_function_pointer(text)) {
      for (const Arg& arg : arguments_of_pointer(text)) number_derived(arg.type);
      ids_["of " + text] = ++last_;  // the function, then the pointer to it
      derived_.push_back("of " + text);
    } else if (!is_pointer(text) && !is_array(text) && !is_md_ptr(text) && !is_const(text)) {
      return;
    }
    if (is_pointer(text)) number_derived(text.substr(0, text.size() - 2));
    ids_[text] = ++last_;
    derived_.push_back(text);
  }

  // The key of a member's type: an anonymous union is named after its one member.
  static std::string key_of(const VmlinuxRow& row) {
    return is_md_ptr(row.text) ? std::string(row.text) + " " + row.name : row.text;
  }

  static std::string tagged(const VmlinuxRow& row) {
    return (row.row == Row::Union ? "union " : "struct ") + std::string(row.name);
  }

  void number_types() {
    for (const VmlinuxRow& row : kRows)
      if (opens_struct(row) && !ids_.emplace(tagged(row), ++last_).second)
        throw std::logic_error("vmlinux.def has a struct twice: " + std::string(row.name));
    for (const VmlinuxRow& row : kRows) {
      if (is_md_ptr(row.text)) number_derived(std::string(row.text).substr(kMdPtr.size()));
      number_derived(key_of(row));
      for (const Arg& arg : arguments(row.args)) number_derived(arg.type);
    }
  }

  uint32_t type(const std::string& text) const {
    if (text == "void") return 0;
    auto known = ids_.find(text);
    if (known == ids_.end()) throw std::logic_error("vmlinux.def names the type " + text);
    return known->second;
  }

  void add_struct(size_t at) {
    std::vector<BtfBuilder::Member> members;
    for (size_t i = at + 1; i < std::size(kRows) && kRows[i].row == Row::Member; ++i)
      members.push_back({kRows[i].name, type(key_of(kRows[i])), kRows[i].number * 8, 0});
    builder_.add_struct(kRows[at].name, kRows[at].number, members, kRows[at].row == Row::Union);
  }

  void add_derived(const std::string& text) {
    if (is_md_ptr(text)) {
      const size_t space = text.rfind(' ');
      builder_.add_struct(
          "", 8, {{text.substr(space + 1), type(text.substr(kMdPtr.size(), space - kMdPtr.size())), 0, 0}},
          true);
      return;
    }
    if (text.starts_with("of ")) {
      const std::string ret = text.substr(3, text.find(kToFunction) - 3);
      add_proto(ret, arguments_of_pointer(text));
      return;
    }
    if (is_function_pointer(text)) {
      builder_.add_ptr(type("of " + text));
      return;
    }
    if (is_pointer(text)) {
      builder_.add_ptr(type(text.substr(0, text.size() - 2)));
      return;
    }
    if (is_const(text)) {
      builder_.add_ref(BTF_KIND_CONST, "", type(text.substr(kConst.size())));
      return;
    }
    const size_t bracket = text.find('[');
    builder_.add_array(type(text.substr(0, bracket)), type("int"),
                       uint32_t(std::stoul(text.substr(bracket + 1))));
  }

  uint32_t add_proto(const std::string& ret, const std::vector<Arg>& args) {
    std::vector<BtfBuilder::Param> params;
    for (const Arg& arg : args) params.push_back({arg.name, type(arg.type)});
    return builder_.add_func_proto(type(ret), params);
  }

  // Both that the kernel has of a tracepoint: typedef void (*btf_trace_NAME)(...) and __bpf_trace_NAME.
  void add_tracepoint(const VmlinuxRow& row) {
    std::vector<Arg> args = arguments(row.args);
    args.insert(args.begin(), {"void *", "__data"});
    const uint32_t proto = add_proto("void", args);
    builder_.add_ref(BTF_KIND_TYPEDEF, std::string("btf_trace_") + row.name, builder_.add_ptr(proto));
    builder_.add_func(std::string("__bpf_trace_") + row.name, proto, BTF_FUNC_STATIC);
  }

  BtfBuilder builder_;
  std::map<std::string, uint32_t> ids_;
  uint32_t last_ = 0;
  std::vector<std::string> derived_;
};

const VmlinuxRow& find_row(std::string_view structure, std::string_view member) {
  bool inside = false;
  for (const VmlinuxRow& row : kRows) {
    if (opens_struct(row)) inside = row.name == structure;
    if (inside && (member.empty() || (row.row == Row::Member && row.name == member))) return row;
  }
  throw std::logic_error("vmlinux.def has no " + std::string(structure) + "." + std::string(member));
}

}  // namespace

const VmlinuxBtf& vmlinux_btf() {
  static const VmlinuxBtf btf = [] {
    VmlinuxBtf made{VmlinuxBuilder().build(), nullptr};
    Result<BtfTypes> types = btf_parse(made.data);
    if (!types) throw std::logic_error("the machine's own BTF: " + types.refusal().reason());
    made.types = std::make_shared<const BtfTypes>(*std::move(types));
    return made;
  }();
  return btf;
}

uint32_t vmlinux_offset(std::string_view structure, std::string_view member) {
  return find_row(structure, member).number;
}

uint32_t vmlinux_size(std::string_view structure) { return find_row(structure, "").number; }

}  // namespace bpfsim
