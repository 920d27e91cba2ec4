// Models: include/linux/bpf.h (bpf_obj_memcpy, bpf_obj_init_field) (Linux 6.18)
//
// Copying a value around its special fields, and making them new.
#include "object/btf_record.h"

#include <cstring>

namespace bpfsim {

void bpf_obj_memcpy(const BtfRecord& record, void* to, const void* from, uint32_t size) {
  uint32_t at = 0;
  auto copy_up_to = [&](uint32_t end) {
    std::memcpy(static_cast<uint8_t*>(to) + at, static_cast<const uint8_t*>(from) + at, end - at);
  };
  for (const BtfField& field : record.fields) {
    copy_up_to(field.offset);
    at = field.offset + field.size;
  }
  copy_up_to(size);
}

// An empty list's head points to itself, where the kernel shows an address; here it is 0.
void bpf_obj_init(const BtfRecord& record, void* value) {
  for (const BtfField& field : record.fields) {
    uint8_t* at = static_cast<uint8_t*>(value) + field.offset;
    std::memset(at, 0, field.size);
    if (field.type == BPF_REFCOUNT) *at = 1;
  }
}

}  // namespace bpfsim
