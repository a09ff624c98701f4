"""Flows that share links by max-min fairness, re-solved when a flow starts or ends.

A flow crosses a set of links; each link has a capacity. The rates are the unique max-min fair allocation, found by
progressive filling (Bertsekas & Gallager, Data Networks, 2nd ed., section 6.5.2): raise all rates together, freeze the
flows of the link that fills first, go on with the rest. Between two changes rates are constant, so the next completion
is known exactly: one event per change.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field

from sim.kernel.environment import Alarm, Kernel, Priority

Link = Hashable


def max_min_rates(
    paths: Sequence[Sequence[Link]], capacity_bytes_per_s: Mapping[Link, float], weights: Sequence[float] | None = None
) -> list[float]:
    """Max-min fair rate [bytes/s] of each flow.

    Args:
        paths: Links crossed by each flow; an empty path is unconstrained (infinite rate).
        capacity_bytes_per_s: Capacity of each link [bytes/s].
        weights: Share weights, one per flow, above zero; None gives every flow weight 1.

    Raises:
        KeyError: if a path names a link without capacity.
    """
    share = [1.0] * len(paths) if weights is None else list(weights)
    left = {link: capacity_bytes_per_s[link] for path in paths for link in path}
    open_flows = {i for i, path in enumerate(paths) if path}
    rates = [0.0 if path else float("inf") for path in paths]
    while open_flows:
        load: dict[Link, float] = {}
        for i in sorted(open_flows):
            for link in set(paths[i]):
                load[link] = load.get(link, 0.0) + share[i]
        level = min(left[link] / weight for link, weight in load.items())
        full = {link for link, weight in load.items() if left[link] / weight <= level * (1 + 1e-12)}
        for i in sorted(open_flows):
            rates[i] += level * share[i]
        for link, weight in load.items():
            left[link] = max(0.0, left[link] - level * weight)
        open_flows = {i for i in open_flows if not full.intersection(paths[i])}
    return rates


@dataclass(eq=False)
class Flow:
    """One transfer under way.

    Attributes:
        size_bytes: What it carries in all.
        path: Links it crosses.
        left_bytes: What is still to go, as of the network's last change.
        rate_bytes_per_s: Its present share.
        done: Called when the last byte has arrived.
        weight: Share weight of its traffic class.
    """

    size_bytes: float
    path: tuple[Link, ...]
    done: Callable[[], None]
    weight: float = 1.0
    left_bytes: float = field(init=False)
    rate_bytes_per_s: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self.left_bytes = self.size_bytes


class FairShareNetwork:
    """Links of a cluster with the flows on them.

    Args:
        kernel: The clock.
        capacity_bytes_per_s: Capacity of every link, per direction [bytes/s].
    """

    def __init__(self, kernel: Kernel, capacity_bytes_per_s: Mapping[Link, float]) -> None:
        self._kernel = kernel
        self._capacity = dict(capacity_bytes_per_s)
        self._flows: list[Flow] = []
        self._changed_s = kernel.now
        self._alarm: Alarm | None = None

    @property
    def flows(self) -> tuple[Flow, ...]:
        """Flows under way, in order of start."""
        return tuple(self._flows)

    def send(
        self,
        size_bytes: float,
        path: Sequence[Link],
        done: Callable[[], None],
        *,
        latency_s: float = 0.0,
        weight: float = 1.0,
    ) -> None:
        """Starts a flow after `latency_s`; `done` is called when it has arrived.

        Raises:
            ValueError: if the size is negative or a link is unknown.
        """
        unknown = [link for link in path if link not in self._capacity]
        if unknown or size_bytes < 0:
            raise ValueError(f"unknown links {unknown}" if unknown else f"negative size {size_bytes}")
        flow = Flow(size_bytes, tuple(path), done, weight)
        self._kernel.at(self._kernel.now + latency_s, lambda: self._start(flow), priority=Priority.TRANSFER)

    def _start(self, flow: Flow) -> None:
        self._advance()
        self._flows.append(flow)
        self._resolve()

    def _advance(self) -> None:
        elapsed = self._kernel.now - self._changed_s
        self._changed_s = self._kernel.now
        for flow in self._flows:
            flow.left_bytes = max(0.0, flow.left_bytes - flow.rate_bytes_per_s * elapsed)

    def _resolve(self) -> None:
        flows = self._flows
        rates = max_min_rates([f.path for f in flows], self._capacity, [f.weight for f in flows])
        wait = float("inf")
        for flow, rate in zip(flows, rates, strict=True):
            flow.rate_bytes_per_s = rate
            wait = min(wait, 0.0 if flow.left_bytes == 0 else flow.left_bytes / rate)
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = None
        if flows:
            first = [f for f in flows if f.left_bytes == 0 or f.left_bytes / f.rate_bytes_per_s <= wait * (1 + 1e-12)]
            self._alarm = self._kernel.at(
                self._changed_s + wait, lambda: self._finish(first), priority=Priority.TRANSFER
            )

    def _finish(self, finished: list[Flow]) -> None:
        self._advance()
        gone = set(map(id, finished))
        self._flows = [flow for flow in self._flows if id(flow) not in gone]
        self._resolve()
        for flow in finished:
            flow.done()
