"""Time of one micro-batch in each virtual stage: device work by cause, sharded parameters gathered, host waits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from sim.models import Elementwise, Gemm, LayerGroup, ModelSpec
from sim.plans import TrainingEngineSpec
from sim.plans.training import Recompute
from sim.training.adapters import adapter_parameters
from sim.training.context import RINGS, shown_s
from sim.training.costing import PassCost, TrainingCosts
from sim.training.layer import LayerWork, layer_work
from sim.training.operators import Quantise
from sim.training.plan import TrainingPlan, layers_of_stage
from sim.training.shape import WorkShape
from sim.training.states import PARAM_BYTES, grad_bytes, layer_parameters
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
    """What the backward pass computes again of a layer; with one layer in `every`, in the mean of so many layers."""
    if kind == "full":
        return PassCost().add(forward, 1.0 / every)
    if kind == "selective":
        return costs.pass_cost(work.core)
    if kind == "operators":
        again = costs.pass_cost(o for o in work.forward if isinstance(o, Elementwise))
        return again.add(costs.pass_cost(o for o in work.forward if isinstance(o, Gemm)), 0.5)
    return PassCost()


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
        kinds: dict[object, StagePasses] = {}
        found = []
        for stage in range(self.plan.stages):
            layers = layers_of_stage(self.model, self.plan.layers_per_stage, stage)
            key = (tuple(layers), stage == 0, stage == self.plan.stages - 1)
            if key not in kinds:
                kinds[key] = self._stage(layers, first=stage == 0, last=stage == self.plan.stages - 1)
            found.append(kinds[key])
        return found

    @cached_property
    def head(self) -> tuple[PassCost, PassCost]:
        """One stage's slice of the LM head and loss, forward (S) and backward (T)."""
        work = head_work(self.model, self.shape, slices=self.plan.pp)
        forward, by_input, by_weight = self.work_cost(work)
        return forward, by_input.add(by_weight)

    def _stage(self, layers: list[tuple[LayerGroup, int]], *, first: bool, last: bool) -> StagePasses:
        forward, by_input, by_weight, again, hidden = PassCost(), PassCost(), PassCost(), 0.0, 0.0
        for group, count in layers:
            one = self.layer(group)
            forward.add(one.forward, count)
            by_input.add(one.backward_input, count)
            by_weight.add(one.backward_weight, count)
            again += count * one.recomputed_flops
            hidden += count * one.hidden_comm_s
        ends = [embedding_work(self.model, self.shape)] if first else []
        ends += [head_work(self.model, self.shape)] if last and not self.spread_vocabulary else []
        for work in ends:
            for total, part in zip((forward, by_input, by_weight), self.work_cost(work), strict=True):
                total.add(part)
        encoded = sum(group.count for group in self.plan.encoder.layers) if first and self.plan.encoder else 0
        self._add_host_waits(
            encoded + sum(count for _, count in layers), (forward, by_input, by_weight), ends=len(ends)
        )
        self._add_first_gather(layers, forward, by_weight)
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
            for part in (forward, by_input):
                self._hide_hops(part)
        if self.plan.overlap_tp:
            shown = 1.0 - self.engine.tp_hidden_frac.value
            for part in (forward, by_input):
                if "tp_comm" in part.parts_s:
                    part.parts_s["tp_comm"] *= shown
        return forward, by_input, by_weight

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
        """Passes of one layer of `group`, sharded parameters gathered, host waits left out."""
        if group not in self._layers:
            work = layer_work(self.model, group, self.shape)
            forward, by_input, by_weight = self.work_cost(work)
            again = self._recomputed(forward, work)
            by_input.add(again)
            if self.plan.zero == 3:
                forward.add(self._weight_casts(group))
            hidden = self._sharded(group, forward, by_input, by_weight)
            self._layers[group] = StagePasses(forward, by_input, by_weight, again.flops, hidden)
        return self._layers[group]

    def _recomputed(self, forward: PassCost, work: LayerWork) -> PassCost:
        plan = self.plan
        return recomputed(plan.recompute, plan.recompute_every, forward=forward, work=work, costs=self.costs)

    # ---- parameters that are gathered for use (ZeRO-3) ----

    def _sharded(self, group: LayerGroup, forward: PassCost, by_input: PassCost, by_weight: PassCost) -> float:
        """Adds what gathering a layer's parameters and scattering its gradients leaves exposed; returns the rest.

        Each micro-batch gathers the layer forward and again backward, and reduce-scatters its gradients (PyTorch FSDP,
        arXiv 2304.11277). Beside compute, the collective takes a share of the multiprocessors.
        """
        if self.plan.zero < 3:
            return 0.0
        gather_s, scatter_s = self._gather_s(group), self._scatter_s(group)
        backward_s = by_input.total_s + by_weight.total_s
        shown_forward = self.exposed_s(gather_s, beside_s=forward.total_s)
        shown_backward = self.exposed_s(gather_s + scatter_s, beside_s=backward_s)
        forward.parts_s["dp_comm"] = shown_forward
        by_input.parts_s["dp_comm"] = shown_backward
        return max(0.0, 2.0 * gather_s + scatter_s - shown_forward - shown_backward)

    def exposed_s(self, comm_s: float, *, beside_s: float) -> float:
        """Time [s] that communication of `comm_s` adds to compute of `beside_s` that could hide it.

        All of it without overlap. With overlap, compute runs at `1 - k` of its speed while the collective runs, k the
        multiprocessors that it takes: `k comm` if compute lasts longer, and what sticks out beyond it otherwise.
        """
        if not self.plan.overlap_dp:
            return comm_s
        taken = self.engine.comm_units_frac.value
        return max(taken * comm_s, comm_s - beside_s)

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

    def _add_first_gather(self, layers: list[tuple[LayerGroup, int]], forward: PassCost, by_weight: PassCost) -> None:
        """The first gather of a micro-batch and the last scatter have nothing to hide behind."""
        if self.plan.zero == 3 and self.plan.overlap_dp and layers:
            forward.parts_s["dp_comm"] += self._gather_s(layers[0][0])
            by_weight.parts_s["dp_comm"] = by_weight.parts_s.get("dp_comm", 0.0) + self._scatter_s(layers[-1][0])

    # ---- the host ----

    def _add_host_waits(self, layers: int, passes: tuple[PassCost, PassCost, PassCost], *, ends: int) -> None:
        """Adds the time that the device waits for the host, which launches kernel after kernel ahead of it.

        The host runs ahead while kernels are long, so a pass lasts as long as the slower of the two, over the whole
        stage; recomputation launches the forward kernels again.
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
        if plan.recompute in ("full", "operators"):
            kernels_backward += layers * per_layer / plan.recompute_every
        waits = max(0.0, kernels_forward * one - forward.total_s)
        forward.parts_s["host"] = waits + engine.micro_batch_s.value / plan.vpp
        device_s = by_input.total_s + by_weight.total_s
        waits = max(0.0, kernels_backward * one - device_s)
        for part in (by_input, by_weight):
            part.parts_s["host"] = waits * (part.total_s / device_s if device_s else 0.5)
