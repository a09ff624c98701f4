"""Memory of training: by class on each pipeline stage, and over the step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from sim.report.palette import OTHER, SERIES, finish
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
    there_is = (float(table["allocated_bytes"].max()) + float(result.memory["free_bytes"])) / _GIB
    _mark(figure, there_is, "what a GPU has besides the runtime", above=True)
    figure.update_xaxes(
        title={"text": "pipeline stage"}, dtick=max(1, len(table) // 16), showgrid=False, zeroline=False
    )
    figure.update_yaxes(title={"text": "GiB"}, range=[0, there_is * 1.12])
    return finish(figure, height=360, barmode="stack", bargap=0.25, legend_traceorder="normal")


def _mark(figure: go.Figure, height: float, text: str, *, above: bool = False) -> None:
    """A dotted line across with a text in its middle."""
    figure.add_hline(y=height, line={"dash": "dot", "width": 1.4, "color": OTHER})
    figure.add_annotation(
        x=0.5, xref="paper", y=height, text=text, showarrow=False, xanchor="center",
        yanchor="bottom" if above else "top", font={"size": 12},
    )  # fmt: skip


def memory_timeline(result: TrainingResult) -> go.Figure:
    """What GPUs of some pipeline stages hold over the step, in GiB: the first, the last, the fullest, some between."""
    import plotly.graph_objects as go

    table, figure = result.memory_over_time, go.Figure()
    unit, scale = easy_unit(float(table["at_s"].max()))
    for number, devices in enumerate(_alike(table, _drawn(result.stage_memory))):
        own, name = table[table["device"] == devices[0]], _stages(devices)
        figure.add_trace(
            go.Scatter(
                x=own["at_s"] * scale,
                y=own["allocated_bytes"] / _GIB,
                mode="lines",
                line={"shape": "hv", "width": 1.8, "color": SERIES[number % len(SERIES)]},
                name=name,
                hovertemplate=f"{name}: %{{y:.4~g}} GiB from %{{x:.4~g}} {unit} on<extra></extra>",
            )
        )
    states = result.stage_memory[["parameters_bytes", "gradients_bytes", "optimizer_bytes"]].sum(axis=1).max() / _GIB
    _mark(figure, states, "parameters, gradients and optimizer states of the fullest")
    figure.update_xaxes(title={"text": f"time [{unit}]"}, rangemode="tozero", showgrid=False)
    figure.update_yaxes(title={"text": "GiB"}, rangemode="tozero")
    return finish(figure, height=400, legend_traceorder="normal")


def _alike(table: pd.DataFrame, devices: Sequence[int]) -> list[list[int]]:
    """Stages whose memory is the same throughout, such as either end of a bidirectional pipeline, together."""
    found: dict[bytes, list[int]] = {}
    for device in devices:
        own = table[table["device"] == device][["at_s", "allocated_bytes"]].to_numpy()
        digits = 6 - np.ceil(np.log10(own.max(axis=0, initial=1.0)))
        found.setdefault(np.round(own * 10.0**digits).tobytes(), []).append(device)
    return [*found.values()]


def _stages(devices: Sequence[int]) -> str:
    return f"stage {devices[0]}" if len(devices) == 1 else f"stages {' and '.join(map(str, devices))}"


def _drawn(stages: pd.DataFrame) -> Sequence[int]:
    """Stages worth drawing: all of few; of many the first, the last, the fullest and some evenly between."""
    count = len(stages)
    fullest = int(stages["allocated_bytes"].to_numpy().argmax())
    spread = {round(i * (count - 1) / (_DRAWN - 2)) for i in range(_DRAWN - 1)}
    return range(count) if count <= _DRAWN else sorted({*spread, fullest})
