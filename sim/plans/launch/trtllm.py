"""Launch commands of TensorRT-LLM."""

from __future__ import annotations

from typing import Final

from sim.core import to_yaml
from sim.models import ModelSpec, MoE
from sim.plans.engine import EngineSpec
from sim.plans.launch.base import LAUNCHERS, Role
from sim.plans.launch.common import SHOWN_REPLICAS, asked_graphs, commands, heading
from sim.plans.resolved import ResolvedPlan
from sim.plans.speculation import SpeculationSpec

_FIRST_PORT: Final = 8000
_BALANCED_LAYERS: Final = 2
"""Layers whose experts move in an iteration, as in TensorRT-LLM's example of its load balancer."""
_OPTIONS: Final = "trtllm-options.yaml"
_KV_DTYPES: Final = {"fp8": "fp8"}
_MOE_BACKENDS: Final = {"cutlass": "CUTLASS", "deepgemm": "DEEPGEMM", "trtllm-gen": "TRTLLM", "triton": "TRITON"}


@LAUNCHERS.register("trtllm")
def trtllm_command(plan: ResolvedPlan, *, model: ModelSpec, engine: EngineSpec, role: Role = "both") -> str:
    """A file of options that have no flag, and one `trtllm-serve` per replica, on its own devices and port."""
    checkpoint = plan.weights_dtype != model.weights_dtype
    lines = heading(plan, f"TensorRT-LLM {engine.version}", first_port=_FIRST_PORT, checkpoint=checkpoint, role=role)
    options = _OPTIONS if role == "both" else f"{role}-{_OPTIONS}"
    lines += [f"cat > {options} <<'END'", to_yaml(_options(plan, model, engine, role)).rstrip(), "END"]
    lines += commands(plan, ["trtllm-serve", *_arguments(plan, model, options)], first_port=_FIRST_PORT, role=role)
    if plan.replicas > SHOWN_REPLICAS:
        lines.append(f"# and so on up to replica {plan.replicas}, on the devices and ports that follow")
    return "\n".join(lines)


def _arguments(plan: ResolvedPlan, model: ModelSpec, options: str) -> list[str]:
    # The tensor-parallel size counts all ranks of a stage; with attention data parallelism each has its own requests.
    arguments = [model.hf_id or model.name, "--backend", "pytorch", "--tp_size", str(plan.tp * plan.dp)]
    if plan.pp > 1:
        arguments += ["--pp_size", str(plan.pp)]
    if plan.ep > 1:
        arguments += ["--ep_size", str(plan.ep)]
    return [
        *arguments,
        *("--max_batch_size", str(plan.max_num_seqs)),
        *("--max_num_tokens", str(plan.max_num_batched_tokens)),
        *("--max_seq_len", str(plan.max_model_len)),
        *("--kv_cache_free_gpu_memory_fraction", f"{plan.kv_memory_frac:g}"),
        *("--extra_llm_api_options", options),
    ]


def _options(plan: ResolvedPlan, model: ModelSpec, engine: EngineSpec, role: Role) -> dict[str, object]:
    options: dict[str, object] = {
        "enable_chunked_prefill": plan.chunked_prefill,
        "kv_cache_config": {
            "dtype": _KV_DTYPES.get(plan.kv_dtype, "auto"),
            "enable_block_reuse": plan.prefix_caching,
            "free_gpu_memory_fraction": plan.kv_memory_frac,
            "tokens_per_block": plan.block_tokens,
        },
    }
    if role != "both":
        options["cache_transceiver_config"] = {"backend": "DEFAULT"}
    if plan.speculation is not None:
        options["speculative_config"] = _speculation(plan.speculation)
    experts: dict[str, object] = {"backend": _MOE_BACKENDS[plan.moe_backend]} if plan.moe_backend else {}
    if plan.expert_balancer:
        experts["load_balancer"] = {"num_slots": _most_experts(model), "layer_updates_per_iter": _BALANCED_LAYERS}
    if experts:
        options["moe_config"] = experts
    if graphs := asked_graphs(plan, engine):
        options["cuda_graph_config"] = {"batch_sizes": graphs}
    if plan.prompt_graphs:
        options["torch_compile_config"] = {"enable_piecewise_cuda_graph": True}
    if plan.batch_wait:
        options["batch_wait_timeout_iters"] = plan.batch_wait
        options["batch_wait_max_tokens_ratio"] = plan.batch_fill
    if plan.dp == 1:
        return options
    if plan.balance_wait and role != "decode":
        wait = {"enable_balance": True, "timeout_iters": plan.balance_wait, "batching_wait_iters": 0}
        options["attention_dp_config"] = wait
    return {"enable_attention_dp": True, **options}


def _most_experts(model: ModelSpec) -> int:
    return max(group.ffn.experts for group in model.layers if isinstance(group.ffn, MoE))


def _speculation(speculation: SpeculationSpec) -> dict[str, object]:
    if speculation.method == "ngram":
        return {"decoding_type": "NGram", "max_draft_len": speculation.draft_tokens}
    return {"decoding_type": "MTP", "num_nextn_predict_layers": speculation.draft_tokens}
