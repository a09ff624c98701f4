"""A pipeline that runs no backward passes: inference, evaluation, rollouts, a frozen teacher."""

from __future__ import annotations

from dataclasses import dataclass

from sim.core import Reason
from sim.training.schedules.base import SCHEDULES, Orders, Pass, PassKind, Schedule, multiple_of
from sim.training.schedules.interleaved import forward_turns


@SCHEDULES.register("forward_only")
@dataclass(frozen=True)
class ForwardOnly(Schedule):
    """Forward passes alone, over one or more virtual stages per device: inference and evaluation."""

    forward_only = True

    def reasons(self, *, stages: int, chunks: int, microbatches: int) -> list[Reason]:
        """With several chunks, micro-batches in groups of the stages, as in the interleaved schedule."""
        return multiple_of("micro-batches of an interleaved pipeline", microbatches, stages) if chunks > 1 else []

    def orders(self, *, stages: int, chunks: int, microbatches: int) -> Orders:
        """Micro-batches one after the other; with chunks, groups of p of them through chunk after chunk."""
        turns = forward_turns(stages if chunks > 1 else 1, chunks, microbatches)
        return [
            [Pass(PassKind.FORWARD, chunk * stages + device, number) for chunk, number in turns]
            for device in range(stages)
        ]
