"""The inside of a map: how its elements lie, from what each type tells of itself (sim/map/view.h)."""

from __future__ import annotations

import html
import itertools
from collections.abc import Callable, Iterable
from typing import Any

from .map_pictures import picture
from .map_words import bits_set, frames_shown, member_value, prefix, record_state, shown
from .page import mono, table


class MapView:
    """What a map looks like inside now. A picture in Jupyter, ``str()`` in a terminal, ``to_json()`` for programs.

    ``data`` is what the map told, ``kind`` which picture it is; "none" is a type without a picture of its own, of which
    the elements are listed.
    """

    def __init__(
        self, title: str, data: dict[str, Any], elements: Callable[[], Iterable[tuple[Any, Any]]], limit: int = 256
    ):
        self.title, self.data = title, data
        self.kind: str = data["kind"]
        if self.kind == "none":
            try:
                listed = [(str(key), str(value)) for key, value in itertools.islice(elements(), limit + 1)]
                self.data |= {"elements": listed[:limit], "more": len(listed) > limit}
            except OSError as refused:
                self.data |= {"elements": [], "unlisted": getattr(refused, "reason", None) or refused.args[-1]}

    # ---- what is told in words

    def facts(self) -> str:
        """One line on the whole map."""
        d = self.data
        match self.kind:
            case "array":
                values = d["elements"][0]["values"] if d["elements"] else [bytes(d["elem_size"])]
                told = f"{_many(d['max_entries'], 'value')} of {_many(len(values[0]), 'byte')}"
                if d["percpu_stride"]:
                    return f"{told}, each once for each of {_many(len(values), 'CPU')}"
                near = len(values[0]) == d["elem_size"]
                each = "one after the other" if near else f"{d['elem_size']} bytes from one to the next"
                first = f", from 0x{d['elements'][0]['addr']:x}" if d["elements"] and d["elements"][0]["addr"] else ""
                return f"{told}, {each}{first}"
            case "hash" | "lru":
                free = f", {_many(d['free_elements'], 'element')} free" if d["prealloc"] and self.kind == "hash" else ""
                how = "all allocated at the start" if d["prealloc"] else "allocated one by one"
                return (
                    f"{_many(d['count'], 'element')} in {_many(d['n_buckets'], 'bucket')}, {how}{free}; "
                    f"bucket = jhash(key, seed 0x{d['hashrnd']:x}) & {d['n_buckets'] - 1}"
                )
            case "trie":
                between = sum(node["intermediate"] for node in d["nodes"])
                return f"{len(d['nodes']) - between} prefixes and {between} intermediate nodes that only join others"
            case "objects":
                return f"{d['count']} of {d['max_entries']} slots hold something"
            case "ring":
                state = "empty" if d["head"] == d["tail"] else _many(d["count"], "value")
                return f"{d['size']} slots, one is always free; head {d['head']}, tail {d['tail']}: {state}"
            case "bloom":
                share = d["bits_set"] / d["n_bits"]
                wrong = share ** d["nr_hash_funcs"]
                found = f"about {wrong:.1%}" if not 0 < wrong < 0.001 else "less than 0.1%"
                return (
                    f"{d['bits_set']} of {d['n_bits']} bits are set ({share:.0%}), {d['nr_hash_funcs']} hashes each; "
                    f"{found} of what was never added would be found"
                )
            case "ringbuf":
                used = d["producer_pos"] - d["consumer_pos"]
                return (
                    f"{d['size']} bytes; consumer at {d['consumer_pos']}, producer at {d['producer_pos']}: "
                    f"{used} bytes in {d['count']} records, {d['wakeups']} wake-ups"
                )
            case "owned":
                each = {0: "", 1: ", with its owner, which"}.get(d["count"], ", each with its owner, which")
                return _many(d["count"], "value") + (f"{each} the map does not hold" if each else "")
            case "stacks":
                of = f" of at most {d['max_entries']}" if d["count"] != d["max_entries"] else ""
                return (
                    f"{_many(d['count'], 'stack trace')}{of} in {_many(d['n_buckets'], 'bucket')}, each stored once; "
                    f"its id is its hash & {d['n_buckets'] - 1}"
                )
            case "own":
                return self._own_facts()
            case "struct_ops":
                functions = sum(function for _, function, _ in d["members"])
                return f"struct {d['struct']}, {d['state']}; {_many(functions, 'member')} with a program"
            case "pages":
                where = f"user addresses from 0x{d['user_vm_start']:x}" if d["user_vm_start"] else "no address yet"
                mapped = f"they lie at 0x{d['addr']:x}" if d["addr"] else "nobody has mapped them"
                return f"{_many(d['max_entries'], 'page')} for programs and processes, {where}; {mapped}"
        if "unlisted" in d:
            return f"This type has no picture of its own, and its elements cannot be listed: {d['unlisted']}."
        count = ("at least " if d["more"] else "") + _many(len(d["elements"]), "element")
        return f"This type has no picture of its own; it has {count}."

    def _own_facts(self) -> str:
        d = self.data
        if not d["keys"]:
            told = d["ended"] or ("the next value is shown" if d["elements"] else "empty")
            return f"of a type written in Python, without keys: {told}"
        if d["ended"] and not d["elements"]:
            return f"of a type written in Python; its elements cannot be listed: {d['ended']}"
        cut = d["more"] or d["ended"]
        count = ("at least " if cut else "") + _many(len(d["elements"]), "element")
        if d["more"] and len(d["elements"]) > d["max_entries"]:
            count += f", and max_entries is {d['max_entries']}: does map_get_next_key end?"
        ended = (
            f"; the walk ends there: {d['ended']}" if d["ended"] else "; no more were asked for" if d["more"] else ""
        )
        return f"{count}, as map_get_next_key and map_lookup_elem of this type tell them{ended}"

    def _table(self) -> tuple[list[str], list[list[str]]]:
        d = self.data
        match self.kind:
            case "array":
                if d["percpu_stride"]:  # each CPU's copies lie in its own memory, not beside each other
                    cpus = len(d["elements"][0]["values"]) if d["elements"] else 1
                    head = ["index", *(f"CPU {cpu}" for cpu in range(cpus))]
                    return head, [[shown(e["key"]), *map(shown, e["values"])] for e in d["elements"]]
                head = ["index", "address", "value"]
                return head, [[shown(e["key"]), f"0x{e['addr']:x}", *map(shown, e["values"])] for e in d["elements"]]
            case "hash" | "lru":
                rows = [
                    [str(index), str(place), shown(e["key"]), ", ".join(map(shown, e["values"])), f"0x{e['hash']:08x}"]
                    for index, chain in d["buckets"]
                    for place, e in enumerate(chain)
                ]
                head = ["bucket", "place in chain", "key", "value", "hash"]
                if self.kind == "lru":
                    where = self._lru_places()
                    rows = [[*row, where.get(row[2], "")] for row in rows]
                    head.append("list")
                return head, rows
            case "trie":
                return ["node", "prefix", "value", "below by 0", "below by 1"], [
                    [
                        str(i),
                        prefix(node["data"], node["prefixlen"], node["intermediate"]),
                        "(intermediate)" if node["intermediate"] else shown(node["value"]),
                        *("" if child < 0 else str(child) for child in node["child"]),
                    ]
                    for i, node in enumerate(d["nodes"])
                ]
            case "objects":
                return ["key", "holds"], [[shown(key), label] for key, _, label in d["slots"]]
            case "ring":
                return ["slot", "value"], [[str(index), shown(value)] for index, value in d["slots"]]
            case "bloom":
                return ["bits that are set"], [[", ".join(str(bit) for bit in bits_set(d)) or "none"]]
            case "ringbuf":
                return ["position", "bytes", "state", "sample begins"], [
                    [str(pos), str(size), record_state(busy, discarded), sample.hex(" ")]
                    for pos, busy, discarded, size, sample in d["records"]
                ]
            case "owned":
                return ["owner", "attach type", "value"], [
                    [label, at, ", ".join(map(shown, values))] for _, label, at, values in d["owned"]
                ]
            case "stacks":
                return ["id", "hash", "frames, the innermost first"], [
                    [str(id_), f"0x{hash_:08x}", frames_shown(frames)] for id_, hash_, frames in d["traces"]
                ]
            case "own":
                rows = [
                    [shown(key), f"raised {failed}" if failed else shown(value)] for key, value, failed in d["elements"]
                ]
                return ["key", "value"], rows if d["keys"] else [["(next)", value] for _, value in rows]
            case "struct_ops":
                return ["member", "value"], [[name, member_value(value)] for name, _, value in d["members"]]
            case "pages":
                names = ("max_entries", "user_vm_start", "user_vm_end", "addr")
                return ["what", "value"], [[name, hex(d[name])] for name in names]
        return ["key", "value"], [[key, value] for key, value in d["elements"]]

    def _lru_places(self) -> dict[str, str]:
        where: dict[str, str] = {}
        for cpu, (active, _, inactive, _, _) in enumerate(self.data["lists"]):
            of = f" of CPU {cpu}" if len(self.data["lists"]) > 1 else ""
            for name, nodes in (("active", active), ("inactive", inactive)):
                where |= {shown(key): f"{name}{of}{', ref' if ref else ''}" for key, ref in nodes}
        for cpu, (pending, _, _) in enumerate(self.data["locals"]):
            where |= {shown(key): f"pending on CPU {cpu}{', ref' if ref else ''}" for key, ref in pending}
        return where

    # ---- text, HTML

    def __str__(self) -> str:
        head, rows = self._table()
        cells = [head, *rows]
        wide = [max(len(row[i]) for row in cells) for i in range(len(head))]
        lines = ["  " + "  ".join(c.ljust(w) for c, w in zip(row, wide, strict=True)).rstrip() for row in cells]
        return "\n".join([self.title, self.facts(), *lines])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head, rows = self._table()
        cells = table(head, [[mono(cell) for cell in row] for row in rows])
        facts = html.escape(self.facts())
        top = f'<div><span style="font-weight:600">{html.escape(self.title)}</span>: {facts}</div>'
        if self.kind == "none":
            return f'<div class="bpfsim">{top}{cells}</div>'
        drawn = picture(self.data).img(f"{self.title}: {self.facts()}; the table below lists it")
        return f'<div class="bpfsim">{top}{drawn}<details><summary>as a table</summary>{cells}</details></div>'

    def svg(self) -> str:
        """The picture alone; an empty one where the type has none."""
        return picture(self.data).svg()

    def to_json(self) -> dict[str, Any]:
        """What the map told, bytes in hex."""
        return {"title": self.title, **_plain(self.data)}


def _many(count: int, word: str) -> str:
    return f"{count} {word}" + ("" if count == 1 else "s")


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value
