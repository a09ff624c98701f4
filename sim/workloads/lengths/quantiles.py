"""Lengths measured somewhere, kept as a few quantiles."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from sim.core import Array
from sim.workloads.lengths.base import LENGTHS, Marginal


@LENGTHS.register("quantiles")
class Quantiles(Marginal):
    """A measured law: straight lines between quantiles.

    Attributes:
        levels: Shares of requests, ascending from 0 to 1.
        tokens_at: Tokens at those shares, never descending.
    """

    kind: Literal["quantiles"]
    levels: tuple[float, ...] = Field(min_length=2)
    tokens_at: tuple[float, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _a_quantile_function(self) -> Quantiles:
        if len(self.levels) != len(self.tokens_at):
            raise ValueError(f"{len(self.levels)} levels but {len(self.tokens_at)} values in `tokens_at`")
        if self.levels[0] != 0 or self.levels[-1] != 1 or np.any(np.diff(self.levels) <= 0):
            raise ValueError("`levels` must ascend from 0 to 1")
        if self.tokens_at[0] < 1 or np.any(np.diff(self.tokens_at) < 0):
            raise ValueError("`tokens_at` must start at 1 or more and never descend")
        return self

    def quantile(self, level: Array) -> Array:
        """Tokens at `level`."""
        return np.interp(level, self.levels, self.tokens_at)
