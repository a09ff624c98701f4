"""Launch commands of SGLang."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sim.models import ModelSpec
from sim.plans.engine import EngineSpec
from sim.plans.launch.base import LAUNCHERS, Role
from sim.plans.launch.common import SHOWN_REPLICAS, asked_graphs, commands, heading, side_port
from sim.plans.resolved import ResolvedPlan
from sim.plans.speculation import SpeculationSpec

_FIRST_PORT: Final = 30000
_FIRST_BOOTSTRAP_PORT: Final = 8998
"""Where decode engines find a prefill engine unless told otherwise (`--disaggregation-bootstrap-port`)."""
_FUSION_FLAGS: Final = {
    True: "--enable-flashinfer-allreduce-fusion",
    False: "--enforce-disable-flashinfer-allreduce-fusion",
}
_MOE_BACKENDS: Final = {"triton": "triton", "trtllm-gen": "flashinfer_trtllm"}
_KV_DTYPES: Final = {"fp8": "fp8_e4m3", "bf16": "bf16", "fp16": "auto"}


@LAUNCHERS.register("sglang")
def sglang_command(plan: ResolvedPlan, *, model: ModelSpec, engine: EngineSpec, role: Role = "both") -> str:
    """One `python -m sglang.launch_server` per replica, on its own devices and port."""
    checkpoint = plan.weights_dtype != model.weights_dtype
    lines = heading(plan, f"SGLang {engine.version}", first_port=_FIRST_PORT, checkpoint=checkpoint, role=role)
    words = ["python", "-m", "sglang.launch_server", *_arguments(plan, model)]
    if graphs := asked_graphs(plan, engine):
        words += ["--cuda-graph-bs", *map(str, graphs)]
    if role != "both":
        words += ["--disaggregation-mode", role, "--disaggregation-transfer-backend", "nixl"]

    def own(replica: int) -> tuple[str, Sequence[str]]:
        port = side_port(plan, replica, first=_FIRST_BOOTSTRAP_PORT, role=role)
        return "", (["--disaggregation-bootstrap-port", str(port)] if role == "prefill" else [])

    lines += commands(plan, words, first_port=_FIRST_PORT, role=role, own=own)
    if plan.replicas > SHOWN_REPLICAS:
        lines.append(f"# and so on up to replica {plan.replicas}, on the devices and ports that follow")
    return "\n".join(lines)


def _arguments(plan: ResolvedPlan, model: ModelSpec) -> list[str]:
    # SGLang's tensor-parallel size counts all ranks of an engine; attention is divided inside it.
    arguments = ["--model-path", model.hf_id or model.name, "--tp-size", str(plan.tp * plan.dp)]
    if plan.dp > 1:
        arguments += ["--dp-size", str(plan.dp), "--enable-dp-attention"]
    if plan.pp > 1:
        arguments += ["--pp-size", str(plan.pp)]
    if plan.ep > 1:
        arguments += ["--ep-size", str(plan.ep)]
    if plan.expert_exchange == "all_to_all":
        arguments += ["--moe-a2a-backend", "deepep"]
    if plan.expert_balancer:
        arguments.append("--enable-eplb")
    if plan.fuse_all_reduce is not None:
        arguments.append(_FUSION_FLAGS[plan.fuse_all_reduce])
    if plan.moe_backend:
        arguments += ["--moe-runner-backend", _MOE_BACKENDS[plan.moe_backend]]
    return [
        *arguments,
        *("--kv-cache-dtype", "auto" if plan.kv_dtype == model.dtype else _KV_DTYPES[plan.kv_dtype]),
        *("--mem-fraction-static", f"{plan.kv_memory_frac:g}"),
        *("--page-size", str(plan.block_tokens)),
        *("--context-length", str(plan.max_model_len)),
        *("--max-running-requests", str(plan.max_num_seqs * plan.dp)),
        *("--chunked-prefill-size", str(plan.max_num_batched_tokens * plan.dp if plan.chunked_prefill else -1)),
        *(["--enable-mixed-chunk"] if plan.scheduler == "sglang-mixed" else []),
        *([] if plan.queue_interval == 1 else ["--scheduler-recv-interval", str(plan.queue_interval)]),
        *([] if plan.prefix_caching else ["--disable-radix-cache"]),
        *_speculation(plan.speculation),
    ]


def _speculation(speculation: SpeculationSpec | None) -> list[str]:
    """A chain of drafts: SGLang counts the token behind them too, and calls a module of the checkpoint EAGLE."""
    if speculation is None:
        return []
    tokens = ["--speculative-num-draft-tokens", str(speculation.step_tokens)]
    if speculation.method == "ngram":
        return ["--speculative-algorithm", "NGRAM", *tokens]
    chain = ["--speculative-num-steps", str(speculation.draft_tokens), "--speculative-eagle-topk", "1"]
    return ["--speculative-algorithm", "EAGLE", *chain, *tokens]
