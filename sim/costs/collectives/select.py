"""Choice of the algorithm: the fastest that the library or the engine offers on this group, by message size."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from sim.core import Array, InputError
from sim.costs.collectives.base import COLLECTIVES, Timer, scale_up_bytes_per_s, wire_factor
from sim.hardware import CommGroup

_LARGE_BYTES: Final = 2.0**30
_EXCHANGE: Final = "expert_exchange"
"""The kernel of an engine by which it exchanges tokens of experts where it has one, whatever a library would take."""

KINDS = ("all_gather", "all_reduce", "all_to_all", "p2p", "reduce_scatter")


class BoundCollective(NamedTuple):
    """A collective of one kind on one group, ready to time messages.

    Attributes:
        names: Algorithms in the running, in the order of `timers`.
        timers: Their timers.
        bound_s_per_byte: Lower bound on the time per byte of buffer [s/B].
        fixed_s: Time of the smallest message [s].
        source: The algorithms and where their figures come from.
    """

    names: tuple[str, ...]
    timers: tuple[Timer, ...]
    bound_s_per_byte: float
    fixed_s: float
    source: str = ""

    def time_s(self, size_bytes: Array) -> Array:
        """Time [s] of messages of `size_bytes`: the fastest algorithm, never below the bound; 0 for no bytes."""
        size = np.asarray(size_bytes, dtype=np.float64)
        if not self.timers:
            return np.zeros_like(size)
        fastest = self.timers[0](size)
        for timer in self.timers[1:]:
            fastest = np.minimum(fastest, timer(size))
        return np.where(size > 0.0, np.maximum(fastest, size * self.bound_s_per_byte), 0.0)

    @property
    def bytes_per_s(self) -> float:
        """Rate at which a large buffer grows larger without a longer time [B/s]; infinite for a group of one."""
        if not self.timers:
            return float("inf")
        small, large = self.time_s(np.array([_LARGE_BYTES, 2.0 * _LARGE_BYTES])).tolist()
        return _LARGE_BYTES / float(large - small)

    def chosen(self, size_bytes: float) -> str:
        """Name of the algorithm that a message of `size_bytes` uses; `none` for a group of one."""
        if not self.timers:
            return "none"
        times = [float(timer(np.asarray(size_bytes, dtype=np.float64))) for timer in self.timers]
        return self.names[times.index(min(times))]


def bind_collective(kind: str, group: CommGroup, *, engine: str = "vllm") -> BoundCollective:
    """The algorithms that may carry out `kind` on `group`, where measured curves replace formulas of their library.

    Raises:
        InputError: if the kind is unknown or nothing can carry it out.
    """
    if kind not in KINDS:
        raise InputError(f"unknown collective {kind!r}", value=kind, allowed=KINDS)
    if group.ranks < 2:
        return BoundCollective((), (), 0.0, 0.0)
    found = []
    for name in COLLECTIVES.names():
        algorithm = COLLECTIVES.get(name)()
        timer = None if algorithm.library == "other" else algorithm.bind(kind, group, engine)
        if timer is not None:
            found.append((name, algorithm.library, algorithm.measured, timer))
    replaced = {library for _, library, measured, _ in found if measured}
    kept = [(name, timer) for name, library, measured, timer in found if measured or library not in replaced]
    own = [(name, timer) for name, timer in kept if name == _EXCHANGE]
    kept = own or kept
    if not kept:
        raise InputError(f"no algorithm for {kind} over {group.ranks} ranks", hint="plansim list collectives")
    smallest = min(float(timer(np.asarray(1.0))) for _, timer in kept)
    names, timers = zip(*kept, strict=True)
    return BoundCollective(names, timers, lower_bound_s_per_byte(kind, group), smallest, _source(kind, group, names))


def _source(kind: str, group: CommGroup, names: tuple[str, ...]) -> str:
    """Algorithms in the running, the links they run on, and the measurements among their figures."""
    links = [link for link in (group.intra, group.inter) if link is not None]
    text = f"{', '.join(names)} on {', '.join(dict.fromkeys(link.name for link in links))}"
    fitted = {curve.source for link in links for curve in link.collectives.get(kind, ()) if "measured" in str(names)}
    return text + "".join(f"; {source}" for source in sorted(fitted))


def lower_bound_s_per_byte(kind: str, group: CommGroup) -> float:
    """Least time per byte of buffer [s/B] at the listed rates of the links, per direction.

    Inside a domain a rank sends `w S`, or `S` once when the switch reduces. Across k domains the m interfaces of a
    domain together send `2(k-1)/k S` (all-reduce) or `(k-1)/k S`; in an all-to-all each rank sends what leaves its
    domain over its own interface.
    """
    if group.ranks < 2:
        return 0.0
    bounds = [0.0]
    ranks, nodes, local_ranks = group.ranks, group.nodes, group.ranks_per_node
    if nodes == 1 and group.intra is not None:
        if kind == "p2p":
            return 1.0 / group.intra.p2p_bytes_per_s
        wire = wire_factor(kind, ranks)
        if kind == "all_reduce" and group.intra.in_network_reduction:
            wire = min(wire, 1.0)
        bounds.append(wire / scale_up_bytes_per_s(group.intra, ranks))
    elif group.inter is not None:
        rail = group.inter.bytes_per_s
        if kind == "p2p":
            return 1.0 / rail
        leaving = (ranks - local_ranks) / ranks if kind == "all_to_all" else wire_factor(kind, nodes) / local_ranks
        bounds.append(leaving / rail)
    return max(bounds)
