// The arena, RCU and handles: the ground that every object stands on.
#include "base/arena.h"

#include <cstring>
#include <map>

#include "base/handles.h"
#include "base/rcu.h"
#include "catch.h"

using namespace bpfsim;

TEST_CASE("memory of the arena is zero, apart from other memory, and found by its address") {
  Arena arena(16 << 20);
  std::vector<Span> spans;
  for (uint64_t size : {1, 8, 9, 100, 4095, 4096, 4097, 100'000}) spans.push_back(*arena.alloc(size, "test"));
  for (const Span& span : spans) {
    for (uint64_t i = 0; i < span.size; ++i) REQUIRE(span.host[i] == 0);
    std::memset(span.host, 0xff, span.size);
    CHECK(arena.host(span.addr) == span.host);
    CHECK(arena.addr(span.host) == span.addr);
    CHECK(arena.find(span.addr)->addr == span.addr);
    CHECK(arena.find(span.addr + span.size - 1)->addr == span.addr);
    const Arena::Block* behind = arena.find(span.addr + span.size);
    CHECK((!behind || behind->addr != span.addr));
    if (span.size >= kPageSize) CHECK(span.addr % kPageSize == 0);
  }
  for (const Span& span : spans) {
    arena.free(span);
    CHECK(arena.find(span.addr) == nullptr);
  }
  CHECK(arena.live_objects() == 0);
  CHECK(arena.live_bytes() == 0);
}

TEST_CASE("the same allocations give the same addresses in every arena") {
  auto story = [] {
    Arena arena(16 << 20);
    std::vector<Addr> addrs;
    std::vector<Span> live;
    for (uint64_t i = 0; i < 500; ++i) {
      live.push_back(*arena.alloc(1 + i * 37 % 9000, "test"));
      addrs.push_back(live.back().addr);
      if (i % 3 == 0) {
        arena.free(live[live.size() / 2]);
        live.erase(live.begin() + long(live.size() / 2));
      }
    }
    return addrs;
  };
  CHECK(story() == story());
}

TEST_CASE("an arena that is used up says ENOMEM, and what is freed can be had again") {
  Arena arena(1 << 20);
  std::vector<Span> spans;
  for (;;) {
    Result<Span> span = arena.alloc(8192, "test");
    if (!span) {
      CHECK(span.err() == Errno::NoMem);
      break;
    }
    spans.push_back(*span);
  }
  CHECK(spans.size() == 128);
  CHECK(arena.alloc(2 << 20, "test").err() == Errno::NoMem);
  for (const Span& span : spans) arena.free(span);
  CHECK(arena.alloc(1 << 20, "test").ok());  // free neighbours have become one run again
}

TEST_CASE("no two live objects share a byte, whatever the order of frees") {
  Arena arena(8 << 20);
  std::vector<Span> live;
  uint64_t state = 1;
  for (int round = 0; round < 4000; ++round) {
    state = state * 6364136223846793005 + 1442695040888963407;
    if (live.empty() || state >> 62) {
      Result<Span> span = arena.alloc(1 + (state >> 33) % 6000, "test");
      if (span) live.push_back(*span);
    } else {
      const size_t victim = (state >> 33) % live.size();
      arena.free(live[victim]);
      live.erase(live.begin() + long(victim));
    }
    if (live.size() > 300) {
      arena.free(live.front());
      live.erase(live.begin());
    }
  }
  std::map<Addr, uint64_t> sorted;
  for (const Span& span : live) sorted.emplace(span.addr, span.size);
  CHECK(sorted.size() == live.size());
  Addr end = 0;
  for (const auto& [addr, size] : sorted) {
    CHECK(addr >= end);
    end = addr + size;
  }
  CHECK(arena.live_objects() == live.size());
}

TEST_CASE("a grace period runs callbacks in order, and those that they queue") {
  Rcu rcu;
  std::string order;
  rcu.call_rcu("a", nullptr, [&] {
    order += 'a';
    rcu.call_rcu("c", nullptr, [&] { order += 'c'; });
  });
  rcu.call_rcu("b", nullptr, [&] { order += 'b'; });
  {
    RcuReader reader(rcu);
    CHECK(rcu.grace_period() == 0);
  }
  rcu.hold();
  CHECK(rcu.grace_period() == 0);
  rcu.release();
  CHECK(rcu.grace_period() == 3);
  CHECK(order == "abc");
  CHECK(rcu.waiting().empty());
}

TEST_CASE("a handle gives its object to who asks for the right kind, and nothing to others") {
  Handles handles;
  int map = 0, sock = 0;
  const Addr a = handles.publish(HandleKind::Map, &map), b = handles.publish(HandleKind::Socket, &sock);
  CHECK(a != b);
  CHECK(handles.resolve(HandleKind::Map, a) == &map);
  CHECK(handles.resolve(HandleKind::Socket, a) == nullptr);
  CHECK(handles.resolve(HandleKind::Map, a + 1) == nullptr);
  CHECK(handles.resolve(HandleKind::Map, 0) == nullptr);
  CHECK(handles.resolve(HandleKind::Map, ~0ull) == nullptr);
  handles.withdraw(a);
  CHECK(handles.resolve(HandleKind::Map, a) == nullptr);
  CHECK(handles.publish(HandleKind::Map, &map) == a);
}
