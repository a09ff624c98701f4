"""Colours and the common look of figures: readable by colour-blind people, on light and on dark pages.

Figures are made with the light colours: Okabe and Ito's palette (2008), darkened where they would be too faint on
white. The HTML report swaps each for its dark partner on a dark page, and every figure can be read without colour: by
labels, shapes or order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import plotly.graph_objects as go

FRONT: Final = "#0072b2"
CHOSEN: Final = "#d55e00"
OTHER: Final = "#9aa3ad"
MUTED: Final = "#c3c9d0"
SERIES: Final = ("#0072b2", "#d55e00", "#009e73", "#b0568c", "#c98a00", "#4a9fd8", "#7a6a58", "#5b6770")
DARK: Final = {
    "#0072b2": "#5cb3ea",
    "#d55e00": "#ff9454",
    "#009e73": "#3fcfa4",
    "#b0568c": "#e59ac4",
    "#c98a00": "#f0bd4a",
    "#4a9fd8": "#9ad4f8",
    "#7a6a58": "#c2b199",
    "#5b6770": "#aab6c0",
    "#9aa3ad": "#7d8792",
    "#c3c9d0": "#4c555f",
}
"""Partner of each colour on a dark page."""
PAPER: Final = "#fefefe"
INK: Final = "#1b2129"
GRID: Final = "#e3e7eb"
FONT: Final = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


def finish(figure: go.Figure, *, height: int, **layout: Any) -> go.Figure:
    """`figure` with the common look: no background of its own, fine grid, one font; `layout` adds to it."""
    figure.update_xaxes(**_axis_look())
    figure.update_yaxes(**_axis_look())
    figure.update_layout(template="none", **_layout_look(height))
    return figure.update_layout(**layout)


def drawing(
    traces: Sequence[Mapping[str, Any]], *, height: int, x: Mapping[str, Any], y: Mapping[str, Any], **layout: Any
) -> dict[str, Any]:
    """A figure of the common look as plain data, which a page draws; plotly takes much longer to check one.

    Args:
        traces: What is drawn.
        height: Of the figure [px].
        x: What the horizontal axis has besides the common look; its title as text.
        y: The vertical one, likewise.
        layout: What the layout has besides the common look.
    """
    axes = {name: {**_axis_look(), **axis} for name, axis in (("xaxis", x), ("yaxis", y))}
    for axis in axes.values():
        axis["title"] = {**_axis_look()["title"], "text": axis["title"]}
    return {"data": [*traces], "layout": {**_layout_look(height), **axes, **layout}}


def _axis_look() -> dict[str, Any]:
    return {
        "gridcolor": GRID,
        "linecolor": GRID,
        "zerolinecolor": GRID,
        "automargin": True,
        "title": {"standoff": 10, "font": {"size": 13}},
    }


def _layout_look(height: int) -> dict[str, Any]:
    return {
        "height": height,
        "margin": {"l": 12, "r": 12, "t": 28, "b": 12},
        "font": {"family": FONT, "size": 13, "color": INK},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": OTHER, "activecolor": FRONT},
        "hoverlabel": {"align": "left", "font": {"family": FONT, "size": 13}},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "title": {"text": ""}},
    }
