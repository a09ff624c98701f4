"""Options with which NVIDIA's own aggregated runs are taken to have been launched: as AIConfigurator's generator does.

Facts of the public package `aiconfigurator` 0.12 (Apache-2.0), `generator/rule_plugin/{trtllm,vllm}.rule`,
`rule_plugin/benchmark/sglang.rule` and `backend_templates/benchmark/bench_run.sh.j2`; nothing is fitted. Which revision
a run was launched with is not recorded. What the rows say for it: their TTFT does not depend on the length of answers,
as it does not where all have the same length and the requests of a closed loop march together, and it is that of
prompts computed one or two at a time.
"""

from __future__ import annotations

from typing import Any, Final

from sim.validation.formats.base import Line

_TRTLLM_SPARE: Final = 500
_VLLM_SPARE: Final = 1500
"""Tokens of an iteration beyond one prompt and a token for every sequence."""

_TRTLLM_BLOCK: Final = 32
"""TensorRT-LLM's budget is a multiple of its block of keys and values [tokens]."""

_MIXED_SINCE: Final = (0, 5, 6)
"""First version of SGLang whose runs have prompts beside decodes (`--enable-mixed-chunk`); those of 0.5.1 have not."""

_SHORT_OF_A_SLOT: Final = "meta-llama/Llama-3.1-8B-Instruct"
"""Model whose runs under TensorRT-LLM had a slot less than users in flight: read from the rows, nowhere documented.

In its rows with 8 to 32 users (66, on one to eight GPUs, with prompts and answers of any length) TTFT is the time
of a prompt plus the time between two ends (the time of a request over the users), which is how long one request that
always waits for a slot waits in the mean. No other model's rows show it.
"""


def generated_options(line: Line) -> dict[str, Any]:
    """Plan fields that the generator sets for the row's engine.

    The batch limit is the recorded batch of a rank, and the budget holds one prompt and some more. TensorRT-LLM is
    told to keep keys and values in 8 bits where weights have no more.
    """
    batch, prompt = line.whole("batch_size"), line.whole("isl") or 0
    engine, version = line.text("backend"), line.text("backend_version")
    if engine == "sglang":
        return {"scheduler": "sglang-mixed"} if _numbers(version) >= _MIXED_SINCE else {}
    if not batch or not version:
        return {}
    if engine == "vllm":
        return {"max_num_seqs": batch, "max_num_batched_tokens": batch + prompt + _VLLM_SPARE}
    slots = max(1, batch - 1) if line.text("arch") == _SHORT_OF_A_SLOT else batch
    blocks = -(-(batch + prompt + _TRTLLM_SPARE) // _TRTLLM_BLOCK)
    cache = {"kv_dtype": "fp8"} if line.text("precision") in ("fp8", "fp4") else {}
    return {"max_num_seqs": slots, "max_num_batched_tokens": blocks * _TRTLLM_BLOCK, **cache}


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: 0.5.6.post2 is (0, 5, 6)."""
    parts = version.split(".")
    return tuple(int(part) for part in parts[: next((i for i, p in enumerate(parts) if not p.isdigit()), len(parts))])
