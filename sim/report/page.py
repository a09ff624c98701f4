"""Pieces of the HTML report: one document without any outside resource, tables, commands, figures with their data.

The document has a content policy that forbids every network request, so it works offline and stays private. Identifiers
are given, never drawn, and nothing depends on the clock: the same result makes the same bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from sim.report.palette import DARK, GRID, INK, PAPER

if TYPE_CHECKING:
    import plotly.graph_objects as go

_POLICY: Final = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; "
    "form-action 'none'"
)
_NO_BREAK: Final = "\u00a0"
_GLUED: Final = re.compile(r"(?<=\d) (?=(?:%|s|ms|µs)(?![a-z]))|(?<=\[USD/1M) ")
"""Spaces between a number and its unit, where a line must not break."""


def document(*, title: str, body: Sequence[str]) -> str:
    """The whole page around the parts of its body."""
    from plotly.offline import get_plotlyjs

    assets = files("sim.report") / "assets"
    settings = {"dark": DARK, "ink": INK, "grid": GRID, "paper": PAPER}
    lines = [
        "<!doctype html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title>",
        f"<style>{(assets / 'report.css').read_text(encoding='utf-8')}</style>",
        "</head>",
        "<body>",
        "<main>",
        *body,
        "</main>",
        data_script("settings", settings),
        f"<script>{get_plotlyjs()}</script>",
        f"<script>{(assets / 'report.js').read_text(encoding='utf-8')}</script>",
        "</body>",
        "</html>",
    ]
    return "\n".join(lines) + "\n"


def data_script(name: str, data: Any) -> str:
    """JSON in the page under the id `name`; text in it cannot end the script."""
    text = (data if isinstance(data, str) else json.dumps(data)).replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{text}</script>'


def section(name: str, title: str, *parts: str) -> str:
    """A part of the page with a heading that links can point to."""
    inner = "\n".join(part for part in parts if part)
    head = f'<h2 id="{name}-title">{escape(title)}</h2>'
    return f'<section id="{name}" aria-labelledby="{name}-title">\n{head}\n{inner}\n</section>'


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of plain text; empty for empty text."""
    style = f' class="{kind}"' if kind else ""
    return f"<p{style}>{escape(text)}</p>" if text else ""


def figure_block(name: str, figure: go.Figure, *, caption: str) -> str:
    """A figure, drawn by the page's script from its data, with a caption that says what it shows."""
    return f"{_frame(name, int(figure.layout.height), caption)}\n{data_script(f'{name}-data', figure.to_json())}"


def figure_chooser(name: str, views: Mapping[str, Mapping[str, Any]], *, label: str, caption: str) -> str:
    """A figure with a menu of views, by title; views are plain data with `data` and `layout`."""
    choices, data = [], []
    for i, (title, figure) in enumerate(views.items()):
        choices.append(f'<option value="{name}-view-{i}">{escape(title)}</option>')
        data.append(data_script(f"{name}-view-{i}", figure))
    select = f'<select id="{name}-choice" data-for="{name}" autocomplete="off">{"".join(choices)}</select>'
    menu = f'<div class="chooser"><label for="{name}-choice">{escape(label)}</label>\n{select}</div>'
    height = max(int(figure["layout"]["height"]) for figure in views.values())
    return "\n".join([menu, _frame(name, height, caption), *data])


def _frame(name: str, height: int, caption: str) -> str:
    """The place where a figure is drawn."""
    plot = f'<div class="plot" id="{name}" style="min-height:{height}px"></div>'
    return f'<figure aria-labelledby="{name}-caption">\n{plot}\n{_caption(name, caption)}\n</figure>'


def _caption(name: str, caption: str) -> str:
    return f'<figcaption id="{name}-caption">{escape(caption)}</figcaption>'


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    text: Sequence[int] = (0,),
    plan: int | None = None,
    chosen: int | None = None,
    label: str = "",
) -> str:
    """A table of plain text.

    Args:
        head: Column heads; all empty leaves the row of heads out.
        rows: Cells.
        text: Columns aligned left.
        plan: The column that names a plan.
        chosen: The row to mark as recommended.
        label: What the table holds, for screen readers.
    """

    def kind(column: int, tag: str) -> str:
        if column == plan:
            return "plan" if tag == "td" else "text"
        return "text" if column in text else "number"

    def line(cells: Sequence[str], tag: str, style: str = "") -> str:
        glued = (escape(_GLUED.sub(_NO_BREAK, cell)) for cell in cells)
        inner = "".join(f'<{tag} class="{kind(i, tag)}">{cell}</{tag}>' for i, cell in enumerate(glued))
        return f"<tr{style}>{inner}</tr>"

    top = f"<thead>{line(head, 'th')}</thead>" if any(head) else ""
    body = "\n".join(line(row, "td", ' class="chosen"' if i == chosen else "") for i, row in enumerate(rows))
    name = f' aria-label="{escape(label)}"' if label else ""
    return f'<div class="scroll"><table{name}>{top}<tbody>\n{body}\n</tbody></table></div>'


def tiles(values: Sequence[tuple[str, str]]) -> str:
    """Headline numbers: name and text of each; a unit after the first space is set smaller."""
    cells = []
    for name, value in values:
        number, _, unit = value.partition(" ")
        small = f" <small>{escape(unit)}</small>" if unit else ""
        cells.append(f"<div><dt>{escape(name)}</dt><dd>{escape(number)}{small}</dd></div>")
    return f'<dl class="tiles">{"".join(cells)}</dl>'


def command(text: str) -> str:
    """A command with a button that copies it; lines that start with # are remarks."""
    lines = [
        f'<span class="remark">{escape(line)}</span>' if line.startswith("#") else escape(line)
        for line in text.splitlines()
    ]
    inner = "\n".join(lines)
    return f'<div class="command"><pre>{inner}</pre><button type="button">Copy</button></div>'


def details(summary: str, *parts: str) -> str:
    """Parts that open on demand."""
    return f"<details><summary>{escape(summary)}</summary>{''.join(parts)}</details>"


def facts(data: Mapping[str, Any]) -> str:
    """Nested plain data as definition lists; what is empty is left out."""
    entries = []
    for name, value in data.items():
        if value is None or value == {} or value == [] or value == "":
            continue
        entries.append(f"<dt>{escape(str(name).replace('_', ' '))}</dt><dd>{_fact(value)}</dd>")
    return f'<dl class="facts">{"".join(entries)}</dl>'


def _fact(value: Any) -> str:
    if isinstance(value, Mapping):
        return facts(value)
    if isinstance(value, (list, tuple)):
        return bullets([str(item) for item in value])
    return escape(str(value))


def bullets(lines: Sequence[str]) -> str:
    """A list of plain text."""
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>" if lines else ""
