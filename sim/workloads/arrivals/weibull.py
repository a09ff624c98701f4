"""Arrivals with Weibull gaps, the other two-parameter law found in production traces."""

from __future__ import annotations

from functools import cached_property
from math import exp, lgamma, sqrt
from typing import Literal

import numpy as np
from pydantic import Field

from sim.core import Array
from sim.workloads.arrivals.base import ARRIVALS, Renewal


def weibull_cv(shape: float) -> float:
    """Coefficient of variation of a Weibull law with the given shape."""
    squared = float(np.expm1(lgamma(1 + 2 / shape) - 2 * lgamma(1 + 1 / shape)))
    return sqrt(squared)


@ARRIVALS.register("weibull")
class Weibull(Renewal):
    """Weibull gaps with a given CV: heavier tail than gamma at the same CV.

    Attributes:
        cv: Coefficient of variation of the gaps.
    """

    kind: Literal["weibull"]
    cv: float = Field(ge=0.05, le=30)

    @cached_property
    def shape(self) -> float:
        """The shape parameter that gives `cv`."""
        from scipy.optimize import brentq

        return float(brentq(lambda shape: weibull_cv(shape) - self.cv, 0.1, 40.0, xtol=1e-12))

    def unit_gaps(self, count: int, rng: np.random.Generator) -> Array:
        """Weibull gaps of mean 1."""
        return rng.standard_exponential(count) ** (1 / self.shape) / exp(lgamma(1 + 1 / self.shape))
