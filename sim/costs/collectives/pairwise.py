"""Pairwise exchange: all-to-all as one direct message per pair of ranks."""

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

PEER_SHARE = 0.25
"""Share of a step latency that one more peer costs, since messages to several peers are in flight together.

H100 NCCL: 8.4 us for eight ranks against 5.8 us for the two-rank floor (AIConfigurator core 0.12.0)."""


@COLLECTIVES.register("pairwise")
class Pairwise:
    """Every rank sends 1/n of its buffer straight to every other; local and remote messages flow together.

    `t = base + latency + (n-1) share latency + max(S (m-1)/n / B_local, S (n-m)/n / B_nic)` with m ranks a domain. On a
    torus messages cross several links, which divides the rate by the mean number of hops, D side/4.
    """

    library: ClassVar[Literal["nccl", "custom"]] = "nccl"
    measured: ClassVar[bool] = False

    def bind(self, kind: str, group: CommGroup, engine: str) -> Timer | None:
        """A timer for all_to_all; None for other kinds."""
        if kind != "all_to_all":
            return None
        local_peers = min(group.ranks_per_node, group.ranks) - 1
        remote_peers = group.ranks - 1 - local_peers
        local_step, step = per_step_s(local_step_latency_s(group)), per_step_s(step_latency_s(group))
        fixed_s = BASE_LATENCY_S + step + PEER_SHARE * (local_peers * local_step + remote_peers * step)
        local_s = local_peers / group.ranks / local_rate(group) * _mean_hops(group)
        per_byte_s = max(local_s, remote_peers / group.ranks / rail_rate(group))
        return lambda size_bytes: fixed_s + size_bytes * per_byte_s


def _mean_hops(group: CommGroup) -> float:
    """Mean links crossed by a message inside the domain: 1 unless it is a torus of `dimensions` rings."""
    link = group.intra
    if link is None or link.topology != "torus" or link.p2p_bytes_per_s <= 0.0:
        return 1.0
    dimensions = max(1.0, round(link.bytes_per_s / link.p2p_bytes_per_s / 2.0))
    return max(1.0, dimensions * math.pow(group.ranks_per_node, 1.0 / dimensions) / 4.0)
