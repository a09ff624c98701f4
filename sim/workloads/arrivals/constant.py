"""Evenly spaced arrivals."""

from __future__ import annotations

from typing import Literal

import numpy as np

from sim.core import Array
from sim.workloads.arrivals.base import ARRIVALS, Renewal


@ARRIVALS.register("constant")
class Constant(Renewal):
    """Equal gaps (CV 0): a paced load generator."""

    kind: Literal["constant"]

    def unit_gaps(self, count: int, rng: np.random.Generator) -> Array:
        """Gaps of exactly 1; draws nothing."""
        return np.ones(count)
