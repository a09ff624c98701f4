"""Cross-validation: each row predicted with engine parameters fitted to other models, or other systems, alone.

For every engine profile the host and front-end times are fitted to rows of all models (or systems) but one at a time,
by a linear response, and the rows left out are then simulated with them. A profile of one version of which one pair of
model and system or none is left is predicted as the engine's own profile, fitted likewise: what the rows left out told
is then not known, and a single pair cannot tell times of an engine from what is wrong with its own kernels. Beside
the errors stands the share of measured values inside intervals whose band and stretch come from the errors of the
other models (or systems) alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from sim.calibration.fit import FEWEST_ROWS, spread
from sim.calibration.parameters import parameters_of
from sim.calibration.response import FACTOR, Response, changed, response_of
from sim.core import Array, InputError
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
_FEWEST_PAIRS: Final = 2
"""Pairs of model and system that the times of a version are fitted to at least."""

_MOST_ROWS: Final = 160
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
class _Profile:
    """The fits of one engine profile.

    Attributes:
        name: The profile.
        response: How its rows depend on the parameters.
        points: Best point by scheme and label that was left out; absent where too few rows are left.
        labels: Schemes and labels of its rows.
    """

    name: str
    response: Response
    points: Mapping[tuple[str, str], Array]
    labels: frozenset[tuple[str, str]]

    def point(self, scheme: str, label: str) -> Array | None:
        """Best point without the label: that of all rows where none has it."""
        if scheme != _IN_SAMPLE and (scheme, label) not in self.labels:
            return self.points[_IN_SAMPLE, ""]
        return self.points.get((scheme, label))

    def values(self, point: Array) -> dict[str, float]:
        factors = {each.name: float(np.exp(x)) for each, x in zip(self.response.parameters, point, strict=True)}
        return changed(load_engine(self.name), factors)


@dataclass(frozen=True)
class _Fit:
    """The fits of one engine.

    Attributes:
        name: The engine, as rows are grouped by it; its own profile has the same name.
        places: Its rows that can be simulated.
        profiles: Fits by profile.
    """

    name: str
    places: list[int]
    profiles: Mapping[str, _Profile]

    @property
    def parameters(self) -> list[str]:
        """Names of what is fitted in any profile."""
        return [each.name for profile in self.profiles.values() for each in profile.response.parameters]

    def is_known(self, row: MeasuredRow, scheme: str) -> bool:
        """Whether there is a fit without the row's label."""
        return self._fitted(row, scheme) is not None

    def values_for(self, row: MeasuredRow, scheme: str) -> Values:
        """Parameters fitted without the row; none, so that its profile's hold, where there is no such fit.

        Of those of another profile the ones that the row's own has are taken, and what it has besides is none.
        """
        found = self._fitted(row, scheme)
        if found is None:
            return {}
        profile, point = found
        values, own = profile.values(point), load_engine(_profile_of(row))
        if profile.name == own.name:
            return values
        return {name: values.get(name, 0.0) for name in self.parameters if getattr(own, name) is not None}

    def _fitted(self, row: MeasuredRow, scheme: str) -> tuple[_Profile, Array] | None:
        """The row's profile, or else the engine's own, and its best point without the row's label."""
        for name in (_profile_of(row), self.name):
            profile = self.profiles.get(name)
            point = None if profile is None else profile.point(scheme, row.groups.get(scheme, ""))
            if profile is not None and point is not None:
                return profile, point
        return None


def _profile_of(row: MeasuredRow) -> str:
    return str((row.scenario or {}).get("engine", ""))


def _fits(
    rows: Sequence[MeasuredRow],
    base: Sequence[Prediction],
    by: Sequence[str],
    names: Sequence[str] | None,
    simulate: Callable[[list[list[Values]]], list[tuple[Prediction, ...]]],
) -> list[_Fit]:
    """The fits of all engines that have rows enough: rows spread over them are simulated once more per parameter."""
    grouped: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        if row.scenario is not None and not base[i].reason:
            grouped.setdefault(row.groups.get("engine", ""), []).append(i)
    grouped = {name: places for name, places in sorted(grouped.items()) if len(places) >= FEWEST_ROWS}
    members: dict[tuple[str, str], list[MeasuredRow]] = {}
    for engine, places in grouped.items():
        for i in places:
            members.setdefault((engine, _profile_of(rows[i])), []).append(rows[i])
    chosen = {key: spread(mine, _MOST_ROWS, 0) for key, mine in members.items() if len(mine) >= FEWEST_ROWS}
    parameters = {profile: parameters_of(load_engine(profile), names) for _, profile in chosen}
    place = {id(row): i for i, row in enumerate(rows)}
    values: list[list[Values]] = [[] for _ in rows]
    for (_, profile), mine in chosen.items():
        own = load_engine(profile)
        for row in mine:
            values[place[id(row)]] = [changed(own, {each.name: FACTOR}) for each in parameters[profile]]
    found = simulate(values)
    profiles: dict[str, dict[str, _Profile]] = {engine: {} for engine in grouped}
    for (engine, profile), mine in chosen.items():
        predictions = [(base[place[id(row)]], *found[place[id(row)]]) for row in mine]
        response = response_of(mine, predictions, parameters[profile])
        pairs = 1 if profile == engine else _FEWEST_PAIRS
        labels = frozenset((scheme, row.groups.get(scheme, "")) for scheme in by for row in mine)
        profiles[engine][profile] = _Profile(profile, response, _points(mine, response, by, pairs), labels)
    return [_Fit(engine, places, profiles[engine]) for engine, places in grouped.items()]


def _points(
    rows: Sequence[MeasuredRow], response: Response, by: Sequence[str], least_pairs: int
) -> dict[tuple[str, str], Array]:
    points = {(_IN_SAMPLE, ""): response.fit([True] * len(rows))}
    for scheme in by:
        labels = [row.groups.get(scheme, "") for row in rows]
        for label in sorted(set(labels)):
            kept = [one != label for one in labels]
            left = {
                (row.groups.get("model"), row.groups.get("system")) for row, one in zip(rows, kept, strict=True) if one
            }
            if sum(kept) >= FEWEST_ROWS and len(left) >= least_pairs:
                points[scheme, label] = response.fit(kept)
    return points


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
