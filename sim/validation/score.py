"""The scoreboard: every row of some tables predicted, compared and summed up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, Final

import pandas as pd

from sim.results import SCHEMA_VERSION, band_of, bands_that_hold, json_text, write_table
from sim.validation.bands import EngineBands, fit_bands
from sim.validation.batch import Progress, predict_all
from sim.validation.datasets import Dataset
from sim.validation.entries import Entry
from sim.validation.predict import Prediction
from sim.validation.rows import MeasuredRow
from sim.validation.summary import summarise_costs, summarise_dataset

_PACKAGES: Final = ("plansim", "numpy", "scipy", "simpy", "networkx", "pydantic")


@dataclass(frozen=True)
class Scoreboard:
    """Predictions beside measurements.

    Attributes:
        datasets: The tables.
        predictions: One per row, by dataset, in their order.
        seed: Seed of the simulations.
        cross_validation: By dataset, errors with parameters fitted to other rows than those predicted.
        overrides: Changes of every row's scenario.
        others: By source of kernel times, the scoreboard of the serving rows with that source; a sentence where it
            cannot be had here.
    """

    datasets: tuple[Dataset, ...]
    predictions: tuple[tuple[Prediction, ...], ...]
    seed: int
    cross_validation: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    others: Mapping[str, Scoreboard | str] = field(default_factory=dict)

    @cached_property
    def entries(self) -> tuple[tuple[tuple[Entry, ...], ...], ...]:
        """Entries by dataset and row: one per measured metric."""
        return tuple(
            tuple(entries_of(row, found) for row, found in zip(dataset.rows, predictions, strict=True))
            for dataset, predictions in zip(self.datasets, self.predictions, strict=True)
        )

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Coverage and errors by dataset name, in all and by group, beside what peers have published."""
        found = {}
        for dataset, entries, predictions in zip(self.datasets, self.entries, self.predictions, strict=True):
            found[dataset.name] = summarise_dataset(dataset, entries, predictions)
            if dataset.name in self.cross_validation:
                found[dataset.name]["cross_validation"] = dict(self.cross_validation[dataset.name])
        for source, other in self.others.items():
            for name, errors in self._other(other).items():
                found[name].setdefault("other_costs", {})[source] = errors
        return found

    def _other(self, other: Scoreboard | str) -> dict[str, dict[str, Any]]:
        """Errors with other kernel times by dataset name, or why there are none."""
        if isinstance(other, str):
            serving = [one.name for one in self.datasets if any(row.scenario and row.is_serving for row in one.rows)]
            return {name: {"reason": other} for name in serving}
        found = {}
        for dataset, entries, predictions in zip(other.datasets, other.entries, other.predictions, strict=True):
            found[dataset.name] = summarise_costs(dataset, entries, predictions)
            if dataset.name in other.cross_validation:
                found[dataset.name]["cross_validation"] = dict(other.cross_validation[dataset.name])
        return found

    def bands(self, dataset: str) -> dict[str, EngineBands]:
        """Error bands by engine, fitted to the rows of one dataset."""
        at = [one.name for one in self.datasets].index(dataset)
        settings = [found.setting for found in self.predictions[at]]
        return fit_bands(self.datasets[at].rows, self.entries[at], settings)

    @property
    def provenance(self) -> dict[str, Any]:
        """Versions, seed, and hashes of the tables."""
        return {
            "versions": {name: version(name) for name in _PACKAGES},
            "seed": self.seed,
            "set": list(self.overrides),
            "costs": self._costs(),
            "inputs": {dataset.name: {"format": dataset.format, "sha256": dataset.sha256} for dataset in self.datasets},
            "intervals": "factors on the prediction from the engine profile's error bands; null where it has none",
        }

    def _costs(self) -> dict[str, dict[str, int]]:
        """Rows whose times came from each source, by kernel and number format."""
        counts: dict[str, Counter[str]] = {}
        for found in (one for predictions in self.predictions for one in predictions):
            for label, source in found.costs.items():
                counts.setdefault(label, Counter())[source] += 1
        return {label: dict(sorted(one.items())) for label, one in sorted(counts.items())}

    def to_json(self) -> dict[str, Any]:
        """The document of `plansim validate --json`."""
        return {
            "schema_version": SCHEMA_VERSION,
            "command": "validate",
            "rows": [entry.to_json() for dataset in self.entries for row in dataset for entry in row],
            "summary": self.summary,
            "provenance": self.provenance,
        }

    def to_frame(self) -> pd.DataFrame:
        """One row per measured row and metric, with its dataset, groups and signed relative error."""
        return pd.DataFrame(
            [
                {"dataset": dataset.name, **entry.to_json(), "error_frac": entry.error, **row.groups}
                for dataset, entries in zip(self.datasets, self.entries, strict=True)
                for row, own in zip(dataset.rows, entries, strict=True)
                for entry in own
            ]
        )

    def save(self, folder: Path) -> None:
        """Writes `result.json` and `rows.parquet`."""
        (folder / "result.json").write_text(json_text(self.to_json()), encoding="utf-8")
        write_table(self.to_frame(), folder / "rows.parquet")


def score(
    datasets: Sequence[Dataset],
    *,
    seed: int = 0,
    workers: int = 1,
    overrides: Sequence[str] = (),
    progress: Progress | None = None,
) -> Scoreboard:
    """Predicts every row of `datasets`.

    Args:
        datasets: Tables of measured rows.
        seed: Seed of all random streams.
        workers: Processes to use; the result does not depend on it.
        overrides: Changes of every row's scenario, `a.b=value`, such as `costs=measured`.
        progress: Called with (done, total, what).
    """
    rows = [row for dataset in datasets for row in dataset.rows]
    found = iter(predict_all(rows, seed=seed, workers=workers, overrides=tuple(overrides), progress=progress))
    predictions = [tuple(one for (one,) in islice(found, len(dataset.rows))) for dataset in datasets]
    return Scoreboard(tuple(datasets), tuple(predictions), seed, overrides=tuple(overrides))


def entries_of(row: MeasuredRow, found: Prediction) -> tuple[Entry, ...]:
    """One entry per measured metric of a row."""
    return tuple(_entry(row, metric, measured, found) for metric, measured in row.measured.items())


def _entry(row: MeasuredRow, metric: str, measured: float | None, found: Prediction) -> Entry:
    predicted = None if metric in row.cannot else found.values.get(metric)
    reason = row.cannot.get(metric, "")
    if predicted is None and not reason:
        reason = found.reason or "the simulation has no value of this metric"
    band = band_of(metric, bands_that_hold(found.bands, closed_loop=row.closed_loop))
    low, high = (None, None) if band is None or predicted is None else band.of(predicted)
    return Entry(row.id, metric, measured, predicted, low, high, reason)
