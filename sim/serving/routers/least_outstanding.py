"""Least outstanding requests."""

from __future__ import annotations

import numpy as np

from sim.serving.routers.base import ROUTERS, Fleet


@ROUTERS.register("least_outstanding")
class LeastOutstanding:
    """The replica with the fewest unfinished requests; the lowest number among equals."""

    def __init__(self, fleet: Fleet, rng: np.random.Generator) -> None:
        self._outstanding = fleet.outstanding

    def choose(self, request: int) -> int:
        """The replica least loaded now."""
        outstanding = self._outstanding
        return outstanding.index(min(outstanding))
