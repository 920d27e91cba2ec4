// Models: kernel/bpf/ringbuf.c (Linux 6.18)
//
// One ring for all CPUs, from programs to user space (or, as user_ringbuf, back). Four parts, each at a page:
// what only the kernel sees, the consumer's position, the producer's position, the data. Positions only
// grow; position & mask is the place in the data. A record is a header of 8 bytes and the sample, rounded up
// to 8: a reserve writes the header with the BUSY bit and moves the producer on; a commit clears the bit, or
// sets DISCARD. User space reads records in their order and stops at a busy one. The header also says how
// many pages it lies behind the start of the ring, so that a sample leads back to its ring. Departs from the
// kernel: it maps the data pages twice in a row, so that a record that runs over the end is contiguous; here
// the data area is twice as long and such a record lies across the border; when it is committed, what is
// behind the border is copied to the beginning, the only place that mmap shows (map_mmap_page).
// No lock; a wake-up is counted, and map_poll answers at once. Not modelled yet: bpf_user_ringbuf_drain.
#include "map/ringbuf.h"

#include <algorithm>

#include "map/common.h"
#include "map/map_in_map.h"
#include "map/map_types.h"
#include "map/view.h"

namespace bpfsim {

namespace {

constexpr uint32_t RINGBUF_CREATE_FLAG_MASK = BPF_F_NUMA_NODE;
constexpr uint64_t RINGBUF_MAX_RECORD_SZ = UINT32_MAX / 4;
constexpr uint64_t kConsumerPage = kPageSize, kProducerPage = 2 * kPageSize, kData = 3 * kPageSize;
constexpr uint64_t kMetaPages = 3, kSizeofBpfRingbufMap = 304;
constexpr uint32_t EPOLLIN = 1, EPOLLOUT = 4, EPOLLRDNORM = 0x40, EPOLLWRNORM = 0x100;

struct RingbufHeader {
  uint32_t len;  // of the sample, with BUSY and DISCARD
  uint32_t pg_off;
};
static_assert(sizeof(RingbufHeader) == BPF_RINGBUF_HDR_SZ);

struct KernelPart {  // at the start of the ring, in pages that user space cannot map
  Addr map;          // its handle
};

struct RingbufMap final : Map {
  using Map::Map;
  ~RingbufMap() override { machine.arena.free(ring); }
  template <class T>
  T& at(uint64_t offset) const {
    return *reinterpret_cast<T*>(ring.host + offset);
  }
  uint64_t& consumer_pos() const { return at<uint64_t>(kConsumerPage); }
  uint64_t& producer_pos() const { return at<uint64_t>(kProducerPage); }
  uint64_t& pending_pos() const { return at<uint64_t>(kProducerPage + 8); }  // the oldest that may be busy
  RingbufHeader& record(uint64_t pos) const { return at<RingbufHeader>(kData + (pos & mask)); }

  uint64_t mask = 0;
  Span ring;
  uint64_t wakeups = 0;
};

RingbufMap& ringbuf_of(Map& map) { return static_cast<RingbufMap&>(map); }
const RingbufMap& ringbuf_of(const Map& map) { return static_cast<const RingbufMap&>(map); }

uint64_t record_size(uint32_t len) {
  return round_up(uint64_t(len & ~(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT)) + BPF_RINGBUF_HDR_SZ, 8);
}

Result<void> build(RingbufMap& rb, const bpf_attr& attr) {
  rb.mask = attr.max_entries - 1;
  rb.ring = TRY(rb.machine.arena.alloc(kData + 2 * uint64_t(attr.max_entries), "ringbuf"));
  rb.at<KernelPart>(0).map = rb.handle;
  return {};
}

Result<Map*> ringbuf_map_alloc(Machine& machine, const bpf_attr& attr) {
  if (uint32_t extra = attr.map_flags & ~RINGBUF_CREATE_FLAG_MASK)
    return refuse(Errno::Inval, "map_flags {} are not for a ring buffer", extra);
  if (attr.key_size || attr.value_size)
    return refuse(Errno::Inval, "key_size and value_size must be 0, are {} and {}", attr.key_size,
                  attr.value_size);
  uint32_t size = attr.max_entries;
  if (size == 0 || (size & (size - 1)) != 0 || size % kPageSize != 0)
    return refuse(Errno::Inval,
                  "max_entries, the bytes of data, must be a power of two and whole pages, is {}", size);
  return new_map<RingbufMap>(machine, attr, build);
}

void ringbuf_map_free(Map& map) { delete &ringbuf_of(map); }

Result<void*> ringbuf_map_lookup_elem(Map&, const void*) {
  return refuse(Errno::NotSupp, "a ring buffer has no elements");
}

Result<void> ringbuf_map_update_elem(Map&, const void*, const void*, uint64_t) {
  return refuse(Errno::NotSupp, "a ring buffer has no elements");
}

Result<void> ringbuf_map_delete_elem(Map&, const void*) {
  return refuse(Errno::NotSupp, "a ring buffer has no elements");
}

Result<void> ringbuf_map_get_next_key(Map&, const void*, void*) {
  return refuse(Errno::NotSupp, "a ring buffer has no keys");
}

// User space sees the ring from the consumer's page on.
Result<Span> map_pages(const RingbufMap& rb, uint64_t offset, uint64_t length) {
  uint64_t size = rb.ring.size - kConsumerPage;
  if (offset > size || length > size - offset)
    return refuse(Errno::Inval, "{} bytes from {} are not inside the {} of the ring", length, offset, size);
  return Span{rb.ring.addr + kConsumerPage + offset, rb.ring.host + kConsumerPage + offset, length};
}

Result<Span> ringbuf_map_mmap_kern(Map& map, Vma& vma) {
  if (vma.write && (vma.offset != 0 || vma.length != kPageSize))
    return refuse(Errno::Perm, "only the consumer's page may be mapped for writing");
  return map_pages(ringbuf_of(map), vma.offset, vma.length);
}

Result<Span> ringbuf_map_mmap_user(Map& map, Vma& vma) {
  if (vma.write && vma.offset == 0)
    return refuse(Errno::Perm, "the consumer's page may not be mapped for writing");
  return map_pages(ringbuf_of(map), vma.offset, vma.length);
}

// The data's second half is its first once more.
uint64_t ringbuf_map_mmap_page(const Map& map, uint64_t offset) {
  constexpr uint64_t data = kData - kConsumerPage;
  return offset < data ? offset : data + ((offset - data) & ringbuf_of(map).mask);
}

uint64_t ringbuf_avail_data_sz(const RingbufMap& rb) { return rb.producer_pos() - rb.consumer_pos(); }

uint32_t ringbuf_map_poll_kern(Map& map, File&) {
  return ringbuf_avail_data_sz(ringbuf_of(map)) ? EPOLLIN | EPOLLRDNORM : 0;
}

uint32_t ringbuf_map_poll_user(Map& map, File&) {
  RingbufMap& rb = ringbuf_of(map);
  return ringbuf_avail_data_sz(rb) < rb.max_entries ? EPOLLOUT | EPOLLWRNORM : 0;
}

// Moves pending_pos over the records that are no longer busy. A record that would end behind the producer has
// a header that somebody has written over: the walk stops there.
void skip_committed(RingbufMap& rb) {
  while (rb.producer_pos() != rb.pending_pos()) {
    uint32_t len = rb.record(rb.pending_pos()).len;
    uint64_t size = record_size(len);
    if (len & BPF_RINGBUF_BUSY_BIT || size > rb.producer_pos() - rb.pending_pos()) return;
    rb.pending_pos() += size;
  }
}

// How much of a record lies behind the border, where it is of the beginning once more: what stands there is
// brought along when the record is reserved, and goes back when it is committed.
uint64_t over_the_border(const RingbufMap& rb, uint64_t offset, uint64_t size) {
  const uint64_t border = kData + rb.mask + 1;
  return offset + size > border ? std::min(offset + size - border, rb.mask + 1) : 0;
}

// The address of a sample of `size` bytes, or 0 when the ring has no room.
Addr ringbuf_reserve(Map& map, uint64_t size) {
  RingbufMap& rb = ringbuf_of(map);
  if (size > RINGBUF_MAX_RECORD_SZ) return 0;
  uint64_t len = round_up(size + BPF_RINGBUF_HDR_SZ, 8);
  if (len > rb.max_entries) return 0;
  skip_committed(rb);
  uint64_t pos = rb.producer_pos(), end = pos + len;
  if (end - rb.consumer_pos() > rb.mask || end - rb.pending_pos() > rb.mask) return 0;
  uint64_t offset = kData + (pos & rb.mask);
  std::memcpy(&rb.at<uint8_t>(kData + rb.mask + 1), &rb.at<uint8_t>(kData), over_the_border(rb, offset, len));
  rb.record(pos) = {uint32_t(size) | BPF_RINGBUF_BUSY_BIT, uint32_t(offset / kPageSize)};
  rb.producer_pos() = end;
  return rb.ring.addr + offset + BPF_RINGBUF_HDR_SZ;
}

uint64_t ringbuf_query(Map& map, uint64_t what) {
  RingbufMap& rb = ringbuf_of(map);
  switch (what) {
    case BPF_RB_AVAIL_DATA: return ringbuf_avail_data_sz(rb);
    case BPF_RB_RING_SIZE: return rb.max_entries;
    case BPF_RB_CONS_POS: return rb.consumer_pos();
    case BPF_RB_PROD_POS: return rb.producer_pos();
    default: return 0;
  }
}

// The ring of a record; null for an address that is no record, which only an unverified program can give.
RingbufMap* ringbuf_restore_from_rec(Machine& machine, Addr header) {
  if (!machine.arena.contains(header, BPF_RINGBUF_HDR_SZ) || header % 8 != 0) return nullptr;
  const auto& record = *reinterpret_cast<const RingbufHeader*>(machine.arena.host(header));
  Addr start = (header & ~(kPageSize - 1)) - uint64_t(record.pg_off) * kPageSize;
  if (!machine.arena.contains(start, sizeof(KernelPart))) return nullptr;
  Map* map = map_from_handle(machine, reinterpret_cast<const KernelPart*>(machine.arena.host(start))->map);
  if (!map || map->map_type != BPF_MAP_TYPE_RINGBUF || ringbuf_of(*map).ring.addr != start) return nullptr;
  return &ringbuf_of(*map);
}

uint64_t ringbuf_map_mem_usage(const Map& map) {
  uint64_t data_pages = map.max_entries / kPageSize;
  return kSizeofBpfRingbufMap + (kMetaPages + data_pages) * kPageSize +
         (kMetaPages + 2 * data_pages) * sizeof(void*);
}

}  // namespace

void bpf_ringbuf_commit(Machine& machine, Addr sample, uint64_t flags, bool discard) {
  Addr header = sample - BPF_RINGBUF_HDR_SZ;
  RingbufMap* rb = ringbuf_restore_from_rec(machine, header);
  if (!rb) return;
  auto& record = *reinterpret_cast<RingbufHeader*>(machine.arena.host(header));
  std::memcpy(&rb->at<uint8_t>(kData), &rb->at<uint8_t>(kData + rb->mask + 1),
              over_the_border(*rb, header - rb->ring.addr, record_size(record.len)));
  record.len ^= BPF_RINGBUF_BUSY_BIT;
  if (discard) record.len |= BPF_RINGBUF_DISCARD_BIT;
  // A consumer that has read everything before this record may be asleep.
  bool caught_up = (rb->consumer_pos() & rb->mask) == header - (rb->ring.addr + kData);
  if (flags & BPF_RB_FORCE_WAKEUP || (caught_up && !(flags & BPF_RB_NO_WAKEUP))) ++rb->wakeups;
}

RingbufView ringbuf_view(const Map& map) {
  const RingbufMap& rb = ringbuf_of(map);
  RingbufView view{rb.max_entries, rb.consumer_pos(), rb.producer_pos(), rb.pending_pos(), rb.wakeups, {}};
  // User space writes one of the positions, and may write anything there.
  const uint64_t begin = rb.consumer_pos(), waiting = rb.producer_pos() - begin;
  if (begin % 8 || waiting > rb.max_entries) return view;
  for (uint64_t pos = begin; pos - begin < waiting;) {
    const RingbufHeader& header = rb.record(pos);
    uint64_t size = record_size(header.len);
    if (size > waiting - (pos - begin)) break;
    const uint8_t* sample = reinterpret_cast<const uint8_t*>(&header + 1);
    view.records.push_back(
        {pos, (header.len & BPF_RINGBUF_BUSY_BIT) != 0, (header.len & BPF_RINGBUF_DISCARD_BIT) != 0,
         bytes_of(sample, header.len & ~(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT))});
    pos += size;
  }
  return view;
}

const MapOps ringbuf_map_ops = {
    .map_alloc = OP(ringbuf_map_alloc),
    .map_free = OP(ringbuf_map_free),
    .map_get_next_key = OP(ringbuf_map_get_next_key),
    .map_lookup_elem = OP(ringbuf_map_lookup_elem),
    .map_update_elem = OP(ringbuf_map_update_elem),
    .map_delete_elem = OP(ringbuf_map_delete_elem),
    .map_mmap = OP(ringbuf_map_mmap_kern),
    .map_poll = OP(ringbuf_map_poll_kern),
    .map_meta_equal = OP(bpf_map_meta_equal),
    .map_mem_usage = OP(ringbuf_map_mem_usage),
    .map_mmap_page = OP(ringbuf_map_mmap_page),
    .ringbuf_reserve = OP(ringbuf_reserve),
    .ringbuf_query = OP(ringbuf_query),
};

const MapOps user_ringbuf_map_ops = {
    .map_alloc = OP(ringbuf_map_alloc),
    .map_free = OP(ringbuf_map_free),
    .map_get_next_key = OP(ringbuf_map_get_next_key),
    .map_lookup_elem = OP(ringbuf_map_lookup_elem),
    .map_update_elem = OP(ringbuf_map_update_elem),
    .map_delete_elem = OP(ringbuf_map_delete_elem),
    .map_mmap = OP(ringbuf_map_mmap_user),
    .map_poll = OP(ringbuf_map_poll_user),
    .map_meta_equal = OP(bpf_map_meta_equal),
    .map_mem_usage = OP(ringbuf_map_mem_usage),
    .map_mmap_page = OP(ringbuf_map_mmap_page),
};

}  // namespace bpfsim
