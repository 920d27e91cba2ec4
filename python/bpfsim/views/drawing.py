"""Pictures of boxes, lines and words: SVG that an <img> shows, alike in light and dark.

Boxes have light fills and dark words; what stands outside of them is a grey that both backgrounds carry.
"""

from __future__ import annotations

import base64
import html
import re

from .page import wide

GREY, LINE, DARK = "#767676", "#888", "#1b1b1b"
BLUE, GREEN, AMBER, RED, VIOLET, PALE, MARK = (
    "#dbe9ff",
    "#dcf5e3",
    "#fff0d6",
    "#fde2e2",
    "#f3e2fb",
    "#efefef",
    "#0b6bcb",
)
WIDE = 780  # what a notebook shows without shrinking


class Drawing:
    """Collects shapes and remembers how far they reach."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self.width = self.height = 0.0

    def _reach(self, x: float, y: float) -> None:
        self.width, self.height = max(self.width, x), max(self.height, y)

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        *lines: str,
        fill: str = PALE,
        dashed: bool = False,
        strong: bool = False,
        round_: float = 4,
    ) -> None:
        """A rectangle with centred lines of words, the first a little heavier when there are more."""
        self._reach(x + width, y + height)
        dash = ' stroke-dasharray="4 3"' if dashed else ""
        stroke, weight = (MARK, 2) if strong else (LINE, 1)
        self._parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{round_}" fill="{fill}" '
            f'stroke="{stroke}" stroke-width="{weight}"{dash}/>'
        )
        top = y + height / 2 + 4 - 7.5 * (len(lines) - 1)
        ink = GREY if fill == "none" else DARK
        for number, line in enumerate(lines):
            first = number == 0 and len(lines) > 1
            weight_of = ' font-weight="600"' if first else ""
            room = max(int((width - 8) / 7.2), 1)
            self._parts.append(
                f'<text x="{x + width / 2:.1f}" y="{top + 15 * number:.1f}" text-anchor="middle" fill="{ink}"'
                f"{weight_of}>{html.escape(cut(line, room))}</text>"
            )

    def words(
        self, x: float, y: float, text: str, anchor: str = "start", size: float = 12, *, bold: bool = False
    ) -> None:
        """Words in the open."""
        length = len(text) * size * 0.56
        self._reach(x + {"start": length, "middle": length / 2, "end": 0}[anchor], y + 5)
        weight = ' font-weight="600"' if bold else ""
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{GREY}"{weight}>'
            f"{html.escape(text)}</text>"
        )

    def line(self, x0: float, y0: float, x1: float, y1: float, *, arrow: bool = False, dashed: bool = False) -> None:
        """A straight line, with a head at its end if asked."""
        self._reach(max(x0, x1), max(y0, y1))
        head = ' marker-end="url(#a)"' if arrow else ""
        dash = ' stroke-dasharray="4 3"' if dashed else ""
        self._parts.append(f'<path d="M{x0:.1f} {y0:.1f} L{x1:.1f} {y1:.1f}" fill="none" stroke="{GREY}"{dash}{head}/>')

    def dot(self, x: float, y: float, radius: float, filled: bool) -> None:
        """A small circle."""
        self._reach(x + radius, y + radius)
        self._parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{MARK if filled else "none"}" stroke="{MARK}"/>'
        )

    def svg(self) -> str:
        """The whole as one self-contained SVG."""
        wide, high = self.width + 6, self.height + 6
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide:.0f} {high:.0f}" width="{wide:.0f}" '
            f'height="{high:.0f}" font-family="system-ui,sans-serif" font-size="12" role="img">'
            '<defs><marker id="a" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            f'<path d="M0 0 L8 4 L0 8 z" fill="{GREY}"/></marker></defs>' + "".join(self._parts) + "</svg>"
        )

    def img(self, described: str) -> str:
        """The picture as an <img> that holds its own data."""
        return picture(self.svg(), described)


def picture(svg: str, described: str) -> str:
    """An SVG as an <img> that holds its own data: it survives where scripts and SVG elements do not."""
    data = base64.b64encode(svg.encode()).decode()
    found = re.search(r' width="(\d+)" height="(\d+)"', svg)
    size = (int(found[1]), int(found[2])) if found else (0, 0)
    return image(f"data:image/svg+xml;base64,{data}", html.escape(described, quote=True), size)


def image(source: str, described: str, size: tuple[int, int]) -> str:
    """An <img>. A narrow page shrinks it a little, and then scrolls it: words stay legible."""
    width, height = size
    return wide(
        f'<img alt="{described}" src="{source}" width="{width}" height="{height}" '
        f'style="max-width:100%;min-width:{width * 4 // 5}px;height:auto">'
    )


def cut(text: str, room: int) -> str:
    """The text, or its beginning and a mark that there is more."""
    return text if len(text) <= room else text[: max(room - 1, 1)] + "…"
