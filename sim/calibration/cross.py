"""Cross-validation: each row predicted with engine parameters fitted to other models, or other systems, alone.

For every engine the host and front-end times of all its versions are fitted together (`pooled`) to rows of all models
(or systems) but one at a time, by responses that are piecewise linear, and the rows left out are then simulated with
them. Beside the errors stands the share of measured values inside intervals whose band and stretch come from the errors
of the other models (or systems) alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from sim.calibration.fit import FEWEST_ROWS, spread
from sim.calibration.parameters import parameters_of
from sim.calibration.pooled import fit_versions
from sim.calibration.response import Response, response_of, variants_of
from sim.core import InputError
from sim.plans import load_engine
from sim.validation import (
    Dataset,
    Entry,
    MeasuredRow,
    Prediction,
    Sample,
    Scoreboard,
    entries_of,
    errors_of,
    predict_all,
)
from sim.validation.batch import Progress, Values

GROUPS: Final = ("model", "system")
_IN_SAMPLE: Final = "in_sample"
_FEWEST_ROWS: Final = 20
_FEWEST_MODELS: Final = 3
_MOST_ROWS: Final = 80
"""Rows of a profile that are fitted to, spread over systems, models and loads: more hardly move a few parameters."""


def cross_validate_all(
    board: Scoreboard, *, by: Sequence[str] = GROUPS, workers: int = 1, progress: Progress | None = None
) -> Scoreboard:
    """The scoreboard with the cross-validation of every dataset of serving that has models and rows enough for it.

    The scoreboards with other kernel times beside it are cross-validated alike, with fits of their own.

    Raises:
        InputError: if a group is unknown, or no dataset has rows enough.
    """
    found = {}
    for dataset, base in zip(board.datasets, board.predictions, strict=True):
        rows = [row for row in dataset.rows if row.scenario and row.is_serving]
        if len(rows) >= _FEWEST_ROWS and len({row.groups.get("model") for row in rows}) >= _FEWEST_MODELS:
            found[dataset.name] = cross_validate(
                dataset,
                base=base,
                by=by,
                seed=board.seed,
                workers=workers,
                overrides=board.overrides,
                progress=progress,
            )
    if not found:
        raise InputError(
            "no table has rows enough to leave some out",
            allowed=f"{_FEWEST_ROWS} rows that can be simulated, of {_FEWEST_MODELS} models or more",
        )
    others = {
        source: other
        if isinstance(other, str)
        else cross_validate_all(other, by=by, workers=workers, progress=progress)
        for source, other in board.others.items()
    }
    return replace(board, cross_validation=found, others=others)


def cross_validate(
    dataset: Dataset,
    *,
    base: Sequence[Prediction] | None = None,
    by: Sequence[str] = GROUPS,
    names: Sequence[str] | None = None,
    seed: int = 0,
    workers: int = 1,
    overrides: tuple[str, ...] = (),
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Errors in sample and with each group left out, as plain data.

    Args:
        dataset: Measured rows.
        base: Their predictions with the profiles as they are; None simulates them.
        by: Groups to leave out, one label at a time: `model`, `system` or both.
        names: Parameters to fit; None for all that can be.
        seed: Seed of the simulations.
        workers: Processes to use.
        overrides: Changes of every row's scenario, with which `base` was predicted; the engine must stay.
        progress: Called with (done, total, what).

    Raises:
        InputError: if a group is unknown, or no engine has rows enough.
    """
    if unknown := [name for name in by if name not in GROUPS]:
        raise InputError(f"rows cannot be left out by {unknown[0]!r}", allowed=list(GROUPS))
    rows = dataset.rows

    def simulate(values: list[list[Values]] | None) -> list[tuple[Prediction, ...]]:
        return predict_all(rows, values=values, seed=seed, workers=workers, overrides=overrides, progress=progress)

    known = [one for (one,) in simulate(None)] if base is None else base
    fits = _fits(rows, known, by, names, simulate)
    if not fits:
        raise InputError(
            f"no engine has enough rows in {dataset.name} that can be simulated", allowed=f"{FEWEST_ROWS} rows or more"
        )
    schemes = (_IN_SAMPLE, *by)
    values: list[list[Values]] = [[] for _ in rows]
    for fit in fits:
        for i in fit.places:
            values[i] = [fit.values_for(rows[i], scheme) for scheme in schemes]
    found = simulate(values)
    return {
        "parameters": [*dict.fromkeys(name for fit in fits for name in fit.parameters)],
        **{scheme: _scheme(rows, found, fits, scheme, k) for k, scheme in enumerate(schemes)},
    }


@dataclass(frozen=True)
class _Fit:
    """The fits of one engine.

    Attributes:
        name: The engine, as rows are grouped by it.
        places: Its rows that can be simulated.
        parameters: Names of what is fitted in any of its profiles.
        values: Fitted values [SI] by profile, by scheme and label left out; absent where too few rows are left.
        labels: Schemes and labels of the rows fitted to.
    """

    name: str
    places: list[int]
    parameters: list[str]
    values: Mapping[tuple[str, str], Mapping[str, Values]]
    labels: frozenset[tuple[str, str]]

    def is_known(self, row: MeasuredRow, scheme: str) -> bool:
        """Whether there is a fit without the row's label."""
        return self._without(row, scheme) in self.values

    def values_for(self, row: MeasuredRow, scheme: str) -> Values:
        """Parameters fitted without the row; none, so that its profile's hold, where there is no such fit."""
        found = self.values.get(self._without(row, scheme))
        return {} if found is None else found[_profile_of(row)]

    def _without(self, row: MeasuredRow, scheme: str) -> tuple[str, str]:
        """The fit without the row's label: that of all rows where none of them has it."""
        key = scheme, row.groups.get(scheme, "")
        return key if key in self.labels else (_IN_SAMPLE, "")


def _profile_of(row: MeasuredRow) -> str:
    return str((row.scenario or {}).get("engine", ""))


def _fits(
    rows: Sequence[MeasuredRow],
    base: Sequence[Prediction],
    by: Sequence[str],
    names: Sequence[str] | None,
    simulate: Callable[[list[list[Values]]], list[tuple[Prediction, ...]]],
) -> list[_Fit]:
    """The fits of all engines that have rows enough: rows spread over them are simulated twice more per parameter."""
    grouped: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        if row.scenario is not None and not base[i].reason:
            grouped.setdefault(row.groups.get("engine", ""), []).append(i)
    grouped = {name: places for name, places in sorted(grouped.items()) if len(places) >= FEWEST_ROWS}
    members: dict[str, dict[str, list[MeasuredRow]]] = {}
    for engine, places in grouped.items():
        for i in places:
            members.setdefault(engine, {}).setdefault(_profile_of(rows[i]), []).append(rows[i])
    chosen = {
        engine: {profile: spread(mine, _MOST_ROWS, 0) for profile, mine in profiles.items()}
        for engine, profiles in members.items()
    }
    profiles = {profile: load_engine(profile) for mine in chosen.values() for profile in mine}
    parameters = {profile: parameters_of(engine, names) for profile, engine in profiles.items()}
    place = {id(row): i for i, row in enumerate(rows)}
    values: list[list[Values]] = [[] for _ in rows]
    for versions in chosen.values():
        for profile, mine in versions.items():
            for row in mine:
                values[place[id(row)]] = [*variants_of(profiles[profile], parameters[profile])]
    found = simulate(values)
    fits = []
    for engine, versions in chosen.items():
        responses = {}
        for profile, mine in versions.items():
            predictions = [(base[place[id(row)]], *found[place[id(row)]]) for row in mine]
            responses[profile] = response_of(mine, predictions, parameters[profile])
        fits.append(_fit(engine, grouped[engine], versions, responses, by))
    return fits


def _fit(
    engine: str,
    places: list[int],
    rows: Mapping[str, Sequence[MeasuredRow]],
    responses: Mapping[str, Response],
    by: Sequence[str],
) -> _Fit:
    """The fit of an engine to all `rows` of its profiles, and those without each label."""
    labels = sorted({(scheme, row.groups.get(scheme, "")) for scheme in by for mine in rows.values() for row in mine})
    values = {}
    for scheme, label in ((_IN_SAMPLE, ""), *labels):
        kept = {
            profile: np.array([scheme == _IN_SAMPLE or row.groups.get(scheme, "") != label for row in mine])
            for profile, mine in rows.items()
        }
        if sum(int(one.sum()) for one in kept.values()) >= FEWEST_ROWS:
            values[scheme, label] = fit_versions(responses, kept)
    names = [*dict.fromkeys(each.name for one in responses.values() for each in one.parameters)]
    return _Fit(engine, places, names, values, frozenset(labels))


def _scheme(
    rows: Sequence[MeasuredRow],
    found: Sequence[tuple[Prediction, ...]],
    fits: Sequence[_Fit],
    scheme: str,
    number: int,
) -> dict[str, Any]:
    """Errors of all rows, by metric in all and by engine, with the share inside intervals."""
    alone = Prediction(reason=f"too few rows are left without its {scheme}")
    entries: list[tuple[Entry, ...]] = [
        entries_of(row, Prediction(reason=row.reason or "not predicted")) for row in rows
    ]
    for fit in fits:
        for i in fit.places:
            entries[i] = entries_of(rows[i], found[i][number] if fit.is_known(rows[i], scheme) else alone)
    by_engine = {}
    inside: dict[str, list[bool]] = {}
    for fit in fits:
        mine = [entries[i] for i in fit.places]
        covered = _covered(rows, fit, entries, scheme)
        for metric, held in covered.items():
            inside.setdefault(metric, []).extend(held)
        by_engine[fit.name] = {**errors_of(mine), "inside_frac": _shares(covered)}
    return {**errors_of(entries), "inside_frac": _shares(inside), "by_engine": by_engine}


def _shares(inside: Mapping[str, Sequence[bool]]) -> dict[str, float]:
    return {metric: float(np.mean(held)) for metric, held in inside.items() if held}


def _covered(
    rows: Sequence[MeasuredRow], fit: _Fit, entries: Sequence[Sequence[Entry]], scheme: str
) -> dict[str, list[bool]]:
    """Whether each measured value is inside its interval, by metric; bands are fitted to the other rows alone."""
    metrics = dict.fromkeys(entry.metric for i in fit.places for entry in entries[i])
    found: dict[str, list[bool]] = {}
    for metric in metrics:
        pairs = [(rows[i], entry) for i in fit.places for entry in entries[i] if entry.metric == metric]
        sample = Sample.of(pairs)
        if not len(sample):
            continue
        if scheme == _IN_SAMPLE:
            held = [sample.inside(sample.band(), np.ones(len(sample), dtype=bool))]
        else:
            held = [sample.inside(band, own) for own, band in sample.held_out(scheme)]
        found[metric] = [bool(one) for part in held for one in part]
    return found
