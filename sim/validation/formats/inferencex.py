"""Options with which InferenceX (formerly InferenceMAX) launches its servers, where they are not an engine's defaults.

Facts of the benchmark's public launch scripts (`benchmarks/*.sh` of its repository, 2025-10 to 2026-03), not fitted.
Scripts change between the runs that a table holds, and which revision a row ran with is not recorded; one reading per
engine and model is taken here.
"""

from __future__ import annotations

from typing import Any, Final

from sim.validation.formats.base import Line

DEEPSEEK: Final = ("deepseek-ai/DeepSeek-V3", "nvidia/DeepSeek-R1-NVFP4")
QWEN_HYBRID: Final = "Qwen/Qwen3.5-397B-A17B"
GPT_OSS: Final = "openai/gpt-oss-120b"

_FEWEST_TOKENS: Final = 8192
"""Least `max_num_tokens` of the TensorRT-LLM scripts from 1.2 on; earlier ones size it for one prompt."""

_MANY_IN_FLIGHT: Final = 16
"""From how many requests in flight on the SGLang scripts look at the queue less often."""

_ONLY_THERE: Final = frozenset({QWEN_HYBRID, "moonshotai/Kimi-K2.5"})
"""Models of which the table has no other runs: most of their rows without a date repeat a dated one, rounded."""


def measured_there(line: Line) -> bool:
    """Whether a row is a run of InferenceX: it has the date of one, or its model was measured nowhere else."""
    return bool(line.text("measured_on")) or line.text("arch") in _ONLY_THERE


def launch_options(line: Line, plan: dict[str, Any]) -> dict[str, Any]:
    """Plan fields that the launch script of the row's benchmark sets; none for rows from elsewhere.

    Args:
        line: The row.
        plan: Its ranks.
    """
    if not measured_there(line) or line.text("mode") == "disagg":
        return {}
    engine, model = line.text("backend"), line.text("arch")
    if engine == "sglang" and model in (*DEEPSEEK, QWEN_HYBRID):
        return _sglang(line)
    if engine == "trtllm" and model in DEEPSEEK:
        return _trtllm_deepseek(line, plan)
    if engine == "trtllm" and model == GPT_OSS:
        wait = {"balance_wait": 50} if plan["dp"] > 1 else {}
        return {"kv_dtype": "fp8", "max_num_batched_tokens": 20000, **wait}
    return {}


def _sglang(line: Line) -> dict[str, Any]:
    """`dsr1_fp8_b200`, `dsr1_fp4_b200`, `dsr1_fp8_h200`, `qwen3.5_{bf16,fp8,fp4}_b200` and `qwen3.5_fp8_h200`."""
    deepseek, precision = line.text("arch") in DEEPSEEK, line.text("precision")
    if line.text("system") != "b200_sxm":
        own = {"max_num_batched_tokens": 32768, "kv_memory_frac": 0.82}
        return own if deepseek else {"kv_dtype": "fp8", "max_num_batched_tokens": 16384, "kv_memory_frac": 0.8}
    few = (line.whole("concurrency") or 0) < _MANY_IN_FLIGHT and (deepseek or precision != "fp4")
    return {
        "kv_dtype": "bf16" if precision == "bf16" else "fp8",
        "max_num_batched_tokens": 16384 if deepseek and precision == "fp4" else 32768,
        "kv_memory_frac": 0.85 if precision == "fp4" else 0.82,
        "queue_interval": 10 if few else 30,
    }


def _trtllm_deepseek(line: Line, plan: dict[str, Any]) -> dict[str, Any]:
    """`dsr1_fp8_h200_trt_slurm.sh`, `dsr1_fp4_b200_trt_slurm.sh`, `dsr1_fp8_b200_trt_slurm.sh`."""
    concurrency, prompt = line.whole("concurrency") or 0, line.whole("isl") or 0
    batch = max(1, concurrency // plan["dp"]) if line.text("system") == "h200_sxm" else concurrency
    tokens = (batch + prompt + 64 + 63) // 64 * 64
    version = line.text("backend_version")
    if version and not version.startswith("1.1"):
        tokens = max(tokens, _FEWEST_TOKENS)
    wait = {"balance_wait": 60} if plan["dp"] > 1 else {}
    return {"kv_dtype": "fp8", "max_num_batched_tokens": tokens, "max_num_seqs": min(batch, tokens), **wait}
