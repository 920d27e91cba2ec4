"""Who holds whom: the kernel's objects as boxes, every reference an arrow that says what it is."""

from __future__ import annotations

import base64
import html
from dataclasses import dataclass, field
from typing import Any

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
_WIDTH, _HEIGHT, _GAP_X, _GAP_Y = 168, 46, 118, 26


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
        column = {node.serial: 0 for node in self.nodes}
        for _ in range(len(self.nodes)):
            moved = False
            for edge in self.edges:
                if edge.holder not in held or edge.held not in held:
                    continue
                want = column[edge.holder] + 1
                if column[edge.held] < want <= len(self.nodes) and not self._reaches(held, edge.held, edge.holder):
                    column[edge.held] = want
                    moved = True
            if not moved:
                break
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

    def svg(self) -> str:
        """The drawing as one self-contained SVG; positions depend on nothing but the objects."""
        column = self._columns()
        place: dict[int, tuple[float, float]] = {}
        rows: dict[int, int] = {}
        for node in sorted(self.nodes, key=lambda n: n.serial):
            c = column[node.serial]
            place[node.serial] = (12 + c * (_WIDTH + _GAP_X), 12 + rows.get(c, 0) * (_HEIGHT + _GAP_Y))
            rows[c] = rows.get(c, 0) + 1
        wide = 24 + max((x for x, _ in place.values()), default=0) + _WIDTH
        high = 24 + max((y for _, y in place.values()), default=0) + _HEIGHT
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide:.0f} {high:.0f}" width="{wide:.0f}" '
            f'height="{high:.0f}" font-family="system-ui,sans-serif" font-size="12" role="img">'
            '<defs><marker id="a" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            '<path d="M0 0 L8 4 L0 8 z" fill="#777"/></marker></defs>'
        ]
        between: dict[tuple[int, int], int] = {}
        for edge in self.edges:
            if edge.holder not in place or edge.held not in place:
                continue
            nth = between[edge.holder, edge.held] = between.get((edge.holder, edge.held), -1) + 1
            (x0, y0), (x1, y1) = place[edge.holder], place[edge.held]
            x0, y0, y1 = x0 + _WIDTH, y0 + _HEIGHT / 2, y1 + _HEIGHT / 2 + 10 * nth
            if x1 < x0:  # an edge that closes a cycle goes over the top
                x1 += _WIDTH
            dash = "" if edge.strong else ' stroke-dasharray="4 3"'
            bend = (x0 + x1) / 2
            parts.append(
                f'<path d="M{x0:.0f} {y0:.0f} C{bend:.0f} {y0:.0f} {bend:.0f} {y1:.0f} {x1:.0f} {y1:.0f}" fill="none" '
                f'stroke="#777"{dash} marker-end="url(#a)"/>'
                f'<text x="{x1 - 8:.0f}" y="{y1 - 5:.0f}" font-size="10.5" text-anchor="end" fill="#777" '
                f'stroke="#fff" stroke-width="2.5" stroke-opacity=".75" paint-order="stroke">'
                f"{html.escape(edge.via)}</text>"
            )
        for node in self.nodes:
            x, y = place[node.serial]
            border = "#0b6bcb" if node.serial in self.new else "#888"
            weight = 2.5 if node.serial in self.new else 1
            parts.append(
                f'<rect x="{x:.0f}" y="{y:.0f}" width="{_WIDTH}" height="{_HEIGHT}" rx="7" '
                f'fill="{_FILL.get(node.kind, "#f4f4f4")}" stroke="{border}" stroke-width="{weight}"/>'
                f'<text x="{x + 10:.0f}" y="{y + 19:.0f}" font-weight="600" fill="#1b1b1b">'
                f"{html.escape(node.label[:24])}</text>"
                f'<text x="{x + 10:.0f}" y="{y + 36:.0f}" font-size="11" fill="#555">'
                f"{html.escape(node.counters)}</text>"
            )
        return "".join(parts) + "</svg>"

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
        picture = base64.b64encode(self.svg().encode()).decode()
        name = {node.serial: node.label for node in self.nodes}
        rows = [
            [html.escape(name.get(e.holder, "?")), html.escape(e.via), html.escape(name.get(e.held, "?"))]
            for e in self.edges
        ]
        described = f"{len(self.nodes)} objects and {len(self.edges)} references; the table below lists them"
        return (
            f'<div class="bpfsim"><img alt="{described}" src="data:image/svg+xml;base64,{picture}" '
            f'style="max-width:100%"><details><summary>as a table</summary>'
            f"{table(['holder', 'by', 'holds'], rows)}</details></div>"
        )

    def to_json(self) -> dict[str, Any]:
        """Nodes and edges as plain data."""
        return {"nodes": [vars(n) for n in self.nodes], "edges": [vars(e) for e in self.edges]}
