"""How wide the intervals of an engine must be: fitted to its errors, and checked on rows that were left out.

The ratio measured / predicted of an engine's rows spreads about one. Its band is the range between the 5 % and 95 %
quantiles, in which a pair of system and model with n rows weighs sqrt(n): its rows err alike in part. It holds for what
was measured. For a new model the band is stretched about its middle (in the logarithm) as far as needed so that rows of
models that were left out of the fit fall inside 90 % of the time; the same for a new system and a new class of load.

Coverage is reported nested: band and stretch are fitted to the other models (systems, classes of load) alone, and only
then compared with the one that was left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sim.core import Array, weighted_quantile
from sim.results import Band
from sim.scenario import Setting
from sim.validation.entries import Entry
from sim.validation.rows import THROUGHPUT, MeasuredRow

BANDED: Final = ("ttft_s", "tpot_s", THROUGHPUT)
LEVEL: Final = 0.90
KINDS: Final[Mapping[str, str]] = {"model": "model", "device": "system", "load": "load"}
"""What may be new about a row, and the group of rows that tells it."""

_STRETCHES: Final = np.arange(1.0, 4.01, 0.05)
_FEWEST_ROWS: Final = 20
_FEWEST_MODELS: Final = 3
_Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class FittedBand:
    """A band and how well it covers.

    Attributes:
        low: Factor on a prediction at the lower end.
        high: Factor at the upper end.
        stretch: How much wider in the logarithm for a new one of each kind; None where that cannot be told.
        rows: Rows it was fitted to.
        groups: Pairs of system and model among them.
        in_sample_frac: Share of the rows inside.
        left_out_frac: Share inside when everything is fitted without the row's own model, device or load.
    """

    low: float
    high: float
    stretch: Mapping[str, float | None]
    rows: int
    groups: int
    in_sample_frac: float
    left_out_frac: Mapping[str, float | None]


@dataclass(frozen=True)
class EngineBands:
    """The bands of an engine by metric, and what they were fitted to.

    Attributes:
        metrics: Bands by metric.
        models: Short names of the models.
        devices: Names of the devices.
        concurrency: Fewest and most requests in flight.
        input_tokens: Shortest and longest mean prompt.
        output_tokens: Shortest and longest mean output.
    """

    metrics: Mapping[str, FittedBand]
    models: tuple[str, ...]
    devices: tuple[str, ...]
    concurrency: tuple[int, int]
    input_tokens: tuple[int, int]
    output_tokens: tuple[int, int]

    def to_json(self) -> dict[str, Any]:
        """The bands as plain data."""
        return asdict(self)


def fit_bands(
    rows: Sequence[MeasuredRow], entries: Sequence[Sequence[Entry]], settings: Sequence[Setting | None]
) -> dict[str, EngineBands]:
    """Bands by engine, from closed loops; engines with too few rows or models are left out."""
    found = {}
    for engine in sorted({row.groups.get("engine", "") for row in rows}):
        mine = [i for i, row in enumerate(rows) if row.groups.get("engine") == engine and row.closed_loop]
        metrics = {}
        for metric in BANDED:
            sample = Sample.of((rows[i], entry) for i in mine for entry in entries[i] if entry.metric == metric)
            if len(sample) >= _FEWEST_ROWS and len(set(sample.labels["model"])) >= _FEWEST_MODELS:
                metrics[metric] = fit_band(sample)
        known = [setting for i in mine if (setting := settings[i]) is not None]
        if metrics and known:
            found[engine] = EngineBands(
                metrics,
                models=tuple(sorted({one.model for one in known})),
                devices=tuple(sorted({one.device for one in known})),
                concurrency=_range(one.concurrency or 1 for one in known),
                input_tokens=_range(one.input_tokens for one in known),
                output_tokens=_range(one.output_tokens for one in known),
            )
    return found


def _range(values: Iterable[float]) -> tuple[int, int]:
    every = [*values]
    return round(min(every)), round(max(every))


@dataclass(frozen=True)
class Sample:
    """ln(measured / predicted) of rows, with their groups.

    Attributes:
        log_ratio: The logarithms, shape `(n,)`.
        labels: Labels of the rows by group: `model`, `system` and `load`.
    """

    log_ratio: Array
    labels: Mapping[str, Sequence[str]]
    _pair: NDArray[np.intp] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        pairs = [f"{system}/{model}" for system, model in zip(self.labels["system"], self.labels["model"], strict=True)]
        object.__setattr__(self, "_pair", np.unique(pairs, return_inverse=True)[1] if pairs else np.zeros(0, np.intp))

    def __len__(self) -> int:
        return len(self.log_ratio)

    @classmethod
    def of(cls, pairs: Iterable[tuple[MeasuredRow, Entry]]) -> Sample:
        """The sample of those rows that have a measured and a predicted value above zero."""
        kept = [(row, e) for row, e in pairs if e.measured and e.predicted and min(e.measured, e.predicted) > 0]
        ratios = np.array([np.log(e.measured / e.predicted) for _, e in kept if e.measured and e.predicted])
        return cls(ratios, {name: [row.groups.get(name, "") for row, _ in kept] for name in KINDS.values()})

    @property
    def groups(self) -> int:
        """Pairs of system and model."""
        return len(np.unique(self._pair))

    @cached_property
    def _codes(self) -> dict[str, NDArray[np.intp]]:
        return {name: np.unique([*labels], return_inverse=True)[1] for name, labels in self.labels.items()}

    def without(self, name: str, kept: _Mask) -> Iterable[tuple[_Mask, _Mask]]:
        """For each label of the group `name` among the rows `kept`: those of another label, and its own."""
        codes = self._codes[name]
        for one in np.unique(codes[kept]):
            yield kept & (codes != one), kept & (codes == one)

    def ends(self, kept: _Mask) -> tuple[float, float]:
        """The 5 % and 95 % quantiles of the rows `kept`; a pair of system and model with n rows weighs sqrt(n)."""
        pair = self._pair[kept]
        size = np.bincount(pair)
        weights = np.sqrt(size.max() / size[pair]) * 1e3
        ends = weighted_quantile(self.log_ratio[kept], weights, np.array([(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
        return float(ends[0]), float(ends[1])

    def stretch(self, name: str, kept: _Mask) -> float | None:
        """The least stretch with which labels left out of the rows `kept` are covered at the level; None if none is."""
        parts = [(self.log_ratio[own], *self.ends(rest)) for rest, own in self.without(name, kept) if rest.any()]
        if len(parts) < 2:
            return None
        distance = np.concatenate([_distance(own, low, high) for own, low, high in parts])
        needed = float(np.quantile(distance, LEVEL, method="inverted_cdf"))
        return next((float(one) for one in _STRETCHES if one >= needed), None)

    def held_out(self, name: str) -> Iterable[tuple[_Mask, Band]]:
        """For each label that can be left out: its rows, and the band for a new one fitted to the others alone."""
        for rest, own in self.without(name, np.ones(len(self), dtype=bool)):
            stretch = self.stretch(name, rest) if rest.any() else None
            if stretch is not None:
                low, high = self.ends(rest)
                yield own, Band(float(np.exp(low)), float(np.exp(high))).widened(stretch)

    def band(self) -> Band:
        """The band of all rows, for rows like them."""
        low, high = self.ends(np.ones(len(self), dtype=bool))
        return Band(float(np.exp(low)), float(np.exp(high)))

    def inside(self, band: Band, kept: _Mask) -> _Mask:
        """Which of the rows `kept` are inside a band."""
        ratio = np.exp(self.log_ratio[kept])
        return np.asarray((ratio >= band.low) & (ratio <= band.high))


def _distance(log_ratio: Array, low: float, high: float) -> Array:
    """Distance from the middle of a band in units of its half width."""
    half = max(0.5 * (high - low), 1e-12)
    return np.asarray(np.abs(log_ratio - 0.5 * (low + high)) / half)


def fit_band(sample: Sample) -> FittedBand:
    """The band of a sample, with the stretches for new models, devices and loads."""
    everything = np.ones(len(sample), dtype=bool)
    band = sample.band()
    return FittedBand(
        low=band.low,
        high=band.high,
        stretch={kind: sample.stretch(name, everything) for kind, name in KINDS.items()},
        rows=len(sample),
        groups=sample.groups,
        in_sample_frac=float(sample.inside(band, everything).mean()),
        left_out_frac={kind: _left_out(sample, name) for kind, name in KINDS.items()},
    )


def _left_out(sample: Sample, name: str) -> float | None:
    inside = [sample.inside(band, own) for own, band in sample.held_out(name)]
    return float(np.concatenate(inside).mean()) if inside else None
