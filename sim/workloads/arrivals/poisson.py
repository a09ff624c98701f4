"""Poisson arrivals: many independent users."""

from __future__ import annotations

from typing import Literal

import numpy as np

from sim.core import Array
from sim.workloads.arrivals.base import ARRIVALS, Renewal


@ARRIVALS.register("poisson")
class Poisson(Renewal):
    """Exponential gaps (CV 1): many independent users."""

    kind: Literal["poisson"]

    def unit_gaps(self, count: int, rng: np.random.Generator) -> Array:
        """Exponential gaps of mean 1."""
        return rng.standard_exponential(count)
