"""Interleaved 1F1B over several virtual stages per device (Narayanan et al. 2021, SC21, arXiv:2104.04473)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sim.core import Reason
from sim.training.schedules.base import (
    SCHEDULES,
    Orders,
    PassTable,
    Schedule,
    alternating,
    as_orders,
    at_least,
    multiple_of,
)


@SCHEDULES.register("interleaved")
@dataclass(frozen=True)
class Interleaved(Schedule):
    """1F1B over v virtual stages per device, micro-batches in groups of p: the bubble shrinks v-fold."""

    stays_on_chunk = True

    def reasons(self, *, stages: int, chunks: int, microbatches: int) -> list[Reason]:
        """At least two chunks, and micro-batches a multiple of the stages, as Megatron-LM requires."""
        few = at_least("virtual stages per device (vpp) of the interleaved schedule", chunks, 2)
        return few + multiple_of("micro-batches of the interleaved schedule", microbatches, stages)

    def orders(self, *, stages: int, chunks: int, microbatches: int) -> Orders:
        """Warm-up of 2(p - 1 - i) + (v - 1)p passes, then forward and backward in turn, then the rest."""
        return as_orders(self.tables(stages=stages, chunks=chunks, microbatches=microbatches))

    def tables(self, *, stages: int, chunks: int, microbatches: int) -> list[PassTable]:
        """The same as arrays."""
        chunk, number = np.array(forward_turns(stages, chunks, microbatches), dtype=np.int64).reshape(-1, 2).T
        first, last = chunk * stages, (chunks - 1 - chunk) * stages
        return [
            alternating(first + device, number, last + device, warmup=2 * (stages - 1 - device) + (chunks - 1) * stages)
            for device in range(stages)
        ]

    def period(self, *, stages: int) -> int:
        """Groups of p micro-batches are alike."""
        return stages


def forward_turns(stages: int, chunks: int, microbatches: int) -> list[tuple[int, int]]:
    """Chunk and micro-batch of each forward pass in turn: groups of `stages` micro-batches go chunk by chunk."""
    return [
        (chunk, number)
        for first in range(0, microbatches, stages)
        for chunk in range(chunks)
        for number in range(first, first + stages)
    ]
