"""Vocab-2: vocabulary parallelism in 1F1B (Yeung et al. 2024, arXiv:2411.05288)."""

from __future__ import annotations

from dataclasses import dataclass

from sim.training.schedules.base import SCHEDULES, Orders, Schedule
from sim.training.schedules.vocabulary import vocabulary_orders


@SCHEDULES.register("1f1b_vocab_2")
@dataclass(frozen=True)
class Vocab2(Schedule):
    """1F1B with the output layer over all devices and one exchange per micro-batch: p + 1 of them in flight."""

    @property
    def barriers(self) -> int:
        """One exchange: S computes a local softmax and gradient, corrected after it (algorithm 2)."""
        return 1

    def orders(self, *, stages: int, chunks: int, microbatches: int) -> Orders:
        """1F1B with B 1 micro-batch later, and S and T between."""
        return vocabulary_orders(stages, microbatches, barriers=self.barriers)
