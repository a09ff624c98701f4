"""Time of one micro-batch in each virtual stage: device work by cause, sharded parameters gathered, host waits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from sim.models import Collective, Elementwise, Gemm, LayerGroup, ModelSpec
from sim.plans import TrainingEngineSpec
from sim.plans.training import Recompute
from sim.training.adapters import adapter_parameters
from sim.training.context import RINGS, shown_s
from sim.training.costing import PassCost, TrainingCosts
from sim.training.dp_overlap import reduced_behind_s, sharded_s
from sim.training.host import pass_s
from sim.training.layer import LayerWork, layer_work
from sim.training.operators import Quantise, TrainingOperator
from sim.training.plan import TrainingPlan, alike_stages, layers_of_stage
from sim.training.schedules import SCHEDULES
from sim.training.shape import WorkShape
from sim.training.states import PARAM_BYTES, end_parameters, grad_bytes, layer_parameters, vocabulary_rows
from sim.training.tp_overlap import beside_products_s
from sim.training.vocabulary import embedding_work, head_work

END_KERNELS = 12.0
"""Kernels of embedding, final norm, LM head and loss, one pass (order of magnitude; they are few among a stage's)."""


@dataclass(frozen=True)
class StagePasses:
    """One micro-batch in one virtual stage.

    Attributes:
        forward: Forward pass.
        backward_input: Gradients of inputs, recomputation included.
        backward_weight: Gradients of weights.
        recomputed_flops: Matrix FLOPs that recomputation adds.
        hidden_comm_s: Communication that runs beside compute and so is not in the passes [s].
    """

    forward: PassCost
    backward_input: PassCost
    backward_weight: PassCost
    recomputed_flops: float
    hidden_comm_s: float

    @property
    def total_s(self) -> float:
        """Seconds of all passes."""
        return self.forward.total_s + self.backward_input.total_s + self.backward_weight.total_s


def recomputed(kind: Recompute, every: int, *, forward: PassCost, work: LayerWork, costs: TrainingCosts) -> PassCost:
    """What the backward pass computes again of a layer; with one layer in `every`, in the mean of so many layers.

    Of collectives, `operators` keeps what is reduced and scattered, but gathers inputs of products again, unless the
    backward pass does so anyway; as much of that shows as of the forward pass's (TorchTitan saves the results of
    reduce-scatter beside those of every second product, `_save_list` of its selective checkpointing).
    """
    if kind == "full":
        return PassCost().add(forward, 1.0 / every)
    if kind == "selective":
        return costs.pass_cost(work.core)
    if kind == "cheap":
        return costs.pass_cost(work.cheap)
    if kind == "operators":
        again = costs.pass_cost(o for o in work.forward if isinstance(o, Elementwise))
        again.add(costs.pass_cost(o for o in work.forward if isinstance(o, Gemm)), 0.5)
        once, twice = ([o for o in part if _is_gather(o)] for part in (work.forward, work.backward_input))
        whole_s = costs.pass_cost(o for o in work.forward if o.cause == "tp_comm").total_s
        if whole_s and len(twice) == len(once):
            again.add(costs.pass_cost(once), forward.parts_s["tp_comm"] / whole_s)
        return again
    return PassCost()


def _is_gather(operator: TrainingOperator) -> bool:
    return isinstance(operator, Collective) and operator.cause == "tp_comm" and operator.kind == "all_gather"


class StageModel:
    """Costs of the virtual stages of a plan.

    Args:
        model: The model.
        plan: The plan.
        sequence: Tokens of a sequence.
        engine: The engine's profile.
        costs: Costs of operators.
        spread_vocabulary: Whether the LM head is divided over the stages, in passes of its own.
    """

    def __init__(
        self,
        model: ModelSpec,
        plan: TrainingPlan,
        *,
        sequence: int,
        engine: TrainingEngineSpec,
        costs: TrainingCosts,
        spread_vocabulary: bool = False,
    ) -> None:
        self.model = model
        self.plan = plan
        self.shape: WorkShape = plan.shape(sequence)
        self.engine = engine
        self.costs = costs
        self.spread_vocabulary = spread_vocabulary
        self._layers: dict[LayerGroup, StagePasses] = {}

    @cached_property
    def stages(self) -> list[StagePasses]:
        """Passes of every virtual stage, in model order; stages alike share one."""
        kinds: dict[int, StagePasses] = {}
        found = []
        for stage in alike_stages(self.model, self.plan.layers_per_stage):
            if stage not in kinds:
                layers = layers_of_stage(self.model, self.plan.layers_per_stage, stage)
                kinds[stage] = self._stage(layers, first=stage == 0, last=stage == self.plan.stages - 1)
            found.append(kinds[stage])
        return found

    @cached_property
    def head(self) -> tuple[PassCost, PassCost]:
        """One stage's slice of the LM head and loss, forward (S) and backward (T)."""
        work = head_work(self.model, self.shape, slices=self.plan.pp)
        forward, by_input, by_weight = self.work_cost(work)
        return forward, by_input.add(by_weight)

    def _stage(self, layers: list[tuple[LayerGroup, int]], *, first: bool, last: bool) -> StagePasses:
        forward, by_input, by_weight, again = PassCost(), PassCost(), PassCost(), 0.0
        for group, count in layers:
            one = self.layer(group)
            forward.add(one.forward, count)
            by_input.add(one.backward_input, count)
            by_weight.add(one.backward_weight, count)
            again += count * one.recomputed_flops
        ends = [embedding_work(self.model, self.shape)] if first else []
        ends += [head_work(self.model, self.shape)] if last and not self.spread_vocabulary else []
        for work in ends:
            for total, part in zip((forward, by_input, by_weight), self.work_cost(work), strict=True):
                total.add(part)
        hidden = self._sharded(layers, forward, by_input)
        hidden += self._add_reductions(layers, (by_input, by_weight), first=first, last=last)
        encoded = sum(group.count for group in self.plan.encoder.layers) if first and self.plan.encoder else 0
        self._add_host_waits(
            encoded + sum(count for _, count in layers), (forward, by_input, by_weight), ends=len(ends)
        )
        return StagePasses(forward, by_input, by_weight, again, hidden)

    def ends(self, *, first: bool, last: bool) -> PassCost:
        """All passes of the embedding, of the LM head and loss, or of both."""
        found = PassCost()
        for wanted, work in ((first, embedding_work), (last, head_work)):
            if wanted:
                for part in self.work_cost(work(self.model, self.shape)):
                    found.add(part)
        return found

    def work_cost(self, work: LayerWork) -> tuple[PassCost, PassCost, PassCost]:
        """Forward pass, gradients of inputs and gradients of weights."""
        forward, by_input, by_weight = (
            self.costs.pass_cost(part) for part in (work.forward, work.backward_input, work.backward_weight)
        )
        if self.plan.cp > 1 and self.plan.cp_kind in RINGS:
            for part, operators in ((forward, work.forward), (by_input, work.backward_input)):
                if any(isinstance(o, Collective) and o.group == "cp_hop" for o in operators):
                    self._hide_hops(part)
        if self.plan.overlap_tp and self.engine.chunk_streams:
            apart = SCHEDULES.get(self.plan.schedule).splits_backward
            for block in work.blocks:
                self._hide_tensor_collectives(forward, block[0], [])
                self._hide_tensor_collectives(by_input, block[1], [] if apart else block[2])
        return forward, by_input, by_weight

    def _hide_tensor_collectives(
        self, part: PassCost, operators: list[TrainingOperator], weights: list[TrainingOperator]
    ) -> None:
        """Leaves of a block's tensor-parallel collectives what its products do not hide."""
        whole_s = sum(self.costs.time_s(one) for one in operators if one.cause == "tp_comm")
        if not whole_s:
            return
        part.parts_s["tp_comm"] -= whole_s
        part.parts_s["tp_comm"] += beside_products_s(
            operators,
            self.costs.time_s,
            weights=weights,
            ranks=self.plan.tp,
            streams=self.engine.chunk_streams,
            taken=self.engine.comm_units_frac.value,
        )

    def _hide_hops(self, part: PassCost) -> None:
        """Leaves of the hops around a ring what attention beside them does not hide."""
        if "cp_comm" in part.parts_s:
            part.parts_s["cp_comm"] = shown_s(
                part.parts_s["cp_comm"],
                attention_s=part.parts_s.get("attention", 0.0),
                ranks=self.plan.cp,
                taken=self.engine.comm_units_frac.value,
            )

    def layer(self, group: LayerGroup) -> StagePasses:
        """Passes of one layer of `group`; collectives of data-parallel ranks and host waits left out."""
        if group not in self._layers:
            work = layer_work(self.model, group, self.shape)
            forward, by_input, by_weight = self.work_cost(work)
            again = self._recomputed(forward, work)
            by_input.add(again)
            if self.plan.zero == 3:
                forward.add(self._weight_casts(group))
            self._layers[group] = StagePasses(forward, by_input, by_weight, again.flops, 0.0)
        return self._layers[group]

    def _recomputed(self, forward: PassCost, work: LayerWork) -> PassCost:
        plan = self.plan
        return recomputed(plan.recompute, plan.recompute_every, forward=forward, work=work, costs=self.costs)

    # ---- parameters that are gathered for use (ZeRO-3) ----

    def _sharded(self, layers: list[tuple[LayerGroup, int]], forward: PassCost, by_input: PassCost) -> float:
        """Adds what gathering parameters and scattering gradients leaves exposed in a stage; returns the rest [s].

        Each micro-batch gathers every layer forward and again backward, and reduce-scatters its gradients (PyTorch
        FSDP, arXiv 2304.11277). With overlap a layer is gathered while the `prefetch` ones before it compute, and the
        collectives take a share of the multiprocessors; the first gather and the last scatter have nothing to hide
        behind.
        """
        if self.plan.zero < 3 or not layers:
            return 0.0
        each = [group for group, count in layers for _ in range(count)]
        gathers_s, scatters_s = [self._gather_s(group) for group in each], [self._scatter_s(group) for group in each]
        gather_s, scatter_s = sum(gathers_s), sum(scatters_s)
        shown_forward, shown_backward = gather_s, gather_s + scatter_s
        if self.plan.overlap_dp:
            passes = [self.layer(group) for group in each]
            taken, behind = self.engine.comm_units_frac.value, self.engine.overlap_scatter
            ahead = self.plan.prefetch
            shown_forward = sharded_s([one.forward.total_s for one in passes], gathers_s, ahead=ahead, taken=taken)
            shown_backward = 0.0 if behind else scatter_s
            shown_backward += sharded_s(
                [one.backward_input.total_s + one.backward_weight.total_s for one in reversed(passes)],
                gathers_s[::-1],
                scatters_s[::-1] if behind else None,
                ahead=ahead,
                taken=taken,
            )
        forward.parts_s["dp_comm"] = forward.parts_s.get("dp_comm", 0.0) + shown_forward
        by_input.parts_s["dp_comm"] = by_input.parts_s.get("dp_comm", 0.0) + shown_backward
        return max(0.0, 2.0 * gather_s + scatter_s - shown_forward - shown_backward)

    def _weight_casts(self, group: LayerGroup) -> PassCost:
        """Casting the gathered weights of a layer, in every micro-batch anew."""
        each = 0.0 if group.kept_16bit else self.plan.recipe.weight_cast_bytes
        count = sum(layer_parameters(self.model, group, tp=self.plan.tp, ep=self.plan.ep))
        return self.costs.pass_cost([Quantise(name="weight_cast", moved_bytes=each * count)] if each else [])

    def _gather_s(self, group: LayerGroup) -> float:
        width = 4.0 if self.engine.gather_dtype == "fp32" else PARAM_BYTES
        if self.plan.adapters is not None:
            width = self.plan.adapters.base_bytes
        shared, expert = layer_parameters(self.model, group, tp=self.plan.tp, ep=self.plan.ep)
        return self.gathered_s(shared * width, expert * width)

    def _scatter_s(self, group: LayerGroup) -> float:
        shared, expert = layer_parameters(self.model, group, tp=self.plan.tp, ep=self.plan.ep)
        if self.plan.adapters is not None:
            shared, expert = adapter_parameters(self.model, group, self.plan.adapters, tp=self.plan.tp), 0.0
        width = grad_bytes(self.plan)
        return self.scattered_s(shared * width, expert * width)

    def gathered_s(self, shared_bytes: float, expert_bytes: float) -> float:
        """Gathering sharded parameters, those that all hold alike and those of experts [s]."""
        return self._over_shards("all_gather", shared_bytes, expert_bytes)

    def scattered_s(self, shared_bytes: float, expert_bytes: float) -> float:
        """Reducing gradients to the ranks that own them, and with replicas summing each share over those [s].

        With hybrid sharding the reduce-scatter stays among neighbours, and only a share of `1/n` crosses to the other
        replicas (PyTorch FSDP, arXiv 2304.11277, section 3.2.2).
        """
        share = (shared_bytes + expert_bytes * self.plan.ep) / self.plan.shards
        scatter_s = self._over_shards("reduce_scatter", shared_bytes, expert_bytes)
        return scatter_s + self.costs.collective_s("all_reduce", share, "dp_replica")

    def _over_shards(self, kind: str, shared_bytes: float, expert_bytes: float) -> float:
        return self.costs.collective_s(kind, shared_bytes, "dp_shard") + self.costs.collective_s(
            kind, expert_bytes, "expert_shard"
        )

    # ---- gradients that are reduced in every micro-batch (ZeRO-2) ----

    def _add_reductions(
        self, layers: list[tuple[LayerGroup, int]], backward: tuple[PassCost, PassCost], *, first: bool, last: bool
    ) -> float:
        """Adds what reducing a micro-batch's gradients leaves exposed where only a shard of them is kept.

        A rank that keeps no whole gradients cannot add up those of several micro-batches before it reduces them, so
        each backward pass ends with its reduction, in buckets behind it (DeepSpeed's stage 2 waits for them at the end
        of every micro-step; Megatron-FSDP's `optim_grads` likewise). Of interleaved stages only the last of a run does,
        of which every micro-batch has its share here (`TrainingPlan.reduced_after`). Returns what is hidden [s].
        """
        if self.plan.zero != 2:
            return 0.0
        (shared, expert), width = self._trained(layers, first=first, last=last), grad_bytes(self.plan)
        reduce_s = self.scattered_s(shared * width, expert * width)
        by_input, by_weight = backward
        shown_s, count = reduce_s, max(1, sum(count for _, count in layers))
        run = self.plan.reduced_after
        if self.plan.overlap_dp:
            shown_s = reduced_behind_s(
                reduce_s,
                layers_s=[(by_input.total_s + by_weight.total_s) / count] * count,
                layer_bytes=[(shared + expert) * width / count] * count,
                bucket_bytes=self.engine.bucket_bytes.value,
                taken=self.engine.comm_units_frac.value,
            )
        by_weight.parts_s["dp_comm"] = by_weight.parts_s.get("dp_comm", 0.0) + shown_s / run
        return max(0.0, reduce_s - shown_s) / run

    def _trained(self, layers: list[tuple[LayerGroup, int]], *, first: bool, last: bool) -> tuple[float, float]:
        """Parameters of a stage that have gradients: without routed experts, and those of routed experts."""
        plan, model = self.plan, self.model
        if plan.adapters is not None:
            return sum(
                count * adapter_parameters(model, group, plan.adapters, tp=plan.tp) for group, count in layers
            ), 0.0
        counts = [(count, layer_parameters(model, group, tp=plan.tp, ep=plan.ep)) for group, count in layers]
        ends = vocabulary_rows(model, plan.tp, first=first, last=last and not self.spread_vocabulary)
        ends += end_parameters(model, plan.encoder, tp=plan.tp, first=first, last=last)
        return sum(count * one for count, (one, _) in counts) + ends, sum(count * each for count, (_, each) in counts)

    # ---- the host ----

    def _add_host_waits(self, layers: int, passes: tuple[PassCost, PassCost, PassCost], *, ends: int) -> None:
        """Adds the time that the device waits for the host, which launches kernel after kernel ahead of it.

        Over the whole stage, by `pass_s`; recomputation launches the forward kernels again. A graph of a layer's
        kernels is one launch a pass, recomputation included; what is outside of layers is launched kernel by kernel.
        """
        engine, plan = self.engine, self.plan
        kept = engine.compiled_kernels_frac.value if plan.compiled else 1.0
        one = engine.launch_s.value * kept
        forward, by_input, by_weight = passes
        per_layer, per_layer_back = engine.kernels.forward.value, engine.kernels.backward.value
        if plan.adapters is not None:
            more = plan.adapters.extra_kernels
            per_layer, per_layer_back = per_layer + more[0], per_layer_back + more[1]
        kernels_forward = layers * per_layer + ends * END_KERNELS
        kernels_backward = layers * per_layer_back + 2.0 * ends * END_KERNELS
        if plan.cuda_graphs:
            kernels_forward, kernels_backward = layers + ends * END_KERNELS, layers + 2.0 * ends * END_KERNELS
        elif plan.recompute in ("full", "operators"):
            kernels_backward += layers * per_layer / plan.recompute_every
        waits = float(pass_s(forward.total_s, kernels_forward * one)) - forward.total_s
        forward.parts_s["host"] = waits + engine.micro_batch_s.value / plan.vpp
        device_s = by_input.total_s + by_weight.total_s
        waits = float(pass_s(device_s, kernels_backward * one)) - device_s
        for part in (by_input, by_weight):
            part.parts_s["host"] = waits * (part.total_s / device_s if device_s else 0.5)
