"""One optimizer step of a plan: the pipeline replayed, gradients reduced, states updated; where its time goes.

Start at `TrainingStep`. Nothing here draws or waits: a step in steady state is a closed computation, so no simulated
event is spent on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np

from sim.core import Array, Reason
from sim.hardware import Cluster, CommGroup
from sim.models import Elementwise, ModelSpec
from sim.plans import TrainingEngineSpec
from sim.training.costing import PassCost, TrainingCosts
from sim.training.dp_overlap import gathered_before_s, reduced_behind_s
from sim.training.folding import PipelineTotals, few_microbatches, folded
from sim.training.host_optimizer import host_reasons, host_update
from sim.training.memory import (
    RankMemory,
    buffer_bytes,
    end_activation_bytes,
    kept_layer_bytes,
    layer_working_bytes,
    loss_bytes,
    memory_reasons,
    state_bytes,
    transfer_bytes,
)
from sim.training.operators import TrainingOperator
from sim.training.passgraph import PassGraph, pass_graph
from sim.training.plan import TrainingPlan, alike_stages, layers_of_stage
from sim.training.precision import with_wide_ends
from sim.training.ranks import boundary_groups, communication_groups
from sim.training.replay import PipelineTimes, StageTimes, replay
from sim.training.schedules import SCHEDULES, Schedule, counted
from sim.training.shape import WorkShape
from sim.training.spec import TrainingWorkload
from sim.training.stages import StageModel, StagePasses
from sim.training.states import PARAM_BYTES, RankParameters, grad_bytes, rank_parameters, update_bytes
from sim.training.sustained import Sustained, sustained_of

T = TypeVar("T")

COMM_CAUSES = ("tp_comm", "cp_comm", "ep_comm", "pp_comm", "dp_comm")
"""Exposed communication by the parallel dimension that causes it."""
CAUSES = (
    *("linear", "experts", "adapters", "attention", "norm_activation", "quantisation", "vocabulary"),
    *COMM_CAUSES,
    *("optimizer", "bubble", "host"),
)
"""What the seconds of a step are spent on."""


@dataclass(frozen=True)
class StepTimes:
    """Where the time of a step goes, on the rank that all others wait for.

    Attributes:
        step_s: Time between the ends of successive steps [s].
        parts_s: Exposed seconds by cause; they sum to `step_s`.
        hidden_s: Seconds of communication that runs beside compute, by cause.
        bubble_s: Idle seconds of the pipeline, mean of the stages.
        busy_s: Seconds in which a stage computes or sends, mean of the stages.
        hardware_flops: Matrix FLOPs of all ranks, recomputation included.
    """

    step_s: float
    parts_s: Mapping[str, float]
    hidden_s: Mapping[str, float]
    bubble_s: float
    busy_s: float
    hardware_flops: float

    @property
    def exposed_comm_s(self) -> float:
        """Exposed communication of all dimensions [s]."""
        return sum(self.parts_s.get(cause, 0.0) for cause in COMM_CAUSES)


class TrainingStep:
    """A step of a plan on a cluster.

    Args:
        model: The model.
        plan: The plan, resolved.
        workload: The job.
        engine: The engine's profile.
        cluster: The cluster.
        sustained: What the device sustains; None takes its file.
        raw_s: Times of operators to share with other steps on the same device and groups.
    """

    def __init__(
        self,
        model: ModelSpec,
        plan: TrainingPlan,
        *,
        workload: TrainingWorkload,
        engine: TrainingEngineSpec,
        cluster: Cluster,
        sustained: Sustained | None = None,
        raw_s: dict[TrainingOperator, float] | None = None,
    ) -> None:
        self.model = with_wide_ends(model, workload.quantisation)
        self.plan = plan
        self.workload = workload
        self.engine = engine
        self.cluster = cluster
        self.device = cluster.device.at_clock(plan.clock)
        passes = engine.compiled_stream_passes if plan.compiled else engine.stream_passes
        self.costs = TrainingCosts(
            self.device,
            {**communication_groups(plan, cluster), **_boundaries(plan, cluster)},
            sustained=sustained or sustained_of(cluster.device),
            stream_passes=passes.value,
            attention_frac=engine.attention_frac.value,
            network_frac=engine.network_frac.value,
            raw_s=raw_s,
        )
        self.schedule: Schedule = SCHEDULES.get(plan.schedule)()

    # ---- layout ----

    @cached_property
    def held(self) -> list[list[int]]:
        """Virtual stages that each pipeline stage holds, by the schedule's routes; more than once in two-way ones."""
        return self.schedule.held(stages=self.plan.pp, chunks=self.plan.vpp)

    @cached_property
    def _alike(self) -> list[int]:
        """For each pipeline stage the first one that holds the same: most do, and then all but peaks is the same."""
        kinds, seen = alike_stages(self.model, self.plan.layers_per_stage), dict[tuple[int, ...], int]()
        orders = [(*held, *sorted(held)) for held in self.held]
        return [seen.setdefault(tuple(kinds[s] for s in order), device) for device, order in enumerate(orders)]

    def _by_kind(self, one: Callable[[int], T]) -> list[T]:
        """What `one` gives for each pipeline stage, worked out once for those that hold the same."""
        kept = {device: one(device) for device in dict.fromkeys(self._alike)}
        return [kept[device] for device in self._alike]

    @cached_property
    def parameters(self) -> list[RankParameters]:
        """Parameters on a rank of each pipeline stage."""
        return self._by_kind(
            lambda device: _sum_parameters(
                [
                    rank_parameters(self.model, self.plan, stage, spread_vocabulary=self.spreads_vocabulary)
                    for stage in self.held[device]
                ]
            )
        )

    @property
    def spreads_vocabulary(self) -> bool:
        """Whether the schedule has passes of its own for slices of the vocabulary."""
        return self.schedule.barriers > 0

    def schedule_reasons(self) -> list[Reason]:
        """Why the schedule cannot run this layout, or that of a smaller batch on the way to it."""
        plan = self.plan
        for batch in self.workload.batches:
            count = batch // (plan.dp * plan.micro_batch)
            reasons = self.schedule.training_reasons(stages=plan.pp, chunks=plan.vpp, microbatches=count)
            if reasons:
                return counted(reasons, batch=batch, dp=plan.dp, micro_batch=plan.micro_batch)
        return []

    def at_batch(self, batch: int) -> TrainingStep:
        """The step with so many sequences."""
        plan = self.plan
        if batch == self.workload.global_batch:
            return self
        return TrainingStep(
            self.model,
            replace(plan, microbatches=batch // (plan.dp * plan.micro_batch)),
            workload=self.workload.model_copy(update={"global_batch": batch, "batch_ramp": None}),
            engine=self.engine,
            cluster=self.cluster,
            sustained=self.costs.sustained,
            raw_s=self.costs.raw_s,
        )

    # ---- the pipeline ----

    @cached_property
    def _stage_model(self) -> StageModel:
        return StageModel(
            self.model,
            self.plan,
            sequence=self.workload.sequence_length,
            engine=self.engine,
            costs=self.costs,
            spread_vocabulary=self.spreads_vocabulary,
        )

    @property
    def stages(self) -> list[StagePasses]:
        """Passes of one micro-batch in every virtual stage."""
        return self._stage_model.stages

    @cached_property
    def pipeline(self) -> PipelineTotals:
        """What all passes of the step take on each pipeline stage."""
        return self._folded(self._times(self._sends_s()))

    @property
    def _pipeline_s(self) -> float:
        """Time [s] that the pipeline adds to a step: to the end of the last device, or where none waits for the others
        between steps, of the device with the longest way from its own first pass to its last."""
        return self._period_s(self.pipeline)

    def _period_s(self, pipeline: PipelineTotals) -> float:
        return pipeline.span_s if self.schedule.checks_step_late else pipeline.end_s

    def _idle_s(self) -> Array:
        """Seconds of that time in which each device neither computes nor sends, shape `(pp,)`."""
        return self._pipeline_s - self.pipeline.busy_s - self.pipeline.blocked_s

    def replayed(self, *, slowdown: Array | None = None) -> PipelineTimes:
        """Every pass of the step; `slowdown` is a factor on the passes of each pipeline stage, for stragglers."""
        plan = self.plan
        return replay(
            self.schedule,
            self._times(self._sends_s()),
            stages=plan.pp,
            chunks=plan.vpp,
            microbatches=plan.microbatches,
            overlap_p2p=plan.overlap_p2p,
            slowdown=slowdown,
        )

    def _folded(self, times: StageTimes) -> PipelineTotals:
        plan = self.plan
        return folded(
            self.schedule,
            times,
            stages=plan.pp,
            chunks=plan.vpp,
            microbatches=plan.microbatches,
            overlap_p2p=plan.overlap_p2p,
        )

    def _times(self, send_s: Array | float) -> StageTimes:
        return StageTimes(
            forward_s=np.array([stage.forward.total_s for stage in self.stages]),
            backward_input_s=np.array([stage.backward_input.total_s for stage in self.stages]),
            backward_weight_s=np.array([stage.backward_weight.total_s for stage in self.stages]),
            send_s=send_s,
            shared_hidden_frac=self._shared_hidden_frac(),
            **self._vocabulary_times_s(),
        )

    def _shared_hidden_frac(self) -> float:
        """How much of the shorter of two passes hides where a schedule runs a forward and a backward pass at once.

        One's communication runs beside the other's compute, so both together take the longer of all compute and all
        communication (DeepSeek-V3, arXiv 2412.19437, section 3.2.1); the collectives take their multiprocessors.
        """
        if self.schedule.model_copies < 2:
            return 0.0
        longest = max(self.stages, key=lambda stage: stage.total_s)
        backward = PassCost().add(longest.backward_input).add(longest.backward_weight)
        comm_s = sum(part.parts_s.get(cause, 0.0) for part in (longest.forward, backward) for cause in COMM_CAUSES)
        both_s = longest.forward.total_s + backward.total_s
        compute_s = both_s - comm_s
        together_s = max(compute_s + self.engine.comm_units_frac.value * comm_s, comm_s)
        shorter_s = min(longest.forward.total_s, backward.total_s)
        return min(1.0, max(0.0, (both_s - together_s) / shorter_s)) if shorter_s else 0.0

    def _vocabulary_times_s(self) -> dict[str, float]:
        """Passes over slices of the vocabulary, and their exchanges over all stages [s]; empty without such passes.

        The last stage's output goes to all stages, one after the other at the rate of a transfer; an exchange sums two
        numbers per token, and the gradient of the output.
        """
        if not self.spreads_vocabulary:
            return {}
        score, gradient = self._stage_model.head
        tokens = self.plan.micro_batch * self.workload.sequence_length / self.plan.cp
        whole = 2.0 * tokens * self.model.hidden_size
        return {
            "vocabulary_s_s": score.total_s,
            "vocabulary_t_s": gradient.total_s,
            "broadcast_s": self.costs.collective_s("p2p", whole / self.plan.tp, "pp0") if self.plan.pp > 1 else 0.0,
            "exchange_s": self.costs.collective_s("all_reduce", 8.0 * tokens + whole / self.plan.tp, "stages"),
        }

    def _sends_s(self) -> Array | float:
        """Transfer of a micro-batch behind each virtual stage [s].

        Each tensor-parallel rank sends its share over its own interface, and the receivers gather the whole over the
        fast links unless sequence parallelism wants only the share (Narayanan et al., SC'21, section 4.1). Without
        that, each rank sends the whole, and nothing is gathered.
        """
        plan = self.plan
        if plan.pp == 1:
            return 0.0
        whole = 2.0 * plan.micro_batch * self.workload.sequence_length / plan.cp * self.model.hidden_size
        sent, gathers = (whole / plan.tp, not plan.sp) if plan.scatter_gather else (whole, False)
        gather_s = self.costs.collective_s("all_gather", whole, "tp") if gathers else 0.0
        each = [self.costs.collective_s("p2p", sent, f"pp{i}") + gather_s for i in range(plan.pp)]
        return np.array([each[stage % plan.pp] for stage in range(plan.stages)])

    # ---- after the last backward pass ----

    def _exposed_reduction_s(self, device: int) -> tuple[float, float]:
        """Exposed and hidden time [s] of reducing gradients and gathering updated parameters on one pipeline stage.

        Gradients are reduced in buckets behind the last backward pass, parameters gathered beside the first forward
        pass of the next step; both only if the plan overlaps, and the last bucket never hides. ZeRO-3 does both inside
        the passes, ZeRO-2 the first.
        """
        own = self.parameters[device].trained
        reduce_s, gather_s = self._reduction_s(own)
        if not self.plan.overlap_dp:
            return reduce_s + gather_s, 0.0
        forward_s, backward_s = self._layers_of(device)
        count = len(forward_s)
        taken, size = self.engine.comm_units_frac.value, own.total / max(1, count)
        shown = reduced_behind_s(
            reduce_s,
            layers_s=backward_s[::-1],
            layer_bytes=[size * grad_bytes(self.plan)] * count,
            bucket_bytes=self.engine.bucket_bytes.value,
            taken=taken,
        )
        shown += gathered_before_s(gather_s, layers_s=forward_s, layer_bytes=[size] * count, taken=taken)
        return min(shown, reduce_s + gather_s), max(0.0, reduce_s + gather_s - shown)

    def _layers_of(self, device: int) -> tuple[list[float], list[float]]:
        """Forward and backward time [s] of each layer of a pipeline stage, as they run forward.

        What a stage has at its ends counts among its layers; a stage without any is one.
        """
        forward_s: list[float] = []
        backward_s: list[float] = []
        for stage in sorted(self.held[device]):
            own, count = self.stages[stage], max(1, self.plan.layers_per_stage[stage])
            forward_s += [own.forward.total_s / count] * count
            backward_s += [(own.backward_input.total_s + own.backward_weight.total_s) / count] * count
        return forward_s, backward_s

    def _reduction_s(self, own: RankParameters) -> tuple[float, float]:
        """Reduction of all gradients of a rank, and gathering of its parameters [s]."""
        plan, width = self.plan, grad_bytes(self.plan)
        if plan.zero == 3:
            return 0.0, 0.0
        if plan.zero == 0:
            parts = ((own.shared, "dp"), (own.expert, "expert_dp"))
            return sum(self.costs.collective_s("all_reduce", size * width, group) for size, group in parts), 0.0
        gather_s = self._stage_model.gathered_s(own.shared * PARAM_BYTES, own.expert * PARAM_BYTES)
        if plan.zero == 2:
            return 0.0, gather_s
        return self._stage_model.scattered_s(own.shared * width, own.expert * width), gather_s

    def _tied_embedding_s(self) -> float:
        """Reduction of the tied embedding's gradients between the first and the last stage [s]."""
        if not self.model.tied_embeddings or self.plan.pp == 1 or self.plan.adapters is not None:
            return 0.0
        return self.costs.collective_s("all_reduce", self.parameters[0].embedding * grad_bytes(self.plan), "ends")

    def _optimizer_s(self, device: int) -> float:
        """Update of the states that a rank holds, bound by memory [s]; weights are cast once if they stay gathered."""
        plan, count = self.plan, self._updated(device)
        if self.workload.optimizer == "adam_cpu":
            return self._host_s(count, device)
        moved = count * update_bytes(self.engine, self.workload.optimizer)
        moved += self.parameters[device].trained.low * plan.recipe.weight_cast_bytes if plan.zero < 3 else 0.0
        return self.costs.time_s(Elementwise(name="optimizer", cause="optimizer", moved_bytes=moved))

    def _updated(self, device: int) -> float:
        """Parameters whose states a rank of the stage holds."""
        plan, own = self.plan, self.parameters[device].trained
        copies = plan.shards if plan.zero else 1
        expert_copies = copies // plan.ep if plan.zero else 1
        return own.shared / copies + own.expert / expert_copies

    def _host_s(self, count: float, device: int) -> float:
        """Update of `count` parameters on the host [s]; gradients cross beside the last backward pass with overlap."""
        each = host_update(
            self.cluster, gradient_bytes=grad_bytes(self.plan), memory_frac=self.engine.host_update_frac.value
        )
        crossing_s = count * float(each.gradient_s)
        if self.plan.overlap_dp:
            held = [self.stages[stage] for stage in self.held[device]]
            backward_s = sum(stage.backward_input.total_s + stage.backward_weight.total_s for stage in held)
            crossing_s = max(0.0, crossing_s - backward_s)
        return crossing_s + count * float(each.update_s)

    # ---- the whole step ----

    @cached_property
    def _reductions_s(self) -> list[tuple[float, float]]:
        """Exposed and hidden time [s] of reducing gradients and gathering parameters, by pipeline stage."""
        return self._by_kind(self._exposed_reduction_s)

    @cached_property
    def _late_s(self) -> float:
        """Time [s] from the end of the last pass until all gradients are reduced."""
        pipeline, late = self.pipeline, self.schedule.checks_step_late
        begins_s = pipeline.device_start_s if late else np.zeros(self.plan.pp)
        exposed_s = np.array([exposed for exposed, _ in self._reductions_s])
        synced_s = float((pipeline.device_end_s - begins_s + exposed_s).max())
        return max(synced_s - self._pipeline_s, 0.0) + self._tied_embedding_s()

    @cached_property
    def _update_s(self) -> float:
        """Time [s] of the optimizer on the fullest rank."""
        return max(self._by_kind(self._optimizer_s))

    @property
    def step_s(self) -> float:
        """Time between the ends of successive steps [s]."""
        return self._pipeline_s + self._late_s + self._update_s + self.engine.step_s.value

    @cached_property
    def times(self) -> StepTimes:
        """Time of the step by cause."""
        pipeline, plan = self.pipeline, self.plan
        critical = int(np.argmax(pipeline.busy_s))
        parts = self._pipeline_parts(critical)
        parts["dp_comm"] = parts.get("dp_comm", 0.0) + self._late_s
        parts["optimizer"] = self._update_s
        parts["host"] = parts.get("host", 0.0) + self.engine.step_s.value
        inside = sum(self.stages[stage].hidden_comm_s for stage in self.held[critical]) * plan.microbatches
        return StepTimes(
            step_s=self.step_s,
            parts_s=parts,
            hidden_s={"dp_comm": inside + self._reductions_s[critical][1]},
            bubble_s=float(self._idle_s().mean()),
            busy_s=float((pipeline.busy_s + pipeline.blocked_s).mean()),
            hardware_flops=self._hardware_flops(),
        )

    def _pipeline_parts(self, device: int) -> dict[str, float]:
        """Seconds of one pipeline stage by cause, bubble included; they sum to the pipeline's time.

        Idle time that would not be there with instant transfers is communication, the rest bubble.
        """
        pipeline, passes = self.pipeline, self.plan.microbatches / self.schedule.model_copies
        parts: dict[str, float] = {}
        for stage in self.held[device]:
            own = self.stages[stage]
            for part in (own.forward, own.backward_input, own.backward_weight):
                for cause, seconds in part.parts_s.items():
                    parts[cause] = parts.get(cause, 0.0) + seconds * passes
        if self.spreads_vocabulary:
            for part in self._stage_model.head:
                for cause, seconds in part.parts_s.items():
                    parts[cause] = parts.get(cause, 0.0) + seconds * passes
            if self.schedule.synchronous:
                parts["pp_comm"] = passes * self._vocabulary_times_s()["exchange_s"]
        busy_s = sum(parts.values())
        parts = _without(parts, busy_s - float(pipeline.busy_s[device]))
        if self.plan.pp > 1:
            idle_s = max(0.0, float(self._idle_s()[device]))
            late_s = min(idle_s, max(0.0, self._pipeline_s - self._period_s(self._folded(self._times(0.0)))))
            parts["pp_comm"] = parts.get("pp_comm", 0.0) + late_s + float(pipeline.blocked_s[device])
            parts["bubble"] = idle_s - late_s
        return parts

    def _hardware_flops(self) -> float:
        plan = self.plan
        one = sum(
            stage.forward.flops + stage.backward_input.flops + stage.backward_weight.flops for stage in self.stages
        )
        if self.spreads_vocabulary:
            one += self.plan.pp * sum(part.flops for part in self._stage_model.head)
        return one * plan.microbatches * plan.dp * plan.tp * plan.cp

    # ---- memory ----

    @cached_property
    def memory(self) -> list[RankMemory]:
        """Memory of a rank of each pipeline stage, at its peak."""
        peaks = self.graph.peak(self.kept_bytes, self.kept_bytes).tolist()
        return [
            RankMemory(*own[:3], peak, *own[3:]) for own, peak in zip(self._by_kind(self._held), peaks, strict=True)
        ]

    def _held(self, device: int) -> tuple[float, float, float, float, float]:
        """Parameters, gradients, optimizer states, what a pass needs on top, and buffers of a pipeline stage [B]."""
        own = self.parameters[device]
        states = state_bytes(own, self.plan, self.engine, self.workload.optimizer)
        buffers = buffer_bytes(own, self.plan, self.engine)
        if self.engine.holds_transfers and self.plan.pp > 1:
            copies = self.schedule.model_copies
            buffers += transfer_bytes(self.model, self.plan, self._shape, self.held[device], copies=copies)
        return *states, self._working_bytes(device), buffers

    @cached_property
    def kept_bytes(self) -> Array:
        """What a micro-batch keeps of each virtual stage until its backward pass [B], shape `(virtual_stages,)`."""
        alike = alike_stages(self.model, self.plan.layers_per_stage)
        kept = {stage: self._kept_bytes(stage) for stage in dict.fromkeys(alike)}
        return np.array([kept[stage] for stage in alike])

    @property
    def peak_memory(self) -> RankMemory:
        """Memory of the fullest rank."""
        return max(self.memory, key=lambda one: one.allocated_bytes)

    def memory_reasons(self) -> list[Reason]:
        """Why the plan does not fit; empty if it does."""
        stage = max(range(self.plan.pp), key=lambda device: self.memory[device].allocated_bytes)
        found = memory_reasons(self.memory[stage], self.engine, self.device, stage=stage)
        if self.workload.optimizer == "adam_cpu":
            share = max(self._updated(device) for device in range(self.plan.pp))
            found += host_reasons(self.cluster, parameters=share)
        return found

    @cached_property
    def _shape(self) -> WorkShape:
        """What a rank works on."""
        return self.plan.shape(self.workload.sequence_length)

    @cached_property
    def graph(self) -> PassGraph:
        """Passes of a step with the peaks of this one."""
        plan = self.plan
        few = few_microbatches(self.schedule, stages=plan.pp, microbatches=plan.microbatches)
        return pass_graph(self.schedule, stages=plan.pp, chunks=plan.vpp, microbatches=few)

    def _kept_bytes(self, stage: int) -> float:
        plan, shape = self.plan, self._shape
        layers = layers_of_stage(self.model, plan.layers_per_stage, stage)
        kept = sum(count * kept_layer_bytes(self.model, group, shape, plan) for group, count in layers)
        return kept + end_activation_bytes(self.model, shape, first=stage == 0, last=stage == plan.stages - 1)

    def _working_bytes(self, device: int) -> float:
        """The larger of a layer recomputed in the backward pass and the loss of a micro-batch [B]."""
        plan, shape = self.plan, self._shape
        layer = 0.0
        for stage in self.held[device]:
            for group, _ in layers_of_stage(self.model, plan.layers_per_stage, stage):
                layer = max(layer, layer_working_bytes(self.model, group, shape, plan, self.engine))
        loss = loss_bytes(
            self.model,
            shape,
            logit_bytes=self.engine.peak_logit_bytes(plan.compiled),
            weight_bytes=self.engine.peak_head_bytes,
        )
        if self.spreads_vocabulary:
            return max(layer, loss / plan.pp)
        return max(layer, loss if plan.stages - 1 in self.held[device] else 0.0)


def _without(parts: Mapping[str, float], hidden_s: float) -> dict[str, float]:
    """Seconds by cause less what passes that share a device hide: communication first, then all in proportion."""
    comm_s = sum(parts.get(cause, 0.0) for cause in COMM_CAUSES)
    shown = 1.0 - min(1.0, max(0.0, hidden_s) / comm_s) if comm_s else 1.0
    left = {cause: seconds * (shown if cause in COMM_CAUSES else 1.0) for cause, seconds in parts.items()}
    total_s, wanted_s = sum(left.values()), sum(parts.values()) - hidden_s
    return {cause: seconds * wanted_s / total_s for cause, seconds in left.items()} if total_s else left


def _boundaries(plan: TrainingPlan, cluster: Cluster) -> dict[str, CommGroup]:
    return {f"pp{i}": group for i, group in enumerate(boundary_groups(plan, cluster))}


def _sum_parameters(parts: list[RankParameters]) -> RankParameters:
    return RankParameters(
        sum(part.shared for part in parts),
        sum(part.expert for part in parts),
        max(part.largest_layer for part in parts),
        max(part.largest_product for part in parts),
        sum(part.embedding for part in parts),
        sum(part.low for part in parts),
        None if parts[0].adapters is None else sum(part.adapters or 0.0 for part in parts),
    )
