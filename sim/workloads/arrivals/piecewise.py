"""Arrivals whose rate changes from window to window, as in production over minutes and hours."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from sim.core import Array, RatePerS, Spec, TimeS
from sim.workloads.arrivals.base import ARRIVALS, ArrivalProcess
from sim.workloads.arrivals.gamma import unit_gamma_gaps


class RateWindow(Spec):
    """From `start` on, until the next window, `rate` arrivals per second (0 for a pause)."""

    start: TimeS
    rate: RatePerS | Literal[0]


@ARRIVALS.register("piecewise")
class Piecewise(ArrivalProcess):
    """Piecewise constant rate with Poisson or gamma gaps inside; repeats after its period.

    A unit-rate renewal process is run in operational time (expected arrivals so far) and mapped to the clock.

    Attributes:
        period: When the pattern starts over, after the last window's start.
        windows: Rates from ascending start times, the first at 0.
        process: Law of the gaps in operational time.
        cv: Their coefficient of variation, for `gamma`.
    """

    kind: Literal["piecewise"]
    period: TimeS
    windows: tuple[RateWindow, ...] = Field(min_length=1)
    process: Literal["poisson", "gamma"] = "poisson"
    cv: float = Field(default=1.0, gt=0, le=100)

    @model_validator(mode="after")
    def _ordered(self) -> Piecewise:
        starts = [window.start for window in self.windows]
        if starts[0] != 0 or any(b <= a for a, b in zip(starts, [*starts[1:], self.period], strict=True)):
            raise ValueError("window starts must ascend from 0 s and end before `period`")
        if not any(window.rate for window in self.windows):
            raise ValueError("at least one window needs a rate above zero")
        if self.process == "poisson" and self.cv != 1:
            raise ValueError("`cv` belongs to `process: gamma`")
        return self

    @property
    def mean_rate(self) -> float:
        """Arrivals per period over the period [1/s]."""
        return float(self._expected()[-1] / self.period)

    def _expected(self) -> Array:
        """Expected arrivals at the window starts and at the end of the period."""
        edges = np.array([*(window.start for window in self.windows), self.period])
        rates = np.array([float(window.rate) for window in self.windows])
        return np.concatenate(([0.0], np.cumsum(rates * np.diff(edges))))

    def times(self, count: int, rng: np.random.Generator) -> Array:
        """`count` arrival times [s], the first at 0."""
        steps = count - 1
        gaps = rng.standard_exponential(steps) if self.process == "poisson" else unit_gamma_gaps(self.cv, steps, rng)
        expected = self._expected()
        laps, within = np.divmod(np.concatenate(([0.0], np.cumsum(gaps))), expected[-1])
        window = np.searchsorted(expected, within, side="right") - 1  # the last of equal values: after any pause
        starts = np.array([window.start for window in self.windows])
        rates = np.array([float(window.rate) for window in self.windows])
        times = laps * self.period + starts[window] + (within - expected[window]) / rates[window]
        return np.asarray(times - times[0], dtype=np.float64)
