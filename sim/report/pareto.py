"""The Pareto plot: every simulated plan by two metrics, the front and the recommended plan standing out."""

from __future__ import annotations

from html import escape
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sim.report.palette import CHOSEN, FRONT, OTHER, PAPER, finish
from sim.results import (
    Objective,
    SearchResult,
    axis_title,
    metric_title,
    metric_unit,
    resolve_metric,
    show,
)

if TYPE_CHECKING:
    import plotly.graph_objects as go

_LOG_RATIO = 30.0


def pareto(result: SearchResult, x: str | None = None, y: str | None = None) -> go.Figure:
    """Scatter of the simulated plans; hover tells the plan and its objectives.

    Blue plans are on the front of all objectives, the star is the recommended one. The line joins the plans that no
    other beats in the two metrics shown.

    Args:
        result: A search.
        x: Metric path or short name of the horizontal axis; the second objective unless given.
        y: Of the vertical axis; the first objective unless given.

    Raises:
        InputError: if a metric is unknown.
    """
    import plotly.graph_objects as go

    across, up = _axes(result, x, y)
    points = _points(result, across, up)
    figure = go.Figure()
    line = points.iloc[_frontier(points["x"].to_numpy(), points["y"].to_numpy(), across, up)]
    figure.add_trace(
        go.Scatter(
            x=line["x"], y=line["y"], mode="lines", name="best of these two metrics", hoverinfo="skip",
            line={"color": FRONT, "width": 1.5, "dash": "dot", "shape": "linear"},
        )
    )  # fmt: skip
    groups = (
        ("other simulated plans", ~points["on_front"], OTHER, "circle", 9),
        ("on the front", points["on_front"] & ~points["chosen"], FRONT, "circle", 11),
        ("recommended", points["chosen"], CHOSEN, "star", 18),
    )
    for name, member, colour, symbol, size in groups:
        part = points[member]
        figure.add_trace(
            go.Scatter(
                x=part["x"], y=part["y"], mode="markers", name=name, text=part["hover"],
                hovertemplate="%{text}<extra></extra>", cliponaxis=False,
                marker={"color": colour, "symbol": symbol, "size": size, "line": {"width": 1, "color": PAPER}},
            )
        )  # fmt: skip
    figure.update_xaxes(**_axis(across, points["x"]))
    figure.update_yaxes(**_axis(up, points["y"]))
    return finish(figure, height=480, hovermode="closest")


def pareto_views(result: SearchResult) -> dict[str, tuple[str, str]]:
    """Pairs of metrics `(x, y)` worth a view, by title: every pair of objectives, the first one as `y` of the first."""
    paths = list(dict.fromkeys(objective.path for objective in result.objectives))
    if len(paths) < 2:
        paths = [*paths, *(path for path in ("n_gpus", "ttft_s.p99") if path not in paths)][:2]
    known = [path for path in paths if path in result.simulated]
    return {f"{metric_title(y)} against {metric_title(x)}": (x, y) for y, x in combinations(known, 2)}


def _axes(result: SearchResult, x: str | None, y: str | None) -> tuple[Objective, Objective]:
    x_first, y_first = next(iter(pareto_views(result).values()), ("ttft_s.p99", "n_gpus"))
    across, up = resolve_metric(x or x_first), resolve_metric(y or y_first)
    stated = {objective.path: objective for objective in result.objectives}  # a sign there may turn the direction
    return stated.get(across.path, across), stated.get(up.path, up)


def _points(result: SearchResult, across: Objective, up: Objective) -> pd.DataFrame:
    """Simulated plans that have both metrics: `x`, `y`, `hover`, `on_front`, `chosen`."""
    table = result.simulated
    best = result.recommended.label if result.recommended is not None else None
    columns = {
        "x": table.get(across.path, pd.Series(np.nan, index=table.index)).astype(float),
        "y": table.get(up.path, pd.Series(np.nan, index=table.index)).astype(float),
        "on_front": table["on_front"].astype(bool),
        "chosen": table["on_front"].astype(bool) & (table["label"] == best),
        "hover": [_hover(row, result) for row in result.simulated_rows()],
    }
    return pd.DataFrame(columns).dropna(subset=["x", "y"])


def _hover(row: dict[str, Any], result: SearchResult) -> str:
    shown = [
        f"{metric_title(path)}: {show(row.get(path), metric_unit(path))}"
        for path in result.shown_paths()
        if pd.notna(row.get(path))
    ]
    return "<br>".join([f"<b>{escape(str(row['label']))}</b>", *shown])


def _frontier(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any], across: Objective, up: Objective) -> list[int]:
    """Positions of the points that no other beats in both metrics, along the horizontal axis."""
    a = -x if across.maximise else x
    b = -y if up.maximise else y
    best, kept = np.inf, []
    for i in np.lexsort((b, a)):
        if b[i] < best:
            kept.append(int(i))
            best = b[i]
    return kept


def _axis(objective: Objective, values: pd.Series) -> dict[str, Any]:
    arrow = "larger is better" if objective.maximise else "smaller is better"
    axis: dict[str, Any] = {"title": {"text": f"{axis_title(objective.path)}, {arrow}"}}
    low, high = (float(values.min()), float(values.max())) if len(values) else (1.0, 1.0)
    if low > 0 and high / low > _LOG_RATIO:
        axis |= {"type": "log", "dtick": "D1" if high / low < 300 else 1}
    elif metric_unit(objective.path) == "1":
        axis |= {"tickformat": ".0%"}
    return axis
