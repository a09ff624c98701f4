"""Predicts many rows at once, in several processes if wanted.

Rows that may share compiled costs are predicted together, so that a plan is compiled once for all its lengths and
loads; a row's prediction depends on the row and the seed alone, not on its neighbours or the number of workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sim.core import map_in_processes
from sim.plans import EngineSpec, load_engine, with_values
from sim.validation.predict import Compiled, Prediction, cost_group, predict
from sim.validation.rows import MeasuredRow

Progress = Callable[[int, int, str], None]
Values = Mapping[str, float]
_LARGEST_JOB: Final = 200
_OWN: Final[Sequence[Values]] = ({},)


def predict_all(
    rows: Sequence[MeasuredRow],
    *,
    values: Sequence[Sequence[Values]] | None = None,
    seed: int = 0,
    workers: int = 1,
    overrides: tuple[str, ...] = (),
    progress: Progress | None = None,
) -> list[tuple[Prediction, ...]]:
    """Predictions of each row, one for each set of values of its engine's parameters.

    Args:
        rows: Measured rows.
        values: For each row the sets of values [SI], by field of its engine profile: times of host and front end.
            Absent, every row is predicted once, with the profile as it is.
        seed: Seed of all random streams.
        workers: Processes to use; the result does not depend on it.
        overrides: Changes of every row's scenario, `a.b=value`.
        progress: Called with (done, total, dataset).
    """
    wanted = [_OWN] * len(rows) if values is None else values
    found = [tuple(Prediction(reason=row.reason) for _ in own) for row, own in zip(rows, wanted, strict=True)]
    jobs = _jobs(rows, wanted)
    total, done = sum(len(job.places) for job in jobs), 0
    for job, predictions in zip(jobs, _map(jobs, seed, workers, overrides), strict=True):
        for place, one in zip(job.places, predictions, strict=True):
            found[place] = one
        done += len(job.places)
        if progress is not None:
            progress(done, total, job.rows[0].dataset)
    return found


@dataclass(frozen=True)
class _Job:
    places: list[int]
    rows: list[MeasuredRow]
    values: list[Sequence[Values]]


def _jobs(rows: Sequence[MeasuredRow], values: Sequence[Sequence[Values]]) -> list[_Job]:
    """Rows that can be simulated, those together that share compiled costs; neighbours have equal plans."""
    groups: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        if row.scenario is not None and values[i]:
            groups.setdefault(cost_group(row), []).append(i)
    return [
        _Job(part, [rows[i] for i in part], [values[i] for i in part])
        for places in groups.values()
        for part in _parts(rows, places)
    ]


def _parts(rows: Sequence[MeasuredRow], places: Sequence[int]) -> Iterator[list[int]]:
    """The rows in pieces that are not too long to be spread over processes, equal plans in one where possible."""
    order = sorted(places, key=lambda i: (str((rows[i].scenario or {}).get("plan")), i))
    for start in range(0, len(order), _LARGEST_JOB):
        yield order[start : start + _LARGEST_JOB]


def _map(
    jobs: Sequence[_Job], seed: int, workers: int, overrides: tuple[str, ...]
) -> Iterator[list[tuple[Prediction, ...]]]:
    work = [(job.rows, job.values, seed, overrides) for job in jobs]
    if workers <= 1 or len(jobs) < 2:
        return map(_predict_job, work)
    return map_in_processes(_predict_job, work, workers=workers)


def _predict_job(
    work: tuple[list[MeasuredRow], list[Sequence[Values]], int, tuple[str, ...]],
) -> list[tuple[Prediction, ...]]:
    rows, values, seed, overrides = work
    compiled: dict[str, Compiled] = {}
    return [
        tuple(predict(row, seed=seed, compiled=compiled, engine=_engine(row, one), overrides=overrides) for one in own)
        for row, own in zip(rows, values, strict=True)
    ]


def _engine(row: MeasuredRow, values: Values) -> EngineSpec | None:
    """The row's profile with these values; None for its own. Profiles are read here: they do not travel well."""
    return with_values(load_engine(str((row.scenario or {})["engine"])), values) if values else None
