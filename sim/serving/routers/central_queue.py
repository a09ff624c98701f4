"""One central queue."""

from __future__ import annotations

import numpy as np

from sim.serving.routers.base import ROUTERS, Fleet


@ROUTERS.register("central_queue")
class CentralQueue:
    """Holds requests in one queue and sends one only to a replica with a free running slot (M/M/c discipline)."""

    def __init__(self, fleet: Fleet, rng: np.random.Generator) -> None:
        self._outstanding = fleet.outstanding
        self._slots = fleet.slots

    def choose(self, request: int) -> int | None:
        """The least loaded replica if it has a free slot, else None."""
        outstanding = self._outstanding
        best = outstanding.index(min(outstanding))
        return best if outstanding[best] < self._slots[best] else None
