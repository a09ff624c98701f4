"""Arrivals with gamma gaps: burstier or calmer than Poisson by one number."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from sim.core import Array
from sim.workloads.arrivals.base import ARRIVALS, Renewal


def unit_gamma_gaps(cv: float, count: int, rng: np.random.Generator) -> Array:
    """`count` gamma gaps of mean 1 and coefficient of variation `cv`."""
    shape = cv**-2
    return rng.standard_gamma(shape, count) / shape


@ARRIVALS.register("gamma")
class Gamma(Renewal):
    """Gamma gaps: bursty for CV above 1, regular below, Poisson at 1.

    Attributes:
        cv: Coefficient of variation of the gaps.
    """

    kind: Literal["gamma"]
    cv: float = Field(gt=0, le=100)

    def unit_gaps(self, count: int, rng: np.random.Generator) -> Array:
        """Gamma gaps of mean 1."""
        return unit_gamma_gaps(self.cv, count, rng)
