// Models: kernel/bpf/core.c, arch/x86/mm/fault.c (Linux 6.18), as far as programs go
//
// The life of a program in flight: its stack, the memory it may touch, callbacks, and how it dies of a wrong
// access. A report names what was done, where, and which object lay nearest.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <utility>

#include "isa/disasm.h"
#include "run/checked.h"
#include "run/engine.h"

namespace bpfsim {

RunFrame::RunFrame(Machine& machine, const Prog& prog)
    : machine(machine), prog(&prog), outer(std::exchange(machine.current->running, this)) {
  machine.rcu.read_lock();
  if (!machine.run_stacks) machine.run_stacks = std::make_shared<RunStacks>();
  std::vector<RunStack>& spare = machine.run_stacks->spare;
  if (spare.empty()) {
    auto page = machine.arena.alloc(uint64_t(MAX_CALL_FRAMES) * MAX_BPF_STACK, "bpf stack");
    if (!page) {
      printk(machine, "BPF: no memory for the stack of a program");
      stop = RunStop::Oops;
      return;
    }
    stack = *page;
  } else {
    stack = spare.back().page;
    held = std::move(spare.back().held);
    spare.pop_back();
  }
  std::memset(stack.host + stack.size - MAX_BPF_STACK, 0, MAX_BPF_STACK);
  machine.current->tail_calls = 0;
}

RunFrame::~RunFrame() {
  for (; !held.empty(); held.pop_back()) {
    held.back().edge.reset();
    held.back().give_back(machine, held.back().what);
  }
  if (stack) machine.run_stacks->spare.push_back({stack, std::move(held)});
  machine.rcu.read_unlock();
  machine.current->running = outer;
}

bool RunFrame::gives_back(Addr what) {
  auto it = std::find_if(held.rbegin(), held.rend(), [&](const RunHeld& one) { return one.what == what; });
  if (it == held.rend()) return false;
  held.erase(std::next(it).base());
  return true;
}

bool is_program_memory(const Machine& machine, Addr addr, uint64_t size) {
  if (!machine.arena.contains(addr, size)) return false;
  const RunFrame* frame = machine.current->running;
  if (!frame || !frame->checked || size == 0) return true;
  const Arena::Block* block = machine.arena.find(addr);
  return block && addr + size <= block->addr + block->size;
}

uint8_t* program_memory(Machine& machine, Addr addr, uint64_t size, bpf_access_type type) {
  if (is_program_memory(machine, addr, size)) return machine.arena.host(addr);
  if (RunFrame* frame = machine.current->running) oops_access(*frame, frame->insn, addr, size, type);
  return nullptr;
}

void oops(RunFrame& frame, uint64_t insn, const std::string& what) {
  frame.stop = RunStop::Oops;
  char head[96];
  std::snprintf(head, sizeof head, "BUG: bpf_prog_%u, insn %llu: ", frame.prog->id,
                static_cast<unsigned long long>(insn));
  const std::vector<bpf_insn>& insns = frame.prog->insnsi;
  std::string text = insn < insns.size() ? insn_text(insns, insn) : std::string("(past the end)");
  printk(frame.machine, std::string(head) + what);
  printk(frame.machine, "  in '" + frame.prog->label() + "' at: " + text);
}

static std::string hex16(uint64_t value) {
  char text[24];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value));
  return text;
}

// Where an address lies: inside a live object, near one, in a handle page, nowhere.
static std::string place_of(const Machine& machine, Addr addr, uint64_t size) {
  if (addr < kPageSize) return "a NULL pointer dereference";
  if (addr >= kHandleBase && addr < kHandleBase + (1ull << 32))
    return "inside a kernel object that a program only holds a handle of";
  if (!machine.arena.contains(addr, 1)) return "outside of the machine's memory";
  if (const Arena::Block* block = machine.arena.find(addr)) {
    uint64_t over = addr + size - (block->addr + block->size);
    return std::to_string(over) + " bytes beyond the end of '" + block->owner + "' of " +
           std::to_string(block->size) + " bytes";
  }
  constexpr uint64_t kNear = 256;
  for (uint64_t back = 1; back <= kNear; ++back)
    if (const Arena::Block* block = machine.arena.find(addr - back))
      return std::to_string(addr - (block->addr + block->size)) + " bytes past '" + block->owner + "' of " +
             std::to_string(block->size) + " bytes";
  for (uint64_t ahead = 1; ahead <= kNear; ++ahead)
    if (const Arena::Block* block = machine.arena.find(addr + ahead))
      return std::to_string(block->addr - addr) + " bytes before '" + block->owner + "' of " +
             std::to_string(block->size) + " bytes";
  return "in no live object (freed, or never allocated)";
}

void oops_access(RunFrame& frame, uint64_t insn, Addr addr, uint64_t size, bpf_access_type type) {
  oops(frame, insn,
       std::string(type == BPF_WRITE ? "write of " : "read of ") + std::to_string(size) + " bytes at 0x" +
           hex16(addr) + ", " + place_of(frame.machine, addr, size));
}

uint64_t call_bpf(Machine& machine, const Prog& prog, Addr function, const uint64_t (&args)[5]) {
  RunFrame& frame = *machine.current->running;
  uint64_t start = (function - kTextBase) / 8;
  if (function < kTextBase || start >= prog.insnsi.size()) {
    oops(frame, frame.insn, "a callback at 0x" + hex16(function) + ", which is no function of the program");
    return 0;
  }
  if (frame.depth + 1 >= MAX_CALL_FRAMES) {
    oops(frame, frame.insn, "the call stack of 8 frames is used up");
    return 0;
  }
  uint64_t insn = frame.insn;
  ++frame.depth;
  std::memset(machine.arena.host(frame.fp(frame.depth)) - MAX_BPF_STACK, 0, MAX_BPF_STACK);
  uint64_t value = frame.checked ? call_bpf_checked(frame, uint32_t(start), args)
                                 : ___bpf_prog_run(frame, *static_cast<const Program*>(prog.image.get()),
                                                   uint32_t(start), args)
                                       .value;
  --frame.depth;
  frame.insn = insn;
  return value;
}

const Prog* tail_call_target(Machine& machine, Addr map_addr, uint32_t index) {
  RunFrame& frame = *machine.current->running;
  Map* map = map_from_handle(machine, map_addr);
  if (!map || !map->ops->prog_array_elem) {
    oops(frame, frame.insn, "a tail call through 0x" + hex16(map_addr) + ", which is no prog array");
    return nullptr;
  }
  return index < map->max_entries ? map->ops->prog_array_elem(*map, index) : nullptr;
}

void ProgRunEvent::fields(FieldSink& sink) const {
  sink.number("prog", prog_id);
  sink.number("serial", int64_t(serial));
  enter ? sink.address("ctx", value) : sink.number("r0", int64_t(value));
}

HelperEvent::HelperEvent(int id, bool enter, const uint64_t* regs) : id(id), enter(enter) {
  std::copy_n(regs, enter ? 5 : 1, values);
}

void HelperEvent::fields(FieldSink& sink) const {
  sink.number("id", id);
  sink.text("function", std::string("bpf_") + func_id_name(id));
  static constexpr const char* names[] = {"r1", "r2", "r3", "r4", "r5"};
  if (!enter) return sink.address("r0", values[0]);
  for (int i = 0; i < 5; ++i) sink.address(names[i], values[i]);
}

void TailCallEvent::fields(FieldSink& sink) const {
  sink.number("index", index);
  sink.number("taken", taken);
  sink.number("to", to);
}

}  // namespace bpfsim
