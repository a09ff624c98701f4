"""Memory of training: by class on each pipeline stage, and over the step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import pandas as pd

from sim.report.palette import MUTED, SERIES, finish
from sim.report.pipeline import easy_unit
from sim.results import TrainingResult

if TYPE_CHECKING:
    import plotly.graph_objects as go

_GIB: Final = 2.0**30
_CLASSES: Final = ("parameters", "gradients", "optimizer", "buffers", "working", "activations")
_DRAWN: Final = 6
"""Most stages drawn over time."""


def stage_memory_bar(result: TrainingResult) -> go.Figure:
    """Memory of a GPU of each pipeline stage at its peak, by class in GiB."""
    import plotly.graph_objects as go

    table, figure = result.stage_memory, go.Figure()
    for number, name in enumerate(_CLASSES):
        sizes = table[f"{name}_bytes"] / _GIB
        if sizes.any():
            figure.add_trace(
                go.Bar(
                    x=table["device"],
                    y=sizes,
                    name=name,
                    marker={"color": SERIES[number]},
                    hovertemplate=f"stage %{{x}}, {name}: %{{y:.3~g}} GiB<extra></extra>",
                )
            )
    figure.update_xaxes(title={"text": "pipeline stage"}, dtick=max(1, len(table) // 16), showgrid=False)
    figure.update_yaxes(title={"text": "GiB"}, rangemode="tozero")
    return finish(figure, height=360, barmode="stack", bargap=0.25, legend_traceorder="normal")


def memory_timeline(result: TrainingResult) -> go.Figure:
    """What GPUs of some pipeline stages hold over the step, in GiB: the first, the last, the fullest, some between."""
    import plotly.graph_objects as go

    table, figure = result.memory_over_time, go.Figure()
    unit, scale = easy_unit(float(table["at_s"].max()))
    for number, device in enumerate(_drawn(result.stage_memory)):
        own = table[table["device"] == device]
        figure.add_trace(
            go.Scatter(
                x=own["at_s"] * scale,
                y=own["allocated_bytes"] / _GIB,
                mode="lines",
                line={"shape": "hv", "width": 1.8, "color": SERIES[number % len(SERIES)]},
                name=f"stage {device}",
                hovertemplate=f"stage {device}: %{{y:.4~g}} GiB from %{{x:.4~g}} {unit} on<extra></extra>",
            )
        )
    states = result.stage_memory[["parameters_bytes", "gradients_bytes", "optimizer_bytes"]].sum(axis=1).max() / _GIB
    figure.add_hline(y=states, line={"dash": "dot", "width": 1.4, "color": MUTED})
    figure.add_annotation(
        x=1.0, xref="paper", y=states, text="states of the fullest", showarrow=False, xanchor="right", yanchor="top",
        font={"size": 12},
    )  # fmt: skip
    figure.update_xaxes(title={"text": f"time [{unit}]"}, rangemode="tozero", showgrid=False)
    figure.update_yaxes(title={"text": "GiB"}, rangemode="tozero")
    return finish(figure, height=400, legend_traceorder="normal")


def _drawn(stages: pd.DataFrame) -> Sequence[int]:
    """Stages worth drawing: all of few; of many the first, the last, the fullest and some evenly between."""
    count = len(stages)
    fullest = int(stages["allocated_bytes"].to_numpy().argmax())
    spread = {round(i * (count - 1) / (_DRAWN - 2)) for i in range(_DRAWN - 1)}
    return range(count) if count <= _DRAWN else sorted({*spread, fullest})
