"""Round robin."""

from __future__ import annotations

import numpy as np

from sim.serving.routers.base import ROUTERS, Fleet


@ROUTERS.register("round_robin")
class RoundRobin:
    """Replicas in turn, whatever their load."""

    def __init__(self, fleet: Fleet, rng: np.random.Generator) -> None:
        self._count = len(fleet.outstanding)
        self._next = -1

    def choose(self, request: int) -> int:
        """The replica after the last one chosen."""
        self._next = (self._next + 1) % self._count
        return self._next
