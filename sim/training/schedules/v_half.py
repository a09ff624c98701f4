"""V-Half: half the memory of 1F1B for half its bubble (Qi et al. 2024, arXiv:2405.15362)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sim.core import Reason
from sim.training.schedules.base import SCHEDULES, Orders, Route, Schedule, v_route
from sim.training.schedules.vshape import Offsets, v_orders, v_reasons


@SCHEDULES.register("v_half")
@dataclass(frozen=True)
class VHalf(Schedule):
    """Two chunks per device in a V: about half the memory of 1F1B, on every device, and half of its bubble."""

    splits_backward = True

    def reasons(self, *, stages: int, chunks: int, microbatches: int) -> list[Reason]:
        """Two chunks, on two devices or more."""
        return v_reasons(stages, chunks)

    def routes(self, *, stages: int, chunks: int) -> Sequence[Route]:
        """Down the devices and up again."""
        return (v_route(stages, chunks),)

    def orders(self, *, stages: int, chunks: int, microbatches: int) -> Orders:
        """From a block whose activations live 6p slots: one each for p micro-batches, and one more of both chunks."""
        return v_orders(stages, microbatches, offsets=Offsets(2, 1, 2, 1), limit=stages + 2, eager=False)
