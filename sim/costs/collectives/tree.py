"""Double binary tree all-reduce of communication libraries: few steps, for middling messages and many nodes."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from sim.costs.collectives.base import (
    BASE_LATENCY_S,
    COLLECTIVES,
    Timer,
    local_rate,
    local_step_latency_s,
    per_step_s,
    rail_rate,
    step_latency_s,
)
from sim.hardware import CommGroup

TREE_RATE_FRAC = 0.92
"""Share of the link rate that pipelined trees reach (NCCL's tuning model takes 0.92 of the ring's for all-reduce)."""


@COLLECTIVES.register("tree")
class Tree:
    """Reduce up and broadcast down two complementary binary trees, each with half of the buffer.

    `t = base + 2 (log2(nodes) inter latency + (m-1) intra latency) + 2 S/B`: every rank sends and receives the buffer
    twice (Sanders, Speck & Traeff 2009); inside a domain NCCL chains the m ranks.
    """

    library: ClassVar[Literal["nccl", "custom"]] = "nccl"
    measured: ClassVar[bool] = False

    def bind(self, kind: str, group: CommGroup, engine: str) -> Timer | None:
        """A timer for all_reduce; None for other kinds."""
        if kind != "all_reduce":
            return None
        hops = math.ceil(math.log2(group.nodes)) * per_step_s(step_latency_s(group)) if group.nodes > 1 else 0.0
        chain = (group.ranks_per_node - 1) * per_step_s(local_step_latency_s(group))
        rate = TREE_RATE_FRAC * min(local_rate(group), rail_rate(group) * group.ranks_per_node)
        fixed_s = BASE_LATENCY_S + 2.0 * (hops + chain)
        return lambda size_bytes: fixed_s + size_bytes * (2.0 / rate)
