"""Arguments of Megatron-LM's `pretrain_gpt.py` that lay out a plan."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sim.hardware import Cluster
from sim.models import MLA, Dense, ModelSpec
from sim.plans.training import RANK_DIMENSIONS
from sim.training.plan import TrainingPlan
from sim.training.spec import TrainingWorkload

_WITH_FLAG: Final = ("1f1b", "interleaved")
_CONTEXT: Final = {"all_gather": "all_gather", "ring": "p2p", "ulysses": "a2a"}
_PRECISIONS: Final = {
    "fp8": ("--fp8-format hybrid", "--fp8-recipe delayed"),
    "fp8_dynamic": ("--fp8-format hybrid", "--fp8-recipe tensorwise"),
    "fp8_block": ("--fp8-format e4m3", "--fp8-recipe blockwise"),
    "mxfp8": ("--fp8-format e4m3", "--fp8-recipe mxfp8"),
    "nvfp4": ("--fp4-format e2m1", "--fp4-recipe nvfp4"),
}


def megatron_command(
    plan: TrainingPlan,
    *,
    model: ModelSpec,
    workload: TrainingWorkload,
    cluster: Cluster,
    engine: str = "megatron-lm",
) -> str:
    """Shell text that starts the plan on every node with Megatron-LM (core 0.9 and later).

    What it cannot say stands in comments, also if the plan was timed on another engine; arguments of the model and the
    data are the user's.
    """
    arguments = " ".join(_arguments(plan, model, workload))
    nodes = f"--nnodes {cluster.n_nodes} --nproc-per-node {cluster.devices_per_node}"
    notes = [f"# Megatron-LM, {plan.label}: add the arguments of model, data and optimizer", *_notes(plan, model)]
    if not engine.startswith("megatron-lm"):
        notes.append(f"# times and memory are those of {engine}; this is the same layout in Megatron-LM")
    return "\n".join([*notes, f"torchrun {nodes} pretrain_gpt.py {arguments}"])


def _arguments(plan: TrainingPlan, model: ModelSpec, workload: TrainingWorkload) -> Iterator[str]:
    yield f"--tensor-model-parallel-size {plan.tp}"
    yield f"--pipeline-model-parallel-size {plan.pp}"
    if plan.vpp > 1 and len({*plan.layers_per_stage}) == 1:
        yield f"--num-layers-per-virtual-pipeline-stage {plan.layers_per_stage[0]}"
    if _numbering(plan) == ["tp", "cp", "pp", "dp"]:
        yield "--use-tp-pp-dp-mapping"
    if plan.cp > 1:
        yield f"--context-parallel-size {plan.cp}"
        yield f"--cp-comm-type {_CONTEXT.get(plan.cp_kind, 'p2p')}"
    if model.is_moe:
        yield f"--expert-model-parallel-size {plan.ep} --expert-tensor-parallel-size {plan.tp}"
    if plan.sp:
        yield "--sequence-parallel"
    yield f"--micro-batch-size {plan.micro_batch} --global-batch-size {workload.global_batch}"
    if (ramp := workload.batch_ramp) is not None:
        yield f"--rampup-batch-size {ramp.start} {ramp.increment} {ramp.samples}"
    yield f"--seq-length {workload.sequence_length}"
    yield from _memory_arguments(plan, model)
    yield from _overlap_arguments(plan)
    if plan.cuda_graphs:
        yield "--enable-cuda-graph"
    if workload.optimizer == "adam_bf16":
        yield "--use-precision-aware-optimizer --exp-avg-dtype bf16 --exp-avg-sq-dtype bf16"
    if workload.optimizer == "adam_cpu":
        yield "--optimizer-cpu-offload --use-precision-aware-optimizer"
        yield from ("--overlap-cpu-optimizer-d2h-h2d",) if plan.overlap_dp else ()
    yield from _precision_arguments(plan, workload)


def _precision_arguments(plan: TrainingPlan, workload: TrainingWorkload) -> Iterator[str]:
    """Formats of products and of reduced gradients, and the layers that stay in 16 bits."""
    yield " ".join(["--fp16" if plan.precision == "fp16" else "--bf16", *_PRECISIONS.get(plan.precision, ())])
    if plan.grad_dtype == "bf16":
        yield "--grad-reduce-in-bf16"
    if plan.recipe.activation_bytes < 2.0:
        yield "--activation-func-fp8-input-store"
    first, last = workload.quantisation.first_16bit, workload.quantisation.last_16bit
    if plan.recipe.is_low and first + last:
        yield f"--first-last-layers-bf16 --num-layers-at-start-in-bf16 {first} --num-layers-at-end-in-bf16 {last}"


def _numbering(plan: TrainingPlan) -> list[str]:
    """The rank order, with dimensions of one rank where Megatron-LM has them by default."""
    found: list[str] = [name for name in plan.rank_order if getattr(plan, name) > 1]
    for at, name in enumerate(RANK_DIMENSIONS):
        if name not in found:
            found.insert(at, name)
    return found


def _memory_arguments(plan: TrainingPlan, model: ModelSpec) -> Iterator[str]:
    """Sharding of states, and recomputation."""
    sharding = {2: "optim_grads", 3: "optim_grads_params"}
    if plan.zero:
        yield "--use-distributed-optimizer"
    if plan.zero in sharding:
        yield f"--use-megatron-fsdp --data-parallel-sharding-strategy {sharding[plan.zero]}"
    if plan.dp_replicas > 1:
        yield f"--num-distributed-optimizer-instances {plan.dp_replicas}"
    if plan.recompute == "selective":
        yield "--recompute-granularity selective"
    if plan.recompute == "cheap":
        experts = ["moe_act"] if model.is_moe else []
        latent = ["mla_up_proj"] if any(isinstance(group.attention, MLA) for group in model.layers) else []
        yield " ".join(["--recompute-granularity selective --recompute-modules layernorm", *experts, *latent])
        yield from ["--moe-grouped-gemm"] if experts else []  # without it moe_act is refused
    if plan.recompute == "full":
        yield f"--recompute-granularity full --recompute-method uniform --recompute-num-layers {plan.recompute_every}"


def _overlap_arguments(plan: TrainingPlan) -> Iterator[str]:
    if plan.overlap_dp:
        yield "--overlap-grad-reduce" + (" --overlap-param-gather" if plan.zero else "")
    if plan.overlap_tp:
        yield "--tp-comm-overlap"
    if plan.vpp > 1 and not plan.overlap_p2p:
        yield "--no-overlap-p2p-communication"


def _notes(plan: TrainingPlan, model: ModelSpec) -> Iterator[str]:
    """What the arguments cannot say."""
    if _numbering(plan) not in ([*RANK_DIMENSIONS], ["tp", "cp", "pp", "dp"]):
        yield f"# no argument numbers ranks {'-'.join(plan.rank_order)}"
    if plan.schedule not in _WITH_FLAG:
        yield f"# no argument chooses the schedule {plan.schedule}"
    if len({*plan.layers_per_stage}) > 1:
        layers = ", ".join(map(str, plan.layers_per_stage))
        yield f"# layers per virtual stage: {layers} (--pipeline-model-parallel-layout)"
    if plan.recompute == "cheap" and any(isinstance(group.ffn, Dense) for group in model.layers):
        yield "# no argument recomputes the activation of dense layers alone: they keep its result there"
    if plan.recompute == "operators":
        yield "# no argument recomputes every second product"
    if plan.recompute == "full" and plan.recompute_every > 1:
        yield f"# every {plan.recompute_every}th layer is recomputed here; --recompute-method block is the closest"
    if plan.cp > 1 and plan.cp_kind not in _CONTEXT:
        yield f"# no argument chooses {plan.cp_kind} for context parallelism"
    if plan.clock < 1.0:
        yield f"# the clock is {plan.clock:.0%} of the highest: nvidia-smi --lock-gpu-clocks, or --power-limit"
    if plan.recipe.dispatch_bytes < 2.0:
        yield "# no argument dispatches tokens in 8 bits"
    if plan.recipe.is_low and plan.precision not in _PRECISIONS:
        yield f"# no argument chooses the recipe {plan.precision}"
    if plan.encoder is not None:
        yield "# the encoder on the first stage is not pretrain_gpt.py's: examples/multimodal has one"
    if plan.adapters is not None:
        yield f"# adapters of rank {plan.adapters.rank}: Megatron-LM has none, NeMo's LoRA takes the same layout"
