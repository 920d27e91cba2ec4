"""Who holds whom: the kernel's objects as boxes, every reference an arrow that says what it is."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from .drawing import picture
from .page import table

_FILL = {
    "task": "#dbe9ff",
    "file": "#efefef",
    "prog": "#dcf5e3",
    "map": "#fff0d6",
    "link": "#f3e2fb",
    "btf": "#e6f4f4",
    "inode": "#fde2e2",
    "netdev": "#e2e6fd",
}
_NEW, _GONE = "#1670cd", "#d0443a"  # readable on white and on black
_ARROWHEADS = {"a": "#767676", "new": _NEW, "gone": _GONE}
_WORDS = {"a": "#333", "new": "#0f5ba9", "gone": "#b3261e"}  # at arrows, on a light ground that dark pages need
_LETTER = 6.6  # how wide one of these is
_ROOM = 32  # letters of a label that a box shows
_HEIGHT, _GAP_Y, _MARGIN, _LANE, _LABEL, _BACK = 46, 26, 12, 18, 15, 34
_BEND = 44  # an arrow bends right behind the column that it leaves, and then runs straight, below its name


@dataclass(frozen=True)
class Node:
    """One object: its number in the order of birth, kind, label, and its counters ("refcnt 2")."""

    serial: int
    kind: str
    label: str
    counters: str = ""
    root: bool = False


@dataclass(frozen=True)
class Edge:
    """``holder`` holds ``held`` (serial numbers) by ``via``; weak ties are drawn dashed and not counted."""

    holder: int
    held: int
    via: str
    strong: bool = True


class Changes(Protocol):
    """What a drawing marks: the difference to the graph before (``bpfsim.history.diff``)."""

    @property
    def born(self) -> list[Node]: ...
    @property
    def freed(self) -> list[Node]: ...
    @property
    def added(self) -> list[Edge]: ...
    @property
    def removed(self) -> list[Edge]: ...
    @property
    def counters(self) -> list[tuple[Node, str, str]]: ...


@dataclass(frozen=True)
class Layout:
    """Where things stand in a drawing: boxes by serial (corner and size), arrows by edge, and how large it is."""

    place: dict[int, tuple[float, float]]
    box: dict[int, tuple[float, float]]
    arrows: dict[Edge, list[tuple[float, float]]]
    size: tuple[float, float]


@dataclass(repr=False)
class ObjectGraph:
    """Nodes and edges, drawn with the roots on the left. ``new`` are serials to mark.

    A reference that holds up two counters (a file's: refcnt and usercnt) is one arrow.
    """

    nodes: list[Node]
    edges: list[Edge]
    new: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.edges = list(dict.fromkeys(self.edges))

    def _columns(self) -> dict[int, int]:
        """The longest way from a root, so that arrows point right; cycles are cut where they close."""
        held: dict[int, list[int]] = {node.serial: [] for node in self.nodes}
        for edge in self.edges:
            if edge.holder in held and edge.held in held:
                held[edge.holder].append(edge.held)
        # Of a cycle's arrows those are cut that lead back to who was born earlier.
        closing = {e for e in self.edges if e.held <= e.holder and e.holder in held and e.held in held}
        closing = {e for e in closing if self._reaches(held, e.held, e.holder)}
        column = {node.serial: 0 for node in self.nodes}
        for _ in range(len(self.nodes)):
            moved = False
            for edge in self.edges:
                if edge.holder not in held or edge.held not in held:
                    continue
                want = column[edge.holder] + 1
                if column[edge.held] < want <= len(self.nodes) and edge not in closing:
                    column[edge.held] = want
                    moved = True
            if not moved:
                break
        # A device or a pin stands next to what it holds, so that arrows stay short.
        for node in sorted(self.nodes, key=lambda n: -column[n.serial]):
            right = [column[to] for to in held[node.serial] if column[to] > column[node.serial]]
            if right and node.kind in ("netdev", "inode"):
                column[node.serial] = min(right) - 1
        return column

    @staticmethod
    def _reaches(held: dict[int, list[int]], start: int, goal: int) -> bool:
        waiting, seen = [start], {start}
        while waiting:
            at = waiting.pop()
            if at == goal:
                return True
            for following in held[at]:
                if following not in seen:
                    seen.add(following)
                    waiting.append(following)
        return False

    def _sizes(self, column: dict[int, int]) -> dict[int, tuple[float, float]]:
        """How large each box is: high enough for the arrows that come in, and as wide as its column's longest words."""
        coming = Counter(edge.held for edge in self.edges)
        wide: dict[int, float] = {}
        for node in self.nodes:
            words = max(7.1 * len(_shown(node.label)) + 26, 5.5 * len(node.counters) + 20)
            wide[column[node.serial]] = max(wide.get(column[node.serial], 0), words)
        return {
            node.serial: (wide[column[node.serial]], max(_HEIGHT, _LABEL * (coming[node.serial] + 1)))
            for node in self.nodes
        }

    def _across(
        self, column: dict[int, int], box: dict[int, tuple[float, float]], tied: set[int]
    ) -> list[tuple[float, float]]:
        """Where each column begins and ends; between two is room for a bend and for the names of what arrives."""
        spans: list[tuple[float, float]] = []
        for at in range(max((column[serial] for serial in tied), default=-1) + 1):
            names = [len(_name(e)) for e in self.edges if column.get(e.held) == at and e.holder in column]
            x = spans[-1][1] + _BEND + _LETTER * max(names, default=0) + 24 if spans else float(_MARGIN)
            spans.append((x, x + max((box[serial][0] for serial in tied if column[serial] == at), default=0)))
        return spans

    def _places(
        self,
    ) -> tuple[dict[int, tuple[float, float]], dict[int, tuple[float, float]], dict[Edge, list[tuple[float, float]]]]:
        """Where each box stands, how large it is, and the points that each arrow passes in the columns between.

        Every column is filled from the top, each entry near the middle of what leads to it; an arrow that crosses a
        column takes a lane of its own there, so that none runs under a box. What touches nothing is left out.
        """
        tied = {end for edge in self.edges for end in (edge.holder, edge.held)} & {n.serial for n in self.nodes}
        column = self._columns()
        box = self._sizes(column)
        place: dict[int, tuple[float, float]] = {}
        lanes: dict[Edge, list[tuple[float, float]]] = {edge: [] for edge in self.edges}
        for at, (x, right) in enumerate(self._across(column, box, tied)):
            wants: list[tuple[float, int, Edge | None]] = []
            for node in self.nodes:
                if column[node.serial] == at and node.serial in tied:
                    over = [
                        self._before(e, place, lanes) for e in self.edges if e.held == node.serial and e.holder in place
                    ]
                    wants.append((sum(over) / len(over) if over else 0, node.serial, None))
            wants += [
                (self._before(e, place, lanes), e.holder, e)
                for e in self.edges
                if e.holder in column and e.held in column and column[e.holder] < at < column[e.held]
            ]
            low = float(_MARGIN)
            for want, serial, edge in sorted(wants, key=lambda entry: entry[:2]):
                y = max(want, low)
                if edge is None:
                    place[serial] = (x, y)
                    low = y + box[serial][1] + _GAP_Y
                else:
                    lanes[edge] += [(x, y + _LANE / 2), (right, y + _LANE / 2)]
                    low = y + _LANE
        return place, box, lanes

    @staticmethod
    def _before(
        edge: Edge, place: dict[int, tuple[float, float]], lanes: dict[Edge, list[tuple[float, float]]]
    ) -> float:
        """How high an arrow is in the column that it comes from."""
        return lanes[edge][-1][1] - _LANE / 2 if lanes[edge] else place[edge.holder][1]

    def layout(self) -> Layout:
        """Positions that depend on nothing but the objects and their references."""
        place, box, lanes = self._places()
        arrows: dict[Edge, list[tuple[float, float]]] = {}
        for held, (x1, y1) in place.items():
            coming = [edge for edge in self.edges if edge.held == held and edge.holder in place]
            coming.sort(key=lambda edge: place[edge.holder][1])
            for nth, edge in enumerate(coming, 1):
                (x0, y0), (wide, high) = place[edge.holder], box[edge.holder]
                if x0 >= x1:  # closes a cycle: goes back below the boxes
                    arrows[edge] = [(x0 + wide / 2, y0 + high), (x1 + box[held][0] / 2, y1 + box[held][1])]
                else:
                    end = (x1, y1 + box[held][1] * nth / (len(coming) + 1))
                    arrows[edge] = [(x0 + wide, y0 + high / 2), *lanes[edge], end]
        wide = _MARGIN + max((x + box[serial][0] for serial, (x, _) in place.items()), default=0) + _MARGIN
        lows = [y + box[serial][1] for serial, (_, y) in place.items()]
        lows += [y + _LANE / 2 for lane in lanes.values() for _, y in lane]
        lows += [
            max(y for _, y in along) + 2 * _BACK - _LABEL for along in arrows.values() if along[-1][0] <= along[0][0]
        ]
        high = _MARGIN + max(lows, default=0)
        return Layout(place, box, arrows, (wide, high))

    def svg(self, layout: Layout | None = None, changes: Changes | None = None) -> str:
        """The drawing as one self-contained SVG.

        In a ``layout`` made for more objects than these, everything keeps its place; ``changes`` marks what is new
        against another graph, and draws what has gone as a shadow.
        """
        layout = layout or self.layout()
        new = self.new | ({n.serial for n in changes.born} if changes else set())
        counted = {n.serial for n, _, _ in changes.counters} if changes else set()
        added, gone = (set(changes.added), changes.removed) if changes else (set(), [])
        shadows = changes.freed if changes else []
        wide, high = max(layout.size[0], 160), max(layout.size[1], 30)
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide:.0f} {high:.0f}" width="{wide:.0f}" '
            f'height="{high:.0f}" font-family="system-ui,sans-serif" font-size="12" role="img"><defs>'
            + "".join(
                f'<marker id="{name}" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" '
                f'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="{ink}"/></marker>'
                for name, ink in _ARROWHEADS.items()
            )
            + "</defs>"
        ]
        parts += [_arrow(e, layout.arrows[e], "gone") for e in gone if e in layout.arrows]
        parts += [_arrow(e, layout.arrows[e], "new" if e in added else "a") for e in self.edges if e in layout.arrows]
        parts += [_shadow(node, layout) for node in shadows if node.serial in layout.place]
        parts += [
            _box(node, layout, node.serial in new, node.serial in counted | new)
            for node in self.nodes
            if node.serial in layout.place
        ]
        if not shadows and not any(node.serial in layout.place for node in self.nodes):
            parts.append(f'<text x="{_MARGIN}" y="20" fill="{_ARROWHEADS["a"]}">nobody holds anything</text>')
        return "".join(parts) + "</svg>"

    def image(self, layout: Layout | None = None, changes: Changes | None = None) -> str:
        """The drawing as an ``<img>``, which survives where scripts and SVG elements do not."""
        described = f"{len(self.nodes)} objects and {len(self.edges)} references; the table below lists them"
        return picture(self.svg(layout, changes), described)

    def __str__(self) -> str:
        name = {node.serial: node.label for node in self.nodes}
        lines = []
        for node in self.nodes:
            lines.append(f"{node.label}" + (f"  [{node.counters}]" if node.counters else ""))
            for edge in self.edges:
                if edge.holder == node.serial:
                    arrow = "->" if edge.strong else ".>"
                    lines.append(f"  {arrow} {name.get(edge.held, '?')}  ({edge.via})")
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f'<div class="bpfsim">{self.image()}<details><summary>as a table</summary>{self.rows()}</details></div>'

    def rows(self) -> str:
        """The references as an HTML table."""
        name = {node.serial: node.label for node in self.nodes}
        rows = [
            [html.escape(name.get(e.holder, "?")), html.escape(e.via), html.escape(name.get(e.held, "?"))]
            for e in self.edges
        ]
        return table(["holder", "by", "holds"], rows)

    def to_json(self) -> dict[str, Any]:
        """Nodes and edges as plain data."""
        return {"nodes": [vars(n) for n in self.nodes], "edges": [vars(e) for e in self.edges]}


def union(graphs: Sequence[ObjectGraph]) -> ObjectGraph:
    """Everything that any of the graphs has: whose layout all of them can share."""
    nodes = {node.serial: node for graph in graphs for node in graph.nodes}
    return ObjectGraph([nodes[serial] for serial in sorted(nodes)], [edge for graph in graphs for edge in graph.edges])


def _arrow(edge: Edge, points: list[tuple[float, float]], kind: str) -> str:
    ink, width = _ARROWHEADS[kind], 2 if kind == "new" else 1
    path = f"M{points[0][0]:.0f} {points[0][1]:.0f}"
    x, y, anchor = points[-1][0] - 12, points[-1][1] - 4, "end"
    if points[-1][0] <= points[0][0]:
        low = max(y for _, y in points) + 2 * _BACK - _LABEL
        (x0, y0), (x1, y1) = points
        path += f" C{x0:.0f} {low:.0f} {x1:.0f} {low:.0f} {x1:.0f} {y1:.0f}"
        x, y, anchor, points = (x0 + x1) / 2, (y0 + y1) / 8 + low * 3 / 4 + 12, "middle", []  # below the curve
    for (x0, y0), (x1, y1) in zip(points, points[1:], strict=False):
        bent = min(x0 + _BEND, x1)
        path += f" C{(x0 + bent) / 2:.0f} {y0:.0f} {(x0 + bent) / 2:.0f} {y1:.0f} {bent:.0f} {y1:.0f} H{x1:.0f}"
    dash = "" if edge.strong and kind != "gone" else ' stroke-dasharray="4 3"'
    name = _name(edge)
    room = _LETTER * len(name) + 6
    left = x + 3 - room if anchor == "end" else x - room / 2
    return (
        f'<path d="{path}" fill="none" stroke="{ink}" stroke-width="{width}"{dash} marker-end="url(#{kind})"/>'
        f'<path d="M{left:.0f} {y - 10:.0f} h{room:.0f} v13 h-{room:.0f} z" fill="#f4f4f4"/>'
        f'<text x="{x:.0f}" y="{y:.0f}" font-size="11.5" text-anchor="{anchor}" fill="{_WORDS[kind]}">'
        f"{html.escape(name)}</text>"
    )


def _shown(label: str) -> str:
    """A label as a box has room for it: of one that is too long the middle is left out, since paths differ at the end
    and "id gone" stands there."""
    if len(label) <= _ROOM:
        return label
    head = label.index(" ") + 1 if label.startswith("pin ") else _ROOM // 2
    return f"{label[:head]}…{label[len(label) - (_ROOM - head - 1) :]}"


def _name(edge: Edge) -> str:
    """What stands at an arrow: of a path its end."""
    return edge.via.split("/")[-1]


def _box(node: Node, layout: Layout, new: bool, changed: bool) -> str:
    """One object, with its first counter as a badge."""
    (x, y), (wide, high) = layout.place[node.serial], layout.box[node.serial]
    border, weight = (_NEW, 2.5) if new else ("#888", 1)
    first = y + 19 if node.counters else y + high / 2 + 4
    box = (
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{wide:.0f}" height="{high:.0f}" rx="7" '
        f'fill="{_FILL.get(node.kind, "#f4f4f4")}" stroke="{border}" stroke-width="{weight}"/>'
        f'<text x="{x + 10:.0f}" y="{first:.0f}" font-weight="600" fill="#1b1b1b">'
        f"{html.escape(_shown(node.label))}</text>"
        f'<text x="{x + 10:.0f}" y="{y + 36:.0f}" font-size="11" fill="#555">{html.escape(node.counters)}</text>'
    )
    count = re.search(r"\d+", node.counters)
    if not count:
        return box
    fill, ink = (_NEW, "#fff") if changed else ("#fff", "#1b1b1b")
    return box + (
        f'<circle cx="{x + wide:.0f}" cy="{y:.0f}" r="10" fill="{fill}" stroke="#888"/>'
        f'<text x="{x + wide:.0f}" y="{y + 4:.0f}" font-size="11" font-weight="600" text-anchor="middle" '
        f'fill="{ink}">{count[0]}</text>'
    )


def _shadow(node: Node, layout: Layout) -> str:
    """Where an object was that has just been freed."""
    (x, y), (wide, high) = layout.place[node.serial], layout.box[node.serial]
    return (
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{wide:.0f}" height="{high:.0f}" rx="7" fill="none" stroke="{_GONE}" '
        f'stroke-dasharray="5 4"/><text x="{x + 10:.0f}" y="{y + 19:.0f}" fill="{_GONE}">'
        f'{html.escape(_shown(node.label))}</text><text x="{x + 10:.0f}" y="{y + 36:.0f}" font-size="11" '
        f'fill="{_GONE}">freed</text>'
    )
