"""Errors by dataset and by group: how many rows are answered, how far off they are, and in which direction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from sim.core import Array, out_of_proportion
from sim.validation.bands import EngineBands, fit_bands
from sim.validation.datasets import Dataset
from sim.validation.entries import Entry
from sim.validation.peers import PEERS
from sim.validation.predict import Prediction

COMBINED: Final = ("engine, system, model", "half, device", "half, source")
"""Groupings by several labels at once, for tables that have them all."""

_COST_GROUPS: Final = ("engine", "system", "model")


def summarise_dataset(
    dataset: Dataset, entries: Sequence[Sequence[Entry]], predictions: Sequence[Prediction]
) -> dict[str, Any]:
    """Coverage and errors of one dataset, in all and by each group.

    Args:
        dataset: The rows.
        entries: The entries of each row, in their order.
        predictions: The prediction of each row, in their order.
    """
    groups = dict.fromkeys(name for row in dataset.rows for name in row.groups)
    labels = {name: [row.groups.get(name, "") for row in dataset.rows] for name in groups}
    for name in COMBINED:
        if set(groups) >= {*name.split(", ")}:
            labels[name] = [", ".join(row.groups[key] for key in name.split(", ")) for row in dataset.rows]
    weights = {row.id: row.weight for row in dataset.rows}
    found = {
        "format": dataset.format,
        **errors_of(entries, weights),
        "reasons": _reasons(entries),
        "by": {name: _by_label(values, entries, weights) for name, values in labels.items()},
        "bands": {engine: bands.to_json() for engine, bands in _bands(dataset, entries, predictions).items()},
        "peers": [figure.to_json() for figure in PEERS.get(dataset.format, ())],
        "assumptions": list(dataset.assumptions),
    }
    if doubts := _doubts(entries):
        found["doubts"] = doubts
    if notes := Counter(note for one in predictions for note in one.notes):
        found["notes"] = dict(notes.most_common())
    if unfit := [row.id for row, one in zip(dataset.rows, predictions, strict=True) if not one.fits]:
        found["judged_not_to_fit"] = unfit
    errors = {row.id: one.e2e_errors for row, one in zip(dataset.rows, predictions, strict=True)}
    if known := {name: e for name, e in errors.items() if e is not None and e.size}:
        found["requests"] = {name: {"metric": "e2e_s", **_absolute(errors)} for name, errors in known.items()}
    return found


def _doubts(entries: Sequence[Sequence[Entry]]) -> list[str]:
    """Metrics whose predictions are out of all proportion to what was measured, one sentence each."""
    ratios: dict[str, list[float]] = {}
    for entry in (one for own in entries for one in own):
        if entry.measured and entry.predicted:
            ratios.setdefault(entry.metric, []).append(entry.measured / entry.predicted)
    found = []
    for metric, own in ratios.items():
        if off := out_of_proportion(own):
            found.append(
                f"measured {metric} is {off} what is predicted, in the median of {len(own)} values: "
                "look at its unit, which must be SI, and at its meaning"
            )
    return found


def summarise_costs(
    dataset: Dataset, entries: Sequence[Sequence[Entry]], predictions: Sequence[Prediction]
) -> dict[str, Any]:
    """Errors in all and by group, and which share of the operators that asked measured tables had an answer there.

    Args:
        dataset: The rows.
        entries: The entries of each row, in their order.
        predictions: The prediction of each row, in their order.
    """
    weights = {row.id: row.weight for row in dataset.rows}
    labels = {name: [row.groups.get(name, "") for row in dataset.rows] for name in _COST_GROUPS}

    def part(kept: Sequence[bool]) -> dict[str, Any]:
        inside = [one for one, keep in zip(predictions, kept, strict=True) if keep]
        errors = errors_of([own for own, keep in zip(entries, kept, strict=True) if keep], weights)
        return {**errors, **_from_tables(inside)}

    doubts = _doubts(entries)
    return {
        **part([True] * len(dataset.rows)),
        **({"doubts": doubts} if doubts else {}),
        "by": {
            group: {name: part([one == name for one in own]) for name in sorted(set(own))}
            for group, own in labels.items()
        },
    }


def _from_tables(predictions: Sequence[Prediction]) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    for one in predictions:
        counts.update(one.operators)
    asked = sum(counts.values())
    return {"operators": asked, "from_tables_frac": counts["measured"] / asked if asked else None}


def _bands(
    dataset: Dataset, entries: Sequence[Sequence[Entry]], predictions: Sequence[Prediction]
) -> dict[str, EngineBands]:
    return fit_bands(dataset.rows, entries, [found.setting for found in predictions])


def _by_label(
    labels: Sequence[str], entries: Sequence[Sequence[Entry]], weights: Mapping[str, float]
) -> dict[str, Any]:
    found = {}
    for label in sorted(set(labels)):
        found[label] = errors_of([own for own, one in zip(entries, labels, strict=True) if one == label], weights)
    return found


def errors_of(entries: Sequence[Sequence[Entry]], weights: Mapping[str, float] | None = None) -> dict[str, Any]:
    """How many rows there are, how many have a prediction, and errors by metric; rows weigh 1 unless said."""
    metrics = dict.fromkeys(entry.metric for own in entries for entry in own)
    return {
        "rows": len(entries),
        "answered": sum(any(entry.predicted is not None for entry in own) for own in entries),
        "metrics": {
            metric: _errors((entry for own in entries for entry in own if entry.metric == metric), weights or {})
            for metric in metrics
        },
    }


def _errors(entries: Iterable[Entry], weights: Mapping[str, float]) -> dict[str, Any]:
    """Values measured and answered, median, mean and 90th percentile of |error|, and bias: the median signed error.

    Where rows weigh differently, the same three with their weights too.
    """
    own = list(entries)
    scored = [(entry.error, weights.get(entry.id, 1.0)) for entry in own if entry.error is not None]
    errors = np.array([error for error, _ in scored], dtype=np.float64)
    counts = {"n": sum(entry.measured is not None for entry in own), "answered": int(errors.size)}
    absolute = _absolute(np.abs(errors))
    del absolute["n"]
    if len({weight for _, weight in scored}) > 1:
        absolute["weighted"] = weighted_errors(np.abs(errors), np.array([weight for _, weight in scored]))
    return {
        **counts,
        **absolute,
        "bias_frac": float(np.median(errors)) if errors.size else None,
        **_inside(own),
    }


def _inside(entries: Iterable[Entry]) -> dict[str, Any]:
    """How many values have an interval, and the share of those that it holds."""
    held = [e.low <= e.measured <= e.high for e in entries if e.low is not None and e.high is not None and e.measured]
    return {"intervals": len(held), "inside_frac": float(np.mean(held)) if held else None}


def _absolute(errors: Array) -> dict[str, Any]:
    median, p90 = np.percentile(errors, (50, 90)).tolist() if errors.size else (None, None)
    mean = float(errors.mean()) if errors.size else None
    return {
        "n": int(errors.size),
        "median_abs_error_frac": median,
        "mean_abs_error_frac": mean,
        "p90_abs_error_frac": p90,
    }


def weighted_errors(errors: Array, weights: Array) -> dict[str, float]:
    """Median, mean and 90th percentile of |error| where row `i` counts `weights[i]` times, shapes `(rows,)`."""
    order = np.argsort(errors)
    middle = np.cumsum(weights[order]) - 0.5 * weights[order]
    median, p90 = np.interp((0.5, 0.9), middle / weights.sum(), errors[order]).tolist()
    mean = float(np.average(errors, weights=weights))
    return {"median_abs_error_frac": median, "mean_abs_error_frac": mean, "p90_abs_error_frac": p90}


def _reasons(entries: Sequence[Sequence[Entry]]) -> dict[str, int]:
    """Rows that were not answered at all, by reason, most frequent first."""
    silent = [own[0].reason for own in entries if own and all(entry.predicted is None for entry in own)]
    return dict(Counter(silent).most_common())
