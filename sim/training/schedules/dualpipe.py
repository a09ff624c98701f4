"""DualPipe: two pipelines in opposite directions through the same devices (DeepSeek-V3 report, arXiv:2412.19437)."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from sim.core import Reason
from sim.training.schedules.base import (
    SCHEDULES,
    Orders,
    Pass,
    PassKind,
    Route,
    Schedule,
    at_least,
    multiple_of,
    one_chunk,
)


@SCHEDULES.register("dualpipe")
@dataclass(frozen=True)
class DualPipe(Schedule):
    """Half of the micro-batches enter at each end, F of one half runs beside B of the other; parameters held twice."""

    splits_backward = True
    model_copies = 2

    def reasons(self, *, stages: int, chunks: int, microbatches: int) -> list[Reason]:
        """An even number of stages, and an even number of micro-batches of at least twice as many."""
        return (
            one_chunk(chunks)
            + multiple_of("stages of DualPipe", stages, 2)
            + multiple_of("micro-batches of DualPipe", microbatches, 2)
            + at_least("micro-batches of DualPipe (twice the stages)", microbatches, 2 * stages)
        )

    def routes(self, *, stages: int, chunks: int) -> Sequence[Route]:
        """Down the devices, and up."""
        down = tuple(range(stages))
        return (down, down[::-1])

    def route_of(self, microbatch: int, microbatches: int) -> int:
        """The first half goes down, the second half up."""
        return 2 * microbatch // microbatches

    def orders(self, *, stages: int, chunks: int, microbatches: int) -> Orders:
        """The eight phases of figure 5 of the report, mirrored for the upper half of the devices."""
        return [_Device(device, stages, microbatches).order() for device in range(stages)]


class _Device:
    """Writes down the passes of one device.

    `near` are the micro-batches that enter the pipeline at this device's half, `far` the others. Both come in order,
    so that a counter says which is next.
    """

    def __init__(self, device: int, stages: int, microbatches: int) -> None:
        half = microbatches // 2
        down = range(half), device
        up = range(half, microbatches), stages - 1 - device
        (self.near, self.near_stage), (self.far, self.far_stage) = (down, up) if device < stages // 2 else (up, down)
        self.rank = min(device, stages - 1 - device)
        self.half_stages = stages // 2
        self.half = half
        self.passes: list[Pass] = []
        self.weights: deque[Pass] = deque()
        self.counts = dict.fromkeys(("near F", "far F", "near B", "far B"), 0)

    def order(self) -> list[Pass]:
        """All passes in order."""
        inner = self.rank + 1
        outer = self.half_stages - inner
        for _ in range(2 * outer):
            self._forward("near")
        for _ in range(inner):
            self._forward("near")
            self._forward("far")
        for _ in range(outer):
            self._backward("far", split=True)
            self._weight()
            self._forward("far")
        for _ in range(self.half - 2 * self.half_stages + inner):
            self._both("near", "far")
            self._both("far", "near")
        for _ in range(outer):
            self._backward("far")
            self._both("far", "near")
        for turn in range(2 * inner):
            self._backward("near" if turn % 2 else "far", split=turn >= inner)
        for _ in range(outer):
            self._weight()
            self._backward("near", split=True)
        for _ in range(inner):
            self._weight()
        return self.passes

    def _next(self, kind: PassKind, side: str, *, with_next: bool = False) -> Pass:
        numbers, stage = (self.near, self.near_stage) if side == "near" else (self.far, self.far_stage)
        counter = f"{side} {'F' if kind is PassKind.FORWARD else 'B'}"
        number = numbers[self.counts[counter]]
        self.counts[counter] += 1
        return Pass(kind, stage, number, with_next)

    def _forward(self, side: str) -> None:
        self.passes.append(self._next(PassKind.FORWARD, side))

    def _backward(self, side: str, *, split: bool = False) -> None:
        step = self._next(PassKind.BACKWARD_INPUT if split else PassKind.BACKWARD, side)
        self.passes.append(step)
        if split:
            self.weights.append(step._replace(kind=PassKind.BACKWARD_WEIGHT))

    def _both(self, forward: str, backward: str) -> None:
        """F of one side at the same time as B of the other."""
        self.passes.append(self._next(PassKind.FORWARD, forward, with_next=True))
        self.passes.append(self._next(PassKind.BACKWARD, backward))

    def _weight(self) -> None:
        self.passes.append(self.weights.popleft())
