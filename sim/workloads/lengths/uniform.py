"""Every length in a range equally often."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from sim.core import Array
from sim.workloads.lengths.base import LENGTHS, Marginal


@LENGTHS.register("uniform")
class Uniform(Marginal):
    """Every whole number from `min` to `max` equally often.

    Attributes:
        min: Fewest tokens.
        max: Most tokens.
    """

    kind: Literal["uniform"]
    min: int = Field(ge=1)
    max: int = Field(ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> Uniform:
        if self.max < self.min:
            raise ValueError("`max` must not be below `min`")
        return self

    def quantile(self, level: Array) -> Array:
        """The whole number at `level`."""
        return np.minimum(np.floor(self.min + level * (self.max - self.min + 1)), float(self.max))
