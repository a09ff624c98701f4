"""A step of very many micro-batches from a replay of few: what repeats is not replayed.

Between its warm-up and its end a schedule such as 1F1B repeats the same order for every micro-batch. When a pass runs
is a maximum of sums over what it waits for, so once one such period of all devices is the one before, later by the same
time for every pass and every result, so is each that follows: what is left is a multiplication, and exact. Where the
times do not repeat (stages that drift apart for long), all is replayed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from sim.core import Array
from sim.training.passgraph import PassGraph
from sim.training.replay import PipelineTimes, StageTimes, replay
from sim.training.schedules import PassKind, Schedule

_SETTLED: Final = 1e-10
"""Share of a period by which its passes may differ and still repeat: rounding, and far below any time that matters."""
_PERIODS: Final = 4
"""Periods beyond the warm-up of the first device that a short replay has, or as many micro-batches as stages."""


@dataclass(frozen=True)
class PipelineTotals:
    """What a step takes on each device.

    Attributes:
        graph: Passes of a step with the same peaks, if not of this one.
        end_s: From the first start to the last end [s].
        device_end_s: When each device has run its last pass [s], shape `(stages,)`.
        busy_s: Seconds each device computes, likewise.
        blocked_s: Seconds each device is held up by sending, likewise.
    """

    graph: PassGraph = field(repr=False)
    end_s: float
    device_end_s: Array
    busy_s: Array
    blocked_s: Array

    @classmethod
    def of(cls, run: PipelineTimes) -> PipelineTotals:
        """Those of a whole replay."""
        return cls(run.graph, run.end_s, run.device_end_s, run.busy_s, run.blocked_s)

    @property
    def idle_s(self) -> Array:
        """Seconds each device neither computes nor sends while others do, shape `(stages,)`."""
        return self.end_s - self.busy_s - self.blocked_s


def folded(
    schedule: Schedule,
    times: StageTimes,
    *,
    stages: int,
    chunks: int = 1,
    microbatches: int,
    overlap_p2p: bool = True,
) -> PipelineTotals:
    """Totals of the replay of a step, by few of its micro-batches where they repeat; see `replay` for the arguments.

    Raises:
        InputError: as `replay` does.
    """
    few = few_microbatches(schedule, stages=stages, microbatches=microbatches)
    if few < microbatches:
        run = replay(schedule, times, stages=stages, chunks=chunks, microbatches=few, overlap_p2p=overlap_p2p)
        period_s = _period_s(run, schedule.period(stages=stages) * chunks)
        if period_s is not None:
            more_s = period_s * ((microbatches - few) // schedule.period(stages=stages))
            scale = microbatches / few
            return PipelineTotals(
                run.graph, run.end_s + more_s, run.device_end_s + more_s, run.busy_s * scale, run.blocked_s * scale
            )
    whole = replay(schedule, times, stages=stages, chunks=chunks, microbatches=microbatches, overlap_p2p=overlap_p2p)
    return PipelineTotals.of(whole)


def few_microbatches(schedule: Schedule, *, stages: int, microbatches: int) -> int:
    """Micro-batches of a short replay: those of warm-up and end and some periods, in phase with all; at most all."""
    period = schedule.period(stages=stages)
    if period == 0:
        return microbatches
    return min(microbatches, 2 * stages + max(stages, _PERIODS * period) + microbatches % period)


def _period_s(run: PipelineTimes, turns: int) -> float | None:
    """How much later each period of `turns` forward and backward passes is than the one before; None if it depends.

    The last two whole periods of all devices are compared, as far back as any pass waits: by the period before.
    """
    graph = run.graph
    spans = [graph.of_device(device) for device in range(graph.stages)]
    warmup = [int(np.argmax(graph.kind[span] == PassKind.BACKWARD)) - 1 for span in spans]
    whole = min((span.stop - span.start) // 2 - first for span, first in zip(spans, warmup, strict=True)) // turns
    if whole < 2:
        return None
    latest = np.concatenate(
        [
            np.arange(span.start + first + 2 * turns * (whole - 1), span.start + first + 2 * turns * whole)
            for span, first in zip(spans, warmup, strict=True)
        ]
    )
    later = np.concatenate([each[latest] - each[latest - 2 * turns] for each in (run.finish_s, run.arrival_s)])
    period_s = float(later[0])
    return period_s if np.all(np.abs(later - period_s) <= _SETTLED * period_s) else None
