// No kernel counterpart: a kernel forgets its callers; strace(1) shows calls in a like form.
//
// A call of bpf(2) in words: the command and what tells it from its neighbours, read back from the tape. What
// a call did not get to read (a wild pointer, a refusal before) is left out.
#include <algorithm>
#include <cstring>
#include <optional>

#include "history.h"
#include "uapi/bpf_attr.h"
#include "uapi/tables.h"

namespace bpfsim {

namespace {

// What one call read of user memory.
class Seen {
 public:
  Seen(const Tape& tape, size_t begin, size_t end) : tape_(tape), begin_(begin), end_(end) {}

  std::optional<bpf_attr> attr(uint64_t uattr) const {
    for (size_t at = begin_; at < end_; at = tape_.after(at)) {
      const Tape::Record record = tape_.at(at);
      if (record.what != Tape::Read || record.where != uattr) continue;
      bpf_attr attr;
      std::memcpy(&attr, record.bytes, std::min<size_t>(record.size, sizeof attr));
      return attr;
    }
    return {};
  }

  std::string value(uint64_t where) const {
    for (size_t at = begin_; where && at < end_; at = tape_.after(at)) {
      const Tape::Record record = tape_.at(at);
      if (record.what == Tape::Read && record.where == where && record.size) return shown(record);
    }
    return "";
  }

  // A string is read byte by byte.
  std::string text(uint64_t where) const {
    std::string text;
    for (size_t at = begin_; where && at < end_; at = tape_.after(at)) {
      const Tape::Record record = tape_.at(at);
      if (record.what != Tape::Read || record.where != where + text.size() || record.size != 1) continue;
      if (*record.bytes == 0) break;
      text.push_back(char(*record.bytes));
    }
    return text;
  }

 private:
  static std::string shown(const Tape::Record& record) {
    if (record.size <= 8) {
      uint64_t number = 0;
      std::memcpy(&number, record.bytes, record.size);
      return std::to_string(number);
    }
    std::string hex;
    for (uint32_t i = 0; i < std::min(record.size, 16u); ++i) {
      hex += "0123456789abcdef"[record.bytes[i] >> 4];
      hex += "0123456789abcdef"[record.bytes[i] & 15];
    }
    return hex + (record.size > 16 ? "..." : "");
  }
  const Tape& tape_;
  const size_t begin_, end_;
};

std::string named(const char (&name)[BPF_OBJ_NAME_LEN]) {
  std::string text(name, strnlen(name, sizeof name));
  return text.empty() ? "" : " \"" + text + '"';
}

template <class Row>
std::string type_name(const Row* row, uint32_t number) {
  return " " + (row ? short_name(row->name) : "type " + std::to_string(number));
}

std::string fd(const char* what, uint32_t number) {
  return std::string(" ") + what + std::to_string(int(number));
}

std::string attach_type(uint32_t number) {
  const AttachTypeRow* row = find_attach_type(number);
  return type_name(row, number);
}

std::string element(const bpf_attr& attr, const Seen& seen, bool writes) {
  std::string text = fd("fd ", attr.map_fd);
  const std::string key = seen.value(attr.key), value = writes ? seen.value(attr.value) : "";
  if (!key.empty()) text += " key " + key;
  if (!value.empty()) text += " value " + value;
  return text;
}

std::string details(int command, const bpf_attr& attr, const Seen& seen) {
  switch (command) {
    case BPF_MAP_CREATE: return type_name(find_map_type(attr.map_type), attr.map_type) + named(attr.map_name);
    case BPF_MAP_UPDATE_ELEM: return element(attr, seen, true);
    case BPF_MAP_LOOKUP_ELEM:
    case BPF_MAP_DELETE_ELEM:
    case BPF_MAP_GET_NEXT_KEY:
    case BPF_MAP_LOOKUP_AND_DELETE_ELEM: return element(attr, seen, false);
    case BPF_MAP_FREEZE: return fd("fd ", attr.map_fd);
    case BPF_MAP_LOOKUP_BATCH:
    case BPF_MAP_LOOKUP_AND_DELETE_BATCH:
    case BPF_MAP_UPDATE_BATCH:
    case BPF_MAP_DELETE_BATCH:
      return fd("fd ", attr.batch.map_fd) + " up to " + std::to_string(attr.batch.count);
    case BPF_PROG_LOAD:
      return type_name(find_prog_type(attr.prog_type), attr.prog_type) + named(attr.prog_name) + ", " +
             std::to_string(attr.insn_cnt) + " instructions";
    case BPF_OBJ_PIN: return fd("fd ", attr.bpf_fd) + " at " + seen.text(attr.pathname);
    case BPF_OBJ_GET: return " " + seen.text(attr.pathname);
    case BPF_PROG_TEST_RUN: return fd("fd ", attr.test.prog_fd);
    case BPF_PROG_GET_NEXT_ID:
    case BPF_MAP_GET_NEXT_ID:
    case BPF_BTF_GET_NEXT_ID:
    case BPF_LINK_GET_NEXT_ID: return " after id " + std::to_string(attr.start_id);
    case BPF_PROG_GET_FD_BY_ID:
    case BPF_MAP_GET_FD_BY_ID:
    case BPF_BTF_GET_FD_BY_ID:
    case BPF_LINK_GET_FD_BY_ID: return " id " + std::to_string(attr.prog_id);
    case BPF_OBJ_GET_INFO_BY_FD: return fd("fd ", attr.info.bpf_fd);
    case BPF_LINK_CREATE:
      return fd("prog fd ", attr.link_create.prog_fd) + " to " +
             std::to_string(attr.link_create.target_ifindex) + attach_type(attr.link_create.attach_type);
    case BPF_LINK_UPDATE:
      return fd("fd ", attr.link_update.link_fd) + fd("to prog fd ", attr.link_update.new_prog_fd);
    case BPF_PROG_ATTACH:
    case BPF_PROG_DETACH:
      return fd("prog fd ", attr.attach_bpf_fd) + fd("to fd ", attr.target_fd) +
             attach_type(attr.attach_type);
    case BPF_PROG_QUERY: return fd("fd ", attr.query.target_fd) + attach_type(attr.query.attach_type);
    case BPF_RAW_TRACEPOINT_OPEN:
      return fd("prog fd ", attr.raw_tracepoint.prog_fd) + " at " + seen.text(attr.raw_tracepoint.name);
    case BPF_BTF_LOAD: return " " + std::to_string(attr.btf_size) + " bytes";
    case BPF_TASK_FD_QUERY:
      return fd("fd ", attr.task_fd_query.fd) + " of task " + std::to_string(attr.task_fd_query.pid);
    case BPF_ITER_CREATE: return fd("link fd ", attr.iter_create.link_fd);
    case BPF_PROG_BIND_MAP:
      return fd("prog fd ", attr.prog_bind_map.prog_fd) + fd("map fd ", attr.prog_bind_map.map_fd);
    case BPF_LINK_DETACH: return fd("fd ", attr.link_detach.link_fd);
    default: return "";
  }
}

bool gives_a_descriptor(int command) {
  switch (command) {
    case BPF_MAP_CREATE:
    case BPF_PROG_LOAD:
    case BPF_OBJ_GET:
    case BPF_PROG_GET_FD_BY_ID:
    case BPF_MAP_GET_FD_BY_ID:
    case BPF_BTF_GET_FD_BY_ID:
    case BPF_LINK_GET_FD_BY_ID:
    case BPF_RAW_TRACEPOINT_OPEN:
    case BPF_ENABLE_STATS:
    case BPF_BTF_LOAD:
    case BPF_LINK_CREATE:
    case BPF_ITER_CREATE:
    case BPF_TOKEN_CREATE: return true;
    default: return false;
  }
}

}  // namespace

std::string describe_command(int command) {
  const CommandRow* row = find_command(uint32_t(command));
  return "BPF(" + (row ? std::string(row->name).substr(4) : std::to_string(command)) + ")";
}

std::string describe_bpf(const JournalStep& step, const Tape& tape, size_t tape_end) {
  std::string text = describe_command(step.command);
  const Seen seen(tape, step.tape, tape_end);
  if (std::optional<bpf_attr> attr = seen.attr(step.uattr)) text += details(step.command, *attr, seen);
  return text;
}

std::string describe_result(const JournalStep& step) {
  if (step.result == JournalStep::kThrew) return "an exception";
  if (step.result < 0) return errno_name(Errno(-step.result));
  const std::string number = std::to_string(step.result);
  static constexpr std::string_view kOpening[] = {"dup(",    "open(",   "perf_event_open(",
                                                  "socket(", "accept(", "pidfd_open("};
  const bool opens = std::ranges::any_of(kOpening, [&](auto call) { return step.said.starts_with(call); });
  return opens || gives_a_descriptor(step.command) ? "fd " + number : number;
}

}  // namespace bpfsim
