"""Point-to-point message: one rank to its neighbour, as between pipeline stages."""

from __future__ import annotations

from typing import ClassVar, Literal

from sim.costs.collectives.base import BASE_LATENCY_S, COLLECTIVES, Timer, per_step_s, rail_rate, step_latency_s
from sim.hardware import CommGroup


@COLLECTIVES.register("direct")
class Direct:
    """One message: `t = base + latency + S/B`, over the network interface if the group spans several domains."""

    library: ClassVar[Literal["nccl", "custom"]] = "nccl"
    measured: ClassVar[bool] = False

    def bind(self, kind: str, group: CommGroup, engine: str) -> Timer | None:
        """A timer for p2p; None for other kinds."""
        if kind != "p2p":
            return None
        rate = rail_rate(group)
        if group.nodes == 1 and group.intra is not None:
            rate = group.intra.p2p_bytes_per_s * group.intra.achieved_frac
        fixed_s = BASE_LATENCY_S + per_step_s(step_latency_s(group))
        return lambda size_bytes: fixed_s + size_bytes / rate
