// Models: bpf_object__init_maps() of tools/lib/bpf/libbpf.c (libbpf 1.4; the legacy form of 0.8): user space
//
// Where maps come from. BTF-defined: a variable in `.maps` whose struct type *is* the definition (int
// (*type)[1] says type 1; key and value are pointers to their types). Legacy: a struct bpf_map_def of numbers
// in `maps`. And each section of variables becomes an array map of one element.
#include <algorithm>
#include <cstring>

#include "loader/open_parts.h"
#include "uapi/tables.h"

namespace bpfsim::loader {

static constexpr uint64_t max_data_size = 64 << 20;  // ours: a .bss of any size is a few bytes in the file

bool is_map_in_map(uint32_t type) {
  return type == BPF_MAP_TYPE_ARRAY_OF_MAPS || type == BPF_MAP_TYPE_HASH_OF_MAPS;
}

static bool is_section_or_part(std::string_view name, std::string_view base) {
  return name.starts_with(base) && (name.size() == base.size() || name[base.size()] == '.');
}

bool is_data_section(const ElfFile::Section& s) {
  if (s.type == SHT_NOBITS) return is_section_or_part(s.name, ".bss");
  return s.type == SHT_PROGBITS && !s.is_code() &&
         (is_section_or_part(s.name, ".data") || is_section_or_part(s.name, ".rodata"));
}

// The kernel takes fifteen characters. libbpf leaves at least seven of them to the section and fills up with
// the object's name in front: ".bss" of "packet_counter" is "packet_c.bss". A section with two dots goes
// alone.
static std::string internal_map_name(const std::string& object, std::string_view section) {
  constexpr size_t room = BPF_OBJ_NAME_LEN - 1;
  constexpr std::string_view allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.";
  const bool alone = std::count(section.begin() + 1, section.end(), '.') > 0;
  std::string name(section.substr(0, room));
  if (!alone) name.insert(0, object, 0, room - std::max<size_t>(7, name.size()));
  for (size_t at; (at = name.find_first_not_of(allowed)) != name.npos;) name[at] = '_';
  return name;
}

// "__u16 (2 bytes)"
static std::string describe_part(const BpfObject& object, uint32_t type_id, uint32_t size) {
  const std::string bytes = std::to_string(size) + " bytes";
  return type_id && object.btf ? object.btf->describe(type_id) + " (" + bytes + ")" : bytes;
}

static std::string describe_map(const BpfObject& object, const BpfMap& map) {
  const MapTypeRow* row = find_map_type(map.type);
  return "map " + map.name + ": " + (row ? short_name(row->name) : "type " + std::to_string(map.type)) +
         ", key " + describe_part(object, map.btf_key_type_id, map.key_size) + ", value " +
         describe_part(object, map.is_data() ? 0 : map.btf_value_type_id, map.value_size) + ", " +
         std::to_string(map.max_entries) + " entries" +
         (map.map_flags ? ", flags " + in_hex(map.map_flags) : "");
}

namespace {

// Reads one map's definition out of the members of its struct.
class BtfMapReader {
 public:
  BtfMapReader(const BtfTypes& btf, BpfMap& map) : btf_(btf), map_(map) {}

  Result<void> read(uint32_t type_id, bool inner) {
    const btf_type* def = btf_.skip_modifiers(type_id);
    if (!def || btf_kind(*def) != BTF_KIND_STRUCT)
      return refuse(Errno::Inval, "map '{}' must be a struct, is {}", map_.full_name, btf_.describe(type_id));
    for (const btf_member& m : btf_members(*def)) TRY(read_member(m, inner));
    if (!map_.type) return refuse(Errno::Inval, "map '{}' has no field 'type'", map_.full_name);
    return {};
  }

 private:
  Result<void> read_member(const btf_member& m, bool inner) {
    const char* text = btf_.name_by_offset(m.name_off);
    const std::string_view name = text ? text : "";
    if (name == "type") return read_number(m, map_.type);
    if (name == "max_entries") return read_number(m, map_.max_entries);
    if (name == "map_flags") return read_number(m, map_.map_flags);
    if (name == "numa_node") return read_number(m, map_.numa_node);
    if (name == "map_extra") return read_number(m, map_.map_extra);
    if (name == "key_size") return read_size(m, map_.key_size);
    if (name == "value_size") return read_size(m, map_.value_size);
    if (name == "key") return read_type(m, map_.key_size, map_.btf_key_type_id);
    if (name == "value") return read_type(m, map_.value_size, map_.btf_value_type_id);
    if (name == "values") return inner ? unknown(name) : read_values(m);
    if (name == "pinning") {
      if (inner) return unknown(name);
      uint32_t pinning = 0;
      TRY(read_number(m, pinning));
      if (pinning > 1)
        return refuse(Errno::Inval, "map '{}': pinning {} does not exist", map_.full_name, pinning);
      map_.pinning = BpfMap::Pinning(pinning);
      return {};
    }
    return unknown(name);
  }

  Refusal unknown(std::string_view name) const {
    return refuse(Errno::NotSupp, "map '{}': unknown field '{}'", map_.full_name, name);
  }

  // __uint(f, 3) is int (*f)[3]; __ulong(f, 3) is an enum with one value.
  template <class Int>
  Result<void> read_number(const btf_member& m, Int& out) const {
    const btf_type* t = btf_.skip_modifiers(m.type);
    if (t && btf_kind(*t) == BTF_KIND_ENUM && btf_vlen(*t) == 1) {
      out = Int(btf_enums(*t)[0].val);
      return {};
    }
    if (t && btf_kind(*t) == BTF_KIND_ENUM64 && btf_vlen(*t) == 1) {
      out = Int(btf_enum64_value(btf_enum64s(*t)[0]));
      return {};
    }
    const btf_type* array = t && btf_kind(*t) == BTF_KIND_PTR ? btf_.type_by_id(t->type) : nullptr;
    if (!array || btf_kind(*array) != BTF_KIND_ARRAY)
      return refuse(Errno::Inval, "map '{}': field '{}' must be int (*)[N], is {}", map_.full_name,
                    btf_.name_by_offset(m.name_off), btf_.describe(m.type));
    out = btf_array_of(*array).nelems;
    return {};
  }

  Result<void> read_size(const btf_member& m, uint32_t& size) const {
    uint32_t number = 0;
    TRY(read_number(m, number));
    return set_size(size, number);
  }

  Result<void> read_type(const btf_member& m, uint32_t& size, uint32_t& type_id) const {
    const btf_type* t = btf_.type_by_id(m.type);
    const int64_t bytes = t && btf_kind(*t) == BTF_KIND_PTR ? btf_.size_of(t->type) : -1;
    if (bytes < 0)
      return refuse(Errno::Inval, "map '{}': field '{}' must point to a type with a size, is {}",
                    map_.full_name, btf_.name_by_offset(m.name_off), btf_.describe(m.type));
    type_id = t->type;
    return set_size(size, uint32_t(bytes));
  }

  Result<void> set_size(uint32_t& size, uint32_t value) const {
    if (size && size != value)
      return refuse(Errno::Inval, "map '{}': sizes {} and {} contradict each other", map_.full_name, size,
                    value);
    size = value;
    return {};
  }

  // The slots' type: __array(values, struct inner) or __array(values, void ()).
  Result<void> read_values(const btf_member& m) {
    const bool progs = map_.type == BPF_MAP_TYPE_PROG_ARRAY;
    if (!progs && !is_map_in_map(map_.type))
      return refuse(Errno::NotSupp, "map '{}': type {} takes no 'values'", map_.full_name, map_.type);
    const btf_type* array = btf_.type_by_id(m.type);
    const btf_type* ptr = array && btf_kind(*array) == BTF_KIND_ARRAY && btf_array_of(*array).nelems == 0
                              ? btf_.skip_modifiers(btf_array_of(*array).type)
                              : nullptr;
    if (!ptr || btf_kind(*ptr) != BTF_KIND_PTR)
      return refuse(Errno::Inval, "map '{}': 'values' must be an array of pointers without a size, is {}",
                    map_.full_name, btf_.describe(m.type));
    TRY(set_size(map_.value_size, 4));
    if (progs) return {};
    BpfMap inner;
    inner.name = inner.full_name = map_.full_name + ".inner";
    TRY(BtfMapReader(btf_, inner).read(ptr->type, true));
    inner.name = inner.name.substr(0, BPF_OBJ_NAME_LEN - 1);
    map_.inner.push_back(std::move(inner));
    return {};
  }

  const BtfTypes& btf_;
  BpfMap& map_;
};

}  // namespace

static Result<void> init_btf_maps(BpfObject& object) {
  const ElfFile::Section* section = object.elf.find_section(".maps");
  if (!section) return {};
  const uint32_t sec_id = object.btf ? object.btf->find_by_name(".maps", BTF_KIND_DATASEC) : 0;
  if (!sec_id) return refuse(Errno::NoEnt, "section '.maps' needs BTF to be read: compile with -g");
  for (const btf_var_secinfo& vsi : btf_var_secinfos(*object.btf->type_by_id(sec_id))) {
    const btf_type* var = object.btf->type_by_id(vsi.type);
    BpfMap map;
    map.full_name = object.btf->name_of(*var);
    map.name = map.full_name.substr(0, BPF_OBJ_NAME_LEN - 1);
    map.origin = BpfMap::Origin::Btf;
    map.sec_idx = section->index;
    map.sec_offset = vsi.offset;
    if (map.full_name.empty()) return refuse(Errno::Inval, "a map in '.maps' has no name");
    if (btf_var_linkage(*var) != BTF_VAR_GLOBAL_ALLOCATED)
      return refuse(Errno::OpNotSupp, "map '{}' must be a global variable, not static or extern",
                    map.full_name);
    if (vsi.offset > section->size || section->size - vsi.offset < vsi.size)
      return refuse(Errno::Inval, "map '{}' ends beyond section '.maps'", map.full_name);
    TRY(BtfMapReader(*object.btf, map).read(var->type, false));
    note(object, Step::Kind::Map, describe_map(object, map));
    object.maps.push_back(std::move(map));
  }
  return {};
}

// struct bpf_map_def { type, key_size, value_size, max_entries, map_flags }, and zeroes if it is longer.
static Result<void> init_legacy_maps(BpfObject& object) {
  const ElfFile::Section* section = object.elf.find_section("maps");
  if (!section) return {};
  std::vector<const ElfFile::Symbol*> symbols;
  for (const ElfFile::Symbol& sym : object.elf.symbols())
    if (sym.shndx == section->index &&
        (sym.type == STT_OBJECT || (sym.type == STT_NOTYPE && sym.bind != STB_LOCAL)))
      symbols.push_back(&sym);
  std::sort(symbols.begin(), symbols.end(),
            [](auto* a, auto* b) { return std::pair(a->value, a->index) < std::pair(b->value, b->index); });

  const auto data = object.elf.data(*section);
  for (size_t i = 0; i < symbols.size(); ++i) {
    const uint64_t begin = symbols[i]->value,
                   end = i + 1 < symbols.size() ? symbols[i + 1]->value : data.size();
    uint32_t def[5] = {};
    if (begin > end || end > data.size() || end - begin < 4 * sizeof def[0])
      return refuse(Errno::Inval, "map '{}': a struct bpf_map_def does not fit at offset {}",
                    symbols[i]->name, begin);
    const auto bytes = data.subspan(begin, end - begin);
    std::memcpy(def, bytes.data(), std::min(sizeof def, bytes.size()));
    if (std::any_of(bytes.begin() + long(std::min(sizeof def, bytes.size())), bytes.end(),
                    [](uint8_t b) { return b; }))
      return refuse(Errno::NotSupp, "map '{}': bpf_map_def has fields that are not known", symbols[i]->name);
    BpfMap map;
    map.full_name = symbols[i]->name;
    map.name = map.full_name.substr(0, BPF_OBJ_NAME_LEN - 1);
    map.origin = BpfMap::Origin::Legacy;
    map.sec_idx = section->index;
    map.sec_offset = begin;
    map.type = def[0], map.key_size = def[1], map.value_size = def[2], map.max_entries = def[3];
    map.map_flags = def[4];
    note(object, Step::Kind::Map, describe_map(object, map) + " (struct bpf_map_def)");
    object.maps.push_back(std::move(map));
  }
  return {};
}

// mmap() shows a program's variables to user space; static ones are nobody else's business.
static bool has_global_variable(const BtfTypes& btf, uint32_t datasec_id) {
  for (const btf_var_secinfo& vsi : btf_var_secinfos(*btf.type_by_id(datasec_id))) {
    const btf_type* var = btf.type_by_id(vsi.type);
    if (var && btf_kind(*var) == BTF_KIND_VAR && btf_var_linkage(*var) != BTF_VAR_STATIC) return true;
  }
  return false;
}

static Result<void> init_data_maps(BpfObject& object) {
  for (const ElfFile::Section& section : object.elf.sections()) {
    if (!is_data_section(section) || section.size == 0) continue;
    if (section.size > max_data_size)
      return refuse(Errno::TooBig, "section '{}' has {} bytes of variables, 64 MiB are allowed", section.name,
                    section.size);
    BpfMap map;
    map.full_name = section.name;
    map.name = internal_map_name(object.name, section.name);
    map.origin = section.type == SHT_NOBITS            ? BpfMap::Origin::Bss
                 : section.name.starts_with(".rodata") ? BpfMap::Origin::Rodata
                                                       : BpfMap::Origin::Data;
    map.sec_idx = section.index;
    map.type = BPF_MAP_TYPE_ARRAY;
    map.key_size = 4;
    map.value_size = uint32_t(section.size);
    map.max_entries = 1;
    if (map.origin == BpfMap::Origin::Rodata) map.map_flags |= BPF_F_RDONLY_PROG;
    if (object.btf) map.btf_value_type_id = object.btf->find_by_name(section.name, BTF_KIND_DATASEC);
    if (map.btf_value_type_id && has_global_variable(*object.btf, map.btf_value_type_id))
      map.map_flags |= BPF_F_MMAPABLE;
    const auto data = object.elf.data(section);
    map.data.assign(data.begin(), data.end());
    map.data.resize(section.size);
    note(object, Step::Kind::Map, describe_map(object, map) + ", holds the variables of " + map.full_name);
    if (!TRY(object.elf.relocations(section)).empty())
      note(object, Step::Kind::Note,
           "pointers among the variables of " + map.full_name + " stay null, as with libbpf");
    object.maps.push_back(std::move(map));
  }
  return {};
}

Result<void> init_maps(BpfObject& object) {
  TRY(init_legacy_maps(object));
  TRY(init_btf_maps(object));
  return init_data_maps(object);
}

// Relocations against `.maps` itself say what a map's slots hold: .values = { [1] = &inner }.
Result<void> init_map_values(BpfObject& object) {
  const ElfFile::Section* section = object.elf.find_section(".maps");
  if (!section) return {};
  const auto relocations = TRY(object.elf.relocations(*section));
  const uint32_t sec_id = relocations.empty() ? 0 : object.btf->find_by_name(".maps", BTF_KIND_DATASEC);
  for (const ElfFile::Relocation& rel : relocations) {
    const std::string target(object.elf.symbols()[rel.symbol].name);
    for (const btf_var_secinfo& vsi : btf_var_secinfos(*object.btf->type_by_id(sec_id))) {
      if (rel.offset < vsi.offset || rel.offset - vsi.offset > uint64_t(vsi.size) - 8 || vsi.size < 8)
        continue;
      const btf_type& var = *object.btf->type_by_id(vsi.type);
      const btf_type& def = *object.btf->skip_modifiers(var.type);
      BpfMap& map = *object.find_map(object.btf->name_of(var));
      const bool progs = map.type == BPF_MAP_TYPE_PROG_ARRAY;
      const auto members = btf_members(def);
      const char* last = object.btf->name_by_offset(members.back().name_off);
      const uint64_t first_slot = vsi.offset + uint64_t(btf_member_bit_offset(def, members.back()) / 8);
      if (!(progs || is_map_in_map(map.type)) || std::string_view(last) != "values" ||
          rel.offset < first_slot || (rel.offset - first_slot) % 8)
        return refuse(Errno::Inval, "map '{}': '{}' is no value that a slot can hold", map.full_name, target);
      if (progs ? !object.find_program(target) : !object.find_map(target))
        return refuse(Errno::Srch, "map '{}': there is no {} '{}'", map.full_name, progs ? "program" : "map",
                      target);
      map.values[uint32_t((rel.offset - first_slot) / 8)] = target;
      note(object, Step::Kind::Map,
           "map " + map.full_name + ": slot " + std::to_string((rel.offset - first_slot) / 8) + " = " +
               target);
      break;
    }
  }
  return {};
}

}  // namespace bpfsim::loader
