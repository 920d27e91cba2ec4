"""Who holds whom: the kernel's objects as boxes, every reference an arrow that says what it is."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Mapping, Sequence
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
# How each part looks: as it was ("a"), "new", with a "changed" counter, or as the shadow of what is "gone". Names stand
# on a light ground, which dark pages need.
_STYLE = (
    "<style>.l{fill:none;stroke:#767676;marker-end:url(#a)}.w{fill:#f4f4f4}.n{font-size:11.5px;fill:#333}"
    f".new .l{{stroke:{_NEW};stroke-width:2;marker-end:url(#new)}}.new .n{{fill:#0f5ba9}}"
    f".gone .l{{stroke:{_GONE};stroke-dasharray:4 3;marker-end:url(#gone)}}.gone .n{{fill:#b3261e}}"
    ".b{stroke:#888}.t{font-weight:600;fill:#1b1b1b}.c{font-size:11px;fill:#555}"
    ".d circle{fill:#fff;stroke:#888}.d text{font-size:11px;font-weight:600;text-anchor:middle;fill:#1b1b1b}"
    f".new .b{{stroke:{_NEW};stroke-width:2.5}}.new .d circle,.changed .d circle{{fill:{_NEW}}}"
    f".new .d text,.changed .d text{{fill:#fff}}.gone .d{{display:none}}"
    f".gone .b{{fill:none;stroke:{_GONE};stroke-dasharray:5 4}}"
    f".gone .t,.gone .c{{font-weight:400;fill:{_GONE}}}</style>"
)
_LOOK, _COUNTERS, _BADGE = "\x01", "\x02", "\x03"  # what a part's SVG has where a drawing fills these in
_LETTER = 6.6  # how wide one of these is
_ROOM = 32  # letters of a label that a box shows
_HEIGHT, _GAP_Y, _MARGIN, _LANE, _LABEL = 46, 26, 12, 18, 15
_BEND = 44  # an arrow bends right behind the column that it leaves, and then runs straight, below its name
_TURN = 40  # how far beside its boxes, at most, an arrow turns round that closes a cycle


@dataclass(frozen=True)
class Node:
    """One object: its number in the order of birth, kind, label, and its counters ("refcnt 2")."""

    serial: int
    kind: str
    label: str
    counters: str = ""
    root: bool = False

    @property
    def text(self) -> str:
        """The object in words."""
        return self.label + (f" [{self.counters}]" if self.counters else "")


@dataclass(frozen=True)
class Edge:
    """``holder`` holds ``held`` (serial numbers) by ``via``; weak ties are drawn dashed and not counted."""

    holder: int
    held: int
    via: str
    strong: bool = True

    def text(self, labels: Mapping[int, str]) -> str:
        """The reference in words; ``labels`` are those of the objects, by serial."""
        holder, held = (labels.get(end, "?") for end in (self.holder, self.held))
        return f"{holder} {'->' if self.strong else '.>'} {held} ({self.via})"


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
    def lines(self) -> list[str]: ...


@dataclass(frozen=True)
class Part:
    """A shape of a drawing. ``svg`` leaves out its look and, of a box, its counters; empty for what is not drawn.
    ``words`` are a box's serial and label, or an arrow's holder, via and held."""

    svg: str
    words: tuple[Any, ...]

    def filled(self, look: str, counters: str) -> str:
        """The SVG with what it leaves out."""
        badge = re.search(r"\d+", counters)
        svg = self.svg.replace(_LOOK, look).replace(_COUNTERS, html.escape(counters))
        return svg.replace(_BADGE, badge[0] if badge else "")


@dataclass(frozen=True)
class Layout:
    """Where things stand in a drawing: boxes by serial (corner and size), arrows by edge, and how large it is.

    ``parts`` are the shapes made so far, which all drawings with this layout share.
    """

    place: dict[int, tuple[float, float]]
    box: dict[int, tuple[float, float]]
    arrows: dict[Edge, list[tuple[float, float]]]
    size: tuple[float, float]
    parts: dict[Edge | Node, Part] = field(default_factory=dict, compare=False, repr=False)

    def part(self, of: Edge | Node) -> Part:
        """The shape of a box or an arrow."""
        if of not in self.parts:
            self.parts[of] = _arrow(of, self) if isinstance(of, Edge) else _box(of, self)
        return self.parts[of]


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
            back = [len(_name(e)) for e in self.edges if e.held == node.serial and _closes(e, column)]
            words = max(words, _LETTER * max(back, default=0) + 24)
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
            turns = any(_closes(e, column) and column[e.held] == at for e in self.edges)
            first = float(_MARGIN + _TURN * turns)
            x = spans[-1][1] + _BEND + _LETTER * max(names, default=0) + 24 if spans else first
            spans.append((x, x + max((box[serial][0] for serial in tied if column[serial] == at), default=0)))
        return spans

    def _places(
        self,
    ) -> tuple[dict[int, tuple[float, float]], dict[int, tuple[float, float]], dict[Edge, list[tuple[float, float]]]]:
        """Where each box stands, how large it is, and the points that each arrow passes in the columns between.

        Every column is filled from the top, each entry near the middle of what leads to it; an arrow that crosses a
        column takes a lane of its own there, so that none runs under a box. One that closes a cycle takes its lanes
        from right below the box to which it goes. What touches nothing is left out.
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
                        self._before(e, place, lanes)
                        for e in self.edges
                        if e.held == node.serial and e.holder in place and not _closes(e, column)
                    ]
                    want = sum(over) / len(over) if over else 0
                    back = [e for e in self.edges if e.held == node.serial and _closes(e, column)]
                    wants += [(want, node.serial, edge) for edge in (None, *back)]
            wants += [
                (self._before(e, place, lanes), e.holder, e)
                for e in self.edges
                if e.holder in column
                and e.held in column
                and (column[e.holder] < at < column[e.held] or (_closes(e, column) and _between(e, at, column)))
            ]
            low = float(_MARGIN)
            for want, serial, edge in sorted(wants, key=lambda entry: entry[:2]):
                y = max(want, low)
                if edge is None:
                    place[serial] = (x, y)
                    low = y + box[serial][1] + _GAP_Y
                else:
                    lanes[edge] += [(x, y + _LANE / 2), (right, y + _LANE / 2)]
                    low = y + _LANE + 8 * _closes(edge, column)
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
            back = [edge for edge in coming if place[edge.holder][0] >= x1]
            coming = sorted((e for e in coming if e not in back), key=lambda edge: place[edge.holder][1])
            coming += sorted(back, key=lambda edge: -lanes[edge][0][1])  # so that one turns inside the other
            for nth, edge in enumerate(coming, 1):
                (x0, y0), (wide, high) = place[edge.holder], box[edge.holder]
                end = (x1, y1 + box[held][1] * nth / (len(coming) + 1))
                if edge in back:
                    arrows[edge] = [(x0 + wide, y0 + high * 3 / 4), *reversed(lanes[edge]), end]
                else:
                    arrows[edge] = [(x0 + wide, y0 + high / 2), *lanes[edge], end]
        rights = [x + box[serial][0] for serial, (x, _) in place.items()]
        rights += [along[0][0] + _TURN for along in arrows.values() if along[-1][0] <= along[0][0]]
        lows = [y + box[serial][1] for serial, (_, y) in place.items()]
        lows += [y + _LANE / 2 for lane in lanes.values() for _, y in lane]
        size = (_MARGIN + max(rights, default=0) + _MARGIN, _MARGIN + max(lows, default=0))
        return Layout(place, box, arrows, size)

    def parts(self, layout: Layout, changes: Changes | None = None) -> list[tuple[Part, str, str]]:
        """What is to be drawn: each part with its look and counters, arrows first."""
        new = self.new | ({n.serial for n in changes.born} if changes else set())
        counted = {n.serial for n, _, _ in changes.counters} if changes else set()
        added, gone = (set(changes.added), changes.removed) if changes else (set(), [])
        looks = {serial: "changed" for serial in counted} | {serial: "new" for serial in new}
        return [
            *((layout.part(e), "gone", "") for e in gone),
            *((layout.part(e), "new" if e in added else "a", "") for e in self.edges),
            *((layout.part(node), "gone", "freed") for node in (changes.freed if changes else [])),
            *((layout.part(node), looks.get(node.serial, "a"), node.counters) for node in self.nodes),
        ]

    def svg(self, layout: Layout | None = None, changes: Changes | None = None) -> str:
        """The drawing as one self-contained SVG.

        In a ``layout`` made for more objects than these, everything keeps its place; ``changes`` marks what is new
        against another graph, and draws what has gone as a shadow.
        """
        layout = layout or self.layout()
        drawn = [part.filled(look, counters) for part, look, counters in self.parts(layout, changes) if part.svg]
        return head(layout) + ("".join(drawn) or EMPTY) + "</svg>"

    def image(self, layout: Layout | None = None, changes: Changes | None = None) -> str:
        """The drawing as an ``<img>``, which survives where scripts and SVG elements do not."""
        described = described_as(len(self.nodes), len(self.edges))
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
        return table(COLUMNS, rows)

    def to_json(self) -> dict[str, Any]:
        """Nodes and edges as plain data."""
        return {"nodes": [vars(n) for n in self.nodes], "edges": [vars(e) for e in self.edges]}


def union(graphs: Sequence[ObjectGraph]) -> ObjectGraph:
    """Everything that any of the graphs has: whose layout all of them can share."""
    nodes = {node.serial: node for graph in graphs for node in graph.nodes}
    return ObjectGraph([nodes[serial] for serial in sorted(nodes)], [edge for graph in graphs for edge in graph.edges])


COLUMNS = ["holder", "by", "holds"]
EMPTY = f'<text x="{_MARGIN}" y="20" fill="{_ARROWHEADS["a"]}">nobody holds anything</text>'


def described_as(nodes: int | str, edges: int | str) -> str:
    """A drawing in a sentence."""
    return f"{nodes} objects and {edges} references; the table below lists them"


def head(layout: Layout, style: str = "") -> str:
    """How the SVG of a drawing begins. ``style`` is for one that stands in a page itself."""
    wide, high = max(layout.size[0], 160), max(layout.size[1], 30)
    own = f' style="{style}"' if style else ""
    heads = "".join(
        f'<marker id="{name}" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" '
        f'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="{ink}"/></marker>'
        for name, ink in _ARROWHEADS.items()
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide:.0f} {high:.0f}" width="{wide:.0f}" '
        f'height="{high:.0f}" font-family="system-ui,sans-serif" font-size="12" role="img"{own}>'
        f"{_STYLE}<defs>{heads}</defs>"
    )


def _closes(edge: Edge, column: dict[int, int]) -> bool:
    """Whether an arrow leads back, since it closes a cycle."""
    return edge.holder in column and edge.held in column and column[edge.holder] >= column[edge.held]


def _between(edge: Edge, at: int, column: dict[int, int]) -> bool:
    """Whether an arrow that leads back has a lane in a column, after the one that it has below the box it goes to."""
    return column[edge.held] < at <= column[edge.holder]


def _path(points: list[tuple[float, float]]) -> str:
    """A line through the points. It bends between columns, and turns round beside one, where two points are above
    each other: to the right where it starts, to the left where it ends."""
    path = f"M{points[0][0]:.0f} {points[0][1]:.0f}"
    for (x0, y0), (x1, y1) in zip(points, points[1:], strict=False):
        if x1 == x0:
            reach = min(_TURN, 12 + abs(y1 - y0) / 8) * 4 / 3
            beside = x0 + (reach if (x0, y0) == points[0] else -reach)
            path += f" C{beside:.0f} {y0:.0f} {beside:.0f} {y1:.0f} {x1:.0f} {y1:.0f}"
        elif y1 == y0:
            path += f" H{x1:.0f}"
        elif x1 > x0:
            bent = min(x0 + _BEND, x1)
            path += f" C{(x0 + bent) / 2:.0f} {y0:.0f} {(x0 + bent) / 2:.0f} {y1:.0f} {bent:.0f} {y1:.0f} H{x1:.0f}"
        else:
            bent = min(x1 + _BEND, x0)
            path += f" H{bent:.0f} C{(x1 + bent) / 2:.0f} {y0:.0f} {(x1 + bent) / 2:.0f} {y1:.0f} {x1:.0f} {y1:.0f}"
    return path


def _arrow(edge: Edge, layout: Layout) -> Part:
    """A reference. Its name stands where it arrives, or on the lane below that box where it comes back."""
    words = (edge.holder, edge.via, edge.held)
    points = layout.arrows.get(edge)
    if points is None:
        return Part("", words)
    name = _name(edge)
    room = _LETTER * len(name) + 6
    left, y = points[-1][0] - 9 - room, points[-1][1] - 4
    if points[-1][0] <= points[0][0]:
        left, y = points[-2][0] + 6, points[-2][1] + 4
    dash = "" if edge.strong else ' stroke-dasharray="4 3"'
    svg = (
        f'<g class="{_LOOK}"><path class="l" d="{_path(points)}"{dash}/>'
        f'<path class="w" d="M{left:.0f} {y - 10:.0f}h{room:.0f}v13h-{room:.0f}z"/>'
        f'<text class="n" x="{left + room / 2:.0f}" y="{y:.0f}" text-anchor="middle">{html.escape(name)}</text></g>'
    )
    return Part(svg, words)


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


def _box(node: Node, layout: Layout) -> Part:
    """One object, with its first counter as a badge."""
    words = (node.serial, node.label)
    if node.serial not in layout.place:
        return Part("", words)
    (x, y), (wide, high) = layout.place[node.serial], layout.box[node.serial]
    first = y + 19 if node.counters else y + high / 2 + 4  # else only a shadow has a second line
    second = y + 36 if node.counters else first + 14
    svg = (
        f'<g class="{_LOOK}"><rect x="{x:.0f}" y="{y:.0f}" width="{wide:.0f}" height="{high:.0f}" rx="7" class="b" '
        f'fill="{_FILL.get(node.kind, "#f4f4f4")}"/>'
        f'<text class="t" x="{x + 10:.0f}" y="{first:.0f}">{html.escape(_shown(node.label))}</text>'
        f'<text class="c" x="{x + 10:.0f}" y="{second:.0f}">{_COUNTERS}</text>'
    )
    if re.search(r"\d", node.counters):
        svg += (
            f'<g class="d"><circle cx="{x + wide:.0f}" cy="{y:.0f}" r="10"/>'
            f'<text x="{x + wide:.0f}" y="{y + 4:.0f}">{_BADGE}</text></g>'
        )
    return Part(svg + "</g>", words)
