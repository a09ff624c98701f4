"""Replay of a pipeline schedule: when each pass runs, given how long passes and transfers take.

Each device runs its passes in the schedule's order; a pass starts when the device is free and the result it needs has
arrived. Results travel in order, one at a time per pair of devices and direction, beside the computation. So the
bubble is what the times make of it: stages may differ, communication may hide or not, and no formula is assumed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sim.core import Array, InputError
from sim.training.passgraph import PassGraph, pass_graph
from sim.training.schedules import SYMBOLS, PassKind, Schedule

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class StageTimes:
    """How long one micro-batch takes in each virtual stage.

    Attributes:
        forward_s: F [s], shape `(virtual_stages,)` in model order, as all that follow unless said.
        backward_input_s: I [s], recomputation included.
        backward_weight_s: W [s]; schedules that do not split the backward pass run I and W as one.
        send_s: Transfer of an activation, or its gradient, across the boundary behind each virtual stage [s]; a
            scalar where all are equal. The last entry is never used, nor are boundaries inside a device.
        shared_hidden_frac: In a schedule that runs F and B at once (DualPipe), the part of the shorter one that hides
            behind the longer: 0 runs one after the other, 1 takes the time of the longer.
        vocabulary_s_s: S on each device [s], shape `(stages,)` or a scalar.
        vocabulary_t_s: T on each device [s], likewise.
        broadcast_s: The last stage's output to all devices, before S [s].
        exchange_s: Each exchange over all devices among vocabulary passes [s]. Where a schedule's devices stand still
            for it, the last one is part of T.
    """

    forward_s: Array
    backward_input_s: Array
    backward_weight_s: Array
    send_s: Array | float = 0.0
    shared_hidden_frac: float = 0.0
    vocabulary_s_s: Array | float = 0.0
    vocabulary_t_s: Array | float = 0.0
    broadcast_s: float = 0.0
    exchange_s: float = 0.0


@dataclass(frozen=True, eq=False)
class PipelineTimes:
    """When each pass of a step ran.

    Attributes:
        graph: The passes, in the order of the arrays.
        start_s: Start of each pass [s], shape `(passes,)`.
        finish_s: End of each pass [s], likewise.
        arrival_s: When the result of each pass is where it is needed [s], likewise.
        end_s: From the first start to the last end [s]: a step whose devices begin and end together.
        busy_s: Seconds each device computes, shape `(stages,)`.
        blocked_s: Seconds each device is held up by sending, shape `(stages,)`; 0 where transfers overlap.
    """

    graph: PassGraph = field(repr=False)
    start_s: Array = field(repr=False)
    finish_s: Array = field(repr=False)
    arrival_s: Array = field(repr=False)
    end_s: float
    busy_s: Array
    blocked_s: Array

    @property
    def idle_s(self) -> Array:
        """Seconds each device neither computes nor sends while others do, shape `(stages,)`."""
        return self.end_s - self.busy_s - self.blocked_s

    @property
    def device_start_s(self) -> Array:
        """When each device begins its first pass [s], shape `(stages,)`."""
        return self.start_s[self.graph.first_passes]

    @property
    def device_end_s(self) -> Array:
        """When each device has run its last pass [s], shape `(stages,)`."""
        return self.finish_s[self.graph.last_passes]

    @property
    def bubble_frac(self) -> float:
        """Idle over step, mean of the devices: (p-1)/(m+p-1) for 1F1B with equal stages."""
        return float(self.idle_s.mean() / self.end_s)

    @property
    def bubble_over_ideal(self) -> float:
        """Step over the time of perfectly shared work, less 1: (p-1)/m for 1F1B with equal stages."""
        return float(self.end_s / self.busy_s.mean() - 1.0)

    @cached_property
    def span_s(self) -> float:
        """From a device's first start to its last end [s], longest of all devices.

        The step time in a steady run where no device waits for the others between steps, as in the zero-bubble
        papers, which check the optimizer's step afterwards (Qi et al. 2024).
        """
        return float((self.device_end_s - self.device_start_s).max())

    @property
    def span_bubble_frac(self) -> float:
        """Idle over span, mean of the devices: the bubble rate of the zero-bubble papers."""
        return float(1.0 - (self.busy_s + self.blocked_s).mean() / self.span_s)

    @cached_property
    def peak_activations(self) -> Array:
        """Most activations each device holds between F and the end of B or I, in micro-batches of one virtual stage."""
        return self.peak(np.ones(self.graph.virtual_stages), np.zeros(self.graph.virtual_stages))

    @cached_property
    def peak_held(self) -> Array:
        """The same, but held until W is done: what a device keeps if I frees nothing."""
        ones = np.ones(self.graph.virtual_stages)
        return self.peak(ones, ones)

    def peak(self, activation: Array, weight_input: Array) -> Array:
        """The most each device holds at one time, shape `(stages,)`, in the unit of the arguments.

        Args:
            activation: What one micro-batch keeps of each virtual stage, shape `(virtual_stages,)`.
            weight_input: The part of it that is kept between I and W, shape `(virtual_stages,)`.
        """
        return self.graph.peak(activation, weight_input)

    def held(self, device: int, activation: Array, weight_input: Array) -> tuple[Array, Array]:
        """What a device holds over the step: times of the changes [s], and how much from then on.

        Args:
            device: Which one.
            activation: As for `peak`.
            weight_input: As for `peak`.
        """
        mine = self.graph.of_device(device)
        change = self.graph.changes(device, activation, weight_input)
        at_s = np.where(change > 0.0, self.start_s[mine], self.finish_s[mine])
        order = np.argsort(at_s, kind="stable")
        return at_s[order], np.cumsum(change[order])

    @cached_property
    def gradients_ready_s(self) -> Array:
        """When the last gradient of each virtual stage's weights is there [s], shape `(stages, virtual_stages)`.

        NaN where a device does not hold the stage. Data-parallel reduction can begin then.
        """
        done = np.isin(self.graph.kind, (PassKind.BACKWARD, PassKind.BACKWARD_WEIGHT))
        return self._by_holder(np.fmax, self.finish_s, done)

    @cached_property
    def weights_needed_s(self) -> Array:
        """When each virtual stage's weights are first used [s], shape and NaN likewise: gathers must be over then."""
        return self._by_holder(np.fmin, self.start_s, self.graph.kind == PassKind.FORWARD)

    def _by_holder(self, pick: np.ufunc, times_s: Array, mask: npt.NDArray[np.bool_]) -> Array:
        table = np.full((self.graph.stages, self.graph.virtual_stages), np.nan)
        pick.at(table, (self.graph.device[mask], self.graph.stage[mask]), times_s[mask])
        return table

    def frame(self) -> pd.DataFrame:
        """The passes as a table for a Gantt chart: device, kind, stage, chunk, micro-batch, start and end [s].

        `beside` says whether a pass ran at the same time as another one of its device.
        """
        import pandas as pd

        graph, shown = self.graph, slice(0, self.graph.count)
        own = graph.kind[shown] < PassKind.VOCABULARY_S
        first = np.flatnonzero(graph.shared)
        first = first[self.start_s[first + 1] < self.finish_s[first]]
        beside = np.zeros(graph.count, dtype=bool)
        beside[first] = beside[first + 1] = True
        return pd.DataFrame(
            {
                "device": graph.device[shown],
                "kind": np.array(SYMBOLS)[graph.kind[shown]],
                "stage": graph.stage[shown],
                "chunk": np.where(own, graph.stage[shown] // graph.stages, 0),
                "microbatch": graph.microbatch[shown],
                "start_s": self.start_s[shown],
                "finish_s": self.finish_s[shown],
                "beside": beside,
            }
        )


def replay(
    schedule: Schedule,
    times: StageTimes,
    *,
    stages: int,
    chunks: int = 1,
    microbatches: int,
    overlap_p2p: bool = True,
    slowdown: Array | None = None,
) -> PipelineTimes:
    """When each pass of one step runs.

    Args:
        schedule: The schedule.
        times: How long passes and transfers take.
        stages: Devices of the pipeline.
        chunks: Virtual stages per device.
        microbatches: Micro-batches of the step.
        overlap_p2p: Whether a device computes on while it sends; if not, a transfer holds its sender up.
        slowdown: Factor on the passes of each device, shape `(stages,)`, for stragglers; None for 1.

    Raises:
        InputError: if the layout breaks a rule of the schedule, or the times do not fit the layout.
    """
    graph = pass_graph(schedule, stages=stages, chunks=chunks, microbatches=microbatches)
    return Replay(graph, times, overlap_p2p=overlap_p2p, slowdown=slowdown).run()


class Replay:
    """A step that is about to be replayed; see `replay` for the arguments.

    Raises:
        InputError: if the times do not fit the layout.
    """

    def __init__(
        self, graph: PassGraph, times: StageTimes, *, overlap_p2p: bool = True, slowdown: Array | None = None
    ) -> None:
        if slowdown is not None:
            _fits("slowdown", slowdown, graph.stages, "device")
        self.graph = graph
        times = _checked(times, graph)
        if graph.synchronous:
            times = replace(times, vocabulary_t_s=times.vocabulary_t_s + times.exchange_s)
        self.duration_s = _durations(graph, times, slowdown)
        if graph.synchronous:  # T already holds every device until its exchange is over
            self.duration_s[len(self.duration_s) - graph.microbatches * graph.stages :] = 0.0
        send_s = np.broadcast_to(times.send_s, graph.virtual_stages)
        self.hop_s = np.concatenate([send_s, [0.0, times.broadcast_s]])[graph.hop]
        self._lists = self.duration_s.tolist(), self.hop_s.tolist()
        self.overlap_p2p = overlap_p2p
        self.together = times.shared_hidden_frac > 0.0
        self.at_once = not self.hop_s.any() and graph.count == graph.kind.size

    def run(self) -> PipelineTimes:
        """When each pass runs."""
        graph = self.graph
        swept = Swept.nothing(graph)
        self.sweep(graph.sequence, swept)
        start_s, finish_s, arrival_s = (np.array(times) for times in (swept.start, swept.finish, swept.arrival[:-1]))
        if self.together:
            shared = np.flatnonzero(graph.shared)
            start_s[shared + 1] = start_s[shared]
        return PipelineTimes(graph, start_s, finish_s, arrival_s, max(swept.free[: graph.stages]), *self.loads_s())

    def sweep(self, sequence: list[tuple[int, int, int, int, int]], state: Swept) -> None:
        """Runs some passes from `state` on, which it changes; they come after what they wait for."""
        _sweep(sequence, self._lists, state, overlap_p2p=self.overlap_p2p, together=self.together, at_once=self.at_once)

    def loads_s(self) -> tuple[Array, Array]:
        """Seconds each device computes, and is held up by sending, each of shape `(stages,)`."""
        graph = self.graph
        own = slice(0, graph.count)
        busy_s = np.bincount(graph.device[own], self.duration_s[own], graph.stages).astype(np.float64)
        sent = (graph.hop[own] != graph.virtual_stages) & (not self.overlap_p2p)
        blocked_s = np.bincount(graph.device[own], np.where(sent, self.hop_s[own], 0.0), graph.stages)
        return busy_s, blocked_s.astype(np.float64)


def _checked(times: StageTimes, graph: PassGraph) -> StageTimes:
    """`times`, if they fit."""
    for name in ("forward_s", "backward_input_s", "backward_weight_s"):
        _fits(name, getattr(times, name), graph.virtual_stages, "virtual stage")
    for name, count, what in (
        ("send_s", graph.virtual_stages, "virtual stage"),
        ("vocabulary_s_s", graph.stages, "device"),
        ("vocabulary_t_s", graph.stages, "device"),
    ):
        values = getattr(times, name)
        _fits(name, np.full(count, values) if np.ndim(values) == 0 else values, count, what)
    if not 0.0 <= times.shared_hidden_frac <= 1.0:
        raise InputError("a share", path="shared_hidden_frac", value=times.shared_hidden_frac, allowed="0 to 1")
    return times


def _fits(name: str, values: Array, count: int, what: str) -> None:
    """Nothing if there is one value, 0 or more, for each of `count`.

    Raises:
        InputError: if not.
    """
    if values.shape != (count,):
        raise InputError(
            "does not fit the pipeline", path=name, value=values.shape, allowed=f"one per {what}: ({count},)"
        )
    if not np.all(values >= 0.0):
        raise InputError("must be 0 or more", path=name, value=float(values.min()))


def _durations(graph: PassGraph, times: StageTimes, slowdown: Array | None) -> Array:
    """Seconds of each pass; of two that run at once, the first has the time of both."""
    per_device = graph.stages
    tables = (
        times.forward_s,
        times.backward_input_s + times.backward_weight_s,
        times.backward_input_s,
        times.backward_weight_s,
        np.broadcast_to(times.vocabulary_s_s, per_device),
        np.broadcast_to(times.vocabulary_t_s, per_device),
    )
    duration_s = np.zeros(graph.kind.size)
    for kind, table in enumerate(tables):
        mine = graph.kind == kind
        duration_s[mine] = table[graph.stage[mine]]
    if slowdown is not None:
        duration_s[: graph.count] *= slowdown[graph.device[: graph.count]]
    if graph.count < graph.kind.size:
        duration_s[graph.count + graph.stages - 1 :: graph.stages] = times.exchange_s
    if times.shared_hidden_frac > 0.0:
        first = np.flatnonzero(graph.shared)
        both, shorter = duration_s[first] + duration_s[first + 1], np.minimum(duration_s[first], duration_s[first + 1])
        duration_s[first] = both - times.shared_hidden_frac * shorter
        duration_s[first + 1] = 0.0
    return duration_s


@dataclass
class Swept:
    """The state of a sweep, in lists by pass, device and queue.

    Attributes:
        start: Start of each pass [s].
        finish: End of each pass [s].
        arrival: When the result of each pass is where it is needed [s]; the last is for source -1.
        free: When each device, or kind of exchange, is free [s].
        lane_free: When each queue for results is free [s].
    """

    start: list[float]
    finish: list[float]
    arrival: list[float]
    free: list[float]
    lane_free: list[float]

    @classmethod
    def nothing(cls, graph: PassGraph) -> Swept:
        """Before the first pass."""
        passes, (devices, lanes) = graph.kind.size, graph.queues
        return cls([0.0] * passes, [0.0] * passes, [0.0] * (passes + 1), [0.0] * devices, [0.0] * lanes)


def _sweep(
    sequence: list[tuple[int, int, int, int, int]],
    seconds: tuple[list[float], list[float]],
    state: Swept,
    *,
    overlap_p2p: bool,
    together: bool,
    at_once: bool,
) -> None:
    """Runs the passes of `sequence` from `state` on, which it changes; `seconds` are those of passes and transfers.

    One addition and a few comparisons per pass; this is the whole cost of a replay, so it works on plain lists, and the
    usual cases, where transfers take no time or run beside passes that share their device with none, leave out what
    makes no difference to them. All give the same times to the last bit.
    """
    start, finish, arrival, free, lane_free = state.start, state.finish, state.arrival, state.free, state.lane_free
    duration_s, hop_s = seconds
    if at_once and not together:
        for node, device, source, _, _ in sequence:
            begin = free[device]
            sent = arrival[source]
            if sent > begin:
                begin = sent
            start[node] = begin
            finish[node] = arrival[node] = free[device] = begin + duration_s[node]
        return
    if overlap_p2p and not together:
        for node, device, source, _, lane in sequence:
            begin = free[device]
            sent = arrival[source]
            if sent > begin:
                begin = sent
            start[node] = begin
            end = finish[node] = free[device] = begin + duration_s[node]
            sent = lane_free[lane]
            if end > sent:
                sent = end
            lane_free[lane] = arrival[node] = sent + hop_s[node]
        return
    for node, device, source, partner, lane in sequence:
        begin = free[device]
        if arrival[source] > begin:
            begin = arrival[source]
        if together and arrival[partner] > begin:
            begin = arrival[partner]
        end = begin + duration_s[node]
        start[node] = begin
        finish[node] = end
        sent = lane_free[lane]
        if end > sent:
            sent = end
        sent += hop_s[node]
        lane_free[lane] = arrival[node] = sent
        free[device] = end if overlap_p2p else sent
