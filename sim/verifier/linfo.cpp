// Models: kernel/bpf/log.c, verbose_linfo() (Linux 6.18)
//
// See linfo.h.
#include "verifier/linfo.h"

#include <algorithm>
#include <cstdarg>
#include <cstring>

#include "btf/btf_types.h"
#include "object/btf.h"

namespace bpfsim {

const bpf_line_info* bpf_find_linfo(const Prog& prog, uint32_t insn_off) {
  const auto& lines = prog.aux->line_info;
  if (lines.empty() || insn_off >= prog.insnsi.size()) return nullptr;
  auto after = std::upper_bound(lines.begin(), lines.end(), insn_off,
                                [](uint32_t off, const bpf_line_info& line) { return off < line.insn_off; });
  return after == lines.begin() ? nullptr : &*(after - 1);
}

static uint32_t line_number(const bpf_line_info& line) { return line.line_col >> 10; }

static const char* name_at(const bpf_verifier_env& env, uint32_t offset) {
  const Btf* btf = env.prog.aux->btf;
  const char* name = btf ? btf->types->name_by_offset(offset) : nullptr;
  return name ? name : "";
}

void verbose_linfo(bpf_verifier_env& env, uint32_t insn_off, const char* prefix, ...) {
  if (!env.log.needed()) return;
  const bpf_line_info *line = bpf_find_linfo(env.prog, insn_off), *before = env.prev_linfo;
  if (!line || line == before) return;
  // Records that differ only in the column would print the same line twice.
  if (before && line->file_name_off == before->file_name_off && line_number(*line) == line_number(*before))
    return;

  va_list args;
  va_start(args, prefix);
  bpf_verifier_vlog(env.log, prefix, args);
  va_end(args);
  const char* source = name_at(env, line->line_off);
  while (std::strchr(" \t\n\v\f\r", *source) && *source) source++;
  verbose(env, "%s", source);
  const char *path = name_at(env, line->file_name_off), *slash = std::strrchr(path, '/');
  verbose(env, " @ %s:%u\n", slash ? slash + 1 : path, line_number(*line));
  env.prev_linfo = line;
}

}  // namespace bpfsim
