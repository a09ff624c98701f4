"""Many plans at once: step time and memory of whole arrays of layouts, by closed forms instead of a replay.

For screening. What depends on few choices (a layer's passes by tensor parallelism, micro-batch, recomputation) is
worked out once by the same code as a single step; pipelines, reductions, states and activations of all plans then
follow in a few array operations. The pipeline is the closed form of 1F1B with unequal stages,
`sum_i t_i/v + (m - 1/v) max t`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sim.core import Array
from sim.costs import BoundCollective, CostModel, bind_collective
from sim.hardware import Cluster, CommGroup
from sim.models import Elementwise, LayerGroup, ModelSpec
from sim.plans import TrainingEngineSpec
from sim.training.costing import KERNEL_FAMILY, TrainingCosts
from sim.training.memory import end_activation_bytes, kept_layer_bytes, layer_activation_bytes, loss_bytes
from sim.training.plan import TrainingPlan, communication_groups
from sim.training.spec import TrainingWorkload
from sim.training.stages import StageModel, StagePasses
from sim.training.states import (
    MASTER_BYTES,
    MOMENT_BYTES,
    PARAM_BYTES,
    grad_bytes,
    layer_parameters,
    update_bytes,
)
from sim.training.sustained import sustained_of
from sim.training.vocabulary import padded_vocab

Ints = npt.NDArray[np.int64]


class Estimates(NamedTuple):
    """Of every plan, in their order.

    Attributes:
        step_s: Time of a step [s], shape `(plans,)`.
        memory_bytes: Allocated on the fullest rank [B], shape `(plans,)`.
    """

    step_s: Array
    memory_bytes: Array


class _Unit(NamedTuple):
    """What one micro-batch costs and keeps, for each choice of tensor parallelism, micro-batch and recomputation."""

    layer_s: Array
    layer_forward_s: Array
    first_s: Array
    last_s: Array
    kept_bytes: Array
    working_bytes: Array
    loss_bytes: Array
    first_bytes: Array
    last_bytes: Array
    parameters: Array
    vocabulary: Array
    transfer_bytes: Array


@dataclass(frozen=True)
class Screen:
    """Plans of one dense model with equal layers on one cluster, estimated together.

    Attributes:
        model: The model; all layers alike.
        workload: The job.
        engine: The engine's profile.
        cluster: The cluster.
    """

    model: ModelSpec
    workload: TrainingWorkload
    engine: TrainingEngineSpec
    cluster: Cluster

    @property
    def group(self) -> LayerGroup:
        """The layers."""
        return self.model.layers[0]

    def estimate(self, plans: Sequence[TrainingPlan]) -> Estimates:
        """Step time and memory of plans that are valid, without experts or context parallelism."""
        keys = [
            (plan.tp, plan.micro_batch, plan.sp, plan.recompute, plan.zero == 3, plan.dp, plan.clock) for plan in plans
        ]
        own = [key if key[4] else (*key[:5], 0, key[6]) for key in keys]  # only sharded parameters depend on dp
        known: dict[tuple[object, ...], _Unit] = {}
        for key, plan in zip(own, plans, strict=True):
            if key not in known:
                known[key] = self._unit(plan)
        units = _stacked([known[key] for key in own])
        return self._all(units, _Columns.of(plans), plans)

    def _costs(self, plan: TrainingPlan) -> TrainingCosts:
        passes = self.engine.compiled_stream_passes if plan.compiled else self.engine.stream_passes
        return TrainingCosts(
            self.cluster.device.at_clock(plan.clock),
            communication_groups(plan, self.cluster),
            sustained=sustained_of(self.cluster.device),
            stream_passes=passes.value,
            attention_frac=self.engine.attention_frac.value,
            network_frac=self.engine.network_frac.value,
        )

    def _with_host(self, layer: StagePasses, plan: TrainingPlan) -> tuple[float, float]:
        """Forward and backward time of a layer [s], no shorter than the host takes to launch its kernels."""
        kernels = self.engine.kernels
        one = self.engine.launch_s.value * (self.engine.compiled_kernels_frac.value if plan.compiled else 1.0)
        again = 1.0 / plan.recompute_every if plan.recompute in ("full", "operators") else 0.0
        backward_s = layer.backward_input.total_s + layer.backward_weight.total_s
        return (
            max(layer.forward.total_s, kernels.forward.value * one),
            max(backward_s, (kernels.backward.value + again * kernels.forward.value) * one),
        )

    def _unit(self, plan: TrainingPlan) -> _Unit:
        sequence, model = self.workload.sequence_length, self.model
        whole = replace(plan, pp=1, vpp=1, layers_per_stage=(model.n_layers,))
        stage = StageModel(model, whole, sequence=sequence, engine=self.engine, costs=self._costs(plan))
        layer, shape = stage.layer(self.group), plan.shape(sequence)
        everything = layer_activation_bytes(model, self.group, shape)
        kept = kept_layer_bytes(model, self.group, shape, plan)
        forward_s, backward_s = self._with_host(layer, plan)
        numbers = (
            forward_s + backward_s,
            forward_s,
            stage.ends(first=True, last=False).total_s,
            stage.ends(first=False, last=True).total_s,
            kept,
            everything - kept,
            loss_bytes(model, shape, logit_bytes=self.engine.logit_bytes.value),
            end_activation_bytes(model, shape, first=True, last=False),
            end_activation_bytes(model, shape, first=False, last=True),
            layer_parameters(model, self.group, tp=plan.tp, ep=1)[0],
            padded_vocab(model, plan.tp) * model.hidden_size / plan.tp,
            2.0 * shape.tokens * model.hidden_size / plan.tp,
        )
        return _Unit(*map(np.asarray, numbers))

    # ---- all plans ----

    def _all(self, unit: _Unit, plan: _Columns, plans: Sequence[TrainingPlan]) -> Estimates:
        """Step time and memory from the units of all plans."""
        layers: Array = np.asarray(np.ceil(self.model.n_layers / (plan.pp * plan.vpp)) * plan.vpp, dtype=np.float64)
        middle_s = layers * unit.layer_s
        busiest_s = np.maximum(middle_s + unit.first_s * (plan.pp == 1), middle_s + unit.last_s)
        busiest_s = np.maximum(busiest_s, np.where(plan.pp > 1, middle_s + unit.first_s, 0.0))
        total_s = self.model.n_layers * unit.layer_s + unit.first_s + unit.last_s
        host_s = self.engine.micro_batch_s.value
        pipeline_s = plan.microbatches * (busiest_s + host_s) + np.maximum(total_s - busiest_s, 0.0) / plan.vpp
        step_s = pipeline_s + self._transfers_s(unit, plan) + self.engine.step_s.value
        parameters: Array = np.asarray(layers * unit.parameters + self._rows(unit, plan), dtype=np.float64)
        step_s = step_s + self._reduction_s(unit, plan, plans, parameters, layers) + self._update_s(plan, parameters)
        return Estimates(step_s, self._memory(unit, plan, parameters, layers))

    def _rows(self, unit: _Unit, plan: _Columns) -> Array:
        """Parameters of the vocabulary on the fuller end: embedding, LM head, or both where they share a stage."""
        both = (plan.pp == 1) & (not self.model.tied_embeddings)
        return np.asarray(unit.vocabulary * np.where(both, 2.0, 1.0))

    def _transfers_s(self, unit: _Unit, plan: _Columns) -> Array:
        """Transfers between stages that nothing hides: those of filling and draining, and all if sends block [s]."""
        domain = min(self.cluster.domain, self.cluster.n_devices)
        near = self.cluster.group((0, 1)) if domain > 1 else None
        far = self.cluster.group((0, domain)) if self.cluster.n_devices > domain else None
        across = (plan.tp * plan.dp * plan.pp > domain) if far is not None else np.zeros(plan.tp.shape, dtype=bool)
        one = np.zeros(plan.tp.shape)
        for group, where in ((near, ~across), (far, across)):
            if group is not None:
                one = np.where(where, _timer("p2p", group).time_s(unit.transfer_bytes) / self._rate(group), one)
        fill = 2.0 * (plan.pp - 1)
        steady = np.where(plan.overlap_p2p, 0.0, 2.0 * plan.microbatches * plan.vpp)
        return np.asarray(np.where(plan.pp > 1, one * (fill + steady), 0.0))

    def _rate(self, group: CommGroup) -> float:
        kept = sustained_of(self.cluster.device)
        return kept.network * self.engine.network_frac.value if group.nodes > 1 else kept.local_comm

    def _reduction_s(
        self, unit: _Unit, plan: _Columns, plans: Sequence[TrainingPlan], parameters: Array, layers: Array
    ) -> Array:
        """Exposed reduction of gradients and gathering of parameters [s]; see `TrainingStep`."""
        reduce_s, gather_s = np.zeros(plan.tp.shape), np.zeros(plan.tp.shape)
        for tp, dp in {(one.tp, one.dp) for one in plans}:
            mine = (plan.tp == tp) & (plan.dp == dp)
            group = self.cluster.group(range(0, tp * dp, tp))
            rate = self._rate(group)
            for kind, where in (("all_reduce", mine & (plan.zero == 0)), ("reduce_scatter", mine & (plan.zero > 0))):
                reduce_s[where] = _timer(kind, group).time_s(parameters[where] * plan.grad_bytes[where]) / rate
            sharing = mine & (plan.zero > 0)
            gather_s[sharing] = _timer("all_gather", group).time_s(parameters[sharing] * PARAM_BYTES) / rate
        taken = self.engine.comm_units_frac.value
        last = np.minimum(1.0, self.engine.bucket_bytes.value / (parameters * plan.grad_bytes))
        forward_s = layers * unit.layer_forward_s
        backward_s = layers * unit.layer_s - forward_s
        share = np.maximum(taken, last)
        shown = np.maximum(share * reduce_s, reduce_s - backward_s) + np.maximum(share * gather_s, gather_s - forward_s)
        exposed = np.where(plan.overlap_dp, shown, reduce_s + gather_s)
        return np.asarray(np.where(plan.zero == 3, 0.0, exposed))

    def _update_s(self, plan: _Columns, parameters: Array) -> Array:
        count = parameters / np.where(plan.zero > 0, plan.dp, 1)
        traffic = Elementwise(
            name="optimizer",
            cause="optimizer",
            moved_bytes=count * update_bytes(self.engine, self.workload.optimizer),
        )
        return np.asarray(
            CostModel(self.cluster.device).cost(traffic).time_s / sustained_of(self.cluster.device).stream
        )

    def _memory(self, unit: _Unit, plan: _Columns, parameters: Array, layers: Array) -> Array:
        """Allocated bytes of the fuller of the first and the last stage; see `RankMemory`."""
        master = MASTER_BYTES if self.engine.param_master else 0.0
        kept = PARAM_BYTES * ((plan.zero < 3) | (not self.engine.param_master))
        states = kept / np.where(plan.zero >= 3, plan.dp, 1) + plan.grad_bytes / np.where(plan.zero >= 2, plan.dp, 1)
        states = states + (MOMENT_BYTES[self.workload.optimizer] + master) / np.where(plan.zero >= 1, plan.dp, 1)
        gathered = np.maximum(unit.parameters, self._rows(unit, plan)) * (2.0 * PARAM_BYTES + plan.grad_bytes)
        bucket = np.minimum(self.engine.bucket_bytes.value, plan.grad_bytes * parameters)
        buffers = np.where(plan.zero == 3, gathered, np.where(plan.zero == 2, bucket, 0.0))
        chunks = plan.microbatches * plan.vpp
        deep = np.where(plan.vpp > 1, 2 * (plan.pp - 1) + (plan.vpp - 1) * plan.pp + 1, plan.pp)
        shallow = np.where(plan.vpp > 1, (plan.vpp - 1) * plan.pp + 1, 1)
        chunk = unit.kept_bytes * layers / plan.vpp
        first = np.minimum(deep, chunks) * chunk + unit.first_bytes * np.minimum(plan.pp, plan.microbatches)
        end = np.minimum(shallow, chunks) * chunk + unit.last_bytes
        alone = plan.pp == 1
        first = first + np.where(alone, unit.last_bytes, 0.0)
        working = np.maximum(unit.working_bytes, unit.loss_bytes)
        peak = np.maximum(first + np.where(alone, working, unit.working_bytes), end + working)
        return np.asarray(parameters * states + buffers + peak)


class _Columns(NamedTuple):
    """Fields of all plans as arrays, shape `(plans,)`."""

    dp: Ints
    tp: Ints
    pp: Ints
    vpp: Ints
    zero: Ints
    microbatches: Ints
    overlap_dp: npt.NDArray[np.bool_]
    overlap_p2p: npt.NDArray[np.bool_]
    grad_bytes: Array

    @classmethod
    def of(cls, plans: Sequence[TrainingPlan]) -> _Columns:
        """The columns of these plans."""
        rows = [
            (p.dp, p.tp, p.pp, p.vpp, p.zero, p.microbatches, p.overlap_dp, p.overlap_p2p, grad_bytes(p)) for p in plans
        ]
        return cls(*(np.array(column) for column in zip(*rows, strict=True)))


def _timer(kind: str, group: CommGroup) -> BoundCollective:
    return bind_collective(kind, group, engine=KERNEL_FAMILY)


def _stacked(units: Sequence[_Unit]) -> _Unit:
    """Units of all plans as arrays, shape `(plans,)`."""
    return _Unit(*np.array(units, dtype=np.float64).T)
