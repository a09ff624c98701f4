"""What a step takes, by a replay of few of its micro-batches: what repeats is not replayed.

Between its warm-up and its end a schedule such as 1F1B repeats the same order for every micro-batch. So the passes of a
short pipeline stand for those of a long one (`_Fold`): its periods are replayed again and again, which needs no other
graph. When a pass runs is a maximum of sums over what it waits for. So once each pass of a period comes later than that
of the period before by a time of its own, and so did that one, so does each that follows, until a pass would begin to
wait for something else: up to there all periods are one multiplication. Both are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from operator import itemgetter
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from sim.core import Array
from sim.training.passgraph import PassGraph, pass_graph
from sim.training.replay import PipelineTimes, Replay, StageTimes, Swept
from sim.training.schedules import PassKind, Schedule

Ints = npt.NDArray[np.int64]
Pick = Callable[[list[float]], Array]
"""Takes the times of some passes out of those of all [s]."""
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
        device_start_s: When each device begins its first pass [s], shape `(stages,)`.
        device_end_s: When each device has run its last pass [s], likewise.
        busy_s: Seconds each device computes, likewise.
        blocked_s: Seconds each device is held up by sending, likewise.
    """

    graph: PassGraph = field(repr=False)
    end_s: float
    device_start_s: Array
    device_end_s: Array
    busy_s: Array
    blocked_s: Array

    @classmethod
    def of(cls, run: PipelineTimes) -> PipelineTotals:
        """Those of a whole replay."""
        return cls(run.graph, run.end_s, run.device_start_s, run.device_end_s, run.busy_s, run.blocked_s)

    @property
    def span_s(self) -> float:
        """From a device's first start to its last end [s], longest of all devices; see `PipelineTimes`."""
        return float((self.device_end_s - self.device_start_s).max())

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
    layout = {"stages": stages, "chunks": chunks}
    few, period = few_microbatches(schedule, stages=stages, microbatches=microbatches), schedule.period(stages=stages)
    if few < microbatches:
        graph = pass_graph(schedule, **layout, microbatches=few)
        periods = _periods(graph, period * chunks)
        if periods.causal:
            fold = _Fold(Replay(graph, times, overlap_p2p=overlap_p2p), periods)
            return fold.totals((microbatches - few) // period, scale=microbatches / few)
    whole = Replay(pass_graph(schedule, **layout, microbatches=microbatches), times, overlap_p2p=overlap_p2p)
    return PipelineTotals.of(whole.run())


def few_microbatches(schedule: Schedule, *, stages: int, microbatches: int) -> int:
    """Micro-batches of a short replay: those of warm-up and end and some periods, in phase with all; at most all."""
    period = schedule.period(stages=stages)
    if period == 0:
        return microbatches
    return min(microbatches, 2 * stages + max(stages, _PERIODS * period) + microbatches % period)


class _Cause(NamedTuple):
    """What passes wait for, of those that wait for something.

    Attributes:
        real: Which do.
        now: Times of what they wait for.
        before: The same one period earlier.
    """

    real: npt.NDArray[np.bool_]
    now: Pick
    before: Pick

    @classmethod
    def of(cls, nodes: Ints, length: int) -> _Cause:
        """That of these passes, -1 for none, with periods of so many passes on each device."""
        real = nodes >= 0
        return cls(real, _pick(nodes[real]), _pick(nodes[real] - length))


class _Periods:
    """The passes of a short pipeline by periods of `turns` forward and backward passes on every device.

    A device's periods begin one turn after those of the device before it: so a pass waits for none of a later period,
    and none from before the last one, in all schedules known so far (`causal` says so).

    Attributes:
        count: How many periods there are.
        length: Passes of a period on each device.
        latest: The passes of the last period.
        before_in_lane: The pass whose result travels in the same queue right before that of each; -1 for the first.
        parts: Passes of the warm-up, of each period, and of the end, in an order in which they can be swept.
        causal: Whether passes wait for others of the same period or the one before it, and there are periods enough.
    """

    def __init__(self, graph: PassGraph, turns: int) -> None:
        spans = [graph.of_device(device) for device in range(graph.stages)]
        warmup = [int(np.argmax(graph.kind[span] == PassKind.BACKWARD)) - 1 for span in spans]
        begins = np.array([s.start + first + 2 * d for d, (s, first) in enumerate(zip(spans, warmup, strict=True))])
        ends = np.array([span.stop - first for span, first in zip(spans, warmup, strict=True)])
        self.length = 2 * turns
        self.count = int((ends - begins).min()) // self.length
        period = np.clip((np.arange(graph.count) - begins[graph.device[: graph.count]]) // self.length, -1, self.count)
        self.latest = np.flatnonzero(period == self.count - 1)
        self.before_in_lane = _before_in_lane(graph)
        self.parts: list[list[tuple[int, int, int, int, int]]] = [[] for _ in range(self.count + 2)]
        for step, own in zip(graph.sequence, period[[step[0] for step in graph.sequence]].tolist(), strict=True):
            self.parts[own + 1].append(step)
        reach = (period - period[graph.source])[(period > 0) & (graph.source >= 0)]
        self.causal = self.count >= _PERIODS - 1 and bool(np.isin(reach, (0, 1)).all())
        self.graph = graph

    @cached_property
    def ago(self) -> list[Pick]:
        """Times of the last period's passes, and of those one and two periods before."""
        return [_pick(self.latest - self.length * periods) for periods in range(3)]

    @cached_property
    def causes(self) -> list[_Cause]:
        """What the last period's passes wait for: on their device, elsewhere, to be done, and for their queue."""
        before = (self.latest - 1, self.graph.source[self.latest], self.latest, self.before_in_lane[self.latest])
        return [_Cause.of(nodes, self.length) for nodes in before]


@lru_cache(maxsize=64)
def _periods(graph: PassGraph, turns: int) -> _Periods:
    return _Periods(graph, turns)


class _Fold:
    """A short replay whose periods stand for those of a long one."""

    def __init__(self, short: Replay, periods: _Periods) -> None:
        self.short = short
        self.graph = short.graph
        self.periods = periods
        self.latest = periods.latest
        self.length = periods.length

    def totals(self, more: int, *, scale: float) -> PipelineTotals:
        """With so many periods more than the short replay has, and `scale` times its micro-batches."""
        short, graph, count, parts = self.short, self.graph, self.periods.count, self.periods.parts
        state = Swept.nothing(graph)
        self._sweep(parts[: count + 1], state)
        device_start_s = _pick(graph.first_passes)(state.start)
        while more > 0:
            ahead = self._repeats(state, more)
            if ahead:
                self._leap(state, ahead)
                more -= ahead
            again = min(more, count - 1)
            self._turn_back(state, again)
            self._sweep(parts[count + 1 - again : count + 1], state)
            more -= again
        self._sweep(parts[count + 1 :], state)
        busy_s, blocked_s = short.loads_s()
        return PipelineTotals(
            graph,
            end_s=max(state.free[: graph.stages]),
            device_start_s=device_start_s,
            device_end_s=_pick(graph.last_passes)(state.finish),
            busy_s=busy_s * scale,
            blocked_s=blocked_s * scale,
        )

    def _sweep(self, parts: Sequence[list[tuple[int, int, int, int, int]]], state: Swept) -> None:
        for part in parts:
            self.short.sweep(part, state)

    def _turn_back(self, state: Swept, periods: int) -> None:
        """Puts the last period in the place of the one that `periods` more come after."""
        back = self.length * periods
        for node in self.latest.tolist() if back else ():
            for times_s in (state.start, state.finish, state.arrival):
                times_s[node - back] = times_s[node]

    # ---- periods that need no sweep ----

    def _leap(self, state: Swept, periods: int) -> None:
        """Moves the last period, and when devices and queues are free, so many periods ahead."""
        graph = self.graph
        moved, latest, (now, before, _) = {}, self.latest.tolist(), self.periods.ago
        for name, times_s in (("start", state.start), ("finish", state.finish), ("arrival", state.arrival)):
            now_s = now(times_s)
            moved[name] = periods * (now_s - before(times_s))
            for node, later_s in zip(latest, (now_s + moved[name]).tolist(), strict=True):
                times_s[node] = later_s
        released_s = moved["finish" if self.short.overlap_p2p else "arrival"]
        places = zip(graph.device[self.latest].tolist(), graph.lane[self.latest].tolist(), strict=True)
        free_s, lane_s = dict[int, float](), dict[int, float]()
        for (device, lane), own_s, sent_s in zip(places, released_s.tolist(), moved["arrival"].tolist(), strict=True):
            free_s[device], lane_s[lane] = own_s, sent_s
        for device, later_s in free_s.items():
            state.free[device] += later_s
        for lane, later_s in lane_s.items():
            state.lane_free[lane] += later_s

    def _repeats(self, state: Swept, most: int) -> int:
        """How many periods, up to `most`, are like the last one but later: as long as each pass waits for the same.

        What a pass does not wait for now may come later by more each period, and then is what it waits for one day.
        """
        finish_s, arrival_s = ([ago(times_s) for ago in self.periods.ago] for times_s in (state.finish, state.arrival))
        later_s, sent_later_s = finish_s[0] - finish_s[1], arrival_s[0] - arrival_s[1]
        settled = _SETTLED * float(later_s.max())
        unsettled = (later_s - finish_s[1] + finish_s[2], sent_later_s - arrival_s[1] + arrival_s[2])
        if max(np.abs(each).max() for each in unsettled) > settled:
            return 0
        free_s = state.finish if self.short.overlap_p2p else state.arrival
        begin_s, sent_s = self.periods.ago[0](state.start), arrival_s[0] - self.short.hop_s[self.latest]
        waits = (
            (begin_s, later_s, free_s),
            (begin_s, later_s, state.arrival),
            (sent_s, sent_later_s, state.finish),
            (sent_s, sent_later_s, state.arrival),
        )
        for (at_s, own_later_s, cause_s), cause in zip(waits, self.periods.causes, strict=True):
            known_s = cause.now(cause_s)
            drift_s = known_s - cause.before(cause_s) - own_later_s[cause.real]
            spare_s = (at_s[cause.real] - known_s)[drift_s > settled]
            if len(spare_s):
                most = min(most, int(max(0.0, (spare_s / drift_s[drift_s > settled]).min())))
        return most


def _pick(nodes: Ints) -> Pick:
    """What gives the times of some passes [s]."""
    places = nodes.tolist()
    if len(places) < 2:
        return lambda times_s: np.array([times_s[node] for node in places])
    pick = itemgetter(*places)
    return lambda times_s: np.array(pick(times_s))


def _before_in_lane(graph: PassGraph) -> Ints:
    """The pass whose result travels in the same queue right before that of each; -1 for the first."""
    order = np.argsort(graph.lane, kind="stable")
    before: Ints = np.full(graph.kind.size, -1)
    same = graph.lane[order[1:]] == graph.lane[order[:-1]]
    before[order[1:][same]] = order[:-1][same]
    return before
