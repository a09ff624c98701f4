"""GPipe: all forward passes, then all backward passes (Huang et al. 2019, arXiv:1811.06965)."""

from __future__ import annotations

from dataclasses import dataclass

from sim.training.schedules.base import SCHEDULES, Orders, Pass, PassKind, Schedule


@SCHEDULES.register("gpipe")
@dataclass(frozen=True)
class GPipe(Schedule):
    """All forward passes first, then all backward passes in reverse: every micro-batch is in flight at once."""

    def orders(self, *, stages: int, chunks: int, microbatches: int) -> Orders:
        """m forward passes, then m backward passes, on every device."""
        return [
            [Pass(PassKind.FORWARD, device, number) for number in range(microbatches)]
            + [Pass(PassKind.BACKWARD, device, number) for number in reversed(range(microbatches))]
            for device in range(stages)
        ]
