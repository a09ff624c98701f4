"""The passes of a pipelined step as a dependency graph, compiled once per layout and replayed with any times.

What a pass waits for does not depend on how long passes take, nor does an order in which all can be computed one
after the other: the pass before it on its device, and at most one result from elsewhere. So a replay is one sweep
over plain lists (`sim.training.replay`), and layouts that come again are not compiled again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from sim.core import Array, PlansimError
from sim.training.schedules import SYMBOLS, PassKind, PassTable, Schedule

Ints = npt.NDArray[np.int64]
_VOCABULARY = (PassKind.VOCABULARY_S, PassKind.VOCABULARY_T)


@dataclass(frozen=True, eq=False)
class PassGraph:
    """The passes of one step; those of a device are consecutive and in the order in which it runs them.

    Behind them come the exchanges of vocabulary passes: one pass per exchange and device that takes part, on a device
    of its own for each kind of exchange, since collectives run in order on a stream of their own. The last of each
    micro-batch stands for the exchange, the others take no time.

    Attributes:
        stages: Devices of the pipeline.
        virtual_stages: Stages of the model.
        microbatches: Micro-batches of the step.
        kind: `PassKind` of each pass, shape `(passes,)`.
        stage: Virtual stage of each pass; of S and T the device, of exchanges their number.
        microbatch: Micro-batch of each pass.
        device: Device of each pass; `stages` and up for exchanges.
        count: Passes before the exchanges.
        shared: Whether the pass runs at the same time as the next one of its device.
        source: The pass elsewhere that each pass waits for, or -1.
        hop: What the result of each pass crosses on its way: boundary s between virtual stages s and s + 1; V, the
            number of virtual stages, where it stays on its device; V + 1 for a broadcast to all.
        lane: The queue in which the result of each pass travels: one per ordered pair of devices, one for what stays,
            one for broadcasts.
        sequence: All passes in an order in which each comes after what it waits for, each with its device, the pass
            elsewhere that it waits for, the one that its partner waits for if it is shared, and the queue of its
            result. -1 is for none.
        queues: How many devices, exchanges included, and how many queues for results there are.
        forward_only: Whether nothing is kept for a backward pass.
        synchronous: Whether devices stand still while they exchange what vocabulary passes need.
    """

    stages: int
    virtual_stages: int
    microbatches: int
    kind: Ints
    stage: Ints
    microbatch: Ints
    device: Ints
    count: int
    shared: npt.NDArray[np.bool_]
    source: Ints
    hop: Ints
    lane: Ints
    sequence: list[tuple[int, int, int, int, int]]
    queues: tuple[int, int]
    forward_only: bool
    synchronous: bool

    def of_device(self, device: int) -> slice:
        """Where the passes of `device` are."""
        first, last = np.searchsorted(self.device, (device, device + 1))
        return slice(int(first), int(last))

    @property
    def first_passes(self) -> Ints:
        """The first pass of each device, shape `(stages,)`."""
        return np.searchsorted(self.device, np.arange(self.stages))

    @property
    def last_passes(self) -> Ints:
        """The last pass of each device, shape `(stages,)`."""
        return np.searchsorted(self.device, np.arange(1, self.stages + 1)) - 1

    def changes(self, device: int, activation: Array, weight_input: Array) -> Array:
        """What each pass of `device` adds to or frees of what the device holds, shape `(its passes,)`.

        A forward pass keeps `activation` of its virtual stage; B frees it; I frees it but for `weight_input`, which W
        still needs. What is kept is kept from the start of its pass, what is freed is freed at the end. A pipeline
        without backward passes keeps nothing.

        Args:
            device: Which one.
            activation: What one micro-batch keeps of each virtual stage, shape `(virtual_stages,)`, in any unit.
            weight_input: The part of it that is kept between I and W, shape `(virtual_stages,)`.
        """
        return self._changes(self.of_device(device), activation, weight_input)

    def _changes(self, own: slice, activation: Array, weight_input: Array) -> Array:
        kind, stage = self.kind[own], self.stage[own]
        kept, late = activation[stage], weight_input[stage]
        effects = {
            PassKind.FORWARD: kept * (not self.forward_only),
            PassKind.BACKWARD: -kept,
            PassKind.BACKWARD_INPUT: late - kept,
            PassKind.BACKWARD_WEIGHT: -late,
        }
        change: Array = np.select([kind == one for one in effects], list(effects.values()), default=0.0)
        return change

    def peak(self, activation: Array, weight_input: Array) -> Array:
        """The most each device holds at one time, shape `(stages,)`, in the unit of the arguments; see `changes`.

        It follows from the order of the passes alone, never from times.
        """
        changes = self._changes(slice(0, self.count), activation, weight_input)
        ends = np.searchsorted(self.device, np.arange(1, self.stages))
        return np.array([np.cumsum(change).max() for change in np.split(changes, ends)])


@lru_cache(maxsize=128)
def pass_graph(schedule: Schedule, *, stages: int, chunks: int, microbatches: int) -> PassGraph:
    """The graph of a schedule on a layout; kept, so that a layout is compiled once.

    Raises:
        InputError: if the layout breaks a rule of the schedule.
        PlansimError: if the schedule is defective: passes are missing, run twice, or wait for each other in a circle.
    """
    schedule.check(stages=stages, chunks=chunks, microbatches=microbatches)
    routes = np.array(schedule.routes(stages=stages, chunks=chunks), dtype=np.int64)
    taken = [schedule.route_of(number, microbatches) for number in range(microbatches)]
    tables = schedule.tables(stages=stages, chunks=chunks, microbatches=microbatches)
    return _Compiler(schedule, stages, routes[taken].T, tables).graph()


class _Compiler:
    """Turns the orders of a schedule into a graph.

    Args:
        schedule: The schedule.
        stages: Devices.
        holder: Device of each virtual stage for each micro-batch, shape `(virtual_stages, microbatches)`.
        tables: Passes of each device.
    """

    def __init__(self, schedule: Schedule, stages: int, holder: Ints, tables: Sequence[PassTable]) -> None:
        self.schedule = schedule
        self.stages = stages
        self.holder = holder
        self.virtual_stages, self.microbatches = holder.shape
        self.count = sum(len(table) for table in tables)
        number, exchange = np.meshgrid(np.arange(self.microbatches), np.arange(schedule.barriers))
        kind = np.full(exchange.size, PassKind.EXCHANGE)
        exchanges = np.column_stack([kind, exchange.ravel(), number.ravel(), np.zeros_like(kind)])
        self.lengths = [len(table) for table in tables] + [self.microbatches * stages] * schedule.barriers
        columns = np.concatenate([*tables, np.repeat(exchanges, stages, axis=0)]).T
        self.kind, self.stage, self.microbatch, self.shared = np.ascontiguousarray(columns)
        self.device = np.repeat(np.arange(len(self.lengths)), self.lengths)

    def graph(self) -> PassGraph:
        """The graph.

        Raises:
            PlansimError: if the orders are no valid schedule.
        """
        source = self._sources()
        partner = np.where(self.shared, np.append(source[1:], -1), -1)
        hop, lane = self._ways()
        columns = (self.device, source, partner, lane)
        sequence = np.array(self._sequence(source.tolist(), partner.tolist()))
        return PassGraph(
            stages=self.stages,
            virtual_stages=self.virtual_stages,
            microbatches=self.microbatches,
            kind=self.kind,
            stage=self.stage,
            microbatch=self.microbatch,
            device=self.device,
            count=self.count,
            shared=self.shared.astype(bool),
            source=source,
            hop=hop,
            lane=lane,
            sequence=list(zip(sequence.tolist(), *(column[sequence].tolist() for column in columns), strict=True)),
            queues=(len(self.lengths), int(lane.max()) + 1),
            forward_only=self.schedule.forward_only,
            synchronous=self.schedule.synchronous,
        )

    def _places(self, kind: PassKind) -> Ints:
        """Where the pass of `kind` of each stage and micro-batch is, -1 where there is none."""
        rows = self.stages if kind in _VOCABULARY else self.virtual_stages
        places = np.full((rows, self.microbatches), -1)
        mine = np.flatnonzero(self.kind[: self.count] == kind)
        stage, number = self.stage[mine], self.microbatch[mine]
        places[stage, number] = mine
        if np.count_nonzero(places >= 0) != mine.size:
            raise PlansimError(f"schedule runs some {SYMBOLS[kind]} twice")
        holder = np.arange(self.stages)[:, None] if kind in _VOCABULARY else self.holder
        if np.any((self.device[places] != holder) & (places >= 0)):
            raise PlansimError(f"schedule runs some {SYMBOLS[kind]} on a device that does not hold its stage")
        return places

    def _sources(self) -> Ints:
        """The pass elsewhere that each pass waits for, after a check that none is missing or before its own cause."""
        forward, full, inputs, weights = (self._places(PassKind(kind)) for kind in range(4))
        backward = np.maximum(full, inputs)
        if self.schedule.forward_only:
            complete = forward.min() >= 0 and backward.max() < 0
        else:
            split = inputs >= 0
            complete = forward.min() >= 0 and np.all((full >= 0) != split) and np.all((weights >= 0) == split)
        if not complete:
            raise PlansimError("schedule leaves passes out, or runs B beside I and W")
        if not self.schedule.forward_only and (np.any(forward > backward) or np.any(weights[split] < inputs[split])):
            raise PlansimError("schedule runs a backward pass before what it needs")
        source = np.full(self.kind.size, -1)
        source[forward[1:]] = forward[:-1]
        if not self.schedule.forward_only:
            source[backward[:-1]] = backward[1:]
        if self.schedule.barriers:
            self._vocabulary_sources(source, forward[-1], backward[-1])
        return source

    def _vocabulary_sources(self, source: Ints, last_forward: Ints, first_backward: Ints) -> None:
        """S waits for the last F; T, and the first B, for an exchange among the S or T of all devices."""
        scores, gradients = (self._places(kind) for kind in _VOCABULARY)
        if min(scores.min(), gradients.min()) < 0:
            raise PlansimError("schedule leaves vocabulary passes out")
        shape = (self.schedule.barriers, self.microbatches, self.stages)
        exchanges = np.arange(self.count, self.kind.size).reshape(shape)
        source[scores] = last_forward[None, :]
        source[gradients] = exchanges[0, :, -1][None, :]
        source[first_backward] = exchanges[-1, :, -1]
        for exchange, before in zip(exchanges, (scores, gradients), strict=False):
            source[exchange] = before.T

    def _ways(self) -> tuple[Ints, Ints]:
        """What the result of each pass crosses, and in which queue."""
        stays, to_all = self.virtual_stages, self.virtual_stages + 1
        forward = self.kind == PassKind.FORWARD
        backward = (self.kind == PassKind.BACKWARD) | (self.kind == PassKind.BACKWARD_INPUT)
        target = np.where(forward, self.stage + 1, np.where(backward, self.stage - 1, -1))
        moves = (target >= 0) & (target < self.virtual_stages)
        receiver = np.where(moves, self.holder[np.where(moves, target, 0), self.microbatch], self.device)
        moves &= receiver != self.device
        hop = np.where(moves, np.minimum(self.stage, target), stays)
        devices = len(self.lengths)
        lane = np.where(moves, devices + self.device * devices + receiver, self.device)
        if self.schedule.barriers:
            last = forward & (self.stage == self.virtual_stages - 1)
            hop[last] = to_all
            lane[last] = devices + devices * devices
        return hop, lane

    def _sequence(self, source: list[int], partner: list[int]) -> list[int]:
        """All passes, each after those it waits for.

        Raises:
            PlansimError: if some wait for each other in a circle.
        """
        ends = np.cumsum(self.lengths).tolist()
        following = [end - length for end, length in zip(ends, self.lengths, strict=True)]
        done = [False] * self.kind.size + [True]  # the last is for -1: nothing to wait for
        waiting: dict[int, list[int]] = {}
        sequence: list[int] = []
        awake = list(range(len(self.lengths)))
        while awake:
            device = awake.pop()
            node, end = following[device], ends[device]
            while node < end:
                missing = source[node] if not done[source[node]] else partner[node]
                if not done[missing]:
                    waiting.setdefault(missing, []).append(device)
                    break
                done[node] = True
                sequence.append(node)
                if node in waiting:
                    awake += waiting.pop(node)
                node += 1
            following[device] = node
        stuck = [node for node, end in zip(following, ends, strict=True) if node < end]
        if stuck:
            shown = ", ".join(f"{SYMBOLS[self.kind[n]]}({self.stage[n]}, {self.microbatch[n]})" for n in stuck[:4])
            raise PlansimError(f"passes of the schedule wait for each other in a circle: {shown}")
        return sequence
