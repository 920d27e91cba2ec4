// The fields of union bpf_attr by command and name, so that Python can fill one in from keywords.
#include "attr.h"

#include <cstddef>

#include "uapi/bpf.h"
#include "uapi/bpf_attr.h"
#include "uapi/tables.h"

namespace bpfsim {

namespace {

enum class Group {
  None,
  MapCreate,
  MapElem,
  MapBatch,
  ProgLoad,
  Obj,
  Attach,
  TestRun,
  Id,
  Info,
  Query,
  RawTracepoint,
  BtfLoad,
  LinkCreate,
  LinkUpdate,
  LinkDetach,
  EnableStats,
  IterCreate,
  BindMap,
  TaskFdQuery,
  TokenCreate,
  StreamRead,
};

Group group_of(int cmd) {
  switch (cmd) {
    case BPF_MAP_CREATE: return Group::MapCreate;
    case BPF_MAP_LOOKUP_ELEM:
    case BPF_MAP_UPDATE_ELEM:
    case BPF_MAP_DELETE_ELEM:
    case BPF_MAP_GET_NEXT_KEY:
    case BPF_MAP_LOOKUP_AND_DELETE_ELEM:
    case BPF_MAP_FREEZE: return Group::MapElem;
    case BPF_MAP_LOOKUP_BATCH:
    case BPF_MAP_LOOKUP_AND_DELETE_BATCH:
    case BPF_MAP_UPDATE_BATCH:
    case BPF_MAP_DELETE_BATCH: return Group::MapBatch;
    case BPF_PROG_LOAD: return Group::ProgLoad;
    case BPF_OBJ_PIN:
    case BPF_OBJ_GET: return Group::Obj;
    case BPF_PROG_ATTACH:
    case BPF_PROG_DETACH: return Group::Attach;
    case BPF_PROG_TEST_RUN: return Group::TestRun;
    case BPF_PROG_GET_NEXT_ID:
    case BPF_MAP_GET_NEXT_ID:
    case BPF_BTF_GET_NEXT_ID:
    case BPF_LINK_GET_NEXT_ID:
    case BPF_PROG_GET_FD_BY_ID:
    case BPF_MAP_GET_FD_BY_ID:
    case BPF_BTF_GET_FD_BY_ID:
    case BPF_LINK_GET_FD_BY_ID: return Group::Id;
    case BPF_OBJ_GET_INFO_BY_FD: return Group::Info;
    case BPF_PROG_QUERY: return Group::Query;
    case BPF_RAW_TRACEPOINT_OPEN: return Group::RawTracepoint;
    case BPF_BTF_LOAD: return Group::BtfLoad;
    case BPF_LINK_CREATE: return Group::LinkCreate;
    case BPF_LINK_UPDATE: return Group::LinkUpdate;
    case BPF_LINK_DETACH: return Group::LinkDetach;
    case BPF_ENABLE_STATS: return Group::EnableStats;
    case BPF_ITER_CREATE: return Group::IterCreate;
    case BPF_PROG_BIND_MAP: return Group::BindMap;
    case BPF_TASK_FD_QUERY: return Group::TaskFdQuery;
    case BPF_TOKEN_CREATE: return Group::TokenCreate;
    case BPF_PROG_STREAM_READ_BY_FD: return Group::StreamRead;
  }
  return Group::None;
}

struct Row {
  Group group;
  AttrField field;
};

const Row kRows[] = {
#define FIELD(group, name, member, kind) \
  {Group::group,                         \
   {#name, unsigned(offsetof(bpf_attr, member)), unsigned(sizeof(bpf_attr{}.member)), #kind, {}}},
#include "attr_fields.def"
#undef FIELD
};

}  // namespace

std::vector<AttrField> attr_fields(int cmd) {
  std::vector<AttrField> fields;
  Group group = group_of(cmd);
  for (const Row& row : kRows)
    if (group != Group::None && row.group == group) fields.push_back(row.field);
  for (AttrField& field : fields)
    for (const LastFieldRow& last : last_fields())
      if (field.since.empty() && int(last.command) == cmd && last.end >= field.offset + field.size)
        field.since = last.since.str();
  return fields;
}

}  // namespace bpfsim
