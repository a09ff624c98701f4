"""All-reduce summed inside the switch (NVLink SHARP): each rank sends and receives its buffer once."""

from __future__ import annotations

from typing import ClassVar, Literal

from sim.costs.collectives.base import (
    BASE_LATENCY_S,
    COLLECTIVES,
    Timer,
    local_step_latency_s,
    per_step_s,
)
from sim.hardware import CommGroup

NVLS_RATE_FRAC = 0.61
"""Share of a direction's listed rate that the reduced buffer flows at: 482 GB/s of bus bandwidth on 8 H200, so
482/1.75 of 450 (public nccl-tests results of S. Bekman, Machine Learning Engineering)."""

NVLS_MIN_RANKS = 5
"""In the same results four ranks still run at the ring's rate, five are the first above it."""


@COLLECTIVES.register("nvls")
class Nvls:
    """In-switch reduction: `t = base + 2 latency + S/B`, for groups where it beats the ring."""

    library: ClassVar[Literal["nccl", "custom"]] = "nccl"
    measured: ClassVar[bool] = False

    def bind(self, kind: str, group: CommGroup, engine: str) -> Timer | None:
        """A timer for all_reduce inside one switched domain that can reduce; otherwise None."""
        if kind != "all_reduce" or group.nodes > 1 or group.ranks < NVLS_MIN_RANKS or group.intra is None:
            return None
        if group.intra.topology != "switch" or not group.intra.in_network_reduction:
            return None
        fixed_s = BASE_LATENCY_S + 2.0 * per_step_s(local_step_latency_s(group))
        rate = NVLS_RATE_FRAC * min(group.intra.bytes_per_s, group.bytes_per_s)
        return lambda size_bytes: fixed_s + size_bytes / rate
