"""Errors by dataset and by group: how many rows are answered, how far off they are, and in which direction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np

from sim.core import Array
from sim.validation.bands import EngineBands, fit_bands
from sim.validation.datasets import Dataset
from sim.validation.entries import Entry
from sim.validation.peers import PEERS
from sim.validation.predict import Prediction

COMBINED: Final = "engine, system, model"
"""Name of the grouping by all three."""


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
    if set(groups) >= {"engine", "system", "model"}:
        labels[COMBINED] = [", ".join(row.groups[key] for key in COMBINED.split(", ")) for row in dataset.rows]
    found = {
        "format": dataset.format,
        **errors_of(entries),
        "reasons": _reasons(entries),
        "by": {name: _by_label(values, entries) for name, values in labels.items()},
        "bands": {engine: bands.to_json() for engine, bands in _bands(dataset, entries, predictions).items()},
        "peers": [figure.to_json() for figure in PEERS.get(dataset.format, ())],
        "assumptions": list(dataset.assumptions),
    }
    errors = {row.id: one.e2e_errors for row, one in zip(dataset.rows, predictions, strict=True)}
    if known := {name: e for name, e in errors.items() if e is not None and e.size}:
        found["requests"] = {name: {"metric": "e2e_s", **_absolute(errors)} for name, errors in known.items()}
    return found


def _bands(
    dataset: Dataset, entries: Sequence[Sequence[Entry]], predictions: Sequence[Prediction]
) -> dict[str, EngineBands]:
    return fit_bands(dataset.rows, entries, [found.setting for found in predictions])


def _by_label(labels: Sequence[str], entries: Sequence[Sequence[Entry]]) -> dict[str, Any]:
    found = {}
    for label in sorted(set(labels)):
        found[label] = errors_of([own for own, one in zip(entries, labels, strict=True) if one == label])
    return found


def errors_of(entries: Sequence[Sequence[Entry]]) -> dict[str, Any]:
    """How many rows there are, how many have a prediction, and errors by metric."""
    metrics = dict.fromkeys(entry.metric for own in entries for entry in own)
    return {
        "rows": len(entries),
        "answered": sum(any(entry.predicted is not None for entry in own) for own in entries),
        "metrics": {
            metric: _errors(entry for own in entries for entry in own if entry.metric == metric) for metric in metrics
        },
    }


def _errors(entries: Iterable[Entry]) -> dict[str, Any]:
    """Values measured and answered, median and 90th percentile of |error|, and bias: the median signed error."""
    own = list(entries)
    errors = np.array([entry.error for entry in own if entry.error is not None], dtype=np.float64)
    counts = {"n": sum(entry.measured is not None for entry in own), "answered": int(errors.size)}
    absolute = _absolute(np.abs(errors))
    del absolute["n"]
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
    return {"n": int(errors.size), "median_abs_error_frac": median, "p90_abs_error_frac": p90}


def _reasons(entries: Sequence[Sequence[Entry]]) -> dict[str, int]:
    """Rows that were not answered at all, by reason, most frequent first."""
    silent = [own[0].reason for own in entries if own and all(entry.predicted is None for entry in own)]
    return dict(Counter(silent).most_common())
