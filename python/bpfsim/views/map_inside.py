"""The inside of a map: how its elements lie, drawn from what each type tells of itself (sim/map/view.h)."""

from __future__ import annotations

import html
import ipaddress
import itertools
import math
import pprint
from collections.abc import Callable, Iterable
from typing import Any

from .drawing import AMBER, BLUE, GREEN, PALE, RED, VIOLET, WIDE, Drawing, cut
from .page import mono, table

LIMIT = 64  # elements in one picture; a table shows them all up to the view's own limit
_SCALARS = {1, 2, 4, 8}
_FILLS = {"prog": GREEN, "map": AMBER}


def shown(raw: bytes) -> str:
    """Bytes as a reader wants them: 1, 2, 4 or 8 as a number, words as words, the rest in hex."""
    if len(raw) in _SCALARS:
        return str(int.from_bytes(raw, "little"))
    text = raw.rstrip(b"\0")
    if text and all(32 <= byte < 127 for byte in text):
        return repr(text.decode())
    return raw.hex(" ") if raw else ""


def prefix(data: bytes, length: int, exact: bool = False) -> str:
    """A prefix of a trie: 10.1.0.0/16 where the data has 4 bytes, 2001:db8::/32 where 16, else its bits.

    ``exact`` leaves out the bits after it.
    """
    if exact:
        rest = 8 * len(data) - length
        kept = int.from_bytes(data, "big") >> rest << rest
        data = kept.to_bytes(len(data), "big")
    if len(data) in (4, 16):
        return f"{ipaddress.ip_address(data)}/{length}"
    bits = "".join(f"{byte:08b}" for byte in data)[:length]
    return (cut(bits, 24) or "(empty)") + f"/{length}"


def contents(data: dict[str, Any]) -> dict[str, str]:
    """What a map holds, in words: a value by its key, or by its place where there are no keys.

    How it lies does not count: two hashes with the same elements are the same. An arena's pages are not looked into.
    A type in Python has its ``map.state``, where that has a text which does not name an address.
    """
    match data["kind"]:
        case "array":
            return {shown(e["key"]): ", ".join(map(shown, e["values"])) for e in data["elements"]}
        case "hash" | "lru":
            elements = [e for _, chain in data["buckets"] for e in chain]
            return {shown(e["key"]): ", ".join(map(shown, e["values"])) for e in elements}
        case "trie":
            held = [node for node in data["nodes"] if not node["intermediate"]]
            return {prefix(n["data"], n["prefixlen"], exact=True): shown(n["value"]) for n in held}
        case "objects":
            return {shown(key): label for key, _, label in data["slots"]}
        case "ring":
            return {str(place): shown(value) for place, (_, value) in enumerate(data["slots"])}
        case "bloom":
            return {"bits": data["bits"].hex()}
        case "ringbuf":
            return {
                str(place): f"{length} bytes, {_record_state(busy, discarded)}: {shown(begin)}"
                for place, (_, busy, discarded, length, begin) in enumerate(data["records"])
            }
        case "owned":
            return {f"{label} {at}".strip(): ", ".join(map(shown, values)) for _, label, at, values in data["owned"]}
        case "none" if "state" in data:
            text = pprint.saferepr(data["state"])  # which puts a dict's keys in order
            return {} if " at 0x" in text else {"state": text}
    return {}


def compared(data: dict[str, Any], limit: int) -> str:
    """Why ``contents`` is not all that a map holds, of which ``limit`` elements were asked for; empty where it is."""
    if data["kind"] == "none" and "state" not in contents(data):
        return "its map.state has no text of its own" if "state" in data else "its contents are not known here"
    if data["kind"] == "pages":
        return "what its pages hold"
    if data["kind"] == "ringbuf" and any(size > len(begin) for _, _, _, size, begin in data["records"]):
        return "what its records hold after the first 32 bytes"
    return f"more than {limit} elements" if len(contents(data)) >= limit else ""


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
        many = f", and max_entries is {d['max_entries']}: does map_get_next_key end?"
        return (
            f"This type has no picture of its own; it has {count}"
            + (many if d["more"] and len(d["elements"]) > d["max_entries"] else "")
            + "."
        )

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
                return ["bits that are set"], [[", ".join(str(bit) for bit in self._bits()) or "none"]]
            case "ringbuf":
                return ["position", "bytes", "state", "sample begins"], [
                    [str(pos), str(size), _record_state(busy, discarded), sample.hex(" ")]
                    for pos, busy, discarded, size, sample in d["records"]
                ]
            case "owned":
                return ["owner", "attach type", "value"], [
                    [label, at, ", ".join(map(shown, values))] for _, label, at, values in d["owned"]
                ]
            case "struct_ops":
                return ["member", "value"], [[name, self._member(value)] for name, _, value in d["members"]]
            case "pages":
                names = ("max_entries", "user_vm_start", "user_vm_end", "addr")
                return ["what", "value"], [[name, hex(d[name])] for name in names]
        return ["key", "value"], [[key, value] for key, value in d["elements"]]

    @staticmethod
    def _member(value: str | bytes) -> str:
        return value if isinstance(value, str) else shown(value)

    def _bits(self) -> list[int]:
        return [8 * at + bit for at, byte in enumerate(self.data["bits"]) for bit in range(8) if byte >> bit & 1]

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
        picture = self._draw().img(f"{self.title}: {self.facts()}; the table below lists it")
        return f'<div class="bpfsim">{top}{picture}<details><summary>as a table</summary>{cells}</details></div>'

    def svg(self) -> str:
        """The picture alone; an empty one where the type has none."""
        return self._draw().svg()

    def to_json(self) -> dict[str, Any]:
        """What the map told, bytes in hex."""
        return {"title": self.title, **_plain(self.data)}

    # ---- pictures

    def _draw(self) -> Drawing:
        to = Drawing()
        draw = getattr(self, f"_draw_{self.kind}", None)
        if draw:
            draw(to)
        return to

    def _draw_array(self, to: Drawing) -> None:
        elements = self.data["elements"][:LIMIT]
        if self.data["percpu_stride"]:
            self._draw_percpu(to, elements)
            return
        wide = _cell_width(shown(e["values"][0]) for e in elements)
        across = max(int((WIDE - 10) // wide), 1)
        for i, element in enumerate(elements):
            x, y = 6 + i % across * wide, 22 + i // across * 58
            to.words(x + wide / 2, y - 6, shown(element["key"]), "middle", 11)
            value = element["values"][0]
            to.box(x, y, wide, 30, shown(value), fill=BLUE if any(value) else PALE, round_=2)
        self._more(to, len(elements), self.data["max_entries"])

    def _draw_percpu(self, to: Drawing, elements: list[dict[str, Any]]) -> None:
        cpus = len(elements[0]["values"]) if elements else 0
        room = max((WIDE - 70) / max(cpus, 1), 24)
        wide = min(max(_cell_width(shown(v) for e in elements for v in e["values"]), 52), room)
        for cpu in range(cpus):
            to.words(64 + (cpu + 0.5) * wide, 16, f"CPU {cpu}" if wide >= 44 else str(cpu), "middle", 11, bold=True)
        for row, element in enumerate(elements[:24]):
            y = 24 + row * 34
            to.words(56, y + 20, shown(element["key"]), "end", 11)
            for cpu, value in enumerate(element["values"]):
                to.box(64 + cpu * wide, y, wide, 30, shown(value), fill=BLUE if any(value) else PALE, round_=2)
        self._more(to, min(len(elements), 24), self.data["max_entries"])

    def _more(self, to: Drawing, drawn: int, whole: int) -> None:
        if whole > drawn:
            to.words(6, to.height + 18, f"… and {whole - drawn} more")

    def _draw_hash(self, to: Drawing) -> None:
        """Buckets from the top, each with its chain; runs of empty buckets are one line."""
        buckets = self.data["buckets"]
        wide = min(_cell_width(_pair(e) for _, chain in buckets for e in chain), 220)
        y, at, drawn = 6.0, 0, 0
        for index, chain in buckets:
            if drawn >= LIMIT or y > 900:
                break
            y = self._empty_run(to, y, at, index)
            to.box(6, y, 52, 30, str(index), fill=PALE, round_=2)
            x, last = 58.0, len(chain) - 1
            for place, element in enumerate(chain):
                if x + 26 + wide > WIDE and place:
                    to.words(x + 6, y + 20, f"… {last - place + 1} more")
                    break
                to.line(x, y + 15, x + 24, y + 15, arrow=True)
                to.box(x + 26, y, wide, 30, _pair(element), fill=BLUE)
                x += 26 + wide
                drawn += 1
            y, at = y + 38, index + 1
        self._empty_run(to, y, at, self.data["n_buckets"]) if drawn == self.data["count"] else self._more(
            to, drawn, self.data["count"]
        )

    @staticmethod
    def _empty_run(to: Drawing, y: float, begin: int, end: int) -> float:
        if begin == end:
            return y
        name = str(begin) if end - begin == 1 else f"{begin}-{end - 1}"
        to.box(6, y, 52, 22, name, fill="none", dashed=True, round_=2)
        to.words(66, y + 15, "empty", size=11)
        return y + 30

    def _draw_lru(self, to: Drawing) -> None:
        """The shared lists (or each CPU's), then what each CPU keeps for itself."""
        d = self.data
        y = 6.0
        for cpu, (active, n_active, inactive, n_inactive, n_free) in enumerate(d["lists"]):
            of = f"CPU {cpu}" if len(d["lists"]) > 1 else "all CPUs"
            y = self._lru_lists(to, y, of, n_free, [("active", active, n_active), ("inactive", inactive, n_inactive)])
        for cpu, (pending, n_pending, n_free) in enumerate(d["locals"]):
            y = self._lru_lists(to, y, f"CPU {cpu}", n_free, [("pending", pending, n_pending)])
        to.dot(14, y + 14, 4.5, True)
        to.words(26, y + 18, "ref bit set: used since it was last looked at", size=11)
        to.dot(314, y + 14, 4.5, False)
        to.words(326, y + 18, "not used since then", size=11)

    @staticmethod
    def _lru_lists(
        to: Drawing, y: float, of: str, n_free: int, lists: list[tuple[str, list[tuple[bytes, bool]], int]]
    ) -> float:
        """Whose lists they are, a row for each that holds something, and the empty ones in a line of words."""
        to.words(6, y + 19, of, size=11, bold=True)
        for name, nodes, count in lists:
            if not nodes:
                continue
            to.words(72, y + 19, f"{name}: {count}", size=11)
            wide = max(_cell_width(shown(key) for key, _ in nodes) + 8, 44)
            room = max(int((WIDE - 150) // (wide + 6)), 1)
            fill = {"active": GREEN, "inactive": AMBER, "pending": VIOLET}[name]
            for i, (key, ref) in enumerate(nodes[:LIMIT]):
                x, top = 150 + i % room * (wide + 6), y + i // room * 34
                to.box(x, top, wide, 28, shown(key), fill=fill)
                to.dot(x + wide - 7, top + 7, 3.5, ref)
            if name == "inactive" and len(nodes) < room - 3:
                to.words(152 + len(nodes) * (wide + 6), y + 19, "⟵ evicted from this end", size=11)
            y += 34 * math.ceil(min(len(nodes), LIMIT) / room)
            if count > LIMIT:
                to.words(150, y + 10, f"… and {count - LIMIT} more", size=11)
                y += 18
        rest = [f"{name}: none" for name, nodes, _ in lists if not nodes]
        to.words(72, y + 19, ", ".join([*rest, f"free: {n_free}"]), size=11)
        return y + 30

    def _draw_trie(self, to: Drawing) -> None:
        nodes = self.data["nodes"][:LIMIT]
        if not nodes:
            to.words(6, 18, "empty")
            return
        place: dict[int, tuple[float, int]] = {}

        def settle(at: int, depth: int) -> list[int]:
            """Places a node above those below it, and these so far apart that none meets another; returns them all."""
            below = [child for child in nodes[at]["child"] if 0 <= child < len(nodes)]
            trees = [settle(child, depth + 1) for child in below]
            if len(trees) == 2:
                meet = [place[a][0] - place[b][0] for a in trees[0] for b in trees[1] if place[a][1] == place[b][1]]
                for node in trees[1]:
                    place[node] = (place[node][0] + max(meet) + 1, place[node][1])
            x = sum(place[child][0] for child in below) / max(len(below), 1)
            if len(below) == 1:  # a lone child hangs to its side
                x += 0.25 if nodes[at]["child"][0] >= 0 else -0.25
            place[at] = (x, depth)
            return [at, *trees[0], *(trees[1] if len(trees) == 2 else [])] if trees else [at]

        settle(0, 0)
        wide = max(_cell_width(prefix(n["data"], n["prefixlen"], n["intermediate"]) for n in nodes), 84)
        least, most = min(x for x, _ in place.values()), max(x for x, _ in place.values())
        step = wide + 18
        if (most - least) * step + wide > 1.4 * WIDE:
            self._draw_trie_rows(to, nodes, wide)
            return

        def corner(at: int) -> tuple[float, float]:
            x, depth = place[at]
            return 10 + (x - least) * step, 8 + depth * 72

        for at in place:
            x, y = corner(at)
            for bit, child in enumerate(nodes[at]["child"]):
                if child in place:
                    cx, cy = corner(child)
                    to.line(x + wide / 2, y + 36, cx + wide / 2, cy, arrow=True)
                    to.words(
                        (x + cx + wide) / 2 + (-8 if bit == 0 else 8), (y + 36 + cy) / 2 + 2, str(bit), "middle", 11
                    )
        for at in place:
            self._trie_node(to, corner(at), (wide, 36), nodes[at])
        self._more(to, len(nodes), len(self.data["nodes"]))

    @staticmethod
    def _trie_node(to: Drawing, corner: tuple[float, float], size: tuple[float, float], node: dict[str, Any]) -> None:
        name = prefix(node["data"], node["prefixlen"], node["intermediate"])
        if node["intermediate"]:
            to.box(*corner, *size, name, fill="none", dashed=True, round_=12)
        elif size[1] < 36:
            to.box(*corner, *size, f"{name}: {shown(node['value'])}", fill=GREEN, round_=12)
        else:
            to.box(*corner, *size, name, shown(node["value"]), fill=GREEN, round_=12)

    def _draw_trie_rows(self, to: Drawing, nodes: list[dict[str, Any]], wide: float) -> None:
        """A trie too broad for a tree: a row for each node, what is below it further in."""
        waiting, row = [(0, 0, -1, 0.0)], 0
        while waiting:
            at, depth, bit, above = waiting.pop()
            x, y = 10 + depth * 30, 6 + row * 30
            if depth:
                to.line(x - 15, above, x - 15, y + 12)
                to.line(x - 15, y + 12, x, y + 12, arrow=True)
                to.words(x - 24, y + 16, str(bit), "middle", 11)
            self._trie_node(to, (x, y), (wide + 30, 24), nodes[at])
            below = [(child, depth + 1, one, y + 24) for one, child in enumerate(nodes[at]["child"])]
            waiting += [entry for entry in reversed(below) if 0 <= entry[0] < len(nodes)]
            row += 1
        self._more(to, len(nodes), len(self.data["nodes"]))

    def _draw_objects(self, to: Drawing) -> None:
        slots = self.data["slots"][:24]
        if not slots:
            to.words(6, 18, "every slot is empty")
        wide = max(_cell_width(shown(key) for key, _, _ in slots), 52)
        for row, (key, kind, label) in enumerate(slots):
            y = 6 + row * 40
            to.box(6, y, wide, 30, shown(key), fill=PALE, round_=2)
            to.line(6 + wide, y + 15, 6 + wide + 40, y + 15, arrow=True)
            to.box(6 + wide + 42, y, max(len(label) * 7 + 20, 120), 30, label, fill=_FILLS.get(kind, PALE), round_=7)
        self._more(to, len(slots), self.data["count"])

    def _draw_struct_ops(self, to: Drawing) -> None:
        """The members that are set, each with its program or its value."""
        members = self.data["members"]
        if not members:
            to.words(6, 18, "no member is set")
        wide = max(_cell_width(name for name, _, _ in members), 52)
        for row, (name, function, value) in enumerate(members):
            y, text = 6 + row * 40, cut(self._member(value), 40)
            to.box(6, y, wide, 30, name, fill=PALE, round_=2)
            if function:
                to.line(6 + wide, y + 15, 6 + wide + 40, y + 15, arrow=True)
            left = 6 + wide + (42 if function else 0)
            to.box(left, y, max(len(text) * 7.2 + 20, 90), 30, text, fill=GREEN if function else BLUE, round_=7)

    def _draw_owned(self, to: Drawing) -> None:
        """Each owner, and its value beside it; the dashed line is no reference."""
        owned = self.data["owned"][:24]
        if not owned:
            to.words(6, 18, "no owner has a value")
        wide = min(max((len(label) for _, label, _, _ in owned), default=0) * 7 + 20, 380)
        for row, (kind, label, at, values) in enumerate(owned):
            y = 6 + row * 40
            value = cut(", ".join(map(shown, values)), 40)
            to.box(6, y, wide, 30, cut(label, 50), fill=_FILLS.get(kind, PALE), round_=7)
            to.line(6 + wide, y + 15, 6 + wide + 40, y + 15, dashed=True)
            to.box(6 + wide + 42, y, max(len(value) * 7.2 + 16, 52), 30, value, fill=BLUE, round_=2)
            to.words(6 + wide + 42 + max(len(value) * 7.2 + 16, 52) + 8, y + 19, at, size=11)
        self._more(to, len(owned), self.data["count"])

    def _draw_pages(self, to: Drawing) -> None:
        """The pages in a row, and the addresses of both ends as a process has them."""
        d = self.data
        pages = min(d["max_entries"], LIMIT)
        size = 22
        across = (WIDE - 20) // size
        for page in range(pages):
            x, y = 6 + page % across * size, 26 + page // across * size
            to.box(x, y, size, size, fill=BLUE if d["addr"] else "none", round_=1)
        to.words(6, 18, f"0x{d['user_vm_start']:x}" if d["user_vm_end"] else "no user address yet", size=11)
        self._more(to, pages, d["max_entries"])

    def _draw_ring(self, to: Drawing) -> None:
        """The slots in a row; whoever walks on from the last comes to the first."""
        d = self.data
        held = dict(d["slots"])
        wide = max(_cell_width(map(shown, held.values())), 46)
        across = max(int((WIDE - 10) // wide), 1)
        slots = [i for i in range(d["size"]) if d["size"] <= LIMIT or i in held or i in (d["head"], d["tail"])][:LIMIT]
        for n, slot in enumerate(slots):
            x, y = 6 + n % across * wide, 22 + n // across * 92
            to.words(x + wide / 2, y - 6, str(slot), "middle", 11)
            filled = slot in held
            to.box(x, y, wide, 30, shown(held[slot]) if filled else "", fill=BLUE if filled else "none", round_=2)
            names = [name for name in ("head", "tail") if d[name] == slot]
            if names:
                to.line(x + wide / 2, y + 48, x + wide / 2, y + 32, arrow=True)
                for line, name in enumerate(names):
                    to.words(x + wide / 2, y + 60 + 13 * line, name, "middle", 11, bold=True)
        if len(slots) < d["size"]:
            to.words(6, to.height + 16, f"{d['size'] - len(slots)} of {d['size']} slots are not drawn")

    def _draw_bloom(self, to: Drawing) -> None:
        bits = min(self.data["n_bits"], 1024, 8 * len(self.data["bits"]))
        across = 32 if bits <= 256 else 64
        size = 22 if across == 32 else 11
        on = set(self._bits())
        for bit in range(bits):
            x, y = 46 + bit % across * size, 6 + bit // across * size
            if bit % across == 0:
                to.words(40, y + size - 5, str(bit), "end", 10)
            to.box(x, y, size, size, fill="#0b6bcb" if bit in on else "none", round_=1)
        self._more(to, bits, self.data["n_bits"])

    def _draw_ringbuf(self, to: Drawing) -> None:
        """The whole ring as a bar, and below it what waits between consumer and producer, record by record."""
        d = self.data
        size, consumer, producer = d["size"], d["consumer_pos"], d["producer_pos"]
        scale = (WIDE - 40) / size
        to.words(6, 14, f"the ring: {size} bytes, place = position & {size - 1}", size=11)
        to.box(20, 40, size * scale, 20, fill="none", round_=2)
        start, used = consumer % size, min(producer - consumer, size)
        for begin, length in ((start, min(used, size - start)), (0, used - min(used, size - start))):
            if length:
                to.box(20 + begin * scale, 40, max(length * scale, 2), 20, fill=BLUE, round_=1)
        for name, pos, above in (("consumer", consumer, True), ("producer", producer, False)):
            x = 20 + pos % size * scale
            to.line(x, 30 if above else 70, x, 40 if above else 60, arrow=True)
            anchor = "start" if x < WIDE / 2 else "end"
            to.words(x + (4 if anchor == "start" else -4), 34 if above else 76, f"{name} {pos}", anchor, 11, bold=True)
        records = d["records"][:40]
        to.words(6, 102, "records, oldest first" if records else "nothing waits", size=11)
        across, wide = 5, (WIDE - 20) / 5
        fills = {"committed": GREEN, "busy": AMBER, "discarded": RED}
        for n, (pos, busy, discarded, length, _) in enumerate(records):
            state = _record_state(busy, discarded)
            x, y = 6 + n % across * wide, 110 + n // across * 46
            to.box(x, y, wide - 6, 40, f"at {pos}: {length} bytes", state, fill=fills[state], dashed=busy)
        self._more(to, len(records), d["count"])


def _record_state(busy: bool, discarded: bool) -> str:
    return "busy" if busy else "discarded" if discarded else "committed"


def _many(count: int, word: str) -> str:
    return f"{count} {word}" + ("" if count == 1 else "s")


def _pair(element: dict[str, Any]) -> str:
    return f"{shown(element['key'])}: {', '.join(map(shown, element['values']))}"


def _cell_width(texts: Iterable[str]) -> float:
    return min(max((len(text) for text in texts), default=1) * 7.2 + 16, 240)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value
