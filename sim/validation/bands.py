"""How wide the intervals of an engine must be: fitted to its errors, and checked on models and systems left out.

The ratio measured / predicted of an engine's rows spreads about one. Its band is the range between the 5 % and 95 %
quantiles, in which every pair of system and model weighs the same, stretched (in the logarithm) until rows of models
that were left out of the fit fall inside 90 % of the time. So a band is for a model that nobody has measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from sim.core import Array, weighted_quantile
from sim.validation.entries import Entry
from sim.validation.rows import THROUGHPUT, MeasuredRow

BANDED: Final = ("ttft_s", "tpot_s", THROUGHPUT)
LEVEL: Final = 0.90
_STRETCHES: Final = np.arange(1.0, 4.01, 0.05)
_FEWEST_ROWS: Final = 20
_FEWEST_MODELS: Final = 3


@dataclass(frozen=True)
class FittedBand:
    """A band and how well it covers.

    Attributes:
        low: Factor on a prediction at the lower end.
        high: Factor at the upper end.
        rows: Rows it was fitted to.
        groups: Pairs of system and model among them.
        stretch: How much wider than the plain quantiles, in the logarithm.
        in_sample_frac: Share of the rows inside.
        left_out_model_frac: Share inside a band of the same stretch fitted without the row's model.
        left_out_system_frac: The same without the row's system.
    """

    low: float
    high: float
    rows: int
    groups: int
    stretch: float
    in_sample_frac: float
    left_out_model_frac: float
    left_out_system_frac: float | None


def fit_bands(rows: Sequence[MeasuredRow], entries: Sequence[Sequence[Entry]]) -> dict[str, dict[str, Any]]:
    """Bands by engine and metric, as plain data; engines with too few rows or models are left out."""
    found: dict[str, dict[str, Any]] = {}
    for engine in sorted({row.groups.get("engine", "") for row in rows}):
        for metric in BANDED:
            sample = _Sample.of(
                (row, entry)
                for row, own in zip(rows, entries, strict=True)
                for entry in own
                if row.groups.get("engine") == engine and entry.metric == metric
            )
            if len(sample.log_ratio) >= _FEWEST_ROWS and len(set(sample.model)) >= _FEWEST_MODELS:
                found.setdefault(engine, {})[metric] = vars(fit_band(sample))
    return found


@dataclass(frozen=True)
class _Sample:
    """ln(measured / predicted) of rows, with their model and system."""

    log_ratio: Array
    model: tuple[str, ...]
    system: tuple[str, ...]

    @classmethod
    def of(cls, pairs: Iterable[tuple[MeasuredRow, Entry]]) -> _Sample:
        kept = [(row, e) for row, e in pairs if e.measured and e.predicted and min(e.measured, e.predicted) > 0]
        ratios = np.array([np.log(e.measured / e.predicted) for _, e in kept if e.measured and e.predicted])
        models = tuple(row.groups.get("model", "") for row, _ in kept)
        return cls(ratios, models, tuple(row.groups.get("system", "") for row, _ in kept))

    def quantiles(self, kept: Array) -> tuple[float, float]:
        """The 5 % and 95 % quantiles of the rows `kept`; every pair of system and model weighs the same."""
        pairs = [f"{self.system[i]}/{self.model[i]}" for i in np.flatnonzero(kept)]
        names, index = np.unique(pairs, return_inverse=True)
        size = np.bincount(index, minlength=len(names))
        weights = (size.max() / size)[index] * 1e3
        ends = weighted_quantile(self.log_ratio[kept], weights, np.array([(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
        return float(ends[0]), float(ends[1])


def fit_band(sample: _Sample) -> FittedBand:
    """The narrowest stretched band that covers models left out of the fit at the level."""
    everything = np.ones(len(sample.log_ratio), dtype=bool)
    models = np.asarray(sample.model)
    systems = np.asarray(sample.system)
    by_model = _left_out(sample, models)
    stretch = next((s for s in _STRETCHES if by_model(s) >= LEVEL), _STRETCHES[-1])
    low, high = (stretch * end for end in sample.quantiles(everything))
    inside = (sample.log_ratio >= low) & (sample.log_ratio <= high)
    return FittedBand(
        low=float(np.exp(low)),
        high=float(np.exp(high)),
        rows=len(sample.log_ratio),
        groups=len({*zip(sample.system, sample.model, strict=True)}),
        stretch=float(stretch),
        in_sample_frac=float(inside.mean()),
        left_out_model_frac=by_model(float(stretch)),
        left_out_system_frac=_left_out(sample, systems)(float(stretch)) if len(set(sample.system)) > 1 else None,
    )


def _left_out(sample: _Sample, label: Array) -> Callable[[float], float]:
    """Share of rows inside the band that is fitted without their own label, by stretch."""
    ends = np.array([sample.quantiles(label != one) for one in np.unique(label)])
    own = ends[np.unique(label, return_inverse=True)[1]]

    def covered(stretch: float) -> float:
        inside = (sample.log_ratio >= stretch * own[:, 0]) & (sample.log_ratio <= stretch * own[:, 1])
        return float(inside.mean())

    return covered
