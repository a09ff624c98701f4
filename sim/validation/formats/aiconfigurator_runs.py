"""Options with which NVIDIA's own aggregated runs are taken to have been launched: as AIConfigurator's generator does.

Sources, of the public package `aiconfigurator` 0.12 (Apache-2.0), folder `generator`: TensorRT-LLM's budget of
`rule_plugin/trtllm.rule`, vLLM's limits of `rule_plugin/benchmark/vllm.rule`, mixed chunks of
`rule_plugin/benchmark/sglang.rule`, equal lengths of `backend_templates/benchmark/bench_run.sh.j2`. Which revision a
run was launched with is not recorded, and the generator has two sets of rules, so what it leaves open was read from
the rows: their TTFT does not depend on the length of answers, as it does not where all are equally long and requests
of a closed loop march together, and it is that of prompts computed one or two at a time. With 1,500 tokens to spare,
as `benchmark/trtllm.rule` has, 132 runs of Qwen3-32B are off by 17.8 % in TTFT rather than 12.7; that SGLang takes at
most one prompt and 1,500 tokens an iteration (its benchmark rule) is not taken over for the same reason; and 10
requests per user, as InferenceX sends, are kept where the script of 0.12 sends 20 after a warm-up (median error of
TTFT 13 % and 18 %).
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
"""Model whose runs under TensorRT-LLM 1.0 had a slot less than users in flight: read from the rows, nowhere documented.

In its rows with 8 to 32 users (66, on one to eight GPUs, with prompts and answers of any length) TTFT is the time
of a prompt plus the time between two ends (the time of a request over the users), which is how long one request that
always waits for a slot waits in the mean. No other model's rows show it.
"""


_PADDED: Final = ("Qwen/Qwen3-235B-A22B-FP8", "0.12.0", [256])
"""Model and version of vLLM whose batches last as long as if each were padded to one CUDA graph of so many tokens.

Read from the rows (39 on two or four H200, four layouts), nowhere documented. Their TPOT, 34 to 58 ms, does not depend
on the batch (4 to 48 sequences), as it would if experts were touched by the batch's own tokens alone, and follows from
how widely experts are divided: it is the time to read all of them, and to compute some hundred tokens more. SGLang and
TensorRT-LLM take 12 to 25 ms for such batches of this model. With the engine's own graphs the median error of TPOT is
44 %, with one of 128, 256 or 512 tokens 12, 6 and 34 %; runs of Qwen3-32B with the same version show nothing of it.
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
        padded = {"graph_sizes": _PADDED[2]} if (line.text("arch"), version) == _PADDED[:2] else {}
        return {"max_num_seqs": batch, "max_num_batched_tokens": batch + prompt + _VLLM_SPARE, **padded}
    short = line.text("arch") == _SHORT_OF_A_SLOT and version.startswith("1.0.")
    slots = max(1, batch - 1) if short else batch
    blocks = -(-(batch + prompt + _TRTLLM_SPARE) // _TRTLLM_BLOCK)
    cache = {"kv_dtype": "fp8"} if line.text("precision") in ("fp8", "fp4") else {}
    return {"max_num_seqs": slots, "max_num_batched_tokens": blocks * _TRTLLM_BLOCK, **cache}


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: 0.5.6.post2 is (0, 5, 6)."""
    parts = version.split(".")
    return tuple(int(part) for part in parts[: next((i for i, p in enumerate(parts) if not p.isdigit()), len(parts))])
