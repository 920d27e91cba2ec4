// Models: kernel/bpf/btf.c (Linux 6.18): btf_verifier_log_type(), _member(), _vsi() and the kinds'
// log_details
//
// The lines of the BTF checker's log, in the kernel's format: one line per type as it is read, and at the
// check that refuses, the type (or member) again with what is wrong with it.
#include "btf/btf_checker.h"

namespace bpfsim {

const char* BtfChecker::log_name(uint32_t offset) const {
  if (offset == 0) return "(anon)";
  const char* name = btf_.name_by_offset(offset);
  return name ? name : "(invalid-name-offset)";
}

static std::string field(const char* key, uint32_t value) { return key + std::to_string(value); }

static const char* btf_int_encoding_str(uint32_t encoding) {
  switch (encoding) {
    case 0: return "(none)";
    case BTF_INT_SIGNED: return "SIGNED";
    case BTF_INT_CHAR: return "CHAR";
    case BTF_INT_BOOL: return "BOOL";
  }
  return "UNKN";
}

std::string BtfChecker::log_details(Type t) const {
  switch (btf_kind(t)) {
    case BTF_KIND_INT: {
      const uint32_t data = btf_int_data(t);
      return field("size=", t.size) + field(" bits_offset=", btf_int_offset(data)) +
             field(" nr_bits=", btf_int_bits(data)) +
             " encoding=" + btf_int_encoding_str(btf_int_encoding(data));
    }
    case BTF_KIND_ARRAY: {
      const btf_array& a = btf_array_of(t);
      return field("type_id=", a.type) + field(" index_type_id=", a.index_type) +
             field(" nr_elems=", a.nelems);
    }
    case BTF_KIND_STRUCT:
    case BTF_KIND_UNION:
    case BTF_KIND_ENUM:
    case BTF_KIND_ENUM64:
    case BTF_KIND_DATASEC: return field("size=", t.size) + field(" vlen=", btf_vlen(t));
    case BTF_KIND_FWD: return btf_kflag(t) ? "union" : "struct";
    case BTF_KIND_VAR: return field("type_id=", t.type) + field(" linkage=", btf_var_linkage(t));
    case BTF_KIND_FLOAT: return field("size=", t.size);
    case BTF_KIND_DECL_TAG:
      return field("type=", t.type) + " component_idx=" + std::to_string(btf_component_idx(t));
    case BTF_KIND_FUNC_PROTO: {
      std::string text = field("return=", t.type) + " args=(";
      const auto args = btf_params(t);
      if (args.empty()) text += "void";
      for (size_t i = 0; i < args.size(); ++i) {
        if (i) text += ", ";
        // Only the last argument may stand for "...": elsewhere the kernel prints type 0 as it is.
        if (i + 1 == args.size() && args[i].type == 0)
          text += "vararg";
        else
          text += std::to_string(args[i].type) + " " + log_name(args[i].name_off);
      }
      return text + ")";
    }
    default: return field("type_id=", t.type);
  }
}

void BtfChecker::log_type(Type t, bool details, std::string_view message) {
  if (!log_) return;
  log(field("[", log_type_id_) + "] " + btf_kind_str(btf_kind(t)) + " " + log_name(t.name_off));
  if (details) log(" " + log_details(t));
  if (!message.empty()) log(" " + std::string(message));
  log("\n");
}

void BtfChecker::log_member(Type owner, const btf_member& m, std::string_view message) {
  if (!log_) return;
  // While the types are read, the struct's own line has just been written. Later it has to be said again.
  if (phase_ != Phase::CheckMeta) log_type(owner, true, "");
  log(std::string("\t") + log_name(m.name_off) + field(" type_id=", m.type));
  if (btf_kflag(owner)) log(field(" bitfield_size=", btf_member_bitfield_size(owner, m)));
  log(field(" bits_offset=", btf_member_bit_offset(owner, m)));
  if (!message.empty()) log(" " + std::string(message));
  log("\n");
}

void BtfChecker::log_vsi(Type datasec, const btf_var_secinfo& vsi, std::string_view message) {
  if (!log_) return;
  if (phase_ != Phase::CheckMeta) log_type(datasec, true, "");
  log(field("\t type_id=", vsi.type) + field(" offset=", vsi.offset) + field(" size=", vsi.size));
  if (!message.empty()) log(" " + std::string(message));
  log("\n");
}

}  // namespace bpfsim
