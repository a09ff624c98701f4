"""Interlaced pipeline: the output layer tensor-parallel over all devices, in step with 1F1B (Lin et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sim.training.schedules.base import SCHEDULES, Orders, Pass, PassKind, Schedule

_VOCABULARY, _EARLY, _LATE = 0, 1, 2
"""Places of a period: S and T, then two passes of the layers."""


@SCHEDULES.register("1f1b_interlaced")
@dataclass(frozen=True)
class Interlaced(Schedule):
    """1F1B in which all devices stop for S and T of a micro-batch at once, exchanges included.

    nnScaler (Lin et al., OSDI'24) places an output layer this way; Yeung et al. (2024, arXiv:2411.05288) compare
    theirs with it. In every period a device runs S and T, one F and one B. No B can be cut in two by the S and T that
    all run at once, so neighbours take the two places in turn: F needs a period for every two devices, B one for each.
    A micro-batch therefore lives for 3/2 as long as in 1F1B, and the first device holds `p + floor(p/2)`.
    """

    synchronous: ClassVar[bool] = True

    @property
    def barriers(self) -> int:
        """Two exchanges: the softmax, and the gradient of the input."""
        return 2

    def orders(self, *, stages: int, chunks: int, microbatches: int) -> Orders:
        """Each device's passes by period and place; period 0 of a micro-batch is that of its S and T."""
        orders: Orders = []
        for device in range(stages):
            after = stages - 1 - device  # devices between this one and the last
            forward_place, backward_place = (_EARLY, _LATE) if after % 2 else (_LATE, _EARLY)
            places = (
                (-1 - after // 2, forward_place, PassKind.FORWARD),
                (0, _VOCABULARY, PassKind.VOCABULARY_S),
                (0, _VOCABULARY, PassKind.VOCABULARY_T),
                (after, backward_place, PassKind.BACKWARD),
            )
            timed = sorted(
                (period + number, place, kind, number)
                for number in range(microbatches)
                for period, place, kind in places
            )
            orders.append([Pass(kind, device, number) for _, _, kind, number in timed])
        return orders
