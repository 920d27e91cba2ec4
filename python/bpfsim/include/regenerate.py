#!/usr/bin/env python3
"""Write bpfsim_helpers.h and bpfsim_types.h from the project's own tables in sim/uapi/*.def."""

import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
UAPI = HERE.parents[2] / "sim" / "uapi"
HEADER = "/* Made by regenerate.py from sim/uapi/{}: edit there. */\n#pragma once\n\n"

# Contexts and maps are pointers to what a program may not see into: any pointer fits.
ANY_POINTER = re.compile(r"\bstruct \w+ \*")
TYPES = {
    "u8": "__u8",
    "u16": "__u16",
    "u32": "__u32",
    "u64": "__u64",
    "s32": "__s32",
    "s64": "__s64",
    "size_t": "__u64",
}


def rows(table: str, macro: str) -> list[list[str]]:
    text = (UAPI / table).read_text()
    text = re.sub(r"//.*", "", text)
    calls = re.findall(macro + r'\(((?:[^()"]|"[^"]*")*)\)', text)
    return [[part.strip() for part in re.findall(r'(?:"[^"]*"\s*)+|[^,"]+', call) if part.strip()] for call in calls]


def declaration(name: str, number: str, signature: str) -> str:
    text = "".join(re.findall(r'"([^"]*)"', signature))
    text = ANY_POINTER.sub("void *", text)
    text = re.sub(r"\b(" + "|".join(TYPES) + r")\b", lambda m: TYPES[m.group()], text)
    head, params = text.split("(", 1)
    result = head[: head.rindex(f"bpf_{name}")].strip()
    space = "" if result.endswith("*") else " "
    return f"static {result}{space}(*const bpf_{name})({params} = (void *){number};\n"


def main() -> None:
    helpers = [declaration(r[0], r[1], r[-1]) for r in rows("helpers.def", "HELPER")]
    (HERE / "bpfsim_helpers.h").write_text(HEADER.format("helpers.def") + "".join(helpers))
    maps = ["enum bpf_map_type {\n  BPF_MAP_TYPE_UNSPEC = 0,\n"]
    maps += [f"  {r[0]} = {r[1]},\n" for r in rows("map_types.def", "MAP_TYPE")] + ["};\n"]
    (HERE / "bpfsim_types.h").write_text(HEADER.format("map_types.def") + "".join(maps))


if __name__ == "__main__":
    main()
