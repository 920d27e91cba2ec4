// The fields of union bpf_attr by command and name, so that Python can fill one in from keywords.
#pragma once

#include <string>
#include <vector>

namespace bpfsim {

struct AttrField {
  const char* name;
  unsigned offset, size;
  const char* kind;
  std::string since;  // the version whose command reads so far
};

// The fields of one command, in the order of the struct; empty for a number that is no command.
std::vector<AttrField> attr_fields(int cmd);

}  // namespace bpfsim
