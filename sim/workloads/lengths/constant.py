"""One length for all."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from sim.core import Array
from sim.workloads.lengths.base import LENGTHS, Marginal


@LENGTHS.register("constant")
class Constant(Marginal):
    """The same length for every request.

    Attributes:
        value: Tokens.
    """

    kind: Literal["constant"]
    value: int = Field(ge=1)

    def quantile(self, level: Array) -> Array:
        """The value, whatever the level."""
        return np.full(level.shape, float(self.value))
