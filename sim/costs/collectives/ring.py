"""Ring algorithms of communication libraries: all-reduce, all-gather, reduce-scatter."""

from __future__ import annotations

from typing import ClassVar, Literal

from sim.costs.collectives.base import (
    BASE_LATENCY_S,
    COLLECTIVES,
    Timer,
    local_step_latency_s,
    per_step_s,
    ring_rate,
    step_latency_s,
    wire_factor,
)
from sim.hardware import CommGroup


@COLLECTIVES.register("ring")
class Ring:
    """Ring through all ranks: n-1 steps (all-reduce 2(n-1)), each carrying 1/n of the buffer.

    `t = base + (steps - remote) x local latency + remote x network latency + w S/B`, where a ring through k domains
    crosses the network in k-1 of the n-1 steps on its critical path (the latency model of NCCL's `tuning.cc`);
    bandwidth-optimal for large buffers (Patarasuk & Yuan 2009). Across domains every local rank leads one ring through
    its own rail, so a domain's interfaces work together.
    """

    library: ClassVar[Literal["nccl", "custom"]] = "nccl"
    measured: ClassVar[bool] = False

    def bind(self, kind: str, group: CommGroup, engine: str) -> Timer | None:
        """A timer for all_reduce, all_gather or reduce_scatter; None for other kinds."""
        if kind not in ("all_reduce", "all_gather", "reduce_scatter"):
            return None
        passes = 2 if kind == "all_reduce" else 1
        remote = passes * (group.nodes - 1)
        local = passes * (group.ranks - 1) - remote
        fixed_s = BASE_LATENCY_S + remote * per_step_s(step_latency_s(group))
        fixed_s += local * per_step_s(local_step_latency_s(group))
        per_byte_s = wire_factor(kind, group.ranks) / ring_rate(group)
        return lambda size_bytes: fixed_s + size_bytes * per_byte_s
