"""ZB-H1 of the zero-bubble schedules (Qi et al. 2024, arXiv:2401.10241)."""

from __future__ import annotations

from dataclasses import dataclass

from sim.training.schedules.base import SCHEDULES, Orders, Schedule
from sim.training.schedules.zero_bubble import late_weights


@SCHEDULES.register("zb_h1")
@dataclass(frozen=True)
class ZeroBubbleH1(Schedule):
    """The memory of 1F1B (p micro-batches on every device) with a third of its bubble: (p-1)(F + I - W)."""

    splits_backward = True
    checks_step_late = True

    def orders(self, *, stages: int, chunks: int, microbatches: int) -> Orders:
        """1F1B from a warm-up of (p - 1 - i) passes, with W i micro-batches late."""
        return late_weights(stages, microbatches, reach=1)
