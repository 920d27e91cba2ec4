// Models: fs/seq_file.c, include/linux/seq_file.h (Linux 6.18)
//
// What an iterator's program writes into, and what read(2) takes out: a buffer of eight pages. The program
// holds the address of the struct, a few of whose members it may read; the text itself is kept here.
#pragma once

#include <string>

#include "object/object.h"

namespace bpfsim {

struct SeqFile : Object {
  explicit SeqFile(Machine& machine);
  ~SeqFile() override;
  std::string label() const override { return "seq_file " + std::to_string(serial); }

  static constexpr size_t kSize = 8 * kPageSize;
  Span image;          // struct seq_file, as programs see it
  std::string buf;     // written and not read yet
  size_t from = 0;     // of it, what has been read
  uint64_t index = 0;  // the position of the iteration
  bool overflowed = false;

  // False when that does not fit: then nothing of it is written, and the file has overflowed.
  bool write(const std::string& text);
};

// The seq_file at this address; null for another address.
SeqFile* seq_file_at(Machine& machine, Addr address);

}  // namespace bpfsim
