"""One-shot all-reduce of the engines: every rank reads all other buffers and sums them itself."""

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
)
from sim.hardware import CommGroup

CUSTOM_MAX_RANKS = 8
"""Largest group for which the engines' one-kernel all-reduce exists."""

CUSTOM_MAX_BYTES = 8.0 * 2**20
"""Largest message they hand to it (vLLM's default; larger ones go to the communication library)."""

ENGINES_WITH_CUSTOM = ("vllm", "sglang", "trtllm")


def custom_applies(kind: str, group: CommGroup, engine: str) -> bool:
    """True where an engine uses its own all-reduce: one domain of 2, 4, 6 or 8 directly connected devices."""
    if kind != "all_reduce" or engine not in ENGINES_WITH_CUSTOM or group.nodes > 1 or group.intra is None:
        return False
    even = group.ranks % 2 == 0 and group.ranks <= CUSTOM_MAX_RANKS
    return even and (group.intra.topology in ("switch", "mesh") or group.ranks == 2)


@COLLECTIVES.register("one_shot")
class OneShot:
    """One step, all bytes: `t = base + latency + (n-1) S/B`; the fastest for small messages."""

    library: ClassVar[Literal["nccl", "custom"]] = "custom"
    measured: ClassVar[bool] = False

    def bind(self, kind: str, group: CommGroup, engine: str) -> Timer | None:
        """A timer for all_reduce where the engine has its own kernel; otherwise None."""
        if not custom_applies(kind, group, engine):
            return None
        fixed_s = CUSTOM_LATENCY_S + per_step_s(local_step_latency_s(group))
        per_byte_s = (group.ranks - 1) / local_rate(group)
        return lambda size_bytes: np.where(size_bytes <= CUSTOM_MAX_BYTES, fixed_s + size_bytes * per_byte_s, np.inf)
