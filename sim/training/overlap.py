"""Operations that run at the same time on one device and slow each other: an exact simulator of a few streams.

A device runs one operation per stream at a time, in a fixed order; streams run beside each other and share what the
device has: its SMs, the bandwidth of its memory, its links. Where the operations that run together want more of one
than there is, each of them that uses it slows by the ratio of demand to capacity, and by the largest such ratio if
there are several. The ratios hold until the next operation begins or ends, so times are exact. `overlap_patterns` has
the usual ways in which training hides communication.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np

from sim.core import Array, InputError, PlansimError

COMPUTE: Final = "compute"
"""The stream whose waits count as exposed, and the dimension of its operations."""


@dataclass(frozen=True)
class Operation:
    """A kernel, collective or copy.

    Attributes:
        name: For tables.
        stream: Where it queues; operations of a stream run one after the other in the order given.
        alone_s: How long it takes with the device to itself [s].
        uses: What it draws while it runs alone, by resource, as a share of the device: `{"sm": 0.9, "hbm": 0.4}`.
        after: Positions of the operations it waits for, beside the one before it in its stream.
        dimension: What it is for: `compute`, or the parallel dimension it serves, such as `tp`, `dp` or `pp`. A wait
            that is known beforehand can stand in the compute stream as an operation without uses: `bubble`.
    """

    name: str
    stream: str
    alone_s: float
    uses: Mapping[str, float] = field(default_factory=dict)
    after: tuple[int, ...] = ()
    dimension: str = COMPUTE


@dataclass(frozen=True, eq=False)
class OverlapTimes:
    """When each operation ran.

    Attributes:
        operations: The operations.
        start_s: Start of each [s], shape `(operations,)`.
        finish_s: End of each [s], likewise.
        released_by: The operation whose end let each one start, or -1 for those that start at once.
    """

    operations: Sequence[Operation] = field(repr=False)
    start_s: Array
    finish_s: Array
    released_by: tuple[int, ...] = field(repr=False)

    @property
    def end_s(self) -> float:
        """When the last operation ends [s]."""
        return float(self.finish_s.max(initial=0.0))

    @cached_property
    def slowed_s(self) -> dict[str, float]:
        """Seconds that operations ran longer than alone, by stream: what sharing the device costs."""
        total: dict[str, float] = {}
        for operation, start, finish in zip(self.operations, self.start_s, self.finish_s, strict=True):
            total[operation.stream] = total.get(operation.stream, 0.0) + float(finish - start) - operation.alone_s
        return total

    @cached_property
    def exposed_s(self) -> dict[str, float]:
        """Seconds in which the compute stream waits, by the dimension of what it waits for.

        A wait belongs to the operation that ends it, and what came before that operation began to the one that let it
        begin, and so on. With the compute stream's own operations the waits sum to `end_s`.
        """
        exposed: dict[str, float] = {}
        mine = [at for at, operation in enumerate(self.operations) if operation.stream == COMPUTE]
        clock = 0.0
        for at in mine:
            self._charge(exposed, clock, float(self.start_s[at]), self.released_by[at])
            clock = float(self.finish_s[at])
        if len(self.operations):
            self._charge(exposed, clock, self.end_s, int(np.argmax(self.finish_s)))
        return exposed

    def _charge(self, exposed: dict[str, float], begin_s: float, end_s: float, cause: int) -> None:
        """Adds the wait from `begin_s` to `end_s`, which `cause` ended."""
        while end_s > begin_s and cause >= 0:
            since_s = max(begin_s, float(self.start_s[cause]))
            dimension = self.operations[cause].dimension
            exposed[dimension] = exposed.get(dimension, 0.0) + end_s - since_s
            end_s, cause = since_s, self.released_by[cause]


def overlap(operations: Sequence[Operation], *, capacity: Mapping[str, float] | None = None) -> OverlapTimes:
    """When each operation runs.

    Args:
        operations: All of them; those of a stream in the order in which they queue.
        capacity: How much of each resource there is; 1 where none is given.

    Raises:
        InputError: if an operation alone wants more of a resource than there is.
        PlansimError: if operations wait for each other in a circle.
    """
    there_is = capacity or {}
    for operation in operations:
        for resource, share in operation.uses.items():
            if not 0.0 <= share <= there_is.get(resource, 1.0):
                limit = f"0 to {there_is.get(resource, 1.0):g}"
                raise InputError(f"{operation.name}'s use of {resource}", path="uses", value=share, allowed=limit)
    return _Device(operations, there_is).run()


class _Device:
    """The state of a run."""

    def __init__(self, operations: Sequence[Operation], capacity: Mapping[str, float]) -> None:
        self.operations = operations
        self.capacity = capacity
        self.waits = [set(operation.after) for operation in operations]
        before: dict[str, int] = {}
        for at, operation in enumerate(operations):
            if operation.stream in before:
                self.waits[at].add(before[operation.stream])
            before[operation.stream] = at
        self.followers: list[list[int]] = [[] for _ in operations]
        for at, causes in enumerate(self.waits):
            for cause in causes:
                self.followers[cause].append(at)
        self.start_s = [0.0] * len(operations)
        self.finish_s = [0.0] * len(operations)
        self.released_by = [-1] * len(operations)
        self.left_s: dict[int, float] = {}

    def run(self) -> OverlapTimes:
        """Runs all operations.

        Raises:
            PlansimError: if some never can.
        """
        clock, done = 0.0, 0
        for at, causes in enumerate(self.waits):
            if not causes:
                self._begin(at, clock)
        while self.left_s:
            slowdown = self._slowdown()
            step_s = min(left * slowdown[at] for at, left in self.left_s.items())
            clock += step_s
            ended = [at for at, left in self.left_s.items() if left * slowdown[at] <= step_s * (1.0 + 1e-12)]
            for at in self.left_s:
                self.left_s[at] -= step_s / slowdown[at]
            for at in ended:
                del self.left_s[at]
                self.finish_s[at] = clock
            done += len(ended)
            for at in ended:
                self._release(at, clock)
        if done < len(self.operations):
            stuck = next(
                operation.name for operation, causes in zip(self.operations, self.waits, strict=True) if causes
            )
            raise PlansimError(f"operations wait for each other in a circle, {stuck} among them")
        return OverlapTimes(self.operations, np.array(self.start_s), np.array(self.finish_s), tuple(self.released_by))

    def _begin(self, at: int, clock: float) -> None:
        self.start_s[at] = clock
        self.left_s[at] = self.operations[at].alone_s

    def _release(self, at: int, clock: float) -> None:
        """Starts what waited for `at` alone."""
        for follower in self.followers[at]:
            self.waits[follower].discard(at)
            if not self.waits[follower]:
                self.released_by[follower] = at
                self._begin(follower, clock)

    def _slowdown(self) -> dict[int, float]:
        """How many times longer each running operation takes now than alone."""
        demand: dict[str, float] = {}
        for at in self.left_s:
            for resource, share in self.operations[at].uses.items():
                demand[resource] = demand.get(resource, 0.0) + share
        ratio = {resource: total / self.capacity.get(resource, 1.0) for resource, total in demand.items()}
        return {
            at: max([1.0, *(ratio[resource] for resource, share in self.operations[at].uses.items() if share > 0.0)])
            for at in self.left_s
        }
