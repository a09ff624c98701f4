"""The Pareto plot: every simulated plan by two metrics, the front and the recommended plan standing out."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from sim.core import Array
from sim.report.palette import CHOSEN, FRONT, OTHER, PAPER, drawing
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
Flags: TypeAlias = npt.NDArray[np.bool_]
Texts: TypeAlias = npt.NDArray[np.object_]


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

    drawn = _drawing(_Points.of(result), *_axes(result, x, y))
    return go.Figure(data=drawn["data"], layout={"template": "none", **drawn["layout"]})


def pareto_drawings(result: SearchResult) -> dict[str, dict[str, Any]]:
    """Every view of `pareto_views` as plain data for a page, by title."""
    points = _Points.of(result)
    return {title: _drawing(points, *_axes(result, x, y)) for title, (x, y) in pareto_views(result).items()}


class _Points(NamedTuple):
    """The simulated plans: their rows, what hovering tells, and which are on the front and recommended."""

    rows: list[dict[str, Any]]
    hover: Texts
    front: Flags
    chosen: Flags

    @classmethod
    def of(cls, result: SearchResult) -> _Points:
        """Those of a search."""
        rows, best = result.simulated_rows(), result.recommended
        front = np.array([bool(row["on_front"]) for row in rows], dtype=bool)
        chosen = np.array([best is not None and row["label"] == best.label for row in rows], dtype=bool)
        hover = np.array([_hover(row, result.shown_paths()) for row in rows], dtype=object)
        return cls(rows, hover, front, front & chosen)

    def values(self, path: str) -> Array:
        """A metric of every plan, NaN where it has none."""
        found = (row.get(path) for row in self.rows)
        return np.array([np.nan if value is None or value is pd.NA else float(value) for value in found])


def _drawing(points: _Points, across: Objective, up: Objective) -> dict[str, Any]:
    x, y = points.values(across.path), points.values(up.path)
    kept = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    x, y = x[kept] / _scale(across.path), y[kept] / _scale(up.path)
    front, chosen = points.front[kept], points.chosen[kept]
    line = _frontier(x, y, across, up)
    best = _trace(x[line], y[line], mode="lines", name="best of these two metrics", hoverinfo="skip")
    traces = [{**best, "line": {"color": FRONT, "width": 1.5, "dash": "dot", "shape": "linear"}}]
    groups = (
        ("other simulated plans", ~front, OTHER, "circle", 9),
        ("on the front", front & ~chosen, FRONT, "circle", 11),
        ("recommended", chosen, CHOSEN, "star", 18),
    )
    for name, member, colour, symbol, size in groups:
        marker = {"color": colour, "symbol": symbol, "size": size, "line": {"width": 1, "color": PAPER}}
        hover = {"text": points.hover[kept][member].tolist(), "hovertemplate": "%{text}<extra></extra>"}
        one = _trace(x[member], y[member], mode="markers", name=name, cliponaxis=False)
        traces.append({**one, **hover, "marker": marker})
    return drawing(traces, height=480, x=_axis(across, x), y=_axis(up, y), hovermode="closest")


def _trace(x: Array, y: Array, **more: Any) -> dict[str, Any]:
    return {"type": "scatter", "x": x.tolist(), "y": y.tolist(), **more}


def pareto_views(result: SearchResult) -> dict[str, tuple[str, str]]:
    """Pairs of metrics `(x, y)` worth a view, by title: every pair of objectives, those that rank plans alike last."""
    paths = list(dict.fromkeys(objective.path for objective in result.objectives))
    if len(paths) < 2:
        paths = [*paths, *(path for path in ("n_gpus", "ttft_s.p99") if path not in paths)][:2]
    known = [path for path in paths if path in result.evaluations]
    simulated = result.simulated[known].astype(float)
    pairs = sorted(combinations(known, 2), key=lambda pair: _alike(simulated[[*pair]]))
    return {f"{metric_title(y)} against {metric_title(x)}": (x, y) for y, x in pairs}


def _alike(two: pd.DataFrame) -> bool:
    """Whether two metrics rank the plans alike, so that a view of both says little."""
    values = two.dropna().to_numpy()
    ranks = np.argsort(np.argsort(values, axis=0, kind="stable"), axis=0)
    there, back = ranks[:, 0], len(ranks) - 1 - ranks[:, 0]
    return len(ranks) > 2 and bool((ranks[:, 1] == there).all() or (ranks[:, 1] == back).all())


def _axes(result: SearchResult, x: str | None, y: str | None) -> tuple[Objective, Objective]:
    if x is None or y is None:
        x_first, y_first = next(iter(pareto_views(result).values()), ("ttft_s.p99", "n_gpus"))
        x, y = x or x_first, y or y_first
    across, up = resolve_metric(x), resolve_metric(y)
    stated = {objective.path: objective for objective in result.objectives}  # a sign there may turn the direction
    return stated.get(across.path, across), stated.get(up.path, up)


def _hover(row: dict[str, Any], paths: Sequence[str]) -> str:
    shown = [
        f"{metric_title(path)}: {show(row.get(path), metric_unit(path))}" for path in paths if pd.notna(row.get(path))
    ]
    return "<br>".join([f"<b>{escape(str(row['label']))}</b>", *shown])


def _frontier(x: Array, y: Array, across: Objective, up: Objective) -> list[int]:
    """Positions of the points that no other beats in both metrics, along the horizontal axis."""
    a = -x if across.maximise else x
    b = -y if up.maximise else y
    best, kept = np.inf, []
    for i in np.lexsort((b, a)):
        if b[i] < best:
            kept.append(int(i))
            best = b[i]
    return kept


def _scale(path: str) -> float:
    """What an axis divides values by: plotly's prefixes for bytes are those of money."""
    return 2.0**30 if metric_unit(path) == "bytes" else 1.0


def _axis(objective: Objective, values: Array) -> dict[str, Any]:
    arrow = "larger is better" if objective.maximise else "smaller is better"
    title = axis_title(objective.path)
    title = title if _scale(objective.path) == 1.0 else title.replace("[bytes]", "[GiB]")
    axis: dict[str, Any] = {"title": f"{title}, {arrow}"}
    low, high = (float(values.min()), float(values.max())) if len(values) else (1.0, 1.0)
    if low > 0 and high / low > _LOG_RATIO:
        axis |= {"type": "log", "dtick": "D1" if high / low < 300 else 1}
    elif metric_unit(objective.path) == "1":
        axis |= {"tickformat": ".0%"}
    return axis
