"""The scoreboard: every row of some tables predicted, compared and summed up.

Rows that may share compiled costs are predicted together, so that a plan is compiled once for all its lengths and
loads; a row's prediction depends on the row and the seed alone, not on its neighbours or the number of workers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import pandas as pd

from sim.core import map_in_processes
from sim.results import SCHEMA_VERSION, band_of, bands_that_hold, json_text, write_table
from sim.validation.datasets import Dataset
from sim.validation.entries import Entry
from sim.validation.predict import Compiled, Prediction, cost_group, predict
from sim.validation.rows import MeasuredRow
from sim.validation.summary import summarise_dataset

Progress = Callable[[int, int, str], None]
_PACKAGES: Final = ("plansim", "numpy", "scipy", "simpy", "networkx", "pydantic")
_LARGEST_JOB: Final = 200


@dataclass(frozen=True)
class Scoreboard:
    """Predictions beside measurements.

    Attributes:
        datasets: The tables.
        predictions: One per row, by dataset, in their order.
        seed: Seed of the simulations.
        overrides: Changes of every row's scenario.
    """

    datasets: tuple[Dataset, ...]
    predictions: tuple[tuple[Prediction, ...], ...]
    seed: int
    overrides: tuple[str, ...] = ()

    @cached_property
    def entries(self) -> tuple[tuple[tuple[Entry, ...], ...], ...]:
        """Entries by dataset and row: one per measured metric."""
        return tuple(
            tuple(_entries(row, found) for row, found in zip(dataset.rows, predictions, strict=True))
            for dataset, predictions in zip(self.datasets, self.predictions, strict=True)
        )

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Coverage and errors by dataset name, in all and by group, beside what peers have published."""
        return {
            dataset.name: summarise_dataset(dataset, entries, [found.e2e_errors for found in predictions])
            for dataset, entries, predictions in zip(self.datasets, self.entries, self.predictions, strict=True)
        }

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
    predictions: list[list[Prediction]] = [[Prediction(reason=row.reason) for row in one.rows] for one in datasets]
    jobs = _jobs(datasets)
    total, done = sum(len(job.places) for job in jobs), 0
    for job, found in zip(jobs, _map(jobs, seed, workers, tuple(overrides)), strict=True):
        for (dataset, row), prediction in zip(job.places, found, strict=True):
            predictions[dataset][row] = prediction
        done += len(job.places)
        if progress is not None:
            progress(done, total, job.what)
    return Scoreboard(tuple(datasets), tuple(map(tuple, predictions)), seed, tuple(overrides))


@dataclass(frozen=True)
class _Job:
    what: str
    places: list[tuple[int, int]]
    rows: list[MeasuredRow]


def _jobs(datasets: Sequence[Dataset]) -> list[_Job]:
    """Rows that can be simulated, those together that share compiled costs; neighbours have equal plans."""
    groups: dict[str, _Job] = {}
    for i, dataset in enumerate(datasets):
        for j, row in enumerate(dataset.rows):
            if row.scenario is not None:
                job = groups.setdefault(cost_group(row), _Job(dataset.name, [], []))
                job.places.append((i, j))
                job.rows.append(row)
    return [part for job in groups.values() for part in _parts(job)]


def _parts(job: _Job) -> Iterator[_Job]:
    """The job in pieces that are not too long to be spread over processes, equal plans in one where possible."""
    order = sorted(range(len(job.rows)), key=lambda k: (str((job.rows[k].scenario or {}).get("plan")), k))
    for start in range(0, len(order), _LARGEST_JOB):
        part = order[start : start + _LARGEST_JOB]
        yield _Job(job.what, [job.places[k] for k in part], [job.rows[k] for k in part])


def _map(jobs: Sequence[_Job], seed: int, workers: int, overrides: tuple[str, ...]) -> Iterator[list[Prediction]]:
    work = [(job.rows, seed, overrides) for job in jobs]
    if workers <= 1 or len(jobs) < 2:
        return map(_predict_all, work)
    return map_in_processes(_predict_all, work, workers=workers)


def _predict_all(work: tuple[list[MeasuredRow], int, tuple[str, ...]]) -> list[Prediction]:
    rows, seed, overrides = work
    compiled: dict[str, Compiled] = {}
    return [predict(row, seed=seed, compiled=compiled, overrides=overrides) for row in rows]


def _entries(row: MeasuredRow, found: Prediction) -> tuple[Entry, ...]:
    return tuple(_entry(row, metric, measured, found) for metric, measured in row.measured.items())


def _entry(row: MeasuredRow, metric: str, measured: float | None, found: Prediction) -> Entry:
    predicted = found.values.get(metric)
    reason = ""
    if predicted is None:
        reason = found.reason or "the simulation has no value of this metric"
    band = band_of(metric, bands_that_hold(found.bands, closed_loop=row.closed is not None))
    low, high = (None, None) if band is None or predicted is None else band.of(predicted)
    return Entry(row.id, metric, measured, predicted, low, high, reason)
