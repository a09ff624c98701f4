"""Random routing."""

from __future__ import annotations

import numpy as np

from sim.serving.routers.base import ROUTERS, Fleet

_BATCH = 4096


@ROUTERS.register("random")
class RandomChoice:
    """A replica drawn uniformly, from the run's own stream `router`."""

    def __init__(self, fleet: Fleet, rng: np.random.Generator) -> None:
        self._count = len(fleet.outstanding)
        self._rng = rng
        self._drawn: list[int] = []

    def choose(self, request: int) -> int:
        """The next draw."""
        if not self._drawn:
            self._drawn = self._rng.integers(0, self._count, _BATCH).tolist()
        return self._drawn.pop()
