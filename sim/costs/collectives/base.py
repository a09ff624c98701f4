"""What a collective algorithm is, and the quantities that several of them share.

An algorithm binds to a group of ranks once (`bind`) and then times any number of messages, so that a plan pays for
its choice of parameters one time. Sizes are of the whole buffer: what every rank reduces (all_reduce), what every
rank ends up with (all_gather), starts from (reduce_scatter) or sends in total (all_to_all, p2p).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar, Literal, Protocol, TypeAlias

from sim.core import Array, Registry
from sim.hardware import CommGroup, Link

Timer: TypeAlias = Callable[[Array], Array]
"""Time [s] of a message as a function of its size [B]."""

BASE_LATENCY_S = 4.4e-6
"""Start of a library collective besides its steps: the a0 of NCCL 2.29 on H100 (fit to AIConfigurator core 0.12.0)."""

CUSTOM_LATENCY_S = 2.5e-6
"""Start of an engine's one-kernel all-reduce: SGLang and TensorRT-LLM floors on H100 (AIConfigurator core 0.12.0)."""


class Algorithm(Protocol):
    """One way to carry out a collective.

    Attributes:
        library: Who offers it: NCCL, the engine's own kernel, or a library that none of the engines uses. The last are
            there to be compared, and never chosen.
        measured: True when its times come from a measured curve; it then replaces the same library's formulas.
    """

    library: ClassVar[Literal["nccl", "custom", "other"]]
    measured: ClassVar[bool]

    def bind(self, kind: str, group: CommGroup, engine: str) -> Timer | None:
        """A timer of `kind` (such as `all_reduce`) on this group, or None where the algorithm does not apply."""
        ...


COLLECTIVES: Registry[type[Algorithm]] = Registry("collective", package="sim.costs.collectives")


def wire_factor(kind: str, ranks: int) -> float:
    """Bytes that a rank must send per byte of buffer without in-network reduction: 2(n-1)/n or (n-1)/n; p2p 1."""
    if kind == "p2p":
        return 1.0
    return (2.0 if kind == "all_reduce" else 1.0) * (ranks - 1) / ranks


def scale_up_bytes_per_s(link: Link, ranks: int) -> float:
    """Listed rate [B/s] at which one of `ranks` devices sends to the others inside a scale-up domain.

    Without a switch (full mesh) a device drives only the links to the members of the group.
    """
    if link.topology == "mesh":
        return min(link.bytes_per_s, (ranks - 1) * link.p2p_bytes_per_s)
    return link.bytes_per_s


def local_rate(group: CommGroup) -> float:
    """Achieved rate [B/s] per rank inside a domain; inf where every rank has its own domain."""
    if group.intra is None or group.ranks_per_node < 2:
        return math.inf
    rate = scale_up_bytes_per_s(group.intra, group.ranks_per_node)
    if group.nodes == 1:
        rate = min(rate, group.bytes_per_s)
    return rate * group.intra.achieved_frac


def rail_rate(group: CommGroup) -> float:
    """Achieved rate [B/s] of one rank's network interface; inf inside one domain."""
    if group.inter is None or group.nodes < 2:
        return math.inf
    return group.inter.bytes_per_s * group.inter.achieved_frac


def ring_rate(group: CommGroup) -> float:
    """Achieved rate [B/s] of a ring through all ranks: the local links, or the rails of a domain together."""
    rails = rail_rate(group) * group.ranks_per_node
    if group.nodes > 1 and group.inter is not None:
        rails = min(rails, group.bytes_per_s * group.inter.achieved_frac)
    return min(local_rate(group), rails)


def step_latency_s(group: CommGroup) -> float:
    """Latency [s] of one step in which all ranks pass data on: that of the slowest link crossed."""
    if group.nodes > 1 and group.inter is not None:
        return group.inter.latency_s
    return 0.0 if group.intra is None else group.intra.latency_s


def local_step_latency_s(group: CommGroup) -> float:
    """Latency [s] of one step inside a scale-up domain."""
    return 0.0 if group.intra is None else group.intra.latency_s


def per_step_s(link_latency_s: float) -> float:
    """Time [s] that one more step adds, from a link's small-message latency.

    A library's small-message latency is that of a whole two-rank exchange; with the start (`BASE_LATENCY_S`) taken
    off, a step remains, and never less than half a microsecond.
    """
    return max(link_latency_s - BASE_LATENCY_S, 0.5e-6)
