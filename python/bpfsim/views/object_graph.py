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
_WIDTH, _HEIGHT, _GAP_X, _GAP_Y, _MARGIN, _LANE = 168, 46, 118, 26, 12, 18


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

    def _places(self) -> tuple[dict[int, tuple[float, float]], dict[Edge, list[tuple[float, float]]]]:
        """Where each box stands, and the points that each arrow passes on its way through the columns between.

        Every column is filled from the top, each entry near the middle of what leads to it; an arrow that crosses a
        column takes a lane of its own there, so that none runs under a box. What touches nothing is left out.
        """
        tied = {end for edge in self.edges for end in (edge.holder, edge.held)}
        column = self._columns()
        place: dict[int, tuple[float, float]] = {}
        lanes: dict[Edge, list[tuple[float, float]]] = {edge: [] for edge in self.edges}
        for at in range(max(column.values(), default=0) + 1):
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
            x, low = _MARGIN + at * (_WIDTH + _GAP_X), float(_MARGIN)
            for want, serial, edge in sorted(wants, key=lambda entry: entry[:2]):
                y = max(want, low)
                if edge is None:
                    place[serial] = (x, y)
                    low = y + _HEIGHT + _GAP_Y
                else:
                    lanes[edge].append((x, y))
                    low = y + _LANE
        return place, lanes

    @staticmethod
    def _before(
        edge: Edge, place: dict[int, tuple[float, float]], lanes: dict[Edge, list[tuple[float, float]]]
    ) -> float:
        """How high an arrow is in the column that it comes from."""
        return lanes[edge][-1][1] if lanes[edge] else place[edge.holder][1]

    def _arrow(self, edge: Edge, points: list[tuple[float, float]]) -> str:
        path = f"M{points[0][0]:.0f} {points[0][1]:.0f}"
        for (x0, y0), (x1, y1) in zip(points, points[1:], strict=False):
            bend = (x1 - x0) / 2
            path += f" C{x0 + bend:.0f} {y0:.0f} {x1 - bend:.0f} {y1:.0f} {x1:.0f} {y1:.0f}"
        dash = "" if edge.strong else ' stroke-dasharray="4 3"'
        x, y = points[-1]
        return (
            f'<path d="{path}" fill="none" stroke="#777"{dash} marker-end="url(#a)"/>'
            f'<text x="{x - 10:.0f}" y="{y - 4:.0f}" font-size="10.5" text-anchor="end" fill="#777" '
            f'stroke="#fff" stroke-width="2.5" stroke-opacity=".75" paint-order="stroke">'
            f"{html.escape(edge.via.split('/')[-1])}</text>"
        )

    def _box(self, node: Node, at: tuple[float, float]) -> str:
        x, y = at
        border, weight = ("#0b6bcb", 2.5) if node.serial in self.new else ("#888", 1)
        return (
            f'<rect x="{x:.0f}" y="{y:.0f}" width="{_WIDTH}" height="{_HEIGHT}" rx="7" '
            f'fill="{_FILL.get(node.kind, "#f4f4f4")}" stroke="{border}" stroke-width="{weight}"/>'
            f'<text x="{x + 10:.0f}" y="{y + 19:.0f}" font-weight="600" fill="#1b1b1b">'
            f"{html.escape(node.label[:24])}</text>"
            f'<text x="{x + 10:.0f}" y="{y + 36:.0f}" font-size="11" fill="#555">{html.escape(node.counters)}</text>'
        )

    def svg(self) -> str:
        """The drawing as one self-contained SVG; positions depend on nothing but the objects."""
        place, lanes = self._places()
        wide = _MARGIN + max((x for x, _ in place.values()), default=0) + _WIDTH
        high = _MARGIN + max((y for _, y in [*place.values(), *sum(lanes.values(), [])]), default=0) + _HEIGHT
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide:.0f} {high:.0f}" width="{wide:.0f}" '
            f'height="{high:.0f}" font-family="system-ui,sans-serif" font-size="12" role="img">'
            '<defs><marker id="a" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            '<path d="M0 0 L8 4 L0 8 z" fill="#777"/></marker></defs>'
        ]
        for held in place:
            coming = [edge for edge in self.edges if edge.held == held and edge.holder in place]
            coming.sort(key=lambda edge: place[edge.holder][1])
            for nth, edge in enumerate(coming, 1):
                (x0, y0), (x1, y1) = place[edge.holder], place[held]
                along = [(x0 + _WIDTH, y0 + _HEIGHT / 2)]
                for x, y in lanes[edge]:
                    along += [(x, y + _LANE / 2), (x + _WIDTH, y + _LANE / 2)]
                # An arrow that closes a cycle goes back and comes in from the right.
                along.append((x1 if x1 > x0 else x1 + _WIDTH, y1 + _HEIGHT * nth / (len(coming) + 1)))
                parts.append(self._arrow(edge, along))
        parts += [self._box(node, place[node.serial]) for node in self.nodes if node.serial in place]
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
