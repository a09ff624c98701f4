"""Lengths spread over orders of magnitude."""

from __future__ import annotations

from math import log
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from sim.core import Array
from sim.workloads.lengths.base import LENGTHS, Marginal


@LENGTHS.register("lognormal")
class Lognormal(Marginal):
    """A lognormal law truncated to `min` and `max`; `median` is that before truncation.

    Attributes:
        median: Median tokens.
        sigma: Standard deviation of the natural logarithm.
        min: Fewest tokens.
        max: Most tokens; None for no limit.
    """

    kind: Literal["lognormal"]
    median: float = Field(gt=0)
    sigma: float = Field(gt=0, le=5)
    min: int = Field(default=1, ge=1)
    max: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _around_the_median(self) -> Lognormal:
        if not self.min <= self.median <= (self.max or float("inf")):
            raise ValueError("`median` must lie between `min` and `max`")
        return self

    def quantile(self, level: Array) -> Array:
        """Tokens at `level`."""
        from scipy.special import ndtr, ndtri

        low = ndtr(log(self.min / self.median) / self.sigma)
        high = 1.0 if self.max is None else ndtr(log(self.max / self.median) / self.sigma)
        return np.asarray(self.median * np.exp(self.sigma * ndtri(low + level * (high - low))), dtype=np.float64)
