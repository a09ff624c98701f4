"""Synthetic results, complete and consistent, for tests of what reads results: no simulation behind them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from sim.core import stream
from sim.results import (
    CompareResult,
    Difference,
    Evaluation,
    GapRuns,
    RunFacts,
    RunResult,
    SearchResult,
    SloSpec,
    Variant,
    build_result,
    evaluations_frame,
    metric_paths,
    rejected_frame,
    resolve_metric,
)

SLO = {"ttft": 2.0, "tpot": 0.05, "attainment": 0.9}
_ASSUMPTIONS = ["prefix caching is off: every prompt is computed in full", "kernel costs are analytic curves"]


def synthetic_requests(count: int = 400, *, seed: int = 0, speed: float = 1.0) -> pd.DataFrame:
    """A request table in which every request finishes; `speed` divides all latencies."""
    rng = stream(seed, "requests")
    output = rng.integers(1, 400, count)
    arrival = np.cumsum(rng.exponential(0.25, count))
    queueing = rng.exponential(0.08, count) / speed
    ttft = queueing + rng.lognormal(-1.5, 0.6, count) / speed
    tpot = np.where(output > 1, rng.normal(0.032, 0.005, count) / speed, np.nan)
    e2e = ttft + np.nan_to_num(tpot) * (output - 1)
    return pd.DataFrame(
        {
            "request": np.arange(count),
            "replica": (np.arange(count) % 2).astype(np.int32),
            "arrival_s": arrival,
            "input_tokens": rng.integers(10, 3000, count),
            "cached_tokens": np.zeros(count, dtype=np.int64),
            "output_tokens": output,
            "emitted_tokens": output,
            "first_scheduled_s": arrival + queueing,
            "first_token_s": arrival + ttft,
            "finish_s": arrival + e2e,
            "preemptions": np.zeros(count, dtype=np.int64),
            "status": "finished",
            "ttft_s": ttft,
            "engine_ttft_s": ttft - 0.01,
            "tpot_s": tpot,
            "e2e_s": e2e,
        }
    )


def gaps_of(requests: pd.DataFrame) -> GapRuns:
    """Equal gaps within each request, as its TPOT says."""
    several = requests[requests["emitted_tokens"] > 1]
    return GapRuns(
        several["tpot_s"].to_numpy(dtype=np.float64), (several["emitted_tokens"] - 1).to_numpy(dtype=np.float64)
    )


def synthetic_facts(duration_s: float, *, n_gpus: int = 8, replicas: int = 2, **changes: Any) -> RunFacts:
    """Plausible facts of a run; `changes` replaces fields."""
    shares = {
        "projections": 0.31,
        "feed_forward": 0.22,
        "attention": 0.12,
        "prefill_attention": 0.05,
        "tensor_parallel": 0.09,
        "norms_and_activations": 0.03,
        "lm_head": 0.02,
        "host": 0.01,
        "idle": 0.15,
    }
    fields: dict[str, Any] = {
        "n_gpus": n_gpus,
        "n_replicas": replicas,
        "duration_s": duration_s,
        "usd_per_gpu_hour": 2.5,
        "energy_j": 450.0 * n_gpus * duration_s,
        "matrix_flops": 0.2 * 989e12 * n_gpus * duration_s,
        "memory_bytes": 0.5 * 3.35e12 * n_gpus * duration_s,
        "peak_flops": 989e12,
        "peak_bytes_per_s": 3.35e12,
        "kv_cache_tokens": 400_000,
        "preemptions": 3,
        "busy": {cause: share * duration_s * replicas for cause, share in shares.items()},
    }
    return RunFacts(**(fields | changes))


def synthetic_run(
    *, label: str = "2x tp4", n_gpus: int = 8, seed: int = 0, speed: float = 1.0, goodput: float | None = None
) -> RunResult:
    """A complete run of the plan `label`."""
    requests = synthetic_requests(seed=seed, speed=speed)
    duration = float(requests["finish_s"].max())
    iterations = pd.DataFrame(
        {"start_s": [0.0, 1.0], "iterations": [3, 20], "first_s": [0.03, 0.04], "growth_s": [0.0, 1e-6]}
    )
    return build_result(
        requests=requests,
        gaps=gaps_of(requests),
        facts=synthetic_facts(duration, n_gpus=n_gpus),
        slo=SloSpec(**SLO),
        iterations=iterations,
        plan={"replicas": 2, "tp": n_gpus // 2, "pp": 1, "clock": 1.0, "weights_dtype": "bf16"},
        memory={
            "weights_bytes": 35.3e9,
            "kv_cache_bytes": 33.1e9,
            "activations_bytes": 2.4e9,
            "graphs_bytes": 0.9e9,
            "runtime_bytes": 1.2e9,
            "free_bytes": 7.1e9,
        },
        launch=f"# vLLM 0.14.0: {label}, {n_gpus} GPUs\nvllm serve meta-llama/Llama-3.1-70B --tensor-parallel-size 4",
        scenario={"name": "synthetic", "model": "llama-3.1-70b", "cluster": {"node": "dgx-h100"}, "slo": SLO},
        provenance={"versions": {"plansim": "0.1.0"}, "seed": seed, "assumptions": _ASSUMPTIONS, "trace_report": None},
        extra={} if goodput is None else {"goodput_max_requests_per_s_per_gpu": goodput},
        label=label,
    )


def synthetic_search(plans: int = 24) -> SearchResult:
    """A search that simulated `plans` plans, screened 60 and rejected 30; the front is by goodput and TTFT p99."""
    rng = stream(1, "search")
    runs = [
        synthetic_run(
            label=f"{2 if i % 2 else 1}x tp{2 ** (i % 4)} {64 * (1 + i // 4)} seqs",
            n_gpus=2 * 2 ** (i % 3),
            speed=float(rng.uniform(0.4, 1.6)),
            goodput=float(rng.uniform(0.2, 1.4)),
        )
        for i in range(plans)
    ]
    simulated = [Evaluation.of(run, layer=i // 8) for i, run in enumerate(runs)]
    screened = [
        Evaluation({"tp": 8}, f"tp8 {i}", {"ttft_s": {"mean": 0.3}, "n_gpus": 8}, stage="analytic") for i in range(60)
    ]
    objectives = [resolve_metric(name) for name in ("goodput_max_per_gpu", "ttft_s.p99", "tpot_s.p99", "cost")]
    front = [each for each in simulated if not any(_beats(other.metrics, each.metrics) for other in simulated)]
    best = min(front, key=lambda each: each.metrics["cost_usd_per_million_output_tokens"], default=None)
    reasons = ("memory", "weights need 141 GB per GPU, 80 GB are there"), ("heads", "64 heads do not divide by 3 ranks")
    return SearchResult(
        front=front,
        recommended=best,
        why="cheapest of the plans on the front that attain the SLO, on few GPUs" if best else "no plan could run",
        space={"generated": 114, "feasible": 84, "infeasible": {"memory": 20, "heads": 10}, "screened": 84}
        | {"simulated": plans},
        rejected=rejected_frame((f"tp{i}", *reasons[i % 3 == 2]) for i in range(30)),
        evaluations=evaluations_frame([*simulated, *screened], front=front),
        objectives=objectives,
        provenance={"versions": {"plansim": "0.1.0"}, "seed": 0, "assumptions": _ASSUMPTIONS},
        scenario={"name": "synthetic", "model": "llama-3.1-70b", "cluster": {"node": "dgx-h100"}, "slo": SLO},
        recommended_run=runs[simulated.index(best)] if best else None,
    )


def _beats(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    def costs(metrics: Mapping[str, Any]) -> tuple[float, ...]:
        goodput, cost = metrics["goodput_max_requests_per_s_per_gpu"], metrics["cost_usd_per_million_output_tokens"]
        return -goodput, metrics["ttft_s"]["p99"], metrics["tpot_s"]["p99"], cost

    a, b = costs(one), costs(other)
    return all(x <= y for x, y in zip(a, b, strict=True)) and a != b


def synthetic_compare() -> CompareResult:
    """A base and two variants; the differences of the second have intervals that hold zero."""
    base = synthetic_run()
    variants = []
    for name, speed in (("h200", 1.4), ("fp8-kv", 1.02)):
        run = synthetic_run(speed=speed)
        mine, theirs = metric_paths(run.metrics), metric_paths(base.metrics)
        differences = {}
        for path, value in mine.items():
            if value is None or theirs.get(path) is None:
                continue
            delta = value - theirs[path]
            half = 0.2 * abs(delta) if name == "h200" else 3 * abs(delta)
            relative = delta / theirs[path] if theirs[path] else None
            differences[path] = Difference(delta, relative, (delta - half, delta + half))
        variants.append(Variant(name, run, differences))
    return CompareResult(base, variants)
