"""Small result files in the shape of each benchmark tool, made in code; the figures are invented.

All tell of a run of 8 requests of 200 prompt and 21 output tokens, two in flight: the first token after 60 ms, then one
every 8 ms.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import sim
from sim.scenario import Scenario

COUNT, PROMPT, OUTPUT, CONCURRENCY = 8, 200, 21, 2
TTFT_S, TPOT_S = 0.06, 0.008
E2E_S = TTFT_S + (OUTPUT - 1) * TPOT_S
DURATION_S = COUNT / CONCURRENCY * E2E_S
RATE = COUNT * OUTPUT / DURATION_S
SENT_S = [E2E_S * (i // CONCURRENCY) for i in range(COUNT)]


def deployment(**changes: Any) -> Scenario:
    """What the samples measured: an 8B model on one GPU; `changes` replace parts of the scenario."""
    data = {
        "name": "deployment",
        "model": "llama-3.1-8b",
        "cluster": {"node": "dgx-h100"},
        "engine": "vllm",
        "plan": {"tp": 1},
        "workload": {"traffic": "azure-conv-2023"},
    }
    return sim.load({**data, **changes})


def statistics(
    value: float, pattern: str = "{}", names: tuple[str, ...] = ("mean", "median", "p99")
) -> dict[str, float]:
    """The same value for several statistics."""
    return {pattern.format(name): value for name in names}


VLLM: dict[str, Any] = {
    "date": "20260101-000000",
    "backend": "openai",
    "model_id": "meta-llama/Llama-3.1-8B-Instruct",
    "num_prompts": COUNT,
    "request_rate": "inf",
    "burstiness": 1.0,
    "max_concurrency": CONCURRENCY,
    "duration": DURATION_S,
    "completed": COUNT,
    "total_input_tokens": COUNT * PROMPT,
    "total_output_tokens": COUNT * OUTPUT,
    "request_throughput": COUNT / DURATION_S,
    "output_throughput": RATE,
    **statistics(1e3 * TTFT_S, "{}_ttft_ms"),
    **statistics(1e3 * TPOT_S, "{}_tpot_ms"),
    **statistics(1e3 * TPOT_S, "{}_itl_ms"),
}
VLLM_DETAILS: dict[str, Any] = {
    "input_lens": [PROMPT] * COUNT,
    "output_lens": [OUTPUT] * COUNT,
    "ttfts": [TTFT_S] * COUNT,
    "itls": [[TPOT_S] * (OUTPUT - 1)] * COUNT,
    "start_times": [1000.0 + sent_s for sent_s in SENT_S],
    "errors": [""] * COUNT,
}
SGLANG: dict[str, Any] = {
    "backend": "sglang",
    "dataset_name": "random",
    "request_rate": "inf",
    "max_concurrency": CONCURRENCY,
    "random_input_len": 2 * PROMPT - 1,
    "random_output_len": 2 * OUTPUT - 1,
    "random_range_ratio": 0.0,
    "duration": DURATION_S,
    "completed": COUNT,
    "total_input_tokens": COUNT * PROMPT,
    "total_output_tokens": COUNT * OUTPUT,
    "request_throughput": COUNT / DURATION_S,
    "output_throughput": RATE,
    **statistics(1e3 * TTFT_S, "{}_ttft_ms"),
    **statistics(1e3 * TPOT_S, "{}_tpot_ms"),
    **statistics(1e3 * TPOT_S, "{}_itl_ms"),
    **statistics(1e3 * E2E_S, "{}_e2e_latency_ms"),
}


def _aiperf(value: float, unit: str) -> dict[str, Any]:
    return {"unit": unit, **statistics(value, names=("avg", "min", "max", "p1", "p50", "p90", "p99"))}


AIPERF: dict[str, Any] = {
    "request_throughput": {"unit": "requests/sec", "avg": COUNT / DURATION_S},
    "output_token_throughput": {"unit": "tokens/sec", "avg": RATE},
    "request_latency": _aiperf(1e3 * E2E_S, "ms"),
    "time_to_first_token": _aiperf(1e3 * TTFT_S, "ms"),
    "inter_token_latency": _aiperf(1e3 * TPOT_S, "ms"),
    "input_sequence_length": _aiperf(PROMPT, "tokens"),
    "output_sequence_length": _aiperf(OUTPUT, "tokens"),
    "request_count": {"unit": "requests", "avg": COUNT},
    "benchmark_duration": {"unit": "sec", "avg": DURATION_S},
    "input_config": {
        "endpoint": {"model_names": ["meta-llama/Llama-3.1-8B-Instruct"]},
        "loadgen": {"concurrency": CONCURRENCY},
    },
}


def aiperf_request(i: int, **metadata: Any) -> dict[str, Any]:
    """One line of aiperf's profile_export.jsonl."""
    start_ns = 1_700_000_000_000_000_000 + round(1e9 * SENT_S[i % COUNT])
    figures = {
        "input_sequence_length": (PROMPT, "tokens"),
        "output_sequence_length": (OUTPUT, "tokens"),
        "time_to_first_token": (1e3 * TTFT_S, "ms"),
        "request_latency": (1e3 * E2E_S, "ms"),
    }
    return {
        "metadata": {
            "session_num": i,
            "request_start_ns": start_ns,
            "request_end_ns": start_ns + round(1e9 * E2E_S),
            "benchmark_phase": "profiling",
            "was_cancelled": False,
            **metadata,
        },
        "metrics": {name: {"value": value, "unit": unit} for name, (value, unit) in figures.items()},
        "error": None,
    }


def _guidellm(value: float, names: tuple[str, ...] = ("p05", "p50", "p90", "p95", "p99")) -> dict[str, Any]:
    good = {"mean": value, "min": value, "max": value, "percentiles": statistics(value, names=names)}
    return {"successful": good, "errored": {"mean": 0.0}}


def guidellm_request(i: int) -> dict[str, Any]:
    """One successful request of a guidellm report."""
    sent_s = 1000.0 + SENT_S[i]
    timings = {
        "request_start": sent_s,
        "first_token_iteration": sent_s + TTFT_S,
        "last_token_iteration": sent_s + E2E_S,
    }
    return {"prompt_tokens": PROMPT, "output_tokens": OUTPUT, "info": {"timings": timings}}


GUIDELLM_RUN: dict[str, Any] = {
    "config": {"strategy": {"type_": "concurrent", "streams": CONCURRENCY}},
    "duration": DURATION_S,
    "metrics": {
        "request_totals": {"successful": COUNT, "incomplete": 0, "errored": 0},
        "time_to_first_token_ms": _guidellm(1e3 * TTFT_S),
        "inter_token_latency_ms": _guidellm(1e3 * TPOT_S),
        "time_per_output_token_ms": _guidellm(1e3 * E2E_S / OUTPUT),
        "request_latency": _guidellm(E2E_S),
        "prompt_token_count": _guidellm(PROMPT),
        "output_token_count": _guidellm(OUTPUT),
    },
    "requests": {"successful": []},
}
GUIDELLM: dict[str, Any] = {"metadata": {"version": 2}, "config": {}, "benchmarks": [GUIDELLM_RUN]}
INFERENCEX: dict[str, Any] = {
    "hw": "h100-cloud",
    "model": "meta-llama/Llama-3.1-8B-Instruct",
    "infmax_model_prefix": "llama8b",
    "framework": "vllm",
    "precision": "bf16",
    "spec_decoding": "none",
    "disagg": False,
    "is_multinode": False,
    "isl": PROMPT,
    "osl": OUTPUT,
    "conc": CONCURRENCY,
    "tp": 1,
    "ep": 1,
    "dp_attention": "false",
    "tput_per_gpu": 1000.0,
    "output_tput_per_gpu": RATE,
    "input_tput_per_gpu": 1000.0 - RATE,
    **statistics(TTFT_S, "{}_ttft"),
    **statistics(TPOT_S, "{}_tpot"),
    **statistics(TPOT_S, "{}_itl"),
    **statistics(E2E_S, "{}_e2el"),
    **statistics(1 / TPOT_S, "{}_intvty"),
}
SAMPLES: dict[str, list[dict[str, Any]]] = {
    "vllm_bench": [VLLM, {**VLLM, **VLLM_DETAILS, "max_concurrency": 4}],
    "sglang_bench": [SGLANG],
    "aiperf": [AIPERF],
    "aiperf_requests": [aiperf_request(i) for i in range(COUNT)],
    "guidellm": [GUIDELLM],
    "inferencex": [INFERENCEX],
}


def write_json(path: Path, *objects: dict[str, Any]) -> Path:
    """One object a line; a single one as an indented document."""
    if len(objects) == 1:
        path.write_text(json.dumps(objects[0], indent=1))
    else:
        path.write_text("".join(f"{json.dumps(one)}\n" for one in objects))
    return path
