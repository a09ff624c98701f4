"""What a law of lengths must offer, and the registry of them.

A law describes one count of tokens (of prompts or of outputs) by its quantile function, so that any two can be joined.
Lengths have their own random stream and never depend on the arrival rate.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from sim.core import Array, Registry, Spec

Tokens = NDArray[np.int64]
LENGTHS: Registry[type[Marginal]] = Registry("length", package="sim.workloads.lengths")


class Marginal(Spec, ABC):
    """A law of one count of tokens.

    Subclasses add a field `kind: Literal["<registered name>"]` and their parameters.
    """

    kind: str

    @abstractmethod
    def quantile(self, level: Array) -> Array:
        """Tokens (not rounded) below which the share `level` in (0, 1) of requests lies; ascending in `level`."""

    def tokens(self, level: Array) -> Tokens:
        """Whole tokens, at least 1, at the share `level`."""
        return np.maximum(np.rint(self.quantile(level)), 1).astype(np.int64)
