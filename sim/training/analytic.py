"""Many plans at once: step time, memory and energy of whole arrays of layouts, by closed forms instead of a replay.

For screening. What depends on few choices (a layer's passes by tensor parallelism, micro-batch, recomputation) is
worked out once by the same code as a single step (`sim.training.units`); pipelines, reductions, states and activations
of all plans then follow in array operations over the different kinds of stage (`sim.training.layout_kinds`). The
pipeline is the closed form of 1F1B with unequal stages, `sum_i t_i/v + (m - 1/v) max t`; schedules other than 1F1B,
interleaved and GPipe are ranked by it too, with their own stages on each device and their own passes in flight, so that
their memory is right and only the finer shape of their bubble is left to the replay.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from sim.core import Array, InputError
from sim.costs import CostModel
from sim.hardware import Cluster, power_w
from sim.models import Elementwise, ModelSpec, compute_dtype
from sim.plans import TrainingEngineSpec
from sim.training.array_costs import Casting, Network
from sim.training.columns import RECOMPUTES, Flags, Ints, Members, PlanTable
from sim.training.host import pass_s
from sim.training.host_optimizer import HostUpdate, host_update
from sim.training.layout_kinds import LayoutKinds, layout_kinds, pipelines_of
from sim.training.plan import TrainingPlan
from sim.training.precision import with_wide_ends
from sim.training.schedules import SCHEDULES
from sim.training.spec import TrainingWorkload
from sim.training.stages import END_KERNELS
from sim.training.states import MOMENT_BYTES, PARAM_BYTES, end_parameters, master_bytes, update_bytes
from sim.training.units import Units, UnitTables

_BLOCK = 1 << 15
"""Plans worked on together: their arrays stay in the caches."""

_RECOMPUTED = [RECOMPUTES.index("full"), RECOMPUTES.index("operators")]
"""Kinds that launch the forward kernels again."""


class Estimates(NamedTuple):
    """Of every plan, in their order.

    Attributes:
        step_s: Time of a step [s], shape `(plans,)`.
        memory_bytes: Allocated on the fullest rank [B], shape `(plans,)`.
        energy_j: Energy of all GPUs over a step [J], shape `(plans,)`.
    """

    step_s: Array
    memory_bytes: Array
    energy_j: Array


@dataclass(frozen=True)
class Screen:
    """Plans of one model on one cluster, estimated together.

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

    def estimate(self, plans: Sequence[TrainingPlan]) -> Estimates:
        """Estimates of plans that are valid."""
        return self.estimate_table(PlanTable.of(plans))

    def estimate_table(self, table: PlanTable) -> Estimates:
        """Estimates of the plans of a table, all of them valid.

        Raises:
            InputError: if plans gather parameters ahead other than by one layer, which the closed forms do not know.
        """
        if table.template.prefetch != 1 and ((table.columns.zero == 3) & table.columns.overlap_dp).any():
            raise InputError("only plans that gather one layer ahead are screened", path="plan.prefetch", allowed="1")
        model = with_wide_ends(self.model, self.workload.quantisation)
        units = UnitTables(model, self.workload, self.engine, self.cluster).of(table)
        pipelines, pipeline = pipelines_of(table)
        kinds = layout_kinds(model, pipelines)
        casts = Casting.of(model, table.template, self.cluster)
        network = Network(self.cluster, self.engine)
        blocks = []
        for start in range(0, len(table), _BLOCK):
            rows = slice(start, start + _BLOCK)
            own = table.take(rows)
            members = {name: one.take(rows) for name, one in table.lattices.items()}
            part = _Block(self, own, units.take(rows), kinds.take(pipeline[rows]), network, members, casts)
            blocks.append(part.estimates())
        return Estimates(*(np.concatenate(columns) for columns in zip(*blocks, strict=True)))


class _Block:
    """Some plans; arrays have plans first, then kinds of stage or device."""

    def __init__(
        self,
        screen: Screen,
        table: PlanTable,
        unit: Units,
        kinds: LayoutKinds,
        network: Network,
        members: dict[str, Members],
        casting: Casting,
    ) -> None:
        self.casting = casting
        self.screen = screen
        self.engine = screen.engine
        self.table = table
        self.plan = table.columns
        self.unit = unit
        self.kinds = kinds
        self.network = network
        self.members = members
        self.adapters = table.template.adapters
        self.grad_bytes: Array = np.where(self.plan.wide_gradients, 4.0, 2.0)
        self.device_layers: Array = np.einsum("nds,nsg->ndg", kinds.held, kinds.layers)
        self.device_first: Array = np.einsum("nds,ns->nd", kinds.held, kinds.first.astype(np.float64))
        self.device_last: Array = np.einsum("nds,ns->nd", kinds.held, kinds.last.astype(np.float64))

    def estimates(self) -> Estimates:
        """Of these plans."""
        table, plan, kinds = self.table, self.plan, self.kinds
        forward_s, backward_s = self.stage_s
        both_s = forward_s + backward_s
        devices_s = self._held(both_s) / kinds.copies[:, None]
        busiest_s = devices_s.max(axis=1)
        total_s = (kinds.stages * both_s).sum(axis=1) / kinds.copies
        step_s = plan.microbatches * busiest_s + np.maximum(total_s - busiest_s, 0.0) / table.vpp
        step_s = step_s + self._transfers_s() + self.engine.step_s.value
        step_s = step_s + self._late_s(self._held(forward_s), self._held(backward_s)) + self.update_s
        step_s = step_s + self._crossing_s(self._held(backward_s))
        return Estimates(step_s, self._memory(), self._energy_j(step_s, devices_s.argmax(axis=1)))

    # ---- passes ----

    @cached_property
    def stage_s(self) -> tuple[Array, Array]:
        """Forward and backward time of a micro-batch in each kind of stage [s], host and sharding included."""
        unit, kinds = self.unit, self.kinds
        sharded_forward, sharded_backward = self._sharded_s()
        forward = self._stage(unit.forward_s + sharded_forward, unit.first_forward_s, unit.last_forward_s)
        backward = self._stage(unit.backward_s + sharded_backward, unit.first_backward_s, unit.last_backward_s)
        encoder = self.table.template.encoder
        encoded = 0.0 if encoder is None else float(sum(group.count for group in encoder.layers))
        layers, ends = kinds.layers.sum(axis=2) + encoded * kinds.first, kinds.first + kinds.last.astype(np.float64)
        kernels = self.engine.kernels
        again = np.isin(self.plan.recompute, _RECOMPUTED) / self.plan.recompute_every
        launch_s = self.engine.launch_s.value * np.where(
            self.plan.compiled, self.engine.compiled_kernels_frac.value, 1.0
        )
        more = (0.0, 0.0) if self.adapters is None else self.adapters.extra_kernels
        kernels_forward = kernels.forward.value + more[0]
        per_layer = kernels.backward.value + more[1] + again * kernels_forward
        if self.table.template.cuda_graphs:
            kernels_forward, per_layer = 1.0, np.ones_like(again)
        host_forward = launch_s[:, None] * (layers * kernels_forward + END_KERNELS * ends)
        host_backward = launch_s[:, None] * (layers * per_layer[:, None] + 2.0 * END_KERNELS * ends)
        once_s = (self.engine.micro_batch_s.value / self.table.vpp)[:, None]
        gathered_s, scattered_s = self._first_gather_s()
        backward = backward + self._reduced_s(backward)
        real = kinds.stages > 0
        return (
            np.where(real, pass_s(forward, host_forward) + once_s + gathered_s, 0.0),
            np.where(real, pass_s(backward, host_backward) + scattered_s, 0.0),
        )

    def _stage(self, layer: Array, first: Array, last: Array) -> Array:
        """Sum over a stage of what each kind of layer, the embedding and the LM head take."""
        whole = np.einsum("nsg,ng->ns", self.kinds.layers, layer)
        return np.asarray(whole + self.kinds.first * first[:, None] + self._head_share * last[:, None])

    @cached_property
    def _head_share(self) -> Array:
        """Share of the LM head and loss in each kind of stage: all of it in the last, or as much in each."""
        kinds = self.kinds
        if not kinds.spread.any():
            return kinds.last.astype(np.float64)
        evenly = (kinds.stages > 0) / np.maximum(kinds.stages.sum(axis=1, keepdims=True), 1.0)
        return np.asarray(np.where(kinds.spread[:, None], evenly, kinds.last))

    def _held(self, stage: Array) -> Array:
        """Sum over the stages of a device."""
        return np.asarray(np.einsum("nds,ns->nd", self.kinds.held, stage))

    # ---- sharded parameters (ZeRO-3), see `StageModel` ----

    @cached_property
    def _layer_moves_s(self) -> tuple[Array, Array]:
        """Gathering a layer's parameters, and scattering its gradients [s]; zero for plans that do not shard them."""
        unit = self.unit
        gather_s, scatter_s = np.zeros(unit.shared.shape), np.zeros(unit.shared.shape)
        rows = np.flatnonzero(self.plan.zero == 3)
        if len(rows):
            width = 4.0 if self.engine.gather_dtype == "fp32" else PARAM_BYTES
            width = width if self.adapters is None else self.adapters.base_bytes
            grad = self.grad_bytes[rows, None]
            gather_s[rows] = self._over_s("all_gather", unit.shared[rows] * width, unit.expert[rows] * width, rows)
            shared, expert = unit.shared[rows], unit.expert[rows]
            if self.adapters is not None:
                shared, expert = unit.adapters[rows], np.zeros_like(expert)
            scatter_s[rows] = self._over_s("reduce_scatter", shared * grad, expert * grad, rows)
        return gather_s, scatter_s

    def _over_s(self, kind: str, shared_bytes: Array, expert_bytes: Array, rows: Ints | slice) -> Array:
        """A collective of shared parameters over the ranks that divide them, and of experts over theirs [s].

        With hybrid sharding, gradients that are reduced to shares are then summed over the copies of each.
        """
        found = self.network.over_s(kind, shared_bytes, self.members["dp_shard"].take(rows))
        if expert_bytes.any():
            found = found + self.network.over_s(kind, expert_bytes, self.members["expert_shard"].take(rows))
        if kind == "reduce_scatter" and (self.plan.dp_replicas[rows] > 1).any():
            share = (shared_bytes + expert_bytes * self.plan.ep[rows, None]) / self.shards[rows, None]
            found = found + self.network.over_s("all_reduce", share, self.members["dp_replica"].take(rows))
        return found

    @property
    def shards(self) -> Ints:
        """Ranks that sharded states are divided over."""
        return self.plan.dp * self.plan.cp // self.plan.dp_replicas

    def _sharded_s(self) -> tuple[Array, Array]:
        """What sharded parameters add to the forward and the backward pass of a layer [s]."""
        gather_s, scatter_s = self._layer_moves_s
        cast_s, shown = self._weight_casts_s, []
        none = np.zeros(scatter_s.shape)
        behind_s, waited_s = (scatter_s, none) if self.engine.overlap_scatter else (none, scatter_s)
        for comm_s, beside_s, alone_s in (
            (gather_s, self.unit.forward_s + cast_s, none),
            (gather_s + behind_s, self.unit.backward_s, waited_s),
        ):
            hidden = self._pieces_s(comm_s, beside_s, none)
            shown.append(np.where(self.plan.overlap_dp[:, None], hidden, comm_s) + alone_s)
        return shown[0] + cast_s, shown[1]

    @cached_property
    def _weight_casts_s(self) -> Array:
        """Casting the gathered weights of a layer, in every micro-batch anew [s]."""
        found = np.zeros(self.unit.shared.shape)
        rows = np.flatnonzero(self.plan.zero == 3)
        if len(rows) and self.casting.cast_bytes.any():
            moved = self.casting.cast_bytes * (self.unit.shared + self.unit.expert)[rows]
            found[rows] = self.casting.time_s(moved, rate=self.network.kept.stream)
        return found

    def _low(self, each: Array) -> Array:
        """`each` per weight in low precision, summed on each kind of device; none where they are sharded or frozen."""
        if self.adapters is not None or not each.any():
            return np.zeros(self.shared.shape)
        weights = (self.unit.shared + self.unit.expert) * each
        return np.where(self.plan.zero[:, None] < 3, np.einsum("ndg,ng->nd", self.device_layers, weights), 0.0)

    def _first_gather_s(self) -> tuple[Array, Array]:
        """The first gather and the last scatter of a stage, which nothing hides [s]."""
        present = (self.kinds.layers > 0) & self.plan.overlap_dp[:, None, None]
        gather_s, scatter_s = self._layer_moves_s
        return (present * gather_s[:, None]).max(axis=2), (present * scatter_s[:, None]).max(axis=2)

    def _reduced_s(self, backward_s: Array) -> Array:
        """What reducing the gradients of each micro-batch adds to kinds of stage (ZeRO-2) [s]; see `StageModel`."""
        found, kinds, unit = np.zeros(backward_s.shape), self.kinds, self.unit
        rows = np.flatnonzero(self.plan.zero == 2)
        if len(rows):
            first, last = kinds.first[rows], kinds.last[rows]
            vectors = first * self._first_vectors[rows, None] + last * self._last_vectors
            last = last & ~(first & self.screen.model.tied_embeddings)
            layers, grad = kinds.layers[rows], self.grad_bytes[rows, None]
            ends = (first + last.astype(np.float64)) * unit.rows[rows, None]
            if self.adapters is None:
                shared = (np.einsum("nsg,ng->ns", layers, unit.shared[rows]) + ends + vectors) * grad
                expert = np.einsum("nsg,ng->ns", layers, unit.expert[rows]) * grad
            else:
                shared = np.einsum("nsg,ng->ns", layers, unit.adapters[rows]) * grad
                expert = np.zeros_like(shared)
            reduce_s = self._over_s("reduce_scatter", shared, expert, rows)
            alone = self._bucket_frac(shared + expert, layers.sum(axis=2))
            shown_s = self._pieces_s(reduce_s, backward_s[rows], alone)
            found[rows] = np.where(self.plan.overlap_dp[rows, None], shown_s, reduce_s) / self._added_up[rows, None]
        return found

    @cached_property
    def _added_up(self) -> Array:
        """Micro-batches whose gradients are reduced together under ZeRO-2, see `TrainingPlan.reduced_after`."""
        together = np.minimum(self.table.pp, self.plan.microbatches)
        stays = np.array([SCHEDULES.get(name).stays_on_chunk for name in self.table.schedules])
        return np.asarray(np.where(stays[self.plan.schedule], together, 1), dtype=np.float64)

    def _pieces_s(self, comm_s: Array, beside_s: Array, alone_frac: Array) -> Array:
        """What collectives in pieces beside compute add to it [s], of plans that overlap; see `dp_overlap`.

        One piece, `alone_frac` of all, has nothing to hide behind; compute has a head start of as much. The rest runs
        beside compute while both last, at `1 - k` of the speed for the multiprocessors k that collectives take.
        """
        kept = (1.0 - alone_frac) * (1.0 - self.engine.comm_units_frac.value)
        return np.asarray(comm_s - kept * np.minimum(comm_s, beside_s))

    def _bucket_frac(self, sizes_bytes: Array, layers: Array) -> Array:
        """Share of the gradients that the last bucket has: a layer at least."""
        bucket = self.engine.bucket_bytes.value / np.maximum(sizes_bytes, 1.0)
        return np.asarray(np.minimum(1.0, np.maximum(bucket, 1.0 / np.maximum(layers, 1.0))))

    # ---- between and after the passes ----

    def _transfers_s(self) -> Array:
        """Transfers between stages that nothing hides: those of filling and draining, and all if sends block [s]."""
        plan, pp = self.plan, self.table.pp
        domain = min(self.screen.cluster.domain, self.screen.cluster.n_devices)
        stages = self.members["stages"]
        far = np.array([domain % (one.ranks * one.step) > 0 for one in stages.lattices])[stages.number]
        scatters = self.table.template.scatter_gather
        sent_bytes = self.unit.sent_bytes if scatters else self.unit.sent_bytes * plan.tp
        one = self.network.hop_s(sent_bytes, far) + (self.unit.joined_s if scatters else 0.0)
        fill = 2.0 * (pp - 1)
        steady = np.where(plan.overlap_p2p, 0.0, 2.0 * plan.microbatches * self.table.vpp)
        return np.asarray(np.where(pp > 1, one * (fill + steady), 0.0))

    @cached_property
    def shared(self) -> Array:
        """Parameters on each kind of device without routed experts."""
        layers = np.einsum("ndg,ng->nd", self.device_layers, self.unit.shared)
        return np.asarray(layers + self.embedding + self._end_vectors())

    @cached_property
    def expert(self) -> Array:
        """Parameters of routed experts on each kind of device."""
        return np.asarray(np.einsum("ndg,ng->nd", self.device_layers, self.unit.expert))

    @cached_property
    def trained(self) -> tuple[Array, Array]:
        """Of them, those that have gradients: all without adapters, and only adapters with them."""
        if self.adapters is None:
            return self.shared, self.expert
        return np.einsum("ndg,ng->nd", self.device_layers, self.unit.adapters), np.zeros_like(self.expert)

    @cached_property
    def embedding(self) -> Array:
        """Rows of the vocabulary on each kind of device: embedding, LM head, or both."""
        copies, stages, tied = (
            self.device_first + self.device_last,
            self.kinds.stages,
            self.screen.model.tied_embeddings,
        )
        if tied:
            copies = np.where((self.table.pp * self.table.vpp == 1)[:, None], 1.0, copies)
        if self.kinds.spread.any():
            evenly = self.kinds.held.sum(axis=2) * (1.0 if tied else 2.0) / stages.sum(axis=1, keepdims=True)
            copies = np.where(self.kinds.spread[:, None], evenly, copies)
        return np.asarray(copies * self.unit.rows[:, None])

    def _largest_end(self) -> Array:
        """Rows of the vocabulary in the stage of each kind of device that has the most."""
        kinds, tied = self.kinds, self.screen.model.tied_embeddings
        if np.isnan(kinds.deep).all():  # dealt in turn: no device holds both ends in different stages
            return self.embedding
        rows = kinds.first + (kinds.last & ~(kinds.first & tied)).astype(np.float64)
        most = ((kinds.held > 0) * rows[:, None]).max(axis=2) * self.unit.rows[:, None]
        return np.asarray(np.where(kinds.spread[:, None], self.embedding, most))

    def _end_vectors(self) -> Array:
        """What a device has at the ends beside the vocabulary: learned positions, an encoder, the final norm."""
        return np.asarray(self.device_first * self._first_vectors[:, None] + self.device_last * self._last_vectors)

    @cached_property
    def _first_vectors(self) -> Array:
        """Of them, those of the first stage of each plan, shape `(plans,)`."""
        widths, own = np.unique(self.plan.tp, return_inverse=True)
        model, encoder = self.screen.model, self.table.template.encoder
        each = [end_parameters(model, encoder, tp=tp, first=True, last=False) for tp in widths.tolist()]
        return np.array(each)[own]

    @property
    def _last_vectors(self) -> float:
        return end_parameters(self.screen.model, None, tp=1, first=False, last=True)

    def _late_s(self, forward_s: Array, backward_s: Array) -> Array:
        """Time from the last pass until all gradients are reduced and parameters gathered [s]; see `TrainingStep`.

        A device of rank r ends its passes r backward passes before the first one.
        """
        plan, grad = self.plan, self.grad_bytes[:, None]
        reduce_s, gather_s = np.zeros(self.shared.shape), np.zeros(self.shared.shape)
        for kind, found_s, each, where in (
            ("all_reduce", reduce_s, grad, plan.zero == 0),
            ("reduce_scatter", reduce_s, grad, plan.zero == 1),
            ("all_gather", gather_s, np.full_like(grad, PARAM_BYTES), (plan.zero == 1) | (plan.zero == 2)),
        ):
            rows = np.flatnonzero(where)
            if len(rows):
                shared, expert = (part[rows] * each[rows] for part in self.trained)
                found_s[rows] = self._over_s(kind, shared, expert, rows)
        size = sum(self.trained) * grad
        count = self.device_layers.sum(axis=2)
        shown = self._pieces_s(reduce_s, backward_s, self._bucket_frac(size, count))
        shown = shown + self._pieces_s(gather_s, forward_s, 1.0 / np.maximum(count, 1.0))
        exposed = np.where(plan.overlap_dp[:, None], shown, reduce_s + gather_s)
        early_s = self.kinds.rank * backward_s.max(axis=1, keepdims=True) / self.table.vpp[:, None]
        late_s = np.where(self.kinds.real, np.maximum(exposed - early_s, 0.0), 0.0).max(axis=1)
        return np.asarray(late_s + self._tied_s())

    def _tied_s(self) -> Array:
        """Reduction of the tied embedding's gradients between the first and the last stage [s]."""
        found = np.zeros(len(self.table))
        if self.screen.model.tied_embeddings and self.adapters is None:
            found = self.network.over_s("all_reduce", self.unit.rows * self.grad_bytes, self.members["ends"])
        return found

    @cached_property
    def update_s(self) -> Array:
        """Update of the states that the fullest rank holds [s]."""
        if self.screen.workload.optimizer == "adam_cpu":
            each = self._host.update_s[:, None]
            return np.asarray(self._divided(each, self.plan.zero > 0).max(axis=1))
        count = self._divided(update_bytes(self.engine, self.screen.workload.optimizer), self.plan.zero > 0)
        moved = (count + self._low(self.casting.cast_bytes)).max(axis=1)
        traffic = Elementwise(name="optimizer", cause="optimizer", moved_bytes=moved)
        device = self.screen.cluster.device
        return np.asarray(CostModel(device).cost(traffic).time_s / self.network.kept.stream)

    @cached_property
    def _host(self) -> HostUpdate:
        """Times of an update on the host, per parameter of each plan."""
        frac = self.engine.host_update_frac.value
        return host_update(self.screen.cluster, gradient_bytes=self.grad_bytes, memory_frac=frac)

    def _crossing_s(self, backward_s: Array) -> Array:
        """Gradients on their way to the host that no backward pass hides [s]; zero for updates on the device."""
        if self.screen.workload.optimizer != "adam_cpu":
            return np.zeros(len(self.table))
        crossing_s = self._divided(self._host.gradient_s[:, None], self.plan.zero > 0)
        hidden = np.where(self.plan.overlap_dp[:, None], backward_s, 0.0)
        return np.asarray(np.maximum(crossing_s - hidden, 0.0).max(axis=1))

    # ---- memory, see `RankMemory` ----

    def _divided(self, each: Array | float, sharded: Flags, of: tuple[Array, Array] | None = None) -> Array:
        """`each` per parameter of a device (of trained ones, unless others are given), over the shards if `sharded`."""
        shared, expert = of or self.trained
        shards = self.shards[:, None]
        spread = shared / shards + expert * self.plan.ep[:, None] / shards
        return np.asarray(each * np.where(sharded[:, None], spread, shared + expert))

    def _frozen(self) -> Array:
        """Weights under adapters on each kind of device, as they are packed [B]; zero where all are trained."""
        if self.adapters is None:
            return np.zeros(self.shared.shape)
        whole = self.shared + self.expert
        layers_bytes = self.adapters.base_bytes * (whole - self.embedding)
        each = (layers_bytes + PARAM_BYTES * self.embedding) / np.maximum(whole, 1.0)
        return self._divided(each, self.plan.zero >= 3, (self.shared, self.expert))

    def _memory(self) -> Array:
        """Allocated bytes on the fullest kind of device."""
        plan, grad = self.plan, self.grad_bytes[:, None]
        master = master_bytes(self.engine, self.screen.workload.optimizer)
        apart = (plan.zero < 3) | (master != 4.0) | (self.adapters is not None)
        held: Array = np.where(apart, PARAM_BYTES, 0.0)[:, None]
        states = self._divided(held, plan.zero >= 3) + self._divided(grad, plan.zero >= 2)
        states = states + self._divided(MOMENT_BYTES[self.screen.workload.optimizer] + master, plan.zero >= 1)
        states = states + self._low(self.casting.copies_bytes) + self._frozen()
        present = self.device_layers > 0
        buffers = self._buffers() + self._transfers()
        working = (present * self.unit.working_bytes[:, None]).max(axis=2)
        share = np.where(self.kinds.spread[:, None], 1.0 / self.table.pp[:, None], self.device_last > 0)
        working = np.maximum(working, share * self.unit.loss_bytes[:, None])
        used = states + buffers + self._activations() + working
        return np.asarray(np.where(self.kinds.real, used, 0.0).max(axis=1))

    def _buffers(self) -> Array:
        """Gathered parameters and gradients before they are reduced on each kind of device [B]; see `buffer_bytes`."""
        plan, grad, present = self.plan, self.grad_bytes[:, None], self.device_layers > 0
        whole_gradients = grad * sum(self.trained)
        bucket = np.minimum(self.engine.bucket_bytes.value, whole_gradients)
        width = PARAM_BYTES if self.adapters is None else self.adapters.base_bytes
        if (limit := self.engine.live_parameters) is not None:
            product = (present * self.unit.product[:, None]).max(axis=2)
            product = np.maximum(product, np.minimum(self.unit.rows[:, None], self.embedding))
            live = np.maximum(product, np.minimum(limit.value, self.shared + self.expert))
            gathered = live * width + np.minimum(product, sum(self.trained)) * grad + bucket
        else:
            layer = (present * (self.unit.shared + self.unit.expert)[:, None]).max(axis=2)
            whole = (1.0 + plan.overlap_dp[:, None]) * width + (grad if self.adapters is None else 0.0)
            gathered = np.maximum(layer, self._largest_end()) * whole
        chunks = np.minimum(1.0, (1.0 + plan.overlap_dp) / self.table.vpp)[:, None] * whole_gradients
        bucket = np.where(self._added_up[:, None] > 1, chunks, bucket)
        zero = plan.zero[:, None]
        return np.asarray(np.where(zero == 3, gathered, np.where(zero == 2, bucket, 0.0)))

    def _transfers(self) -> Array:
        """What each kind of device holds of transfers [B]; see `transfer_bytes`."""
        if not self.engine.holds_transfers:
            return np.zeros(self.device_last.shape)
        last, held = self.device_last, self.kinds.held.sum(axis=2)
        m = (self.plan.microbatches / self.kinds.copies * (self.table.pp > 1))[:, None]
        whole = self.unit.sent_bytes * self.plan.tp
        sent, logits = (
            np.where(self.plan.sp, self.unit.sent_bytes, whole),
            self.unit.rows * whole / self.screen.model.hidden_size**2,
        )
        return np.asarray(m * (sent[:, None] * (2.0 * held - last) + logits[:, None] * last))

    def _activations(self) -> Array:
        """What micro-batches in flight keep on each kind of device at its peak [B].

        Rank r has `p - r` in flight under 1F1B, `2(p - r - 1) + (v - 1) p + 1` chunks of them when interleaved, and
        all of them under GPipe; under other schedules as many as their passes say.
        """
        pp, vpp, m = self.table.pp[:, None], self.table.vpp[:, None], self.plan.microbatches[:, None]
        copies, told = self.kinds.copies[:, None], ~np.isnan(self.kinds.deep)
        left = pp - self.kinds.rank
        deep = np.where(vpp > 1, 2 * (left - 1) + (vpp - 1) * pp + 1, left)
        gpipe = np.array([name == "gpipe" for name in self.table.schedules])[self.plan.schedule][:, None]
        chunks = np.where(gpipe, m, np.minimum(np.where(told, self.kinds.deep, deep), m * vpp))
        kept = np.einsum("ndg,ng->nd", self.device_layers, self.unit.kept_bytes) / (vpp * copies)
        alone = told & (vpp * copies == 1)
        at_first = np.where(alone, chunks, np.minimum(np.where(gpipe, m, pp), m))
        at_last = np.where(alone, chunks, np.where(gpipe, m, 1))
        first = self.device_first * self.unit.first_bytes[:, None] * at_first
        last = self.device_last * self.unit.last_bytes[:, None] * at_last
        return np.asarray(chunks * kept + first + last)

    # ---- energy, see `job_metrics` ----

    def _energy_j(self, step_s: Array, critical: Ints) -> Array:
        """Energy of all GPUs over a step [J]: power at the use of arithmetic, and of memory by the critical."""
        plan, unit, found = self.plan, self.unit, np.zeros(len(self.table))
        every = np.einsum("ns,nsg->ng", self.kinds.stages, self.kinds.layers)
        flops = plan.microbatches * ((every * unit.flops).sum(axis=1) + unit.ends_flops)
        stream_s = np.einsum("ndg,ng->nd", self.device_layers, unit.stream_s)
        stream_s += self.device_first * unit.first_stream_s[:, None] + self.device_last * unit.last_stream_s[:, None]
        passes = plan.microbatches / self.kinds.copies
        stream_s = passes * stream_s[np.arange(len(critical)), critical] + self.update_s
        gpus = plan.dp * plan.tp * plan.cp * self.table.pp
        kind = compute_dtype(self.table.template.recipe.dtype)
        for clock, rows in self._by_clock():
            device = self.screen.cluster.device.at_clock(clock)
            peak_flops, _ = device.compute_rate(kind)
            use = flops[rows] / step_s[rows] / self.table.pp[rows] / peak_flops
            watts = power_w(
                device,
                compute_frac=np.minimum(1.0, use),
                memory_frac=np.minimum(1.0, stream_s[rows] / step_s[rows]),
            )
            found[rows] = watts * step_s[rows] * gpus[rows]
        return found

    def _by_clock(self) -> Iterator[tuple[float, Ints]]:
        for clock in np.unique(self.plan.clock).tolist():
            yield clock, np.flatnonzero(self.plan.clock == clock)
