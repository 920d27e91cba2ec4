// Models: fs/seq_file.c (Linux 6.18)
//
// See seq_file.h.
#include "host/seq_file.h"

#include <new>

#include "btf/vmlinux.h"
#include "host/tracing.h"

namespace bpfsim {

static Span image_of_seq_file(Machine& machine) {
  auto span = machine.arena.alloc(vmlinux_size("seq_file"), "seq_file");
  if (!span) throw std::bad_alloc();
  return *span;
}

SeqFile::SeqFile(Machine& machine) : Object(machine, ObjectKind::SeqFile), image(image_of_seq_file(machine)) {
  tracing(machine).seq_files[image.addr] = this;
}

SeqFile::~SeqFile() {
  tracing(machine).seq_files.erase(image.addr);
  machine.arena.free(image);
}

bool SeqFile::write(const std::string& text) {
  if (buf.size() + text.size() >= kSize) {
    overflowed = true;
    return false;
  }
  buf += text;
  return true;
}

SeqFile* seq_file_at(Machine& machine, Addr address) {
  auto found = tracing(machine).seq_files.find(address);
  return found == tracing(machine).seq_files.end() ? nullptr : found->second;
}

}  // namespace bpfsim
