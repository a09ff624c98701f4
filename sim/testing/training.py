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
    graph = run.graph
    shape = (graph.virtual_stages, graph.microbatches)
    begin, end, where = {}, {}, {}
    for kind in PassKind:
        mine = np.flatnonzero(graph.kind == kind)
        if not mine.size or kind >= PassKind.VOCABULARY_S:
            continue
        begin[kind], end[kind], where[kind] = np.full(shape, np.nan), np.full(shape, np.nan), np.full(shape, -1)
        cells = graph.stage[mine], graph.microbatch[mine]
        begin[kind][cells], end[kind][cells], where[kind][cells] = (
            run.start_s[mine],
            run.finish_s[mine],
            graph.device[mine],
        )
    forward = PassKind.FORWARD
    send = np.broadcast_to(times.send_s, graph.virtual_stages)[:-1, None]
    send = np.where(where[forward][1:] == where[forward][:-1], 0.0, send)
    assert (begin[forward][1:] >= end[forward][:-1] + send - 1e-9).all(), "F before its input"
    backward = next((kind for kind in (PassKind.BACKWARD, PassKind.BACKWARD_INPUT) if kind in begin), None)
    if backward is None:
        return
    # Schedules may mix B and I: what one kind lacks, the other has.
    other = PassKind.BACKWARD_INPUT
    start, done = (
        np.where(np.isnan(part[backward]), part.get(other, part[backward]), part[backward]) for part in (begin, end)
    )
    assert (start[:-1] >= done[1:] + send - 1e-9).all(), "a backward pass before its gradient"
    assert (start[-1] >= end[forward][-1] - 1e-9).all(), "a backward pass before the loss"
    if PassKind.BACKWARD_WEIGHT in begin:
        split = ~np.isnan(begin[PassKind.BACKWARD_WEIGHT])
        assert (begin[PassKind.BACKWARD_WEIGHT][split] >= end[other][split] - 1e-9).all(), "W before I"
