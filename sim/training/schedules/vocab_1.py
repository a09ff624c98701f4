"""Vocab-1: vocabulary parallelism in 1F1B (Yeung et al. 2024, arXiv:2411.05288)."""

from __future__ import annotations

from dataclasses import dataclass

from sim.training.schedules.base import SCHEDULES, Orders, Schedule
from sim.training.schedules.vocabulary import vocabulary_orders


@SCHEDULES.register("1f1b_vocab_1")
@dataclass(frozen=True)
class Vocab1(Schedule):
    """1F1B with the output layer over all devices and two exchanges per micro-batch: p + 2 of them in flight."""

    @property
    def barriers(self) -> int:
        """Two exchanges: the softmax, and after T the gradient of the input (algorithm 1)."""
        return 2

    def orders(self, *, stages: int, chunks: int, microbatches: int) -> Orders:
        """1F1B with B 2 micro-batches later, and S and T between."""
        return vocabulary_orders(stages, microbatches, barriers=self.barriers)
