"""1F1B: a backward pass as soon as one can run (PipeDream-flush, Narayanan et al. 2021, arXiv:2006.09503)."""

from __future__ import annotations

from dataclasses import dataclass

from sim.training.schedules.base import SCHEDULES, Orders, Pass, PassKind, Schedule


@SCHEDULES.register("1f1b")
@dataclass(frozen=True)
class OneForwardOneBackward(Schedule):
    """One forward, one backward in turn after a warm-up; device i keeps at most p - i micro-batches in flight."""

    def orders(self, *, stages: int, chunks: int, microbatches: int) -> Orders:
        """p - 1 - i forward passes, then forward and backward in turn, then the backward passes left."""
        return [alternate(device, stages - 1 - device, microbatches) for device in range(stages)]


def alternate(stage: int, warmup: int, microbatches: int) -> list[Pass]:
    """`warmup` forward passes of a stage (or as many as there are), then F and B in turn, then the rest of the B."""
    warmup = min(warmup, microbatches)
    order = [Pass(PassKind.FORWARD, stage, number) for number in range(warmup)]
    for number in range(microbatches):
        if number + warmup < microbatches:
            order.append(Pass(PassKind.FORWARD, stage, number + warmup))
        order.append(Pass(PassKind.BACKWARD, stage, number))
    return order
