// Models: kernel/bpf/hashtab.c: __htab_map_lookup_and_delete_batch (Linux 6.18)
//
// The hash's own way through many elements: bucket by bucket, never a part of one. in_batch and out_batch are
// a bucket's number, 4 bytes: where to begin, and where the next call should. The end is ENOENT, with what
// was found before it; a first bucket with more elements than the caller has room for is ENOSPC. With
// DELETE, a bucket is emptied before its elements are copied out, so what EFAULT stops is gone all the same.
#include "map/htab.h"
#include "map/map_value.h"
#include "object/ops.h"

namespace bpfsim {

namespace {

struct Batch {
  Map& map;
  const bpf_attr& attr;
  bool do_delete;
  uint32_t bucket = 0, total = 0;
  std::vector<uint8_t> keys = {}, values = {};
};

void copy_element(const BpfHtab& htab, HtabElem* l, Batch& batch) {
  const uint8_t* value = static_cast<const uint8_t*>(htab.value(l));
  size_t size = htab.value_size;
  uint32_t map_id;
  if (htab.percpu()) {
    value = htab.place(l);
    size = size_t(htab.stride()) * htab.machine.cpus;
  } else if (htab.of_maps()) {
    map_id = htab.ops->map_fd_sys_lookup_elem(htab.inner(l));
    value = reinterpret_cast<const uint8_t*>(&map_id);
  }
  batch.keys.insert(batch.keys.end(), l->key(), l->key() + htab.key_size);
  const size_t at = batch.values.size();
  batch.values.resize(at + size);
  if (htab.percpu()) {
    copy_map_values(htab, &batch.values[at], value, true);
  } else {
    copy_map_value(htab, &batch.values[at], value);
    bpf_obj_init(htab.record, &batch.values[at]);
  }
}

// Copies a bucket, and empties it if asked: the last element goes first.
void take_bucket(BpfHtab& htab, Batch& batch) {
  batch.keys.clear();
  batch.values.clear();
  std::vector<HtabElem*> to_free;
  for (HtabElem *l = htab.bucket(batch.bucket), *next; l; l = next) {
    next = l->next;
    copy_element(htab, l, batch);
    if (!batch.do_delete) continue;
    htab_unlink(htab, l);
    to_free.push_back(l);
  }
  while (!to_free.empty()) {
    free_htab_elem(htab, to_free.back());
    to_free.pop_back();
  }
}

Result<void> walk_buckets(BpfHtab& htab, Batch& batch) {
  const bpf_attr& attr = batch.attr;
  for (; batch.bucket < htab.n_buckets; ++batch.bucket) {
    uint32_t bucket_cnt = 0;
    for (HtabElem* l = htab.bucket(batch.bucket); l; l = l->next) ++bucket_cnt;
    if (bucket_cnt == 0) continue;
    if (bucket_cnt > attr.batch.count - batch.total) {
      if (batch.total) return {};
      return refuse(Errno::NoSpc, "bucket {} has {} elements, more than count", batch.bucket, bucket_cnt);
    }
    take_bucket(htab, batch);
    TRY(copy_to_user(htab.machine, attr.batch.keys + uint64_t(batch.total) * htab.key_size, batch.keys.data(),
                     batch.keys.size()));
    TRY(copy_to_user(htab.machine, attr.batch.values + batch.total * (batch.values.size() / bucket_cnt),
                     batch.values.data(), batch.values.size()));
    batch.total += bucket_cnt;
  }
  return refuse(Errno::NoEnt, "no bucket follows");
}

Result<void> __htab_map_lookup_and_delete_batch(Map& map, const bpf_attr& attr, UserAttr uattr,
                                                bool do_delete) {
  KFN(map.machine, __htab_map_lookup_and_delete_batch);
  BpfHtab& htab = htab_of(map);
  Machine& machine = map.machine;
  TRY(check_batch_elem_flags(map, attr));
  if (attr.batch.flags) return refuse(Errno::Inval, "batch.flags must be 0, is {}", attr.batch.flags);
  if (!attr.batch.count) return {};
  TRY(put_batch_count(machine, uattr, 0));
  Batch batch{map, attr, do_delete};
  if (attr.batch.in_batch)
    TRY(copy_from_user(machine, &batch.bucket, attr.batch.in_batch, sizeof batch.bucket));
  if (batch.bucket >= htab.n_buckets)
    return refuse(Errno::NoEnt, "in_batch {} is not below the {} buckets", batch.bucket, htab.n_buckets);
  Result<void> result = walk_buckets(htab, batch);
  if (result.err() == Errno::Fault) return result;
  TRY(copy_to_user(machine, attr.batch.out_batch, &batch.bucket, sizeof batch.bucket));
  TRY(put_batch_count(machine, uattr, batch.total));
  return result;
}

}  // namespace

Result<void> htab_map_lookup_batch(Map& map, const bpf_attr& attr, UserAttr uattr) {
  return __htab_map_lookup_and_delete_batch(map, attr, uattr, false);
}

Result<void> htab_map_lookup_and_delete_batch(Map& map, const bpf_attr& attr, UserAttr uattr) {
  return __htab_map_lookup_and_delete_batch(map, attr, uattr, true);
}

Result<void> htab_percpu_map_lookup_batch(Map& map, const bpf_attr& attr, UserAttr uattr) {
  return __htab_map_lookup_and_delete_batch(map, attr, uattr, false);
}

Result<void> htab_percpu_map_lookup_and_delete_batch(Map& map, const bpf_attr& attr, UserAttr uattr) {
  return __htab_map_lookup_and_delete_batch(map, attr, uattr, true);
}

Result<void> htab_lru_map_lookup_batch(Map& map, const bpf_attr& attr, UserAttr uattr) {
  return __htab_map_lookup_and_delete_batch(map, attr, uattr, false);
}

Result<void> htab_lru_map_lookup_and_delete_batch(Map& map, const bpf_attr& attr, UserAttr uattr) {
  return __htab_map_lookup_and_delete_batch(map, attr, uattr, true);
}

Result<void> htab_lru_percpu_map_lookup_batch(Map& map, const bpf_attr& attr, UserAttr uattr) {
  return __htab_map_lookup_and_delete_batch(map, attr, uattr, false);
}

Result<void> htab_lru_percpu_map_lookup_and_delete_batch(Map& map, const bpf_attr& attr, UserAttr uattr) {
  return __htab_map_lookup_and_delete_batch(map, attr, uattr, true);
}

}  // namespace bpfsim
