"""Figures of one result: latency distributions, where time and memory go, rejected plans, differences of variants.

Every function takes a result and returns a plotly figure; none shows or writes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from sim.core import Array
from sim.report.palette import FRONT, INK, MUTED, SERIES, finish
from sim.results import (
    METRICS,
    CompareResult,
    RunResult,
    SearchResult,
    TrainingResult,
    metric_title,
    show,
    show_change,
    slo_of,
    sorted_parts,
)

if TYPE_CHECKING:
    import plotly.graph_objects as go

_LATENCIES: Final = ("ttft_s", "tpot_s", "e2e_s")
_CURVE_POINTS = 240
_SYMBOLS: Final = ("circle", "diamond", "square", "triangle-up", "cross", "x")
_DASHES: Final = ("solid", "dash", "dot", "dashdot", "longdash")
_MEMORY_TITLES: Final = {
    "weights_bytes": "weights",
    "kv_cache_bytes": "KV cache",
    "activations_bytes": "activations",
    "graphs_bytes": "CUDA graphs",
    "runtime_bytes": "runtime",
    "free_bytes": "free",
}


def latency_cdf(result: RunResult | Mapping[str, RunResult]) -> go.Figure:
    """Cumulative distributions of TTFT, TPOT and E2E over requests, on a logarithmic time axis; SLO limits dashed.

    Args:
        result: A run, or several by name.
    """
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    runs = {"": result} if isinstance(result, RunResult) else dict(result)
    titles = [METRICS[name].title for name in _LATENCIES]
    figure = make_subplots(rows=1, cols=3, shared_yaxes=True, horizontal_spacing=0.03, subplot_titles=titles)
    for series, (name, run) in enumerate(runs.items()):
        finished = run.requests[run.requests["status"] == "finished"]
        for column, latency in enumerate(_LATENCIES, start=1):
            seconds, share = _curve(finished[latency].to_numpy(dtype=np.float64))
            figure.add_trace(
                go.Scatter(
                    x=seconds, y=share, mode="lines", name=name or "requests", legendgroup=name,
                    showlegend=bool(name) and column == 1, line={"color": SERIES[series % len(SERIES)], "width": 2.2},
                    hovertemplate=f"%{{y:.1%}} within %{{x:.4~g}} s<extra>{name}</extra>",
                ),
                row=1,
                col=column,
            )  # fmt: skip
    limits = _limits_s(next(iter(runs.values())))
    for column, latency in enumerate(_LATENCIES, start=1):
        figure.update_xaxes(
            **_time_axis([run.requests[latency] for run in runs.values()], limits.get(latency)), col=column
        )
        if latency in limits:
            _mark_limit(figure, limits[latency], column)
    figure.update_yaxes(range=[0, 1.02], tickformat=".0%")
    figure.update_yaxes(title={"text": "share of requests"}, col=1)
    top = 30 if isinstance(result, RunResult) else 64
    return finish(figure, height=330 + top, margin={"l": 12, "r": 16, "t": top, "b": 12}, legend_y=1.1)


def _curve(values: Array) -> tuple[Array, Array]:
    """Points of the cumulative distribution of `values`: all of a small sample, else denser towards the tail."""
    values = np.sort(values[np.isfinite(values) & (values > 0)])
    if values.size <= _CURVE_POINTS:
        return values, np.arange(1, values.size + 1) / max(1, values.size)
    half = _CURVE_POINTS // 2
    share = np.concatenate([np.linspace(0, 0.9, half, endpoint=False), 1 - np.geomspace(0.1, 1 / values.size, half)])
    share = np.append(share, 1.0)
    return np.quantile(values, share), share


def _limits_s(run: RunResult) -> dict[str, float]:
    slo = slo_of(run.scenario)
    return {} if slo is None else slo.limits_s


def _time_axis(columns: Sequence[pd.Series], limit_s: float | None) -> dict[str, Any]:
    """A logarithmic axis [s] that holds all samples and the limit, with 1-2-5 ticks in readable units."""
    values = np.concatenate([column.to_numpy(dtype=np.float64) for column in columns])
    values = values[np.isfinite(values) & (values > 0)]
    ends = [*([values.min(), values.max()] if values.size else [0.1, 1.0]), *([limit_s] if limit_s else [])]
    low, high = min(ends) / 1.15, max(ends) * 1.15
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    steps = (1, 2, 5) if high / low < 12 else (1, 3) if high / low < 300 else (1,)
    ticks = [step * 10.0**decade for decade in decades for step in steps if low <= step * 10.0**decade <= high]
    return {
        "type": "log",
        "range": [float(np.log10(low)), float(np.log10(high))],
        "tickvals": ticks,
        "ticktext": [show(tick, "s") for tick in ticks],
        "tickangle": 0,
    }


def _mark_limit(figure: go.Figure, limit_s: float, column: int) -> None:
    """A dashed line at the limit. On a logarithmic axis plotly places lines by value but texts by exponent."""
    figure.add_vline(x=limit_s, row=1, col=column, line={"dash": "dash", "width": 1.4, "color": INK})
    figure.add_annotation(
        x=float(np.log10(limit_s)),
        y=0.04,
        row=1,
        col=column,
        text=f"SLO {show(limit_s, 's')}",
        textangle=-90,
        xanchor="right",
        yanchor="bottom",
        showarrow=False,
        font={"size": 12},
    )


_IDLE = ("idle", "bubble")


def breakdown_bar(run: RunResult | TrainingResult, *, of: str = "the replicas' time") -> go.Figure:
    """Exposed seconds by cause, largest first, idle ones apart in grey; the bars sum to the time they explain.

    Args:
        run: A result.
        of: What they are shares of.
    """
    import plotly.graph_objects as go

    total = run.breakdown["explains_s"]
    parts = sorted_parts(run.breakdown["parts"])[::-1]
    share = [seconds / total for _, seconds in parts]
    figure = go.Figure(
        go.Bar(
            x=share,
            y=[cause for cause, _ in parts],
            orientation="h",
            marker={"color": [MUTED if cause in _IDLE else FRONT for cause, _ in parts]},
            text=[show(part, "1") for part in share],
            textposition="outside",
            cliponaxis=False,
            customdata=[show(seconds, "s") for _, seconds in parts],
            hovertemplate="%{y}: %{customdata}, %{x:.2%}<extra></extra>",
        )
    )
    figure.update_xaxes(tickformat=".0%", title={"text": f"share of {of}"}, rangemode="tozero")
    figure.update_yaxes(showgrid=False)
    figure.update_layout(xaxis_range=[0, max(share, default=1.0) * 1.12])
    return finish(figure, height=90 + 30 * len(parts), bargap=0.3)


def memory_bar(memory: RunResult | Mapping[str, float]) -> go.Figure:
    """Memory of the fullest GPU by class, as one stacked bar in GiB, or one for either kind of engines.

    Args:
        memory: A run, or bytes by class.
    """
    import plotly.graph_objects as go

    pools: dict[str, Mapping[str, float]] = {"GPU memory": memory.memory if isinstance(memory, RunResult) else memory}
    if isinstance(memory, RunResult) and memory.prefill_memory:
        pools = {"decode": memory.memory, "prefill": memory.prefill_memory}
    names = list(dict.fromkeys(name for sizes in pools.values() for name in sizes))
    figure = go.Figure()
    for i, name in enumerate(names):
        title = _MEMORY_TITLES.get(name, name.removesuffix("_bytes").replace("_", " "))
        sizes = [of.get(name, 0.0) for of in pools.values()]
        shown = ", ".join(show(size, "bytes") for size in sizes)
        figure.add_trace(
            go.Bar(
                x=[size / 2**30 for size in sizes],
                y=list(pools),
                name=f"{title} {shown}",
                orientation="h",
                marker={"color": MUTED if name == "free_bytes" else SERIES[i % len(SERIES)]},
                text=[f"{title}<br>{show(size, 'bytes')}" for size in sizes],
                textposition="inside",
                insidetextanchor="middle",
                textangle=0,
                hovertemplate=[f"{title}: {show(size, 'bytes')}<extra></extra>" for size in sizes],
            )
        )
    figure.update_xaxes(title={"text": "GiB"})
    figure.update_yaxes(visible=len(pools) > 1)
    return finish(
        figure,
        height=210 + 110 * (len(pools) - 1),
        barmode="stack",
        bargap=0.1,
        uniformtext={"minsize": 12, "mode": "hide"},
        legend_traceorder="normal",
    )


def rejected_bar(result: SearchResult) -> go.Figure:
    """How many plans cannot run, by reason."""
    import plotly.graph_objects as go

    counts = sorted(rejected_counts(result).items(), key=lambda part: (part[1], part[0]))
    figure = go.Figure(
        go.Bar(
            x=[number for _, number in counts],
            y=[code for code, _ in counts],
            orientation="h",
            marker={"color": FRONT},
            text=[f"{number:,}" for _, number in counts],
            textposition="outside",
            cliponaxis=False,
            hovertemplate="%{y}: %{x:,} plans<extra></extra>",
        )
    )
    figure.update_xaxes(title={"text": "plans"}, rangemode="tozero")
    figure.update_yaxes(showgrid=False)
    figure.update_layout(xaxis_range=[0, max((number for _, number in counts), default=1) * 1.1])
    return finish(figure, height=100 + 32 * len(counts), bargap=0.3)


def rejected_counts(result: SearchResult) -> dict[str, int]:
    """Plans that cannot run by reason, most frequent first; as the search counted them."""
    counted = result.space.get("infeasible")
    if not isinstance(counted, Mapping):
        counted = result.rejected["code"].value_counts().to_dict()
    ordered = sorted(counted.items(), key=lambda part: (-part[1], part[0]))
    return {str(code): int(number) for code, number in ordered}


def difference_plot(result: CompareResult) -> go.Figure:
    """Relative change of the main metrics of every variant, with the 90 % interval over paired runs where known."""
    import plotly.graph_objects as go

    paths = result.shown_paths()[::-1]
    figure = go.Figure()
    for i, variant in enumerate(result.variants):
        rows = []
        for path in paths:
            change = variant.difference.get(path)
            if change is None or change.relative is None:
                continue
            scale = abs(change.relative / change.value) if change.value else 0.0
            low, high = change.interval or (change.value, change.value)
            rows.append(
                (metric_title(path), change.relative, (change.value - low) * scale, (high - change.value) * scale)
            )
        table = pd.DataFrame(rows, columns=["metric", "relative", "below", "above"])
        figure.add_trace(
            go.Scatter(
                x=table["relative"],
                y=table["metric"],
                mode="markers",
                name=variant.name,
                error_x={
                    "type": "data",
                    "array": table["above"],
                    "arrayminus": table["below"],
                    "thickness": 1.6,
                    "width": 4,
                },
                marker={"size": 10, "color": SERIES[(i + 1) % len(SERIES)], "symbol": _SYMBOLS[i % len(_SYMBOLS)]},
                text=[show_change(value) for value in table["relative"]],
                hovertemplate=f"%{{y}}: %{{text}}<extra>{variant.name}</extra>",
            )
        )
    figure.add_vline(x=0.0, line={"width": 1.4, "color": INK, "dash": "dot"})
    figure.update_xaxes(tickformat="+.0%", title={"text": "change from the base"})
    figure.update_yaxes(categoryorder="array", categoryarray=[metric_title(path) for path in paths])
    return finish(figure, height=120 + 28 * len(paths), hovermode="closest")
