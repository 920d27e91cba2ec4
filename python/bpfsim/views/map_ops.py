"""A map type's table of functions, struct bpf_map_ops, and the tables of all types side by side."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from .page import FAINT, SHEET, mono, table, wide

# What each member is for, and what happens where a type leaves it NULL (Linux 6.18).
MEMBERS: dict[str, tuple[str, str]] = {
    "map_alloc_check": ("MAP_CREATE: are the sizes and flags right?", "map_alloc checks"),
    "map_alloc": ("MAP_CREATE: makes the map", "MAP_CREATE: EINVAL, no such type"),
    "map_release": ("an open file of the map is released", "nothing to do"),
    "map_free": ("the last reference is gone", "cannot be"),
    "map_get_next_key": ("MAP_GET_NEXT_KEY", "cannot be"),
    "map_release_uref": ("the last descriptor or pin is gone", "nothing to do"),
    "map_lookup_elem_sys_only": ("MAP_LOOKUP_ELEM, not from programs", "map_lookup_elem serves both"),
    "map_lookup_batch": ("MAP_LOOKUP_BATCH", "ENOTSUPP"),
    "map_lookup_and_delete_elem": ("MAP_LOOKUP_AND_DELETE_ELEM of a key", "ENOTSUPP"),
    "map_lookup_and_delete_batch": ("MAP_LOOKUP_AND_DELETE_BATCH", "ENOTSUPP"),
    "map_update_batch": ("MAP_UPDATE_BATCH", "ENOTSUPP"),
    "map_delete_batch": ("MAP_DELETE_BATCH", "ENOTSUPP"),
    "map_lookup_elem": ("MAP_LOOKUP_ELEM and bpf_map_lookup_elem()", "bpf(2) has a function of its own for this type"),
    "map_update_elem": ("MAP_UPDATE_ELEM and bpf_map_update_elem()", "bpf(2) has a function of its own for this type"),
    "map_delete_elem": ("MAP_DELETE_ELEM and bpf_map_delete_elem()", "bpf(2) has a function of its own for this type"),
    "map_push_elem": ("MAP_UPDATE_ELEM without a key", "UPDATE wants a key"),
    "map_pop_elem": ("MAP_LOOKUP_AND_DELETE_ELEM without a key", "LOOKUP_AND_DELETE wants a key"),
    "map_peek_elem": ("MAP_LOOKUP_ELEM without a key", "LOOKUP wants a key"),
    "map_lookup_percpu_elem": ("bpf_map_lookup_percpu_elem()", "the verifier refuses the helper"),
    "map_fd_get_ptr": ("a descriptor becomes the object in a slot", "values are bytes, not descriptors"),
    "map_fd_put_ptr": ("an object leaves its slot", "values are bytes, not descriptors"),
    "map_gen_lookup": ("the lookup as instructions, inlined", "programs call the helper"),
    "map_fd_sys_lookup_elem": ("the id that user space reads from a slot", "MAP_LOOKUP_ELEM of a slot: ENOTSUPP"),
    "map_seq_show_elem": ("cat of a pinned map that has BTF", "cat: EIO"),
    "map_check_btf": ("do BTF's key and value types fit?", "only their sizes are checked; without a key: ENOTSUPP"),
    "map_poke_track": ("a program whose tail calls are patched jumps comes", "tail calls read the slot"),
    "map_poke_untrack": ("such a program goes", "tail calls read the slot"),
    "map_poke_run": ("a slot changes: patch the jumps", "tail calls read the slot"),
    "map_direct_value_addr": ("a program loads a value's address", "the verifier refuses: EINVAL"),
    "map_direct_value_meta": ("the address back to an offset, for dumps", "the dump shows the address as 0"),
    "map_mmap": ("mmap(2) of the map", "mmap: ENOTSUPP"),
    "map_poll": ("poll(2) and epoll on the map", "poll: EPOLLERR"),
    "map_get_unmapped_area": ("where mmap(2) may put the map", "anywhere"),
    "map_local_storage_charge": ("storage for an owner: who pays for it", "nobody is charged"),
    "map_local_storage_uncharge": ("storage of an owner goes", "nobody was charged"),
    "map_owner_storage_ptr": ("where an owner (a task, a socket) keeps its storage", "values belong to no owner"),
    "map_redirect": ("bpf_redirect_map()", "the verifier refuses the helper"),
    "map_meta_equal": ("may a map be an inner map?", "MAP_CREATE of the outer map: ENOTSUPP"),
    "map_set_for_each_callback_args": (
        "what the callback's arguments are",
        "the verifier refuses the callback: EINVAL",
    ),
    "map_for_each_callback": ("bpf_for_each_map_elem()", "the verifier refuses the callback: EINVAL"),
    "map_mem_usage": ("memlock in fdinfo", "cannot be"),
}

# A lesson's own type may leave out what every type of the kernel has.
_REFUSED = ["map_lookup_elem", "map_update_elem", "map_delete_elem", "map_get_next_key"]
_REFUSED += ["map_push_elem", "map_pop_elem", "map_peek_elem"]
_OWN = dict.fromkeys(_REFUSED, "EOPNOTSUPP") | {
    "map_alloc": "the map is made without a state",
    "map_free": "the state goes with the map",
    "map_mem_usage": "memlock is 0",
}


@dataclass(frozen=True)
class Entry:
    """One member of a map type's table. ``function`` is empty where the type leaves it NULL, ``file`` also where this
    simulator has only the name of the kernel's function; ``own`` is a lesson's."""

    member: str
    function: str
    kernel_file: str
    file: str
    own: bool = False

    @property
    def null(self) -> bool:
        """Whether the type leaves this member NULL."""
        return not self.function

    @property
    def modelled(self) -> bool:
        """Whether this simulator calls it; where not, only the kernel's table has it."""
        return bool(self.file)

    @property
    def purpose(self) -> str:
        """What calls it."""
        return MEMBERS.get(self.member, ("", ""))[0]

    @property
    def when_null(self) -> str:
        """What the kernel does where a type leaves it NULL."""
        if self.own and self.member in _OWN:
            return _OWN[self.member]
        return MEMBERS.get(self.member, ("", ""))[1]


class OpsTable:
    """The vtable of one map type: iterates over its entries; ``t["map_pop_elem"]`` is one of them."""

    def __init__(self, type_name: str, rows: Iterable[tuple[str, str, str, str]]):
        self.type = type_name
        self.entries = [Entry(*row, own=not type_name.startswith("BPF_")) for row in rows]

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, member: str) -> Entry:
        for entry in self.entries:
            if entry.member == member:
                return entry
        raise KeyError(f"struct bpf_map_ops has no {member}")

    @property
    def filled(self) -> list[Entry]:
        """The members that the type fills."""
        return [entry for entry in self.entries if not entry.null]

    @property
    def null(self) -> list[Entry]:
        """The members that it leaves NULL."""
        return [entry for entry in self.entries if entry.null]

    def __str__(self) -> str:
        filled = [[e.member, e.function, e.kernel_file or e.file, _here(e)] for e in self.filled]
        wide = [max((len(row[i]) for row in filled), default=0) for i in range(4)]
        lines = [f"{self.type}: struct bpf_map_ops"]
        lines += ["  " + "  ".join(c.ljust(w) for c, w in zip(row, wide, strict=True)).rstrip() for row in filled]
        lines.append("NULL:")
        lines += [f"  {e.member.ljust(27)}  {e.when_null}" for e in self.null]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        small = "font-size:12px;"
        rows = [
            [
                mono(e.member, small) + f'<br><span style="color:{FAINT}">{html.escape(e.purpose)}</span>',
                mono(e.function, small),
                mono(e.kernel_file or e.file, small)
                + (f"<br>{mono(_here(e), small + f'color:{FAINT}')}" if e.kernel_file else ""),
            ]
            for e in self.filled
        ]
        nulls = [[mono(e.member), html.escape(e.purpose), html.escape(e.when_null)] for e in self.null]
        return (
            '<div class="bpfsim">'
            + table(["member, and what calls it", "function", "file in the kernel, and here"], rows, self.type)
            + f"<details><summary>{len(nulls)} members stay NULL, and what happens then</summary>"
            + table(["member", "would be called for", "where it is NULL"], nulls)
            + "</details></div>"
        )

    def to_json(self) -> dict[str, Any]:
        """The table as plain data."""
        return {"type": self.type, "entries": [vars(entry) for entry in self.entries]}


class OpsMatrix:
    """All map types by all members. ``matrix["BPF_MAP_TYPE_QUEUE"]`` (or "queue") is the table of one type."""

    def __init__(self, tables: Iterable[OpsTable]):
        self.tables = list(tables)

    def __iter__(self) -> Iterator[OpsTable]:
        return iter(self.tables)

    def __len__(self) -> int:
        return len(self.tables)

    def __getitem__(self, name: str) -> OpsTable:
        wanted = str(name).upper()
        for one in self.tables:
            if one.type in (wanted, f"BPF_MAP_TYPE_{wanted}"):
                return one
        raise KeyError(f"no map type of this simulator is called {name!r}")

    def users(self, member: str) -> list[str]:
        """The types that fill a member."""
        return [_short(one.type) for one in self.tables if not one[member].null]

    def _nobody(self) -> str:
        """Where this simulator is less than the kernel: members that some of its types fill, and none of ours."""
        unused = [member for member in self._members() if not self.users(member)]
        return f"No type that is modelled fills {', '.join(unused)}; some of the kernel's do." if unused else ""

    def _members(self) -> list[str]:
        return [entry.member for entry in self.tables[0]] if self.tables else []

    def __str__(self) -> str:
        names = [_short(one.type) for one in self.tables]
        lines = [f"{'':27}  " + " ".join(f"{i:>2}" for i in range(1, len(names) + 1))]
        for member in self._members():
            marks = " ".join(" ." if one[member].null else " x" for one in self.tables)
            lines.append(f"{member:27}  {marks}")
        legend = [f"{i:2} {name}" for i, name in enumerate(names, 1)]
        return "\n".join([*lines, "", *legend, self._nobody()]).rstrip()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        cell = "padding:1px;min-width:0;text-align:center;border-bottom:1px solid rgba(128,128,128,.25)"
        down = "writing-mode:vertical-rl;transform:rotate(180deg);font-weight:500;padding:4px 0;text-align:left"
        down += ";line-height:1.2"
        head = "".join(
            f'<th scope="col" style="text-align:center;vertical-align:bottom;padding:0 1px"><div style="{down}">'
            f"{html.escape(_short(one.type))}</div></th>"
            for one in self.tables
        )
        body = []
        for member in self._members():
            marks = "".join(
                f'<td style="{cell};color:{FAINT}">·</td>'
                if one[member].null
                else f'<td style="{cell};{_FILLED}" title="{html.escape(one[member].function)}">✓</td>'
                for one in self.tables
            )
            body.append(
                f'<tr><th scope="row" style="text-align:left;font-weight:400;white-space:nowrap;padding:0 8px 0 0;'
                f'position:sticky;left:0;background:{SHEET}">'
                f"{mono(member)}</th>{marks}</tr>"
            )
        matrix = (
            '<table style="border-collapse:collapse;font-size:12px">'
            f"<thead><tr><td></td>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
        )
        rest = f'<div style="color:{FAINT}">{html.escape(self._nobody())}</div>'
        return f'<div class="bpfsim">{wide(matrix)}{rest}</div>'

    def to_json(self) -> list[dict[str, Any]]:
        """The tables as plain data."""
        return [one.to_json() for one in self.tables]


_FILLED = "background:rgba(11,107,203,.18)"


def _here(entry: Entry) -> str:
    if not entry.modelled:
        return "not modelled yet"
    return entry.file if entry.kernel_file else ""


def _short(type_name: str) -> str:
    return type_name.removeprefix("BPF_MAP_TYPE_").lower()
