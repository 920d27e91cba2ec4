"""The one look of all views, and the stepper that walks through frames.

A view is first static HTML that survives JupyterLab's sanitizer and GitHub (inline styles, no script); where scripts
may run, one script of ours replaces it by the live part. No outside request, keyboard and screen reader work, colours
follow the theme.
"""

from __future__ import annotations

import html
import itertools
import json
from dataclasses import dataclass
from typing import Any

INK = "var(--jp-ui-font-color1, var(--vscode-foreground, #1b1b1b))"
FAINT = "var(--jp-ui-font-color2, var(--vscode-descriptionForeground, #5f5f5f))"
LINE = "var(--jp-border-color2, var(--vscode-panel-border, #c9c9c9))"
SHEET = "var(--jp-layout-color0, var(--vscode-editor-background, #fff))"
ACCENT = "var(--jp-brand-color1, #0b6bcb)"

STYLE = f"""
.bpfsim {{ color: {INK}; font: 13px/1.5 var(--jp-ui-font-family, system-ui, sans-serif); max-width: 1100px }}
.bpfsim .bar {{ display: flex; gap: .6em; align-items: center; margin: .3em 0 }}
.bpfsim .bar input[type=range] {{ flex: 1; max-width: 26em; accent-color: {ACCENT} }}
.bpfsim .bar button {{ font: inherit; color: inherit; background: none; border: 1px solid {LINE};
  border-radius: 4px; padding: 0 .7em; cursor: pointer }}
.bpfsim .bar button:disabled {{ opacity: .4; cursor: default }}
.bpfsim .bar output {{ color: {FAINT}; white-space: nowrap }}
.bpfsim .caption {{ font-weight: 600; margin: .2em 0 }}
.bpfsim .note {{ color: {FAINT} }}
.bpfsim .frame {{ overflow-x: auto }}
.bpfsim table {{ border-collapse: collapse }}
.bpfsim :focus-visible {{ outline: 2px solid {ACCENT}; outline-offset: 1px }}
"""

_SCRIPT = """
(() => {
  const root = document.getElementById(%(id)s), frames = %(frames)s;
  %(draw)s
  let at = %(start)d;
  root.innerHTML = `<style>%(style)s</style>
    <div class="bar" role="group" aria-label="steps">
      <button type="button" data-by="-1" aria-label="previous step">&#9664;</button>
      <input type="range" min="0" max="${frames.length - 1}" aria-label="step">
      <button type="button" data-by="1" aria-label="next step">&#9654;</button><output></output></div>
    <div class="note">${%(note)s}</div><div class="caption" aria-live="polite"></div><div class="frame"></div>`;
  root.dataset.lmSuppressShortcuts = "true";
  const range = root.querySelector("input"), buttons = root.querySelectorAll("button");
  const frame = root.querySelector(".frame"), across = () => frame.querySelector("[role=group]");
  const show = to => {
    const left = across() && across().scrollLeft, open = [...frame.querySelectorAll("details")].map(d => d.open);
    const ours = root.contains(document.activeElement);
    at = Math.max(0, Math.min(frames.length - 1, to));
    range.value = at;
    buttons[0].disabled = at === 0;
    buttons[1].disabled = at === frames.length - 1;
    root.querySelector("output").textContent = `${at + 1} of ${frames.length}`;
    root.querySelector(".caption").textContent = frames[at].caption;
    draw(frame, at);
    frame.querySelectorAll("details").forEach((d, i) => {
      d.open = i in open ? open[i] : d.open;
      d.ontoggle = () => d.open && opened(d, at);
      d.ontoggle();
    });
    if (across()) look(across(), left, frames[at].at);
    const now = document.activeElement;
    if (ours && (now.disabled || !root.contains(now))) root.focus({preventScroll: true});
  };
  const look = (view, left, at) => {  // where it was, but so that what has changed is in sight
    view.scrollLeft = left || 0;
    const x = at * view.scrollWidth, far = x < view.scrollLeft + 40 || x > view.scrollLeft + view.clientWidth - 40;
    if (at !== null && far) view.scrollLeft = x - view.clientWidth / 2;
  };
  range.addEventListener("input", () => show(+range.value));
  buttons.forEach(b => b.addEventListener("click", () => show(at + +b.dataset.by)));
  root.addEventListener("keydown", e => {
    const by = {ArrowLeft: -1, k: -1, ArrowRight: 1, j: 1}[e.key];
    if (by && !e.ctrlKey && !e.metaKey) { show(at + by); e.preventDefault(); e.stopPropagation(); }
  });
  show(at);
})();
"""

# Shows a frame, and what is done where one of its <details> is open.
_DRAW = "const draw = (frame, at) => { frame.innerHTML = frames[at].html; }, opened = () => {};"

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Frame:
    """One step: what it is called, its HTML (inline styles only), and the same as text. ``at`` is where to look in a
    picture that is too wide for the page: 0 at its left end, 1 at its right."""

    caption: str
    html: str
    text: str
    at: float | None = None


class Stepper:
    """A row of frames to walk through with a slider, buttons, or the arrow keys (also j and k). ``note`` stands above
    all of them."""

    def __init__(self, frames: list[Frame], note: str = "", start: int = 0):
        self.frames, self.note, self.start = frames, note, start

    def __str__(self) -> str:
        told = [f"== {frame.caption}\n{frame.text}" for frame in self.frames]
        return "\n\n".join([*([self.note] if self.note else []), *told])

    def _repr_html_(self) -> str:
        static = "".join(
            f"<details{' open' if i == self.start else ''}><summary>{html.escape(frame.caption)}</summary>"
            f"{frame.html}</details>"
            for i, frame in enumerate(self.frames)
        )
        note = f'<div style="color:{FAINT}">{html.escape(self.note)}</div>' if self.note else ""
        return live(note + static, self.frames, self.start, self.note)


def live(static: str, frames: list[Frame], start: int = 0, note: str = "") -> str:
    """Static HTML, replaced by a stepper over the frames where scripts run."""
    return stepper(static, [{"caption": f.caption, "html": f.html, "at": f.at} for f in frames], start, note)


def stepper(static: str, frames: list[dict[str, Any]], start: int, note: str, draw: str = _DRAW) -> str:
    """The same over frames of any form (with a caption, and ``at``), which the script ``draw`` shows."""
    identity = f"bpfsim-{next(_numbers)}"
    values = {"id": json.dumps(identity), "frames": in_script(frames), "start": start, "style": STYLE, "draw": draw}
    script = _SCRIPT % (values | {"note": in_script(html.escape(note))})
    return f'<div id="{identity}" class="bpfsim" tabindex="0">{static}</div><script>{script}</script>'


def in_script(data: Any) -> str:
    """Data as a script can hold it."""
    return json.dumps(data, separators=(",", ":")).replace("</", "<\\/")


# A shadow at each side where there is more: two that stay, and two sheets that scroll along and cover them at the ends.
_MORE = (
    f"linear-gradient(to right,{SHEET} 16px,transparent 40px) left/40px 100%",
    f"linear-gradient(to left,{SHEET} 16px,transparent 40px) right/40px 100%",
    "linear-gradient(to right,rgba(128,128,128,.55),transparent) left/14px 100%",
    "linear-gradient(to left,rgba(128,128,128,.55),transparent) right/14px 100%",
)
_SHADOWS = ",".join(f"{layer} no-repeat {'local' if n < 2 else 'scroll'}" for n, layer in enumerate(_MORE))


def wide(content: str) -> str:
    """Content that scrolls sideways where the page is narrower, by keys too; a shadow shows where there is more."""
    style = f"overflow-x:auto;background:{_SHADOWS}"
    return f'<div style="{style}" tabindex="0" role="group" aria-label="scrolls sideways">{content}</div>'


def mono(text: str, style: str = "") -> str:
    """Text in a fixed-width font, its blanks kept."""
    return (
        f'<span style="font-family:var(--jp-code-font-family,ui-monospace,monospace);white-space:pre;{style}">'
        f"{html.escape(text)}</span>"
    )


def table(head: list[str], rows: list[list[str]], caption: str = "") -> str:
    """An HTML table with scoped headers; cells are HTML already."""
    cell = "padding:2px 12px 2px 0;text-align:left;vertical-align:top"
    top = "".join(f'<th scope="col" style="{cell};font-weight:600">{html.escape(h)}</th>' for h in head)
    body = "".join("<tr>" + "".join(f'<td style="{cell}">{c}</td>' for c in row) + "</tr>" for row in rows)
    title = f'<caption style="text-align:left;font-weight:600">{html.escape(caption)}</caption>' if caption else ""
    return f'<table style="border-collapse:collapse">{title}<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>'


class Rows(list[dict[str, Any]]):
    """A list of dicts that shows itself as a table."""

    def __init__(self, rows: list[dict[str, Any]], columns: list[str]):
        super().__init__(rows)
        self.columns = columns

    def _cells(self) -> list[list[str]]:
        return [[str(row[column]) for column in self.columns] for row in self]

    def __repr__(self) -> str:
        cells = [self.columns, *self._cells()]
        widths = [max(len(row[i]) for row in cells) for i in range(len(self.columns))]
        return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells)

    def _repr_html_(self) -> str:
        return f'<div class="bpfsim">{table(self.columns, [[mono(c) for c in row] for row in self._cells()])}</div>'
