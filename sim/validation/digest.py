"""The scoreboard in short, to be stored and published: what the page shows, and what later runs are held against."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from sim.core import Array
from sim.results import SCHEMA_VERSION
from sim.validation.datasets import Dataset
from sim.validation.entries import Entry
from sim.validation.rows import MeasuredRow
from sim.validation.score import Scoreboard

GROUPS: Final = ("engine", "system", "model", "precision", "mode", "load")
TOLERANCE: Final[Mapping[str, float]] = {"median_abs_error_frac": 0.005, "p90_abs_error_frac": 0.02}
"""By how much an error may rise before it counts as a regression: half a point of a median, two points of a P90."""

_WORST: Final = 8
_DIGITS: Final = 5
_HELD: Final = ("engine",)


def digest(board: Scoreboard) -> dict[str, Any]:
    """The scoreboard as plain data: errors of means by group, intervals, repeats and the largest errors."""
    found = {}
    for dataset, entries in zip(board.datasets, board.entries, strict=True):
        summary = board.summary[dataset.name]
        found[dataset.name] = {
            "sha256": dataset.sha256,
            "source": dataset.source,
            **{key: summary[key] for key in ("format", "rows", "answered", "reasons", "peers", "assumptions", "bands")},
            "metrics": _means(summary["metrics"]),
            **_by(summary),
            "cross_validation": summary.get("cross_validation"),
            "other_costs": _other_costs(summary.get("other_costs", {})),
            "requests": summary.get("requests", {}),
            "repeats": repeats(dataset),
            "worst": _worst(dataset, entries),
        }
    rounded: dict[str, Any] = _rounded({"schema_version": SCHEMA_VERSION, "seed": board.seed, "datasets": found})
    return rounded


def _means(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {name: errors for name, errors in metrics.items() if "." not in name}


def _other_costs(sources: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: {**found, **({"metrics": _means(found["metrics"])} if "metrics" in found else {}), **_by(found)}
        for name, found in sources.items()
    }


def _by(found: Mapping[str, Any]) -> dict[str, Any]:
    """The groups of a summary with the errors of means alone."""
    if "by" not in found:
        return {}
    by = {
        group: {label: {**part, "metrics": _means(part["metrics"])} for label, part in parts.items()}
        for group, parts in found["by"].items()
        if group in GROUPS and len(parts) > 1
    }
    return {"by": by}


def _rounded(value: Any) -> Any:
    """Numbers with a few digits, so that stored files differ only where results do."""
    if isinstance(value, Mapping):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(one) for one in value]
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value


def repeats(dataset: Dataset) -> dict[str, Any]:
    """How far measurements of equal configurations lie apart: largest over smallest, its quartiles by metric."""
    alike: dict[str, list[MeasuredRow]] = {}
    for row in dataset.rows:
        if row.scenario is not None:
            alike.setdefault(f"{row.scenario} {row.groups.get('engine version')}", []).append(row)
    found = {}
    for metric in dict.fromkeys(metric for row in dataset.rows for metric in row.measured if "." not in metric):
        ratios = np.array([*_spreads([same for same in alike.values() if len(same) > 1], metric)])
        if ratios.size:
            found[metric] = {"configurations": int(ratios.size), **_quantiles(ratios)}
    return found


def _spreads(groups: Sequence[Sequence[MeasuredRow]], metric: str) -> Iterator[float]:
    for same in groups:
        values = [value for row in same if (value := row.measured.get(metric))]
        if len(values) > 1:
            yield max(values) / min(values)


def _quantiles(ratios: Array) -> dict[str, float]:
    return {name: float(np.quantile(ratios, level)) for name, level in (("p50", 0.5), ("p75", 0.75), ("p90", 0.9))}


def _worst(dataset: Dataset, entries: Sequence[Sequence[Entry]]) -> list[dict[str, Any]]:
    """The entries of means that are furthest off, in the logarithm, a few of each metric."""
    by_metric: dict[str, list[tuple[float, MeasuredRow, Entry]]] = {}
    for row, own in zip(dataset.rows, entries, strict=True):
        for entry in own:
            if entry.measured and entry.predicted and "." not in entry.metric:
                off = abs(float(np.log(entry.predicted / entry.measured)))
                by_metric.setdefault(entry.metric, []).append((off, row, entry))
    return [
        {
            "metric": metric,
            "id": entry.id,
            "measured": entry.measured,
            "predicted": entry.predicted,
            "error_frac": entry.error,
            **{name: row.groups[name] for name in GROUPS if name in row.groups},
        }
        for metric, found in by_metric.items()
        for _, row, entry in sorted(found, key=lambda one: -one[0])[:_WORST]
    ]


def regressions(now: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    """What of a digest is worse than an earlier one by more than `TOLERANCE`, one sentence each.

    Held are the errors of every table that both have, in all and by engine, and how many values are answered.
    """
    found = []
    for name in [name for name in before["datasets"] if name in now["datasets"]]:
        old, new = before["datasets"][name], now["datasets"][name]
        if old["sha256"] != new["sha256"]:
            found.append(f"{name}: the table is another one; renew the stored errors")
            continue
        found += _worse(name, new["metrics"], old["metrics"])
        for group in _HELD:
            for label, part in old["by"].get(group, {}).items():
                other = new["by"].get(group, {}).get(label, {"metrics": {}})
                found += _worse(f"{name}, {label}", other["metrics"], part["metrics"])
    return found


def _worse(where: str, new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[str]:
    for metric, before in old.items():
        after = new.get(metric, {"answered": 0})
        if after["answered"] < before["answered"]:
            yield f"{where}: {metric} is answered for {after['answered']} rows, before for {before['answered']}"
            continue
        for statistic, tolerance in TOLERANCE.items():
            if before[statistic] is not None and after[statistic] > before[statistic] + tolerance:
                yield (
                    f"{where}: {statistic} of {metric} rose from {before[statistic]:.1%} to {after[statistic]:.1%}, "
                    f"more than {tolerance:.1%}"
                )
