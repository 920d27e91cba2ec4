// Models: kernel/bpf/syscall.c (bpf_map_copy_value, bpf_map_update_value, generic_map_*_batch) (Linux 6.18)
//
// One element of any map as user space sees it, and from that the batch commands of every map that has no
// better way of its own: key by key.
#pragma once

#include <cstring>
#include <functional>
#include <memory>
#include <string>

#include "object/ops.h"

namespace bpfsim {

// A kernel copy of a key or value: on the stack when small.
class Buffer {
 public:
  explicit Buffer(size_t size) : size_(size) {
    if (size > sizeof small_)
      large_ = std::make_unique<uint64_t[]>((size + 7) / 8);
    else
      std::memset(small_, 0, size);
  }
  void* data() { return large_ ? static_cast<void*>(large_.get()) : small_; }
  size_t size() const { return size_; }

 private:
  size_t size_;
  alignas(8) uint8_t small_[256];
  std::unique_ptr<uint64_t[]> large_;
};

// Values without keys that can be taken out again. Of a lesson's own types, those without keys.
bool pops(const Map& map);

// BPF_F_LOCK wants a value with a bpf_spin_lock.
Result<void> check_lock_flag(const Map& map, uint64_t flags);
// What map_seq_show_elem of most types gives: "KEY: VALUE", or the values of all CPUs in braces; `key` is
// whole.
std::string seq_show_elem(const Map& map, const std::string& key, const void* value);
std::string seq_show_percpu_elem(const Map& map, const std::string& key,
                                 const std::function<const void*(uint32_t cpu)>& value_on);
std::string seq_show_key(const Map& map, const void* key);  // by its BTF type, with ": "

Result<void> bpf_map_copy_value(Map& map, const void* key, void* value);
Result<void> bpf_map_update_value(Map& map, File& map_file, const void* key, const void* value,
                                  uint64_t flags);

// elem_flags of a batch: BPF_F_LOCK alone, and only where the value has a lock.
Result<void> check_batch_elem_flags(const Map& map, const bpf_attr& attr);
// batch.count of the caller's union: how many elements were done.
Result<void> put_batch_count(Machine& machine, UserAttr uattr, uint32_t count);

Result<void> generic_map_lookup_batch(Map& map, const bpf_attr& attr, UserAttr uattr);
Result<void> generic_map_update_batch(Map& map, File& map_file, const bpf_attr& attr, UserAttr uattr);
Result<void> generic_map_delete_batch(Map& map, const bpf_attr& attr, UserAttr uattr);

}  // namespace bpfsim
