"""What one micro-batch costs and keeps on a rank, for each choice that changes it: the entries of the screen's tables.

Worked out by the same code as a single step, once per class of plans; recomputation changes little of it, so its kinds
share the work of a layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from sim.core import Array
from sim.hardware import Cluster
from sim.models import ModelSpec
from sim.plans import TrainingEngineSpec
from sim.training.adapters import adapter_parameters
from sim.training.columns import Ints, PlanTable, classes
from sim.training.costing import PassCost, TrainingCosts
from sim.training.layer import LayerWork, layer_work
from sim.training.layout_kinds import layer_kinds
from sim.training.memory import end_activation_bytes, kept_layer_bytes, layer_working_bytes, loss_bytes
from sim.training.operators import TrainingOperator
from sim.training.plan import TrainingPlan
from sim.training.ranks import LAYER_GROUPS, layer_groups
from sim.training.schedules import SCHEDULES
from sim.training.spec import TrainingWorkload
from sim.training.stages import StageModel, recomputed
from sim.training.states import largest_product, layer_parameters
from sim.training.sustained import Sustained, sustained_of
from sim.training.vocabulary import embedding_work, head_work, padded_vocab

_STREAM = "norm_activation"


class Units(NamedTuple):
    """One micro-batch on one rank; shape `(classes, kinds of layer)` where of a layer, else `(classes,)`.

    Attributes:
        forward_s: Forward pass of a layer, host left out [s].
        backward_s: Backward passes of a layer, recomputation included [s].
        flops: Matrix FLOPs of all passes of a layer.
        stream_s: Seconds of norms and activations of a layer [s].
        kept_bytes: What a layer keeps until its backward pass [B].
        working_bytes: What it needs on top while in work [B].
        product: Weights of its largest product.
        shared: Parameters of a layer that all data-parallel ranks hold.
        expert: Parameters of its routed experts on the rank.
        adapters: Parameters of its adapters; zero without.
        first_forward_s: Embedding, forward [s].
        first_backward_s: Embedding, backward [s].
        last_forward_s: LM head and loss, forward [s].
        last_backward_s: LM head and loss, backward [s].
        first_stream_s: Seconds of norms, activations and accumulation at the embedding [s].
        last_stream_s: The same at the LM head [s].
        ends_flops: Matrix FLOPs of both ends.
        loss_bytes: Logits at the peak of the loss [B].
        first_bytes: What the first stage keeps besides layers [B].
        last_bytes: What the last stage keeps besides layers [B].
        rows: Parameters of the embedding, or of the LM head.
        sent_bytes: What goes to the next stage [B].
        joined_s: Gathering what came from the stage before over tensor-parallel ranks [s].
    """

    forward_s: Array
    backward_s: Array
    flops: Array
    stream_s: Array
    kept_bytes: Array
    working_bytes: Array
    product: Array
    shared: Array
    expert: Array
    adapters: Array
    first_forward_s: Array
    first_backward_s: Array
    last_forward_s: Array
    last_backward_s: Array
    first_stream_s: Array
    last_stream_s: Array
    ends_flops: Array
    loss_bytes: Array
    first_bytes: Array
    last_bytes: Array
    rows: Array
    sent_bytes: Array
    joined_s: Array

    def take(self, rows: Ints | slice) -> Units:
        """Those of some rows."""
        return Units._make(column[rows] for column in self)


class _Layer(NamedTuple):
    """A kind of layer before recomputation."""

    work: LayerWork
    forward: PassCost
    backward: PassCost


@dataclass(frozen=True)
class UnitTables:
    """Makes the units of plans.

    Attributes:
        model: The model.
        workload: The job.
        engine: The engine's profile.
        cluster: The cluster.
    """

    model: ModelSpec
    workload: TrainingWorkload
    engine: TrainingEngineSpec
    cluster: Cluster

    def of(self, table: PlanTable) -> Units:
        """Units of every plan of the table."""
        c, groups = table.columns, [table.lattices[name] for name in LAYER_GROUPS]
        splits = np.array([SCHEDULES.get(name).splits_backward for name in table.schedules])[c.schedule]
        base_rows, base = classes(
            *(c.tp, c.cp, c.cp_kind, c.cp_zigzag, c.ep, c.micro_batch, c.sp),
            *(c.wide_gradients, c.zero == 3, c.overlap_tp, c.overlap_tp & splits, c.compiled, c.clock),
            *(members.number for members in groups),
        )
        rows, own = classes(base, c.recompute, c.recompute_every)
        sustained, raw_s = sustained_of(self.cluster.device), dict[tuple[object, ...], dict[TrainingOperator, float]]()
        bases: dict[int, _Base] = {}
        found = []
        for row in rows.tolist():
            number = int(base[row])
            if number not in bases:
                first = int(base_rows[number])
                plan = table.plan(first)
                key = (plan.tp, plan.cp, plan.ep, plan.clock, *(int(members.number[first]) for members in groups))
                bases[number] = _Base(self, plan, sustained, raw_s.setdefault(key, {}))
            found.append(bases[number].unit(table.plan(row)))
        columns = [np.array(values) for values in zip(*found, strict=True)]
        return Units(*columns).take(own)

    def alone(self, plan: TrainingPlan) -> TrainingPlan:
        """The plan without pipeline and data parallelism, which but for shards change no layer's work."""
        one = replace(plan, dp=plan.ep, dp_replicas=1, pp=1, vpp=1, layers_per_stage=(self.model.n_layers,))
        return replace(one, zero=3 if plan.zero == 3 else 0, recompute="none")


class _Base:
    """A class of plans that differ in recomputation alone."""

    def __init__(
        self, tables: UnitTables, plan: TrainingPlan, sustained: Sustained, raw_s: dict[TrainingOperator, float]
    ) -> None:
        engine, groups = tables.engine, layer_groups(plan, tables.cluster)
        plan = tables.alone(plan)
        passes = engine.compiled_stream_passes if plan.compiled else engine.stream_passes
        self.tables = tables
        self.kinds = layer_kinds(tables.model)
        self.costs = TrainingCosts(
            tables.cluster.device.at_clock(plan.clock),
            groups,
            sustained=sustained,
            stream_passes=passes.value,
            attention_frac=engine.attention_frac.value,
            network_frac=engine.network_frac.value,
            raw_s=raw_s,
        )
        self.shape = plan.shape(tables.workload.sequence_length)
        stage = StageModel(
            tables.model, plan, sequence=tables.workload.sequence_length, engine=engine, costs=self.costs
        )
        self.layers = [self._layer(stage, layer_work(tables.model, kind, self.shape)) for kind in self.kinds]
        self.ends = self._ends(stage, plan)

    def _layer(self, stage: StageModel, work: LayerWork) -> _Layer:
        forward, by_input, by_weight = stage.work_cost(work)
        return _Layer(work, forward, by_input.add(by_weight))

    def _ends(self, stage: StageModel, plan: TrainingPlan) -> list[float]:
        """The fields of `Units` from `first_forward_s` on."""
        model, shape = self.tables.model, self.shape
        first = stage.work_cost(embedding_work(model, shape))
        last = stage.work_cost(head_work(model, shape))
        sent = 2.0 * shape.tokens * model.hidden_size
        joined_s = 0.0 if plan.sp else self.costs.collective_s("all_gather", sent, "tp")
        return [
            first[0].total_s,
            first[1].total_s + first[2].total_s,
            last[0].total_s,
            last[1].total_s + last[2].total_s,
            sum(part.parts_s.get(_STREAM, 0.0) for part in first),
            sum(part.parts_s.get(_STREAM, 0.0) for part in last),
            sum(part.flops for part in (*first, *last)),
            loss_bytes(
                model,
                shape,
                logit_bytes=self.tables.engine.peak_logit_bytes(plan.compiled),
                weight_bytes=self.tables.engine.peak_head_bytes,
            ),
            end_activation_bytes(model, shape, first=True, last=False),
            end_activation_bytes(model, shape, first=False, last=True),
            padded_vocab(model, plan.tp) * model.hidden_size / plan.tp,
            sent / plan.tp,
            joined_s,
        ]

    def unit(self, plan: TrainingPlan) -> list[list[float] | float]:
        """The fields of `Units` for one kind of recomputation."""
        per_layer = zip(*(self._numbers(i, plan) for i in range(len(self.layers))), strict=True)
        return [*map(list, per_layer), *self.ends]

    def _numbers(self, index: int, plan: TrainingPlan) -> Iterator[float]:
        model, kind, shape = self.tables.model, self.kinds[index], self.shape
        layer = self.layers[index]
        again = recomputed(
            plan.recompute, plan.recompute_every, forward=layer.forward, work=layer.work, costs=self.costs
        )
        backward = PassCost().add(layer.backward).add(again)
        yield layer.forward.total_s
        yield backward.total_s
        yield layer.forward.flops + backward.flops
        yield layer.forward.parts_s.get(_STREAM, 0.0) + backward.parts_s.get(_STREAM, 0.0)
        yield kept_layer_bytes(model, kind, shape, plan)
        yield layer_working_bytes(model, kind, shape, plan, self.tables.engine)
        yield largest_product(model, kind, tp=plan.tp, fused=plan.fused_projections)
        yield from layer_parameters(model, kind, tp=plan.tp, ep=plan.ep)
        yield 0.0 if plan.adapters is None else adapter_parameters(model, kind, plan.adapters, tp=plan.tp)
