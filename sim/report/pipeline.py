"""A pipelined step as a Gantt chart: which device ran which pass when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from sim.report.palette import PAPER, SERIES, finish

if TYPE_CHECKING:
    import plotly.graph_objects as go

_KINDS: Final = {
    "F": ("forward", SERIES[0]),
    "B": ("backward", SERIES[1]),
    "I": ("backward, inputs", SERIES[4]),
    "W": ("backward, weights", SERIES[2]),
    "S": ("vocabulary scores", SERIES[3]),
    "T": ("vocabulary gradients", SERIES[5]),
}
_HEIGHT: Final = 0.82
"""Height of a pass; a device's row is 1."""
_NUMBERED: Final = 80
"""Most passes of a device that get the number of their micro-batch: more could not be read."""
_LINED: Final = 600
"""Most passes of a device that have a line between them: with more there would be nothing but lines."""
_SHADES: Final = (1.0, 0.72, 0.5)
"""Opacity of the chunks of a device in turn."""


def pipeline_gantt(passes: pd.DataFrame, *, title: str | None = None) -> go.Figure:
    """Passes of each device over time, coloured by kind, a shade per chunk; gaps are the bubble.

    Two passes that run at once have half the height each, F above B.

    Args:
        passes: One row per pass as `PipelineTimes.frame()` gives: `device`, `kind`, `stage`, `chunk`, `microbatch`,
            `start_s`, `finish_s` and `beside`.
        title: What is shown, above the chart.
    """
    import plotly.graph_objects as go

    unit, scale = easy_unit(float(passes["finish_s"].max()))
    each = len(passes) / (int(passes["device"].max()) + 1)
    readable = each <= _NUMBERED
    line = 0.7 if readable else 0.4 if each <= _LINED else 0.0
    figure = go.Figure()
    drawn = [
        (kind, place, rows)
        for kind in _KINDS
        for place, (_, rows) in enumerate(passes[passes["kind"] == kind].groupby("chunk"))
    ]
    for kind, place, rows in drawn:
        name, colour = _KINDS[kind]
        half = rows["beside"].to_numpy()
        below = half & (kind != "F")
        figure.add_trace(
            go.Bar(
                orientation="h",
                base=rows["start_s"] * scale,
                x=(rows["finish_s"] - rows["start_s"]) * scale,
                y=rows["device"],
                width=np.where(half, _HEIGHT / 2, _HEIGHT),
                offset=np.where(below, 0.0, -_HEIGHT / 2),
                name=name,
                legendgroup=name,
                showlegend=place == 0,
                marker={
                    "color": colour,
                    "opacity": _SHADES[place % len(_SHADES)],
                    "line": {"color": PAPER, "width": line},
                },
                text=rows["microbatch"] if readable else None,
                textposition="inside",
                insidetextanchor="middle",
                insidetextfont={"color": "#ffffff"},
                textangle=0,
                customdata=rows[["stage", "microbatch"]],
                hovertemplate=f"{name}, stage %{{customdata[0]}}, micro-batch %{{customdata[1]}}<br>"
                f"from %{{base:.4~g}} for %{{x:.4~g}} {unit}<extra>device %{{y}}</extra>",
            )
        )
    devices = int(passes["device"].max()) + 1
    figure.update_xaxes(title={"text": f"time [{unit}]"}, rangemode="tozero")
    figure.update_yaxes(
        title={"text": "device"}, autorange="reversed", showgrid=False, zeroline=False, tickmode="linear",
        dtick=max(1, devices // 16),
    )  # fmt: skip
    top = 64 if title else 40
    figure = finish(
        figure,
        height=70 + top + (46 if passes["beside"].any() else 34) * devices,
        barmode="overlay",
        bargap=0,
        margin={"l": 12, "r": 16, "t": top, "b": 12},
        uniformtext={"minsize": 8, "mode": "hide"},
    )
    return figure.update_layout(title={"text": title, "x": 0, "font": {"size": 14}}) if title else figure


def easy_unit(longest_s: float) -> tuple[str, float]:
    """The unit in which `longest_s` is easy to read, and how many of it are in a second."""
    if longest_s < 1e-3:
        return "µs", 1e6
    return ("ms", 1e3) if longest_s < 1.0 else ("s", 1.0)
