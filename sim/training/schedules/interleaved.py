"""Interleaved 1F1B over several virtual stages per device (Narayanan et al. 2021, SC21, arXiv:2104.04473)."""

from __future__ import annotations

from dataclasses import dataclass

from sim.core import Reason
from sim.training.schedules.base import SCHEDULES, Orders, Pass, PassKind, Schedule, at_least, multiple_of


@SCHEDULES.register("interleaved")
@dataclass(frozen=True)
class Interleaved(Schedule):
    """1F1B over v virtual stages per device, micro-batches in groups of p: the bubble shrinks v-fold."""

    def reasons(self, *, stages: int, chunks: int, microbatches: int) -> list[Reason]:
        """At least two chunks, and micro-batches a multiple of the stages, as Megatron-LM requires."""
        few = at_least("virtual stages per device of the interleaved schedule", chunks, 2)
        return few + multiple_of("micro-batches of the interleaved schedule", microbatches, stages)

    def orders(self, *, stages: int, chunks: int, microbatches: int) -> Orders:
        """Warm-up of 2(p - 1 - i) + (v - 1)p passes, then forward and backward in turn, then the rest."""
        turns = forward_turns(stages, chunks, microbatches)
        orders: Orders = []
        for device in range(stages):
            forward = [Pass(PassKind.FORWARD, chunk * stages + device, number) for chunk, number in turns]
            backward = [
                Pass(PassKind.BACKWARD, (chunks - 1 - chunk) * stages + device, number) for chunk, number in turns
            ]
            warmup = min(len(turns), 2 * (stages - 1 - device) + (chunks - 1) * stages)
            order = forward[:warmup]
            for pair in zip(forward[warmup:], backward, strict=False):
                order += pair
            orders.append(order + backward[len(turns) - warmup :])
        return orders


def forward_turns(stages: int, chunks: int, microbatches: int) -> list[tuple[int, int]]:
    """Chunk and micro-batch of each forward pass in turn: groups of `stages` micro-batches go chunk by chunk."""
    return [
        (chunk, number)
        for first in range(0, microbatches, stages)
        for chunk in range(chunks)
        for number in range(first, first + stages)
    ]
