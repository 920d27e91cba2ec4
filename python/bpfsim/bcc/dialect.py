"""BCC's dialect of C, turned into plain C that clang compiles.

The text goes through clang's preprocessor first, so that macros and #ifdef mean what they say. Then a tokenizer, which
knows strings, comments and line markers, finds four things and rewrites them on their own lines:

- tables: ``BPF_HASH(counts, u32)`` becomes a map in ``.maps``, with typedefs of its key and leaf;
- methods of tables: ``counts.lookup(&key)`` becomes ``bpf_map_lookup_elem(&counts, &key)``;
- ``bpf_trace_printk("...")`` gets the size argument of the real helper;
- functions: each one that is not static is a program in a section of its own; all are inlined into each other.

Not modelled, and refused by name: perf and ring buffers, stack traces, maps in maps, tables shared or pinned by macro,
sockets' storage, and ``cursor_advance`` with its packet structs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from ..compiler import CompileError

SECTION = ".bpf.fn."  # + the function's name: no type is known before load_func

_TOKEN = re.compile(
    r"""(?P<marker>^[ \t]*\#[^\n]*)
      | (?P<blank>\s+|//[^\n]*|/\*.*?\*/)
      | (?P<string>(?:u8|[uUL])?"(?:\\.|[^"\\\n])*")
      | (?P<char>[uUL]?'(?:\\.|[^'\\\n])*')
      | (?P<name>[A-Za-z_]\w*)
      | (?P<number>\.?\d(?:[eEpP][+-]|[\w.])*)
      | (?P<mark>->|.)""",
    re.X | re.M | re.S,
)
_MARKER = re.compile(r"\s*#\s*(?:line\s+)?(\d+)\s+\"([^\"]*)\"")


@dataclass
class Token:
    """A piece of source: its kind (a group of _TOKEN), its text, and where the learner wrote it."""

    kind: str
    text: str
    file: str
    line: int


# Each table macro of BCC: its type, then its parameters, with a default where one may be left out.
_TABLES: dict[str, tuple[str, dict[str, str | None]]] = {
    "BPF_TABLE": ("", dict(type=None, key=None, leaf=None, name=None, size=None)),
    "BPF_F_TABLE": ("", dict(type=None, key=None, leaf=None, name=None, size=None, flags=None)),
    "BPF_HASH": ("hash", dict(name=None, key="u64", leaf="u64", size="10240")),
    "BPF_PERCPU_HASH": ("percpu_hash", dict(name=None, key="u64", leaf="u64", size="10240")),
    "BPF_LPM_TRIE": ("lpm_trie", dict(name=None, key="u64", leaf="u64", size="10240", flags="BPF_F_NO_PREALLOC")),
    "BPF_ARRAY": ("array", dict(name=None, leaf="u64", size="10240", key="int")),
    "BPF_PERCPU_ARRAY": ("percpu_array", dict(name=None, leaf="u64", size="10240", key="int")),
    "BPF_HISTOGRAM": ("histogram", dict(name=None, key="int", size="64", leaf="u64")),
    "BPF_PROG_ARRAY": ("prog", dict(name=None, size=None, key="u32", leaf="u32")),
    "BPF_DEVMAP": ("devmap", dict(name=None, size=None, key="int", leaf="int")),
    "BPF_CPUMAP": ("cpumap", dict(name=None, size=None, key="int", leaf="u32")),
    "BPF_QUEUE": ("queue", dict(name=None, leaf=None, size=None, flags="0")),
    "BPF_STACK": ("stack", dict(name=None, leaf=None, size=None, flags="0")),
}  # fmt: skip
_MAP_TYPES = {
    "hash": "HASH", "array": "ARRAY", "percpu_hash": "PERCPU_HASH", "percpu_array": "PERCPU_ARRAY",
    "lru_hash": "LRU_HASH", "lru_percpu_hash": "LRU_PERCPU_HASH", "lpm_trie": "LPM_TRIE", "prog": "PROG_ARRAY",
    "devmap": "DEVMAP", "cpumap": "CPUMAP", "queue": "QUEUE", "stack": "STACK",
}  # fmt: skip

# Arguments are evaluated once, as in a function.
_FIND_OR_MAKE = (
    "void *bcc_key = (void *)({0}), *bcc_init = (void *)({1}); "
    "{t}__leaf *bcc_leaf = bpf_map_lookup_elem(&{t}, bcc_key); if (!bcc_leaf) {{ "
    "bpf_map_update_elem(&{t}, bcc_key, bcc_init, BPF_NOEXIST); bcc_leaf = bpf_map_lookup_elem(&{t}, bcc_key); }} "
)
_ADD = (
    "({{ {t}__key bcc_key = {0}; {t}__leaf bcc_by = {1}; {t}__leaf *bcc_leaf = bpf_map_lookup_elem(&{t}, &bcc_key); "
    "if (bcc_leaf) ADD; else bpf_map_update_elem(&{t}, &bcc_key, &bcc_by, BPF_NOEXIST); }})"
)

# Each method: the least and most arguments, and the C for table {t} with arguments {0}, {1}, ...
_METHODS: dict[str, tuple[int, int, str]] = {
    "lookup": (1, 1, "(({t}__leaf *)bpf_map_lookup_elem(&{t}, {0}))"),
    "lookup_or_try_init": (2, 2, "({{ " + _FIND_OR_MAKE + "bcc_leaf; }})"),
    "lookup_or_init": (2, 2, "({{ " + _FIND_OR_MAKE + "if (!bcc_leaf) return 0; bcc_leaf; }})"),
    "update": (2, 2, "bpf_map_update_elem(&{t}, {0}, {1}, BPF_ANY)"),
    "insert": (2, 2, "bpf_map_update_elem(&{t}, {0}, {1}, BPF_NOEXIST)"),
    "delete": (1, 1, "bpf_map_delete_elem(&{t}, {0})"),
    "increment": (1, 2, _ADD.replace("ADD", "*bcc_leaf += bcc_by")),
    "atomic_increment": (1, 2, _ADD.replace("ADD", "__sync_fetch_and_add(bcc_leaf, bcc_by)")),
    "push": (1, 2, "bpf_map_push_elem(&{t}, {0}, {1})"),
    "pop": (1, 1, "bpf_map_pop_elem(&{t}, {0})"),
    "peek": (1, 1, "bpf_map_peek_elem(&{t}, {0})"),
    "call": (2, 2, "bpf_tail_call({0}, &{t}, {1})"),
    "redirect_map": (2, 2, "bpf_redirect_map(&{t}, {0}, {1})"),
}  # fmt: skip
_LAST_ARGUMENT = {"increment": "1", "atomic_increment": "1", "push": "BPF_ANY"}  # where it is left out
_KEYLESS = {"queue", "stack"}
_NOT_MODELLED = {
    "BPF_PERF_OUTPUT": "perf buffers", "BPF_PERF_ARRAY": "perf events", "BPF_RINGBUF_OUTPUT": "ring buffers",
    "BPF_STACK_TRACE": "stack traces", "BPF_STACK_TRACE_BUILDID": "stack traces",
    "BPF_ARRAY_OF_MAPS": "maps in maps", "BPF_HASH_OF_MAPS": "maps in maps", "BPF_XSKMAP": "AF_XDP sockets",
    "BPF_CGROUP_ARRAY": "cgroups", "BPF_SOCKMAP": "socket maps", "BPF_SOCKHASH": "socket maps",
    "BPF_SK_STORAGE": "storage at sockets", "BPF_INODE_STORAGE": "storage at inodes",
    "BPF_TASK_STORAGE": "storage at tasks", "BPF_TABLE_PUBLIC": "tables that modules share",
    "BPF_TABLE_SHARED": "tables that modules share", "BPF_TABLE_PINNED": "tables pinned by a macro",
    "cursor_advance": "BCC's packet cursor: compare pointers with ctx->data_end",
    "TRACEPOINT_PROBE": "tracepoints", "RAW_TRACEPOINT_PROBE": "tracepoints", "KFUNC_PROBE": "tracing of functions",
    "KRETFUNC_PROBE": "tracing of functions", "LSM_PROBE": "LSM hooks",
}  # fmt: skip


@dataclass
class Dialect:
    """A translated text: plain C, its programs, and its tables with their types in BCC's words."""

    code: str
    functions: list[str]
    tables: dict[str, str]


def tokenize(source: str) -> list[Token]:
    """The tokens of preprocessed C, whose line markers (``# 7 "prog.c"``) say where each comes from."""
    tokens: list[Token] = []
    file, line = "", 1
    for match in _TOKEN.finditer(source):
        kind, text = match.lastgroup or "", match.group()
        tokens.append(Token(kind, text, file, line))
        line += text.count("\n")
        if kind == "marker" and (marker := _MARKER.match(text)):
            file, line = marker[2], int(marker[1]) - 1
    return tokens


def translate(source: str) -> Dialect:
    """Rewrites preprocessed source. Raises CompileError that names file and line, as clang does."""
    try:
        return _Translator(tokenize(source)).run()
    except RecursionError:
        raise CompileError("error: calls of table methods are nested too deeply") from None


class _Translator:
    def __init__(self, tokens: list[Token]):
        self.tokens = tokens
        self.tables: dict[str, str] = {}
        self.functions: list[str] = []

    def error(self, token: Token, text: str) -> CompileError:
        return CompileError(f"{token.file}:{token.line}: error: {text}")

    def run(self) -> Dialect:
        """Walks the declarations at file level, each from its first token to its ``;`` or closing brace."""
        out: list[str] = []
        at = 0
        while at < len(self.tokens):
            token = self.tokens[at]
            if token.kind in ("blank", "marker") or token.text == ";":
                out.append(token.text)
                at += 1
            elif token.text in _TABLES and self.text_after(at) == "(":
                at = self.table(at, out)
            else:
                end = self.declaration_end(at)
                self.declaration(at, end, out)
                at = end
        return Dialect("".join(out), self.functions, self.tables)

    # ---- moving about ------------------------------------------------------------------------------------------------

    def solid(self, at: int, step: int = 1) -> int:
        """The index of the next token after ``at`` that is neither blank nor marker (-1 at either end)."""
        at += step
        while 0 <= at < len(self.tokens):
            if self.tokens[at].kind not in ("blank", "marker"):
                return at
            at += step
        return -1

    def text_after(self, at: int, step: int = 1) -> str:
        following = self.solid(at, step)
        return self.tokens[following].text if following >= 0 else ""

    def closing(self, opening: int) -> int:
        """The bracket that closes the one at ``opening``."""
        depth = 0
        for at in range(opening, len(self.tokens)):
            text = self.tokens[at].text
            depth += (text in ("(", "[", "{")) - (text in (")", "]", "}"))
            if depth == 0:
                return at
        raise self.error(self.tokens[opening], f"no bracket closes this '{self.tokens[opening].text}'")

    def declaration_end(self, begin: int) -> int:
        """One past the declaration that begins there: its ``;``, or the brace that ends a function."""
        at, previous = begin, ""
        while at < len(self.tokens):
            token = self.tokens[at]
            if token.text == ";":
                return at + 1
            if token.text in ("(", "[", "{"):
                function = token.text == "{" and previous == ")" and self.function_name(begin, at)
                at = self.closing(at)
                if function:
                    return at + 1
            if token.kind not in ("blank", "marker"):
                previous = self.tokens[at].text
            at += 1
        return at

    def arguments(self, opening: int) -> tuple[list[tuple[int, int]], int]:
        """The ranges of the arguments in a pair of parentheses, and one past the closing one."""
        close = self.closing(opening)
        ranges: list[tuple[int, int]] = []
        begin = at = opening + 1
        while at < close:
            if self.tokens[at].text in ("(", "[", "{"):
                at = self.closing(at)
            elif self.tokens[at].text == ",":
                ranges.append((begin, at))
                begin = at + 1
            at += 1
        last = (begin, close)
        if ranges or any(t.kind not in ("blank", "marker") for t in self.tokens[begin:close]):
            ranges.append(last)
        return ranges, close + 1

    def plain(self, begin: int, end: int) -> str:
        """The tokens of a range as text on one line."""
        texts = (" " if t.kind in ("blank", "marker") else t.text for t in self.tokens[begin:end])
        return " ".join("".join(texts).split())

    # ---- the four rewrites -------------------------------------------------------------------------------------------

    def table(self, at: int, out: list[str]) -> int:
        """BPF_HASH(...) and its kin: two typedefs and a map."""
        macro = self.tokens[at]
        ranges, end = self.arguments(self.solid(at))
        kind, parameters = _TABLES[macro.text]
        given = [self.plain(*r) for r in ranges]
        required = sum(default is None for default in parameters.values())
        if not required <= len(given) <= len(parameters):
            raise self.error(macro, f"{macro.text} takes {', '.join(parameters)}; {len(given)} were given")
        names = list(parameters)
        values = {name: given[i] if i < len(given) else parameters[name] for i, name in enumerate(names)}
        kind = kind or (values["type"] or "").strip('"')
        if kind == "histogram":
            kind = "array" if values["key"] == "int" else "hash"
        if kind not in _MAP_TYPES:
            raise self.error(macro, f"a table of type {kind!r} is not modelled; there are {', '.join(_MAP_TYPES)}")
        name, leaf, key = values["name"], values["leaf"], values.get("key")
        fields = f"int (*type)[BPF_MAP_TYPE_{_MAP_TYPES[kind]}]; int (*max_entries)[{values['size']}];"
        if flags := values.get("flags"):
            fields += f" int (*map_flags)[{flags}];"
        text = f"typedef typeof({leaf}) {name}__leaf; "
        if kind not in _KEYLESS:
            text += f"typedef typeof({key}) {name}__key; "
            fields += f" {name}__key *key;"
        text += f'struct {{ {fields} {name}__leaf *value; }} {name} __attribute__((section(".maps"), used));'
        self.tables[str(name)] = kind
        out.append(self.on_the_same_lines(at, end, text))
        return end

    def on_the_same_lines(self, begin: int, end: int, text: str) -> str:
        """``text``, and after it the line breaks and markers of what it stands for."""
        rest = self.tokens[begin:end]
        if any(t.kind == "marker" for t in rest):
            return text + "\n" + "".join(t.text + "\n" for t in rest if t.kind == "marker")
        return text + "\n" * sum(t.text.count("\n") for t in rest)

    def declaration(self, begin: int, end: int, out: list[str]) -> None:
        """Anything else at file level. A function gets its attributes, its body is rewritten."""
        first = self.tokens[begin]
        if first.text in _NOT_MODELLED:
            raise self.error(first, f"{first.text} is not modelled ({_NOT_MODELLED[first.text]})")
        body = next((i for i in range(begin, end) if self.tokens[i].text == "{"), end)
        name = self.function_name(begin, body)
        if name and self.tokens[end - 1].text == "}":
            words = {t.text.strip("_") for t in self.tokens[begin:body]}
            attributes = "always_inline"
            if not {"static", "extern", "section", "inline"} & words:
                self.functions.append(name)
                attributes += f', section("{SECTION}{name}"), used'
            # a marker behind it keeps the columns of clang's diagnostics
            marker = f'\n# {first.line} "{first.file}"\n' if first.file else " "
            out.append(f"__attribute__(({attributes})){marker}")
        out.append(self.expression(begin, end))

    def function_name(self, begin: int, body: int) -> str:
        """The name before the first parentheses that are not an attribute's; empty where there are none."""
        at = begin
        while at < body:
            following = self.solid(at)
            if self.tokens[at].kind == "name" and 0 <= following < body and self.tokens[following].text == "(":
                if self.tokens[at].text.strip("_") not in ("attribute", "typeof", "Alignas", "asm"):
                    return self.tokens[at].text
                at = self.closing(following)
            at += 1
        return ""

    def expression(self, begin: int, end: int, on_one_line: bool = False) -> str:
        """The text of a range, with methods of tables and bpf_trace_printk rewritten."""
        out: list[str] = []
        at = begin
        while at < end:
            token = self.tokens[at]
            member = token.kind == "name" and self.text_after(at, -1) in (".", "->")
            rewrite: Callable[[int, list[str]], int] | None = None
            if token.kind == "name" and not member:
                if token.text in self.tables and self.text_after(at) == ".":
                    rewrite = self.method
                elif token.text == "bpf_trace_printk" and self.text_after(at) == "(":
                    rewrite = self.trace_printk
                elif token.text in _NOT_MODELLED and self.text_after(at) == "(":
                    raise self.error(token, f"{token.text} is not modelled ({_NOT_MODELLED[token.text]})")
            if rewrite:
                call: list[str] = []
                after = rewrite(at, call)
                text = "".join(call)
                out.append(text if on_one_line else self.on_the_same_lines(at, after, text))
                at = after
            else:
                out.append(" " if on_one_line and token.kind in ("blank", "marker") else token.text)
                at += 1
        return "".join(out)

    def method(self, at: int, out: list[str]) -> int:
        """``counts.lookup(&key)``"""
        table = self.tokens[at]
        named = self.solid(self.solid(at))
        name = self.tokens[named].text
        if name in ("key", "leaf") and self.text_after(named) != "(":
            out.append(f"(*({table.text}__{name} *)0)")  # BCC's typeof(counts.leaf)
            return named + 1
        if name not in _METHODS:
            raise self.error(
                self.tokens[named], f"table '{table.text}' has no method '{name}'; there are {', '.join(_METHODS)}"
            )
        opening = self.solid(named)
        if opening < 0 or self.tokens[opening].text != "(":
            raise self.error(self.tokens[named], f"{table.text}.{name} is a method: call it")
        ranges, end = self.arguments(opening)
        least, most, template = _METHODS[name]
        if not least <= len(ranges) <= most:
            wanted = str(least) if least == most else f"{least} or {most}"
            raise self.error(self.tokens[named], f"{table.text}.{name}() takes {wanted} arguments, not {len(ranges)}")
        values = [self.expression(*r, on_one_line=True).strip() for r in ranges]
        if len(values) < most:
            values.append(_LAST_ARGUMENT[name])
        out.append(template.format(*values, t=table.text))
        return end

    def trace_printk(self, at: int, out: list[str]) -> int:
        """With a literal as its first argument: the literal goes on the stack, and its size is passed."""
        opening = self.solid(at)
        ranges, end = self.arguments(opening)
        if not ranges or self.tokens[self.solid(ranges[0][0] - 1)].kind != "string":
            out.append(self.tokens[at].text)
            return at + 1
        values = [self.expression(*r, on_one_line=True) for r in ranges]
        rest = "".join(f",{value}" for value in values[1:])
        out.append(f"({{ char bcc_fmt[] ={values[0]}; bpf_trace_printk(bcc_fmt, sizeof(bcc_fmt){rest}); }})")
        return end
