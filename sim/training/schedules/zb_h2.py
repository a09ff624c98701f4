"""ZB-H2 of the zero-bubble schedules (Qi et al. 2024, arXiv:2401.10241)."""

from __future__ import annotations

from dataclasses import dataclass

from sim.training.schedules.base import SCHEDULES, Orders, Schedule
from sim.training.schedules.zero_bubble import late_weights


@SCHEDULES.register("zb_h2")
@dataclass(frozen=True)
class ZeroBubbleH2(Schedule):
    """2p - 1 micro-batches on every device, twice that of 1F1B; bubble (p-1)(F + I - 2W): none if all are equal."""

    splits_backward = True
    checks_step_late = True

    def orders(self, *, stages: int, chunks: int, microbatches: int) -> Orders:
        """1F1B from a warm-up of 2(p - 1 - i) passes, with W 2i micro-batches late."""
        return late_weights(stages, microbatches, reach=2)
