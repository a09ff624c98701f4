"""Pipelines by their different stages: most stages of a layout are alike, so few kinds stand for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sim.core import Array
from sim.models import LayerGroup, ModelSpec
from sim.training.columns import Flags, Ints, Layout
from sim.training.plan import layers_of_stage


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
    """

    layers: Array
    first: Flags
    last: Flags
    stages: Array
    held: Array
    rank: Ints
    real: Flags

    def take(self, layout: Ints) -> LayoutKinds:
        """Those of the layout of each plan, plans first."""
        return LayoutKinds._make(column[layout] for column in self)


_Stage = tuple[tuple[int, ...], bool, bool]
"""Layers of each kind, and whether it is the first or the last stage."""


def layer_kinds(model: ModelSpec) -> tuple[LayerGroup, ...]:
    """One layer of each different kind, in order of appearance."""
    return tuple(dict.fromkeys(_one(group) for group in model.layers))


def _one(group: LayerGroup) -> LayerGroup:
    return group.model_copy(update={"count": 1})


def layout_kinds(model: ModelSpec, layouts: Sequence[Layout]) -> LayoutKinds:
    """Kinds of the stages and devices of all layouts, with stages dealt to devices in turn."""
    cut = [_kinds(model, layout) for layout in layouts]
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
    )
    for number, (stages, devices) in enumerate(cut):
        for kind, ((counts, first, last), times) in enumerate(stages.items()):
            found.layers[number, kind] = counts
            found.first[number, kind], found.last[number, kind] = first, last
            found.stages[number, kind] = times
        index = {stage: kind for kind, stage in enumerate(stages)}
        for kind, (held, rank) in enumerate(devices.items()):
            for stage in held:
                found.held[number, kind, index[stage]] += 1.0
            found.rank[number, kind], found.real[number, kind] = rank, True
    return found


def _kinds(model: ModelSpec, layout: Layout) -> tuple[dict[_Stage, int], dict[tuple[_Stage, ...], int]]:
    """Kinds of stage with how many there are, and kinds of device with their first rank."""
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
    devices: dict[tuple[_Stage, ...], int] = {}
    for rank in range(layout.pp):
        devices.setdefault(tuple(every[rank :: layout.pp]), rank)
    return stages, devices
