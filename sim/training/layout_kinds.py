"""Pipelines by their different stages: most stages of a layout are alike, so few kinds stand for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np

from sim.core import Array
from sim.models import LayerGroup, ModelSpec
from sim.training.columns import Flags, Ints, Layout, PlanTable, classes
from sim.training.passgraph import pass_graph
from sim.training.plan import layers_of_stage
from sim.training.schedules import SCHEDULES, Schedule

CLOSED: Final = ("1f1b", "interleaved", "gpipe")
"""Schedules whose passes in flight have a closed form."""
_ROUNDS: Final = 3
"""Micro-batches per stage after which no schedule has more in flight."""


class LayoutKinds(NamedTuple):
    """Stages and devices of every layout by kind, padded with kinds that occur zero times.

    `L` layouts, `S` kinds of virtual stage, `D` kinds of device, `G` kinds of layer.

    Attributes:
        layers: Layers of each kind in a stage, `(L, S, G)`.
        first: Whether the stage has the embedding, `(L, S)`.
        last: Whether it has the LM head, `(L, S)`.
        stages: How many virtual stages are of the kind, `(L, S)`.
        held: Virtual stages of each kind on a device, `(L, D, S)`.
        rank: First pipeline rank of the kind of device, `(L, D)`.
        real: Whether there are any such devices, `(L, D)`.
        deep: Most passes over virtual stages that one of them has in flight; NaN where a closed form says it, `(L, D)`.
        copies: How many times the pipeline holds the parameters, `(L,)`.
        spread: Whether the vocabulary is divided over the stages, `(L,)`.
    """

    layers: Array
    first: Flags
    last: Flags
    stages: Array
    held: Array
    rank: Ints
    real: Flags
    deep: Array
    copies: Array
    spread: Flags

    def take(self, layout: Ints) -> LayoutKinds:
        """Those of the layout of each plan, plans first."""
        return LayoutKinds._make(column[layout] for column in self)


_Stage = tuple[tuple[int, ...], bool, bool]
"""Layers of each kind, and whether it is the first or the last stage."""
_Place = tuple[int, float]
"""First pipeline rank, and most passes in flight."""


@dataclass(frozen=True)
class Pipeline:
    """A layout under a schedule.

    Attributes:
        layout: The layout.
        name: Name of the schedule; None for any whose passes in flight have a closed form.
        microbatches: Micro-batches to run for those of others.
    """

    layout: Layout
    name: str | None = None
    microbatches: int = 0

    @cached_property
    def schedule(self) -> Schedule:
        """The schedule, or one like it."""
        return SCHEDULES.get(self.name or CLOSED[0])()

    @property
    def held(self) -> list[list[int]]:
        """Virtual stages on each device: dealt in turn, or by the schedule's routes."""
        pp, vpp, _ = self.layout
        if self.name is None:
            return [[*range(rank, pp * vpp, pp)] for rank in range(pp)]
        return self.schedule.held(stages=pp, chunks=vpp)

    @property
    def deep(self) -> list[float]:
        """Most passes over virtual stages in flight on each device; NaN where a closed form says it."""
        pp, vpp, _ = self.layout
        if self.name is None:
            return [float("nan")] * pp
        ones = np.ones(pp * vpp)
        graph = pass_graph(self.schedule, stages=pp, chunks=vpp, microbatches=self.microbatches)
        return [float(one) for one in graph.peak(ones, ones)]


def layer_kinds(model: ModelSpec) -> tuple[LayerGroup, ...]:
    """One layer of each different kind, in order of appearance."""
    return tuple(dict.fromkeys(_one(group) for group in model.layers))


def _one(group: LayerGroup) -> LayerGroup:
    return group.model_copy(update={"count": 1})


def pipelines_of(table: PlanTable) -> tuple[list[Pipeline], Ints]:
    """The different pipelines of a table's plans, and which of them each plan has."""
    known = np.array([name in CLOSED for name in table.schedules])[table.columns.schedule]
    first, own = classes(table.columns.layout, np.where(known, len(table.schedules), table.columns.schedule))
    found = []
    for number, row in enumerate(first.tolist()):
        layout, name = table.layouts[table.columns.layout[row]], table.schedules[table.columns.schedule[row]]
        if name in CLOSED:
            found.append(Pipeline(layout))
            continue
        counts = np.unique(table.columns.microbatches[own == number])
        enough = counts[counts >= _ROUNDS * layout.pp]
        found.append(Pipeline(layout, name, int(enough[0] if len(enough) else counts[-1])))
    return found, own


def layout_kinds(model: ModelSpec, pipelines: Sequence[Pipeline]) -> LayoutKinds:
    """Kinds of the stages and devices of all pipelines."""
    cut = [_kinds(model, pipeline) for pipeline in pipelines]
    n, most_stages = len(cut), max(len(stages) for stages, _ in cut)
    most_devices, groups = max(len(devices) for _, devices in cut), len(layer_kinds(model))
    found = LayoutKinds(
        layers=np.zeros((n, most_stages, groups)),
        first=np.zeros((n, most_stages), dtype=bool),
        last=np.zeros((n, most_stages), dtype=bool),
        stages=np.zeros((n, most_stages)),
        held=np.zeros((n, most_devices, most_stages)),
        rank=np.zeros((n, most_devices), dtype=np.int64),
        real=np.zeros((n, most_devices), dtype=bool),
        deep=np.full((n, most_devices), np.nan),
        copies=np.array([pipeline.schedule.model_copies for pipeline in pipelines], dtype=np.float64),
        spread=np.array([pipeline.schedule.barriers > 0 for pipeline in pipelines]),
    )
    for number, (stages, devices) in enumerate(cut):
        for kind, ((counts, first, last), times) in enumerate(stages.items()):
            found.layers[number, kind] = counts
            found.first[number, kind], found.last[number, kind] = first, last
            found.stages[number, kind] = times
        index = {stage: kind for kind, stage in enumerate(stages)}
        for kind, (held, (rank, deep)) in enumerate(devices.items()):
            for stage in held:
                found.held[number, kind, index[stage]] += 1.0
            found.rank[number, kind], found.real[number, kind], found.deep[number, kind] = rank, True, deep
    return found


def _kinds(model: ModelSpec, pipeline: Pipeline) -> tuple[dict[_Stage, int], dict[tuple[_Stage, ...], _Place]]:
    """Kinds of stage with how many there are, and kinds of device with their first rank and most passes in flight."""
    layout = pipeline.layout
    order = layer_kinds(model)
    number = {group: order.index(_one(group)) for group in model.layers}
    every: list[_Stage] = []
    for stage in range(layout.pp * layout.vpp):
        counts = [0] * len(order)
        for group, count in layers_of_stage(model, layout.layers, stage):
            counts[number[group]] += count
        every.append((tuple(counts), stage == 0, stage == layout.pp * layout.vpp - 1))
    stages: dict[_Stage, int] = {}
    for one in every:
        stages[one] = stages.get(one, 0) + 1
    devices: dict[tuple[_Stage, ...], _Place] = {}
    for rank, (held, deep) in enumerate(zip(pipeline.held, pipeline.deep, strict=True)):
        kind = tuple(every[stage] for stage in held)
        first, most = devices.get(kind, (rank, deep))
        devices[kind] = (first, max(most, deep))
    return stages, devices
