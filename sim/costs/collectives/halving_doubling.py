"""Recursive halving and doubling: few steps and little data, for libraries that pair ranks (MPI, Gloo).

NCCL does not offer it, so no simulation chooses it and no field of a scenario names it: it is there to be compared with
those that are, from Python (`COLLECTIVES.get("halving_doubling")().bind(kind, group, engine)` returns its timer).
"""

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


@COLLECTIVES.register("halving_doubling")
class HalvingDoubling:
    """Halves the buffer with partners ever elsewhere to reduce it, doubles it to gather; to be compared, never chosen.

    `log2 n` steps each way (Thakur, Rabenseifner & Gropp 2005). Partners in the same domain come first, with the large
    halves, so that of m ranks a domain each sends `(m-1)/m S` inside it and `(k-1)/(k m) S` over its rail to the k
    domains. Where domains or their ranks are no power of two, those beyond it hand all they have to a partner before,
    and get it back after.
    """

    library: ClassVar[Literal["nccl", "custom", "other"]] = "other"
    measured: ClassVar[bool] = False

    def bind(self, kind: str, group: CommGroup, engine: str) -> Timer | None:
        """A timer for all_reduce, all_gather or reduce_scatter; None for other kinds."""
        if kind not in ("all_reduce", "all_gather", "reduce_scatter"):
            return None
        passes = 2.0 if kind == "all_reduce" else 1.0
        fixed_s, per_byte_s, share = BASE_LATENCY_S, 0.0, 1.0
        for ranks, latency_s, rate in (
            (group.ranks_per_node, local_step_latency_s(group), local_rate(group)),
            (group.nodes, step_latency_s(group), rail_rate(group)),
        ):
            steps = math.floor(math.log2(ranks))
            fixed_s += passes * steps * per_step_s(latency_s) if steps else 0.0
            per_byte_s += passes * share * (1.0 - 2.0**-steps) / rate
            if 2**steps < ranks:
                fixed_s += passes * per_step_s(latency_s)
                per_byte_s += passes * share / rate
            share *= 2.0**-steps
        return lambda size_bytes: fixed_s + size_bytes * per_byte_s
