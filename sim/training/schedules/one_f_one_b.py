"""1F1B: a backward pass as soon as one can run (PipeDream-flush, Narayanan et al. 2021, arXiv:2006.09503)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sim.training.schedules.base import SCHEDULES, Orders, PassTable, Schedule, alternating, as_orders


@SCHEDULES.register("1f1b")
@dataclass(frozen=True)
class OneForwardOneBackward(Schedule):
    """One forward, one backward in turn after a warm-up; device i keeps at most p - i micro-batches in flight."""

    def orders(self, *, stages: int, chunks: int, microbatches: int) -> Orders:
        """p - 1 - i forward passes, then forward and backward in turn, then the backward passes left."""
        return as_orders(self.tables(stages=stages, chunks=chunks, microbatches=microbatches))

    def tables(self, *, stages: int, chunks: int, microbatches: int) -> list[PassTable]:
        """The same as arrays."""
        numbers = np.arange(microbatches)
        alike = [np.full(microbatches, device) for device in range(stages)]
        return [alternating(own, numbers, own, warmup=stages - 1 - device) for device, own in enumerate(alike)]

    def period(self, *, stages: int) -> int:
        """Every micro-batch is like the one before."""
        return 1
