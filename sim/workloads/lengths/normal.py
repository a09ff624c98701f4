"""Lengths around a mean, cut off at both ends."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from sim.core import Array
from sim.workloads.lengths.base import LENGTHS, Marginal


@LENGTHS.register("normal")
class Normal(Marginal):
    """A normal law truncated to `min` and `max`; `mean` and `sd` are those before truncation.

    Attributes:
        mean: Mean tokens.
        sd: Standard deviation [tokens].
        min: Fewest tokens.
        max: Most tokens; None for no limit.
    """

    kind: Literal["normal"]
    mean: float = Field(gt=0)
    sd: float = Field(gt=0)
    min: int = Field(default=1, ge=1)
    max: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _around_the_mean(self) -> Normal:
        if not self.min <= self.mean <= (self.max or float("inf")):
            raise ValueError("`mean` must lie between `min` and `max`")
        return self

    def quantile(self, level: Array) -> Array:
        """Tokens at `level`."""
        from scipy.special import ndtr, ndtri

        low = ndtr((self.min - self.mean) / self.sd)
        high = 1.0 if self.max is None else ndtr((self.max - self.mean) / self.sd)
        return np.asarray(self.mean + self.sd * ndtri(low + level * (high - low)), dtype=np.float64)
