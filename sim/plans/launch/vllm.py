"""Launch commands of vLLM."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from sim.models import ModelSpec
from sim.plans.engine import EngineSpec
from sim.plans.launch.base import LAUNCHERS, Role
from sim.plans.launch.common import SHOWN_REPLICAS, asked_graphs, commands, heading, side_port
from sim.plans.resolved import ResolvedPlan

_FIRST_PORT = 8000
_FIRST_SIDE_PORT: Final = 5600
"""Where NIXL's side channel starts unless told otherwise (`VLLM_NIXL_SIDE_CHANNEL_PORT`)."""
_ASYNC_BY_DEFAULT: Final = (0, 14)
"""First version that schedules asynchronously unless told not to (vLLM 0.14 release notes)."""
_ASYNC_FLAG: Final = (0, 10)
"""First version that has the flag."""
_NEGATED_FLAGS: Final = (0, 8)
"""First version whose switches have a `--no-` form; from it on prefix caching is on unless told not to."""
_QUANTIZED_AT_LOAD: Final = {"fp8": "fp8"}
"""Formats into which vLLM converts a 16-bit checkpoint while loading it, and their name there."""
_MOE_VARIABLES: Final = {"marlin": "VLLM_MXFP4_USE_MARLIN=1 "}
_KV_TRANSFER: Final = '{"kv_connector": "NixlConnector", "kv_role": "kv_both"}'
_DTYPES: Final = {"bf16": "bfloat16", "fp16": "float16"}


@LAUNCHERS.register("vllm")
def vllm_command(plan: ResolvedPlan, *, model: ModelSpec, engine: EngineSpec, role: Role = "both") -> str:
    """One `vllm serve` per replica, on its own devices and port.

    The router in front of several replicas is a separate program and only noted.
    """
    arguments = [*_model_arguments(plan, model), *_parallel_arguments(plan), *_limit_arguments(plan, model, engine)]
    if plan.speculation is not None:
        drafts = {"method": plan.speculation.method, "num_speculative_tokens": plan.speculation.draft_tokens}
        arguments += ["--speculative-config", json.dumps(drafts)]
    if compilation := _compilation(plan, engine):
        arguments += ["--compilation-config", json.dumps(compilation)]
    if role != "both":
        arguments += ["--kv-transfer-config", _KV_TRANSFER]
    lines = heading(
        plan,
        f"vLLM {engine.version}",
        first_port=_FIRST_PORT,
        checkpoint=_needs_checkpoint(plan, model),
        role=role,
        spanning="start Ray on all of them first",
    )

    def own(replica: int) -> tuple[str, Sequence[str]]:
        port = side_port(plan, replica, first=_FIRST_SIDE_PORT, role=role)
        side = "" if role == "both" else f"VLLM_NIXL_SIDE_CHANNEL_PORT={port} "
        return f"{side}{_MOE_VARIABLES.get(plan.moe_backend or '', '')}", ()

    lines += commands(plan, ["vllm", "serve", *arguments], first_port=_FIRST_PORT, role=role, own=own)
    if plan.replicas > SHOWN_REPLICAS:
        rest = f"replicas {SHOWN_REPLICAS + 1} to {plan.replicas}"
        lines.append(f"# and so on for {rest}, on the devices and ports that follow")
    return "\n".join(lines)


def _compilation(plan: ResolvedPlan, engine: EngineSpec) -> dict[str, object]:
    """What the compiler is told: what CUDA graphs hold and whether all-reduces take in norms, as far as asked for."""
    told: dict[str, object] = {}
    if engine.graphs_hold_prompts and not plan.prompt_graphs:
        told["cudagraph_mode"] = "FULL_DECODE_ONLY"
    if graphs := asked_graphs(plan, engine):
        told["cudagraph_capture_sizes"] = graphs
    if plan.fuse_all_reduce is not None:
        told["pass_config"] = {"fuse_allreduce_rms": plan.fuse_all_reduce}
    return told


def _model_arguments(plan: ResolvedPlan, model: ModelSpec) -> list[str]:
    arguments = [model.hf_id or model.name]
    if plan.weights_dtype in _DTYPES and plan.weights_dtype != model.dtype:
        arguments += ["--dtype", _DTYPES[plan.weights_dtype]]
    if plan.weights_dtype in _QUANTIZED_AT_LOAD and model.weights_dtype in _DTYPES:
        arguments += ["--quantization", _QUANTIZED_AT_LOAD[plan.weights_dtype]]
    return arguments


def _parallel_arguments(plan: ResolvedPlan) -> list[str]:
    arguments = ["--tensor-parallel-size", str(plan.tp)]
    if plan.pp > 1:
        arguments += ["--pipeline-parallel-size", str(plan.pp)]
    if plan.dp > 1:
        arguments += ["--data-parallel-size", str(plan.dp)]
    if plan.ep > 1:
        arguments.append("--enable-expert-parallel")
    if plan.expert_exchange == "all_to_all":
        arguments += ["--all2all-backend", "deepep_low_latency"]
    if plan.expert_balancer:
        arguments.append("--enable-eplb")
    if plan.placement.spans_nodes:
        arguments += ["--distributed-executor-backend", "ray"]
        if plan.dp > 1:
            arguments += ["--data-parallel-backend", "ray"]
    return arguments


def _limit_arguments(plan: ResolvedPlan, model: ModelSpec, engine: EngineSpec) -> list[str]:
    kv = "auto" if plan.kv_dtype == model.dtype else _DTYPES.get(plan.kv_dtype, plan.kv_dtype)
    arguments = [
        *("--kv-cache-dtype", kv),
        *("--gpu-memory-utilization", f"{plan.kv_memory_frac:g}"),
        *("--block-size", str(plan.block_tokens)),
        *("--max-model-len", str(plan.max_model_len)),
        *("--max-num-seqs", str(plan.max_num_seqs)),
        *("--max-num-batched-tokens", str(plan.max_num_batched_tokens)),
    ]
    version = tuple(int(part) for part in engine.version.split("."))
    if version < _NEGATED_FLAGS:
        arguments.append(f"--enable-chunked-prefill={plan.chunked_prefill}")
        return [*arguments, "--enable-prefix-caching"] if plan.prefix_caching else arguments
    if not plan.prefix_caching:
        arguments.append("--no-enable-prefix-caching")
    if not plan.chunked_prefill:
        arguments.append("--no-enable-chunked-prefill")
    if engine.async_scheduling and _ASYNC_FLAG <= version < _ASYNC_BY_DEFAULT:
        arguments.append("--async-scheduling")
    if not engine.async_scheduling and version >= _ASYNC_BY_DEFAULT:
        arguments.append("--no-async-scheduling")
    return arguments


def _needs_checkpoint(plan: ResolvedPlan, model: ModelSpec) -> bool:
    """Whether neither the model's weights nor a conversion of them at load are in the plan's format."""
    if plan.weights_dtype in _DTYPES:
        return model.weights_dtype not in _DTYPES
    converted = plan.weights_dtype in _QUANTIZED_AT_LOAD and model.weights_dtype in _DTYPES
    return plan.weights_dtype != model.weights_dtype and not converted
