"""The inside of a map as a picture, one function for each kind of inside (sim/map/view.h)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from .drawing import AMBER, BLUE, GREEN, MARK, PALE, RED, VIOLET, WIDE, Drawing, cut
from .map_words import bits_set, member_value, prefix, record_state, shown

LIMIT = 64  # elements in one picture; a table shows them all up to the view's own limit
_FILLS = {"prog": GREEN, "map": AMBER}


def picture(data: dict[str, Any]) -> Drawing:
    """The picture; an empty one of a kind that has none."""
    to = Drawing()
    if draw := _PICTURES.get(data["kind"]):
        draw(to, data)
    return to


def _array(to: Drawing, d: dict[str, Any]) -> None:
    elements = d["elements"][:LIMIT]
    if d["percpu_stride"]:
        _percpu(to, d, elements)
        return
    wide = _cell_width(shown(e["values"][0]) for e in elements)
    across = max(int((WIDE - 10) // wide), 1)
    for i, element in enumerate(elements):
        x, y = 6 + i % across * wide, 22 + i // across * 58
        to.words(x + wide / 2, y - 6, shown(element["key"]), "middle", 11)
        value = element["values"][0]
        to.box(x, y, wide, 30, shown(value), fill=BLUE if any(value) else PALE, round_=2)
    _more(to, len(elements), d["max_entries"])


def _percpu(to: Drawing, d: dict[str, Any], elements: list[dict[str, Any]]) -> None:
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
    _more(to, min(len(elements), 24), d["max_entries"])


def _more(to: Drawing, drawn: int, whole: int) -> None:
    if whole > drawn:
        to.words(6, to.height + 18, f"… and {whole - drawn} more")


def _hash(to: Drawing, d: dict[str, Any]) -> None:
    """Buckets from the top, each with its chain; runs of empty buckets are one line."""
    buckets = d["buckets"]
    wide = min(_cell_width(_pair(e) for _, chain in buckets for e in chain), 220)
    y, at, drawn = 6.0, 0, 0
    for index, chain in buckets:
        if drawn >= LIMIT or y > 900:
            break
        y = _empty_run(to, y, at, index)
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
    if drawn == d["count"]:
        _empty_run(to, y, at, d["n_buckets"])
    else:
        _more(to, drawn, d["count"])


def _empty_run(to: Drawing, y: float, begin: int, end: int) -> float:
    if begin == end:
        return y
    name = str(begin) if end - begin == 1 else f"{begin}-{end - 1}"
    to.box(6, y, 52, 22, name, fill="none", dashed=True, round_=2)
    to.words(66, y + 15, "empty", size=11)
    return y + 30


def _lru(to: Drawing, d: dict[str, Any]) -> None:
    """The shared lists (or each CPU's), then what each CPU keeps for itself."""
    y = 6.0
    for cpu, (active, n_active, inactive, n_inactive, n_free) in enumerate(d["lists"]):
        of = f"CPU {cpu}" if len(d["lists"]) > 1 else "all CPUs"
        y = _lru_lists(to, y, of, n_free, [("active", active, n_active), ("inactive", inactive, n_inactive)])
    for cpu, (pending, n_pending, n_free) in enumerate(d["locals"]):
        y = _lru_lists(to, y, f"CPU {cpu}", n_free, [("pending", pending, n_pending)])
    to.dot(14, y + 14, 4.5, True)
    to.words(26, y + 18, "ref bit set: used since it was last looked at", size=11)
    to.dot(314, y + 14, 4.5, False)
    to.words(326, y + 18, "not used since then", size=11)


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


def _settle(nodes: list[dict[str, Any]], place: dict[int, tuple[float, int]], at: int, depth: int) -> list[int]:
    """Places a node above those below it, and these so far apart that none meets another; returns them all."""
    below = [child for child in nodes[at]["child"] if 0 <= child < len(nodes)]
    trees = [_settle(nodes, place, child, depth + 1) for child in below]
    if len(trees) == 2:
        meet = [place[a][0] - place[b][0] for a in trees[0] for b in trees[1] if place[a][1] == place[b][1]]
        for node in trees[1]:
            place[node] = (place[node][0] + max(meet) + 1, place[node][1])
    x = sum(place[child][0] for child in below) / max(len(below), 1)
    if len(below) == 1:  # a lone child hangs to its side
        x += 0.25 if nodes[at]["child"][0] >= 0 else -0.25
    place[at] = (x, depth)
    return [at, *trees[0], *(trees[1] if len(trees) == 2 else [])] if trees else [at]


def _trie(to: Drawing, d: dict[str, Any]) -> None:
    nodes = d["nodes"][:LIMIT]
    if not nodes:
        to.words(6, 18, "empty")
        return
    place: dict[int, tuple[float, int]] = {}
    _settle(nodes, place, 0, 0)
    wide = max(_cell_width(prefix(n["data"], n["prefixlen"], n["intermediate"]) for n in nodes), 84)
    least, most = min(x for x, _ in place.values()), max(x for x, _ in place.values())
    step = wide + 18
    if (most - least) * step + wide > 1.4 * WIDE:
        _trie_rows(to, d, nodes, wide)
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
                to.words((x + cx + wide) / 2 + (-8 if bit == 0 else 8), (y + 36 + cy) / 2 + 2, str(bit), "middle", 11)
    for at in place:
        _trie_node(to, corner(at), (wide, 36), nodes[at])
    _more(to, len(nodes), len(d["nodes"]))


def _trie_node(to: Drawing, corner: tuple[float, float], size: tuple[float, float], node: dict[str, Any]) -> None:
    name = prefix(node["data"], node["prefixlen"], node["intermediate"])
    if node["intermediate"]:
        to.box(*corner, *size, name, fill="none", dashed=True, round_=12)
    elif size[1] < 36:
        to.box(*corner, *size, f"{name}: {shown(node['value'])}", fill=GREEN, round_=12)
    else:
        to.box(*corner, *size, name, shown(node["value"]), fill=GREEN, round_=12)


def _trie_rows(to: Drawing, d: dict[str, Any], nodes: list[dict[str, Any]], wide: float) -> None:
    """A trie too broad for a tree: a row for each node, what is below it further in."""
    waiting, row = [(0, 0, -1, 0.0)], 0
    while waiting:
        at, depth, bit, above = waiting.pop()
        x, y = 10 + depth * 30, 6 + row * 30
        if depth:
            to.line(x - 15, above, x - 15, y + 12)
            to.line(x - 15, y + 12, x, y + 12, arrow=True)
            to.words(x - 24, y + 16, str(bit), "middle", 11)
        _trie_node(to, (x, y), (wide + 30, 24), nodes[at])
        below = [(child, depth + 1, one, y + 24) for one, child in enumerate(nodes[at]["child"])]
        waiting += [entry for entry in reversed(below) if 0 <= entry[0] < len(nodes)]
        row += 1
    _more(to, len(nodes), len(d["nodes"]))


def _objects(to: Drawing, d: dict[str, Any]) -> None:
    slots = d["slots"][:24]
    if not slots:
        to.words(6, 18, "every slot is empty")
    wide = max(_cell_width(shown(key) for key, _, _ in slots), 52)
    for row, (key, kind, label) in enumerate(slots):
        y = 6 + row * 40
        to.box(6, y, wide, 30, shown(key), fill=PALE, round_=2)
        to.line(6 + wide, y + 15, 6 + wide + 40, y + 15, arrow=True)
        to.box(6 + wide + 42, y, max(len(label) * 7 + 20, 120), 30, label, fill=_FILLS.get(kind, PALE), round_=7)
    _more(to, len(slots), d["count"])


def _own(to: Drawing, d: dict[str, Any]) -> None:
    """Each key with an arrow to its value, column by column; red is what a lookup raised."""
    cells = [(shown(key), failed or shown(value), bool(failed)) for key, value, failed in d["elements"]]
    cells = cells[:LIMIT]
    if not cells:
        to.words(6, 18, "no element")
    keys = max(_cell_width(key for key, _, _ in cells), 36) if d["keys"] else 0
    values = max(_cell_width(value for _, value, _ in cells), 44)
    across = max(int((WIDE - 6) // (keys + 26 + values + 14)), 1)
    deep = math.ceil(len(cells) / across)
    for n, (key, value, failed) in enumerate(cells):
        x, y = 6 + n // deep * (keys + 26 + values + 14), 6 + n % deep * 38
        if d["keys"]:
            to.box(x, y, keys, 30, key, fill=PALE, round_=2)
            to.line(x + keys, y + 15, x + keys + 24, y + 15, arrow=True)
        to.box(x + keys + 26, y, values, 30, value, fill=RED if failed else BLUE, round_=2)
    if len(cells) < len(d["elements"]):
        _more(to, len(cells), len(d["elements"]))
    elif d["more"] or d["ended"]:
        to.words(6, to.height + 18, f"… {cut(d['ended'], 90) or 'and more'}")


def _stacks(to: Drawing, d: dict[str, Any]) -> None:
    """Each trace behind its id, the innermost frame first."""
    traces = d["traces"][:24]
    if not traces:
        to.words(6, 18, "no stack trace")
    wide = _cell_width(f"0x{frame:x}" for _, _, frames in traces for frame in frames)
    room = max(int((WIDE - 110) // (wide + 22)), 1)
    for row, (id_, _, frames) in enumerate(traces):
        y = 6 + row * 38
        to.box(6, y, 52, 30, str(id_), fill=PALE, round_=2)
        x = 58.0
        for frame in frames[:room]:
            to.line(x, y + 15, x + 20, y + 15, arrow=True)
            to.box(x + 22, y, wide, 30, f"0x{frame:x}", fill=GREEN)
            x += 22 + wide
        if len(frames) > room:
            to.words(x + 6, y + 20, f"… {len(frames) - room} more")
    _more(to, len(traces), d["count"])


def _struct_ops(to: Drawing, d: dict[str, Any]) -> None:
    """The members that are set, each with its program or its value."""
    members = d["members"]
    if not members:
        to.words(6, 18, "no member is set")
    wide = max(_cell_width(name for name, _, _ in members), 52)
    for row, (name, function, value) in enumerate(members):
        y, text = 6 + row * 40, cut(member_value(value), 40)
        to.box(6, y, wide, 30, name, fill=PALE, round_=2)
        if function:
            to.line(6 + wide, y + 15, 6 + wide + 40, y + 15, arrow=True)
        left = 6 + wide + (42 if function else 0)
        to.box(left, y, max(len(text) * 7.2 + 20, 90), 30, text, fill=GREEN if function else BLUE, round_=7)


def _owned(to: Drawing, d: dict[str, Any]) -> None:
    """Each owner, and its value beside it; the dashed line is no reference."""
    owned = d["owned"][:24]
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
    _more(to, len(owned), d["count"])


def _pages(to: Drawing, d: dict[str, Any]) -> None:
    """The pages in a row, and the addresses of both ends as a process has them."""
    pages = min(d["max_entries"], LIMIT)
    size = 22
    across = (WIDE - 20) // size
    for page in range(pages):
        x, y = 6 + page % across * size, 26 + page // across * size
        to.box(x, y, size, size, fill=BLUE if d["addr"] else "none", round_=1)
    to.words(6, 18, f"0x{d['user_vm_start']:x}" if d["user_vm_end"] else "no user address yet", size=11)
    _more(to, pages, d["max_entries"])


def _ring(to: Drawing, d: dict[str, Any]) -> None:
    """The slots in a row; whoever walks on from the last comes to the first."""
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


def _bloom(to: Drawing, d: dict[str, Any]) -> None:
    bits = min(d["n_bits"], 1024, 8 * len(d["bits"]))
    across = 32 if bits <= 256 else 64
    size = 22 if across == 32 else 11
    on = set(bits_set(d))
    for bit in range(bits):
        x, y = 46 + bit % across * size, 6 + bit // across * size
        if bit % across == 0:
            to.words(40, y + size - 5, str(bit), "end", 10)
        to.box(x, y, size, size, fill=MARK if bit in on else "none", round_=1)
    _more(to, bits, d["n_bits"])


def _ringbuf(to: Drawing, d: dict[str, Any]) -> None:
    """The whole ring as a bar, and below it what waits between consumer and producer, record by record."""
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
        state = record_state(busy, discarded)
        x, y = 6 + n % across * wide, 110 + n // across * 46
        to.box(x, y, wide - 6, 40, f"at {pos}: {length} bytes", state, fill=fills[state], dashed=busy)
    _more(to, len(records), d["count"])


def _pair(element: dict[str, Any]) -> str:
    return f"{shown(element['key'])}: {', '.join(map(shown, element['values']))}"


def _cell_width(texts: Iterable[str]) -> float:
    return min(max((len(text) for text in texts), default=1) * 7.2 + 16, 240)


_PICTURES = {
    "array": _array,
    "hash": _hash,
    "lru": _lru,
    "trie": _trie,
    "objects": _objects,
    "own": _own,
    "stacks": _stacks,
    "struct_ops": _struct_ops,
    "owned": _owned,
    "pages": _pages,
    "ring": _ring,
    "bloom": _bloom,
    "ringbuf": _ringbuf,
}
