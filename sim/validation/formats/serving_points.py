"""Closed-loop serving points: TTFT and TPOT by model, system, engine, parallelism, lengths and concurrency.

One row a benchmark point of InferenceX and similar collections. Recorded are the architecture, the system, the engine,
the precision, the parallelism of the deployment, nominal lengths and the requests in flight. Not recorded, and assumed
for all rows of an engine alike:

- prompts are spread evenly in [0.8, 1.0] of nominal in runs of InferenceX (its default; `measured_on` is set, or
  the model was measured nowhere else), else exact;
- outputs likewise, else exact: the requests of a closed loop then march together, as those runs' latencies show;
- 10 x concurrency requests, all slots filled at once at the start, means over the whole run, first wave included;
- recorded latencies are means; prefix caching is off, and speculative decoding but for the one engine version that
  InferenceX ran with it alone;
- where fewer requests are in flight per attention rank than the recorded GPUs would have, the row's GPUs are one of
  several equal replicas; where the experts have more ranks than are recorded, attention is data parallel over them;
- token budget, `max_num_seqs` and memory fraction are the defaults of the engine profile, whatever the version, but for
  what InferenceX's public launch scripts set (`inferencex`), one reading per engine and model, and for other runs what
  AIConfigurator's generator sets (`aiconfigurator_runs`);
- the KV cache is 16-bit, but 8-bit under TensorRT-LLM with FP8 or NVFP4 checkpoints, which ask for it;
- FP8 weights have one scale per 128 x 128 block for DeepSeek and Qwen (as published) or where the row says so, else one
  per tensor; `fp4` is NVFP4; gpt-oss has MXFP4 weights whatever the row says;
- disaggregated deployments: prompts take their engines in turn, as do the KV caches the decode engines; those of
  DeepSeek and Kimi run as public recipes of Dynamo have them (`dynamo_recipes`).

Throughput is concurrency x osl / (TTFT + (osl - 1) x TPOT) / GPUs with nominal osl, on both sides.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from sim.validation.formats.aiconfigurator_runs import generated_options
from sim.validation.formats.base import (
    MEASUREMENTS,
    Line,
    MeasurementFile,
    MeasurementFormat,
    at_least,
    closed_loop,
    exactly,
    load_class,
)
from sim.validation.formats.dynamo_recipes import disaggregated_plan
from sim.validation.formats.inferencex import RANDOM_TOKENS, launch_options, measured_there
from sim.validation.rows import THROUGHPUT, ClosedPoint, MeasuredRow

_NODES: Final = {
    "h100_sxm": ("dgx-h100", 8),
    "h200_sxm": ("dgx-h200", 8),
    "b200_sxm": ("hgx-b200", 8),
    "gb200": ("gb200-nvl72", 4),
}
_ENGINES: Final = ("sglang", "trtllm", "vllm")
_PROFILES: Final = {
    "vllm 0.12.": "vllm-0.12",
    "sglang nightly-dev-202604": "sglang-0.5.10",
    "trtllm 1.0.": "trtllm-1.0",
    "trtllm 1.1.0rc": "trtllm-1.1",
    "trtllm 0.5.": "trtllm-1.1",
    "trtllm gpt-oss-dev": "trtllm-1.1",
}
"""Engine profiles of versions for which the default one does not hold, by how they begin; 0.5 is Dynamo's, with 1.1."""

_BEFORE_FUSING: Final = ("sglang 0.5.1.", "sglang 0.5.6.")
"""Versions of SGLang whose all-reduces do not take in norms by themselves, but for DeepSeek on B200."""

_UNVERSIONED: Final = {"trtllm": "trtllm-1.1"}
"""Engine profiles of runs without a version, all of the autumn of 2025."""

_SHORTEST: Final = 0.8


class _Checkpoint(NamedTuple):
    """What serves a precision: the name of a model, and the number format if it is not the model's own."""

    model: str
    weights_dtype: str | None = None


_DEEPSEEK: Final = "deepseek-ai/DeepSeek-V3"
_KIMI: Final = "moonshotai/Kimi-K2.5"
_QWEN_HYBRID: Final = "Qwen/Qwen3.5-397B-A17B"
_CHECKPOINTS: Final = {
    ("Qwen/Qwen3-235B-A22B-FP8", "fp8"): _Checkpoint("Qwen/Qwen3-235B-A22B-FP8"),
    ("Qwen/Qwen3-32B", ""): _Checkpoint("Qwen/Qwen3-32B"),
    ("Qwen/Qwen3-32B", "fp8"): _Checkpoint("Qwen/Qwen3-32B", "fp8_block"),
    ("Qwen/Qwen3-32B", "fp4"): _Checkpoint("nvidia/Qwen3-32B-NVFP4"),
    (_DEEPSEEK, "fp8"): _Checkpoint(_DEEPSEEK),
    (_DEEPSEEK, "fp4"): _Checkpoint("nvidia/DeepSeek-R1-0528-NVFP4-v2"),
    ("nvidia/DeepSeek-R1-NVFP4", "fp4"): _Checkpoint("nvidia/DeepSeek-R1-0528-NVFP4-v2"),
    ("meta-llama/Llama-3.1-70B", ""): _Checkpoint("meta-llama/Llama-3.1-70B"),
    ("meta-llama/Llama-3.1-70B", "fp8"): _Checkpoint("meta-llama/Llama-3.1-70B", "fp8"),
    ("meta-llama/Llama-3.1-70B", "fp4"): _Checkpoint("meta-llama/Llama-3.1-70B", "nvfp4"),
    ("meta-llama/Llama-3.1-8B-Instruct", ""): _Checkpoint("meta-llama/Llama-3.1-8B-Instruct"),
    ("meta-llama/Llama-3.1-8B-Instruct", "fp8"): _Checkpoint("meta-llama/Llama-3.1-8B-Instruct", "fp8"),
    (_KIMI, "int4"): _Checkpoint(_KIMI),
    (_KIMI, "fp4"): _Checkpoint(_KIMI, "nvfp4"),
    (_QWEN_HYBRID, "bf16"): _Checkpoint(_QWEN_HYBRID),
    (_QWEN_HYBRID, "fp8"): _Checkpoint("Qwen/Qwen3.5-397B-A17B-FP8"),
    (_QWEN_HYBRID, "fp4"): _Checkpoint("nvidia/Qwen3.5-397B-A17B-NVFP4"),
    ("openai/gpt-oss-120b", "fp4"): _Checkpoint("openai/gpt-oss-120b"),
    ("openai/gpt-oss-120b", "fp8"): _Checkpoint("openai/gpt-oss-120b"),
}
_EXPERTS: Final = frozenset(
    {"Qwen/Qwen3-235B-A22B-FP8", _QWEN_HYBRID, _DEEPSEEK, "nvidia/DeepSeek-R1-NVFP4", _KIMI, "openai/gpt-oss-120b"}
)
_BLOCK_FORMAT: Final = frozenset({_DEEPSEEK, "Qwen/Qwen3-235B-A22B-FP8", _QWEN_HYBRID})


@MEASUREMENTS.register("serving_points")
class ServingPoints(MeasurementFormat):
    """Closed-loop points of InferenceX and similar collections: mean TTFT and TPOT by concurrency."""

    columns = frozenset(
        {"arch", "backend", "system", "concurrency", "isl", "osl", "silicon_ttft_ms", "silicon_tpot_ms"}
    )
    source = "InferenceX (SemiAnalysis) and NVIDIA, as collected in AIConfigurator (Apache-2.0)"
    assumptions = (
        "lengths are uniform in [0.8, 1.0] of nominal where measured_on is set and for Qwen3.5 and Kimi, else exact",
        "10 x concurrency requests, all slots filled at the start, means over the whole run, first wave included",
        "token budget, sequences and memory fraction are the engine profile's defaults, whatever the version",
        "but DeepSeek, Qwen3.5 and gpt-oss on SGLang and TensorRT-LLM have the token budget, KV format and waits that "
        "InferenceX's public launch scripts set; runs with exact lengths have batch limit and budget (TensorRT-LLM and "
        "vLLM) or mixed chunks (SGLang since 0.5.6) as AIConfigurator's generator sets them, its rules chosen by "
        "these rows",
        "the runs of Qwen3-235B under vLLM 0.12 pad every batch to one CUDA graph of 256 tokens: read from their TPOT, "
        "nowhere documented",
        "the runs of Llama 3.1 8B under TensorRT-LLM 1.0 had a slot less than users: read from their TTFT, nowhere "
        "documented",
        "16-bit KV cache, 8-bit under TensorRT-LLM with FP8 or NVFP4 checkpoints; no prefix caching",
        "no speculation but where only scripts with multi-token prediction made a run, with published acceptance: "
        "DeepSeek on TensorRT-LLM 1.2.0rc6.post3 and on 1.1.0rc2.post2 of 2026-01-14, and in FP8 on B200 with SGLang "
        "0.5.9 for more than 64 users, Qwen3.5 there with tp 4 and ep 1",
        "FP8 has block scales for DeepSeek and Qwen, as published and whatever the row says, or where it says so; fp4 "
        "is NVFP4, gpt-oss MXFP4",
        "fewer requests per attention rank than the GPUs explain mean that the GPUs are one of several equal replicas",
        "as many ranks of tensor parallelism as of experts within experts, which multiply to those of attention, are "
        "the same ranks recorded twice: tp 2 and ep 2 are two GPUs",
        "more ranks for experts than are recorded mean that attention is data parallel over them",
        "DeepSeek and Kimi with engines of their own for prompts have the ranks, decode batches, budgets, KV format "
        "and exchange between experts that Dynamo's public recipes set",
        "throughput is concurrency x osl / (TTFT + (osl - 1) x TPOT) / GPUs with nominal osl, on both sides",
    )

    @staticmethod
    def read(file: MeasurementFile) -> list[MeasuredRow]:
        """One measured row per point."""
        return [_row(line, file.name) for line in file.lines]


def _row(line: Line, dataset: str) -> MeasuredRow:
    ttft_s, tpot_s = line.measured("silicon_ttft_ms", 1e-3), line.measured("silicon_tpot_ms", 1e-3)
    closed = _closed(line)
    throughput = None
    if closed is not None and ttft_s and tpot_s:
        throughput = closed.throughput(ttft_s, tpot_s)
    reason, scenario = _reason(line, closed), None
    if not reason:
        found = _scenario(line)
        reason, scenario = ("", found) if isinstance(found, dict) else (found, None)
    return MeasuredRow(
        id=line.text("id"),
        dataset=dataset,
        groups=_groups(line),
        scenario=scenario,
        measured={"tpot_s": tpot_s, "ttft_s": ttft_s, THROUGHPUT: throughput},
        closed=closed,
        reason=reason,
    )


def _closed(line: Line) -> ClosedPoint | None:
    concurrency, output, gpus = (line.whole(name) for name in ("concurrency", "osl", "n_gpus"))
    if not (concurrency and output and gpus) or min(concurrency, output, gpus) < 1:
        return None
    return ClosedPoint(concurrency, output, gpus)


def _groups(line: Line) -> dict[str, str]:
    concurrency = line.whole("concurrency")
    return {
        "system": line.text("system"),
        "model": line.text("arch"),
        "engine": line.text("backend"),
        "engine version": f"{line.text('backend')} {line.text('backend_version') or 'not recorded'}",
        "precision": line.text("precision") or "bf16",
        "mode": line.text("mode"),
        "load": load_class(concurrency) if concurrency else "unknown",
    }


def _reason(line: Line, closed: ClosedPoint | None) -> str:
    """Why the row cannot be simulated whatever its parallelism; empty if nothing speaks against it."""
    model, precision, system = line.text("arch"), line.text("precision"), line.text("system")
    if line.text("usable").lower() == "false":
        label = line.text("label")
        return "marked unusable" if label in ("", "as recorded") else f"marked unusable: {label}"
    if (model, precision) not in _CHECKPOINTS:
        return f"no checkpoint of {model} is known in {precision or 'bf16'}"
    if system not in _NODES:
        return f"no node stands for the system {system!r}"
    if line.text("backend") not in _ENGINES:
        return f"no engine profile for {line.text('backend')!r}"
    return "" if closed is not None and line.whole("isl") else "concurrency, lengths or GPUs are not recorded"


def _scenario(line: Line) -> dict[str, Any] | str:
    """The scenario of the row, or the reason why its parallelism makes none."""
    plan = _parallelism(line)
    if isinstance(plan, str):
        return plan
    model, engine = line.text("arch"), line.text("backend")
    name, dtype = _CHECKPOINTS[model, line.text("precision")]
    if model not in _BLOCK_FORMAT and dtype == "fp8" and line.text("gemm_quant_mode") == "fp8_block":
        dtype = "fp8_block"
    if dtype is not None:
        plan["weights_dtype"] = dtype
    narrow = line.text("precision") in ("fp8", "fp4") and model not in _BLOCK_FORMAT and model != "openai/gpt-oss-120b"
    narrow = narrow or (model == _DEEPSEEK and line.text("precision") == "fp4")
    if engine == "trtllm" and narrow and dtype != "fp8_block":
        plan["kv_dtype"] = "fp8"
    plan |= launch_options(line, plan)
    there = measured_there(line)
    if not there and line.text("mode") != "disagg":
        plan |= generated_options(line)
    if f"{engine} {line.text('backend_version')}".startswith(_BEFORE_FUSING):
        plan["fuse_all_reduce"] = False
    node, size = _NODES[line.text("system")]
    concurrency, prompt, output = (line.whole(name) or 0 for name in ("concurrency", "isl", "osl"))
    workload = closed_loop(
        concurrency=concurrency,
        requests=None,
        input_tokens=at_least(prompt, _SHORTEST) if there else exactly(prompt),
        output_tokens=at_least(output, _SHORTEST) if there else exactly(output),
    )
    if there:
        workload["expert_popularity"] = RANDOM_TOKENS
    return {
        "name": "measured",
        "model": name,
        "cluster": {"node": node, "nodes": -(-_gpus(plan) // size)},
        "engine": _profile(engine, line.text("backend_version")),
        "plan": plan,
        "workload": workload,
    }


def _profile(engine: str, version: str) -> str:
    """The engine profile for a recorded version."""
    if not version:
        return _UNVERSIONED.get(engine, engine)
    found = (name for start, name in _PROFILES.items() if f"{engine} {version}".startswith(start))
    return next(found, engine)


def _parallelism(line: Line) -> dict[str, Any] | str:
    """Plan fields of the row's deployment, or why they make no plan."""
    gpus = line.whole("n_gpus")
    if line.text("mode") != "disagg":
        if twice := _ranks_recorded_twice(line):
            return twice
        ranks = (line.whole("tp_size") or 0) * (line.whole("attention_dp_size") or 0)
        if gpus and ranks and gpus % ranks:
            return f"{gpus} GPUs are no whole number of replicas of {ranks} ranks"
        return _pool(line, "", gpus // ranks if gpus and ranks else None, line.whole("batch_size"))
    prefill = _pool(line, "prefill_", line.whole("prefill_num_workers"), None)
    decode = _pool(line, "decode_", line.whole("decode_num_workers"), line.whole("decode_batch_size"))
    for name, pool in (("prefill", prefill), ("decode", decode)):
        if isinstance(pool, str):
            return f"{name} workers: {pool}"
    assert isinstance(prefill, dict)
    assert isinstance(decode, dict)
    if (used := _gpus(prefill) + _gpus(decode)) != gpus:
        return f"implausible parallelism: prefill and decode workers have {used} GPUs, the deployment {gpus}"
    return disaggregated_plan(line, {**decode, "prefill": prefill})


def _ranks_recorded_twice(line: Line) -> dict[str, Any]:
    """Plan fields of a run on k ranks that is recorded as k x k of them; empty for other rows.

    InferenceX names a run by the ranks of attention and of experts, which are the same GPUs: tp 2 and ep 2 are two.
    Where both were taken for a product that does not fit into a server, the table mends it (`relabelled`); 2 x 2 does
    fit, so it stands as recorded. TPOT tells: gpt-oss on H200 with 4 users takes 6.9 ms on one GPU, 5.9 as "2 x 2" and
    4.9 on four. Throughput per GPU is still over the GPUs that the row has, on both sides.
    """
    moe_tp, ep = line.whole("moe_tp_size") or 1, line.whole("moe_ep_size") or 1
    tp, dp = line.whole("tp_size") or 1, line.whole("attention_dp_size") or 1
    if not measured_there(line) or moe_tp != ep or ep == 1 or {tp, dp} != {1, ep * ep}:
        return {}
    return {"replicas": 1, "tp": min(tp, ep), "dp": min(dp, ep), "moe_tp": 1, "ep": ep}


def _gpus(plan: dict[str, Any]) -> int:
    """GPUs of the engines of a plan, those of `prefill` included."""
    own = plan["replicas"] * plan["tp"] * plan["dp"]
    return int(own + (_gpus(plan["prefill"]) if "prefill" in plan else 0))


def _pool(line: Line, prefix: str, replicas: int | None, batch: int | None) -> dict[str, Any] | str:
    """Plan fields of the engines whose columns begin with `prefix`, or why they make none.

    Args:
        line: The row.
        prefix: Beginning of the names of the columns.
        replicas: Engines, as the row has them.
        batch: Requests in flight per attention rank, as the row has them; None to let it be.
    """
    tp, dp = line.whole(f"{prefix}tp_size"), line.whole(f"{prefix}attention_dp_size")
    if not (tp and dp and replicas) or min(tp, dp, replicas) < 1:
        return "parallelism is not recorded"
    concurrency, groups = line.whole("concurrency") or 0, replicas * dp
    if batch and batch != -(-concurrency // groups):
        if batch * groups > concurrency or concurrency % (batch * dp):
            return f"implausible parallelism: {concurrency} in flight on {groups} attention ranks, not {batch} for each"
        replicas = concurrency // (batch * dp)
    plan = {"replicas": replicas, "tp": tp, "dp": dp}
    if line.text("arch") not in _EXPERTS:
        return plan
    moe_tp, ep = line.whole(f"{prefix}moe_tp_size"), line.whole(f"{prefix}moe_ep_size")
    if not (moe_tp and ep):
        return "parallelism of the experts is not recorded"
    if moe_tp * ep % (tp * dp):
        return f"implausible parallelism: moe_tp {moe_tp} x ep {ep} is not tp {tp} x attention dp {dp}"
    return {**plan, "dp": moe_tp * ep // tp, "moe_tp": moe_tp, "ep": ep}
