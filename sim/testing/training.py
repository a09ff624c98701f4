"""Contract suite of pipeline schedules, and equal stage times.

`check_schedule("my-name")` runs the laws that every schedule must keep, on every small layout that it accepts.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from sim.core import stream
from sim.training import SCHEDULES, PassKind, PipelineTimes, StageTimes, pass_graph, replay

SMALL_LAYOUTS = tuple(product((1, 2, 3, 4, 6), (1, 2, 3), (1, 2, 4, 5, 8, 12)))
"""Stages, chunks and micro-batches that the suite offers to a schedule."""


def equal_times(
    virtual_stages: int, *, forward_s: float = 1.0, input_s: float = 1.0, weight_s: float = 1.0, send_s: float = 0.0
) -> StageTimes:
    """Times of a pipeline whose stages are all alike."""
    ones = np.ones(virtual_stages)
    return StageTimes(forward_s * ones, input_s * ones, weight_s * ones, send_s)


def random_times(virtual_stages: int, seed: int) -> StageTimes:
    """Times of a pipeline whose stages all differ, transfers included."""
    draw = stream(seed, "stage times")
    forward, inputs, weights = draw.uniform(0.5, 2.0, (3, virtual_stages))
    return StageTimes(forward, inputs, weights, draw.uniform(0.0, 0.5, virtual_stages), vocabulary_s_s=0.3,
                      vocabulary_t_s=0.4, broadcast_s=0.05, exchange_s=0.1)  # fmt: skip


def check_schedule(name: str) -> None:
    """Runs the laws of a schedule: complete, without overlap on a device, no effect before its cause, not too fast.

    Raises:
        AssertionError: where the schedule breaks one, or accepts no layout of `SMALL_LAYOUTS`.
    """
    schedule = SCHEDULES.get(name)()
    valid = [
        layout for layout in SMALL_LAYOUTS
        if not schedule.reasons(stages=layout[0], chunks=layout[1], microbatches=layout[2])
    ]  # fmt: skip
    assert valid, f"{name} accepts none of the small layouts"
    for seed, (stages, chunks, microbatches) in enumerate(valid):
        pass_graph(schedule, stages=stages, chunks=chunks, microbatches=microbatches)  # complete, or an error
        times = random_times(stages * chunks, seed)
        for overlap in (True, False):
            run = replay(schedule, times, stages=stages, chunks=chunks, microbatches=microbatches, overlap_p2p=overlap)
            check_replay(run, times)


def check_replay(run: PipelineTimes, times: StageTimes) -> None:
    """Checks a replay against the times it was made with, from its table alone."""
    table = run.frame()
    for _, rows in table.groupby("device"):
        assert (rows["start_s"].to_numpy()[1:] >= rows["finish_s"].to_numpy()[:-1] - 1e-9).all(), "a device overlaps"
    work_s = (table["finish_s"] - table["start_s"]).groupby(table["device"]).sum().to_numpy()
    np.testing.assert_allclose(work_s, run.busy_s)
    np.testing.assert_allclose(run.busy_s + run.blocked_s + run.idle_s, run.end_s)
    assert (run.idle_s >= -1e-9).all(), "a device is busy for longer than the step"
    _check_causes(run, times)


def _check_causes(run: PipelineTimes, times: StageTimes) -> None:
    """No pass starts before the results it needs have crossed to its device."""
    kinds = {kind: _Cells(run, kind) for kind in PassKind if kind is not PassKind.EXCHANGE}
    forward, weight = kinds[PassKind.FORWARD], kinds[PassKind.BACKWARD_WEIGHT]
    backward = kinds[PassKind.BACKWARD].merged(kinds[PassKind.BACKWARD_INPUT])
    send = np.broadcast_to(times.send_s, run.graph.virtual_stages)[:-1, None]
    send = np.where(forward.device[1:] == forward.device[:-1], 0.0, send) - 1e-9
    assert (forward.start_s[1:] >= forward.finish_s[:-1] + send).all(), "F before its input"
    if np.isnan(backward.start_s).all():
        return
    assert (backward.start_s[:-1] >= backward.finish_s[1:] + send).all(), "a backward pass before its gradient"
    assert (backward.start_s[-1] >= forward.finish_s[-1] - 1e-9).all(), "a backward pass before the loss"
    assert not (weight.start_s < backward.finish_s - 1e-9).any(), "W before I"
    scores, gradients = kinds[PassKind.VOCABULARY_S], kinds[PassKind.VOCABULARY_T]
    if np.isnan(scores.start_s).all():
        return
    exchanged = scores.finish_s.max(axis=0) + times.exchange_s - 1e-9
    assert (scores.start_s >= forward.finish_s[-1] + times.broadcast_s - 1e-9).all(), "S before its input"
    assert (gradients.start_s >= exchanged).all(), "T before the softmax"
    assert (backward.start_s[-1] >= exchanged).all(), "a backward pass before the softmax"


class _Cells:
    """Start, end and device of the passes of one kind by stage and micro-batch; NaN where there is none."""

    def __init__(self, run: PipelineTimes, kind: PassKind) -> None:
        graph = run.graph
        rows = graph.stages if kind >= PassKind.VOCABULARY_S else graph.virtual_stages
        mine = np.flatnonzero(graph.kind == kind)
        self.start_s, self.finish_s, self.device = np.full((3, rows, graph.microbatches), np.nan)
        cells = graph.stage[mine], graph.microbatch[mine]
        self.start_s[cells], self.finish_s[cells] = run.start_s[mine], run.finish_s[mine]
        self.device[cells] = graph.device[mine]

    def merged(self, other: _Cells) -> _Cells:
        """These, and where there are none, the other's."""
        for name in ("start_s", "finish_s", "device"):
            mine = getattr(self, name)
            setattr(self, name, np.where(np.isnan(mine), getattr(other, name), mine))
        return self
