"""Hierarchical all-reduce: reduce-scatter inside each domain, all-reduce along the rails, all-gather inside."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

from sim.costs.collectives.base import BASE_LATENCY_S, COLLECTIVES, Timer, per_step_s, rail_rate, step_latency_s
from sim.costs.collectives.measured import NcclMeasured
from sim.costs.collectives.ring import Ring
from sim.hardware import CommGroup


@COLLECTIVES.register("hierarchical")
class Hierarchical:
    """Three phases that add up: local reduce-scatter of S, all-reduce of S/m on each of m rails, local all-gather.

    Needs fewer remote bytes than a flat ring, `2(k-1)/k S/m` a rail for k domains, and only 2(k-1) remote steps.
    """

    library: ClassVar[Literal["nccl", "custom"]] = "nccl"
    measured: ClassVar[bool] = False

    def bind(self, kind: str, group: CommGroup, engine: str) -> Timer | None:
        """A timer for all_reduce over several domains with at least two ranks each; otherwise None."""
        if kind != "all_reduce" or group.nodes < 2 or group.ranks_per_node < 2 or group.intra is None:
            return None
        local = replace(group, ranks=group.ranks_per_node, nodes=1, inter=None, bytes_per_s=group.intra.bytes_per_s)
        phases = [NcclMeasured().bind(part, local, engine) or Ring().bind(part, local, engine) for part in _LOCAL]
        scatter, gather = phases
        if scatter is None or gather is None:
            return None
        steps = 2 * (group.nodes - 1)
        fixed_s = BASE_LATENCY_S + steps * per_step_s(step_latency_s(group))
        per_byte_s = steps / group.nodes / group.ranks_per_node / rail_rate(group)
        return lambda size_bytes: scatter(size_bytes) + gather(size_bytes) + fixed_s + size_bytes * per_byte_s


_LOCAL = ("reduce_scatter", "all_gather")
