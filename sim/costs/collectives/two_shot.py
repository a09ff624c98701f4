"""Two-shot all-reduce of the engines: reduce-scatter, then all-gather, both by direct reads in one kernel."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from sim.costs.collectives.base import (
    COLLECTIVES,
    CUSTOM_LATENCY_S,
    Timer,
    local_rate,
    local_step_latency_s,
    per_step_s,
    wire_factor,
)
from sim.costs.collectives.one_shot import CUSTOM_MAX_BYTES, custom_applies
from sim.hardware import CommGroup


@COLLECTIVES.register("two_shot")
class TwoShot:
    """Two steps, each rank sums 1/n: `t = base + 2 latency + 2(n-1)/n S/B`, up to the engines' message limit."""

    library: ClassVar[Literal["nccl", "custom"]] = "custom"
    measured: ClassVar[bool] = False

    def bind(self, kind: str, group: CommGroup, engine: str) -> Timer | None:
        """A timer for all_reduce where the engine has its own kernel; otherwise None."""
        if not custom_applies(kind, group, engine):
            return None
        fixed_s = CUSTOM_LATENCY_S + 2.0 * per_step_s(local_step_latency_s(group))
        per_byte_s = wire_factor(kind, group.ranks) / local_rate(group)
        return lambda size_bytes: np.where(size_bytes <= CUSTOM_MAX_BYTES, fixed_s + size_bytes * per_byte_s, np.inf)
