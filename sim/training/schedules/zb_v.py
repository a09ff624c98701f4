"""ZB-V: zero bubble with the memory of 1F1B (Qi et al. 2024, arXiv:2401.10241, section 6, and arXiv:2405.15362)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sim.core import Reason
from sim.training.schedules.base import SCHEDULES, Orders, Route, Schedule, v_route
from sim.training.schedules.vshape import Offsets, v_orders, v_reasons


@SCHEDULES.register("zb_v")
@dataclass(frozen=True)
class ZeroBubbleV(Schedule):
    """Two chunks per device in a V: no bubble if F, I and W are equal, with the memory of 1F1B on every device."""

    splits_backward = True
    checks_step_late = True

    def reasons(self, *, stages: int, chunks: int, microbatches: int) -> list[Reason]:
        """Two chunks, on two devices or more."""
        return v_reasons(stages, chunks)

    def routes(self, *, stages: int, chunks: int) -> Sequence[Route]:
        """Down the devices and up again."""
        return (v_route(stages, chunks),)

    def orders(self, *, stages: int, chunks: int, microbatches: int) -> Orders:
        """From a block whose activations live 12p slots: two each for p micro-batches."""
        return v_orders(stages, microbatches, offsets=Offsets(3, 3, 3, 3), limit=2 * stages, eager=True)
