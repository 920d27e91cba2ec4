"""A film: drawings of one object graph at different times, every object in the same place.

Each shape is in the page once. A frame says what is different from the one before: which shapes look otherwise now or
have gone, and which counters they show. A script changes these in the picture when its frame is looked at, and makes
the table of references when that is opened. Where no script runs there are the last picture and its table.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from typing import Any

from .object_graph import COLUMNS, EMPTY, Changes, Layout, ObjectGraph, Part, described_as, head
from .page import FAINT, in_script, mono, stepper, table, wide

BOUND = 3_000_000  # bytes of a film as HTML, about: what can be mailed, and put under version control
_A, _B, _C = "\x01", "\x02", "\x03"  # what the script fills into HTML that is made here

_DRAW = """
  const film = %s;
  const escaped = text => text.replace(/[&<>"]/g, c => `&#${c.charCodeAt()};`);
  const fill = (text, ...by) => text.replace(/[\\x01-\\x03]/g, c => by[c.charCodeAt() - 1]);
  const looks = at => {  // by part: how it looks in a frame, and its counters; "" for not at all
    const now = film.parts.map(() => "");
    frames.slice(0, at + 1).forEach(frame => Object.assign(now, frame.was));
    return now;
  };
  const there = now => film.parts.filter((part, i) => now[i] && now[i].split(" ")[0] !== "gone");
  let svg, slots, shown = [];  // a place in the picture for each part, and how it looks there
  const draw = (frame, at) => {
    if (!svg) {  // in a tree of its own: its styles are not the page's
      frame.innerHTML = film.picture + "<details><summary>in words</summary><div></div></details>";
      const inside = frame.querySelector("[role=group] div").attachShadow({mode: "open"});
      inside.innerHTML = film.head + film.empty + film.parts.map(() => "<g></g>").join("") + "</svg>";
      svg = inside.querySelector("svg");
      slots = [...svg.querySelectorAll(":scope > g")];
    }
    const now = looks(at);
    film.parts.forEach(([shape], i) => {  // what looks as it did is left alone: that is nearly all
      if (now[i] === (shown[i] || "")) return;
      const [look, counters = ""] = now[i].split(/ (.*)/);
      slots[i].innerHTML = look && fill(shape, look, escaped(counters), (/\\d+/.exec(counters) || [""])[0]);
    });
    shown = now;
    const parts = there(now), nodes = parts.filter(part => part.length === 3).length;
    svg.setAttribute("aria-label", fill(film.described, nodes, parts.length - nodes));
    svg.querySelector(":scope > text").style.display = slots.some(slot => slot.firstChild) ? "none" : "";
  };
  const opened = (details, at) => {  // the words are made when they are asked for
    const parts = there(looks(at)), name = {};
    parts.filter(part => part.length === 3).forEach(([, serial, label]) => { name[serial] = label; });
    const rows = parts.filter(part => part.length === 4).map(([, holder, via, held]) =>
      fill(film.row, escaped(name[holder] || "?"), escaped(via), escaped(name[held] || "?")));
    const lines = frames[at].lines.map(line => fill(film.line, escaped(line)));
    details.children[1].innerHTML = (lines.join("<br>") || "nothing changed") + film.top + rows.join("") + film.end;
  };
"""


@dataclass(frozen=True)
class Shot:
    """One drawing of a film: what it is called, the graph, and what has changed since the drawing before."""

    caption: str
    graph: ObjectGraph
    changed: Changes
    layout: Layout

    @property
    def html(self) -> str:
        """The drawing, and the same in words."""
        lines = "<br>".join(mono(line) for line in self.changed.lines()) or "nothing changed"
        words = f"<details><summary>in words</summary><div>{lines}{self.graph.rows()}</div></details>"
        return self.graph.image(self.layout, self.changed) + words

    @property
    def text(self) -> str:
        """What has changed, and the graph, as text."""
        return f"{self.changed}\n\n{self.graph}"

    @property
    def at(self) -> float | None:
        """The middle of what has changed in the drawing, from 0 to 1."""
        changed = self.changed
        serials = [n.serial for n in (*changed.born, *changed.freed, *(node for node, _, _ in changed.counters))]
        serials += [edge.held for edge in (*changed.added, *changed.removed)]
        place, box = self.layout.place, self.layout.box
        middles = [place[s][0] + box[s][0] / 2 for s in serials if s in place]
        return round(sum(middles) / len(middles) / self.layout.size[0], 3) if middles else None


class Film:
    """Drawings to walk through with a slider, buttons, or the arrow keys (also j and k). ``note`` stands above them.

    As HTML at most some 3 MB: of a film that would be longer the first drawings are left out, and it says so.
    """

    def __init__(self, frames: list[Shot], layout: Layout, note: str = ""):
        self.frames, self.layout, self.note, self.start = frames, layout, note, 0

    def __str__(self) -> str:
        told = [f"== {frame.caption}\n{frame.text}" for frame in self.frames]
        return "\n\n".join([*([self.note] if self.note else []), *told])

    def __repr__(self) -> str:
        return f"<a film of {len(self.frames)} drawings; print() tells it in words>"

    def _repr_html_(self) -> str:
        dropped = 0
        page = self._page(dropped)
        while len(page) > BOUND and dropped + 1 < len(self.frames):
            dropped += (len(self.frames) - dropped + 1) // 2
            page = self._page(dropped)
        return page

    def _page(self, dropped: int) -> str:
        """The HTML without the first so many drawings."""
        shots, note = self.frames[dropped:], self.note
        if dropped:
            note += (
                f" The first {dropped} of {len(self.frames)} drawings are not in this page, which would be larger than "
                f"{BOUND // 10**6} MB with them: film(start, stop) draws a part, a cursor() one at a time."
            )
        told = f'<div style="color:{FAINT}">{html.escape(note)}</div>' if note else ""
        if not shots:
            return f'<div class="bpfsim">{told or "nothing to draw"}</div>'
        captions = "".join(f"<li>{html.escape(shot.caption)}</li>" for shot in shots)
        static = (
            f"{told}<details><summary>{len(shots)} drawings, of which this is the last</summary><ol>{captions}</ol>"
            f"</details><p>{html.escape(shots[-1].caption)}</p>{shots[-1].html}"
        )
        parts, frames = _differences(shots)
        narrowest = int(max(self.layout.size[0], 160)) * 4 // 5  # as image() has it
        top, row, end = re.split("<tbody>|</tbody>", table(COLUMNS, [[_A, _B, _C]]))
        film = {
            "parts": [[part.svg, *part.words] for part in parts],
            "head": head(self.layout, f"max-width:100%;min-width:{narrowest}px;height:auto"),
            "empty": EMPTY,
            "picture": wide("<div></div>"),
            "described": described_as(_A, _B),
            "line": mono(_A),
            **{"top": top, "row": row, "end": end},
        }
        return stepper(static, frames, max(0, self.start - dropped), note, _DRAW % in_script(film))


def _differences(shots: list[Shot]) -> tuple[list[Part], list[dict[str, Any]]]:
    """The shapes of a film, arrows first, and its frames: how each part looks now ("" for not at all), where that is
    different from the frame before."""
    drawn = [
        {part: f"{look} {counters}" for part, look, counters in shot.graph.parts(shot.layout, shot.changed)}
        for shot in shots
    ]
    parts = sorted(dict.fromkeys(part for now in drawn for part in now), key=lambda part: len(part.words) == 2)
    number = {part: i for i, part in enumerate(parts)}
    frames: list[dict[str, Any]] = []
    before: dict[Part, str] = {}
    for shot, now in zip(shots, drawn, strict=True):
        was = {number[part]: "" for part in before if part not in now}
        was |= {number[part]: look.rstrip() for part, look in now.items() if before.get(part) != look}
        frames.append({"caption": shot.caption, "at": shot.at, "lines": shot.changed.lines(), "was": was})
        before = now
    return parts, frames
