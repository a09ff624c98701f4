"""From what happened to metrics: the arithmetic behind every definition in `metrics`, and the laws it must keep."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pandas as pd

from sim.core import Array, PlansimError, Summary, summarise
from sim.results.metrics import METRICS, STATUSES
from sim.results.slo import SloSpec

REQUEST_COLUMNS: Final = {
    "request": "",
    "replica": "",
    "arrival_s": "s",
    "input_tokens": "tokens",
    "cached_tokens": "tokens",
    "output_tokens": "tokens",
    "emitted_tokens": "tokens",
    "first_scheduled_s": "s",
    "first_token_s": "s",
    "finish_s": "s",
    "ttft_s": "s",
    "engine_ttft_s": "s",
    "tpot_s": "s",
    "e2e_s": "s",
    "preemptions": "",
    "status": "",
    "slo_ok": "",
}
"""Columns of the request table and their units. `cached_tokens` are those of the prompt found in the prefix cache,
`output_tokens` is what was asked, `emitted_tokens` what came; `first_scheduled_s`, `first_token_s` and `finish_s` are
times since zero, the other seconds are durations; what did not happen is NaN. `slo_ok` is missing (NA) without SLO."""

_SUM_TOLERANCE = 1e-6


@dataclass(frozen=True)
class GapRuns:
    """Token gaps as runs of equal ones: gap `value_s[i]` occurred `count[i]` times.

    Attributes:
        value_s: Gap [s], shape `(n,)`.
        count: Tokens that saw it, shape `(n,)`.
    """

    value_s: Array
    count: Array


@dataclass(frozen=True)
class RunFacts:
    """What a run was and did beside its requests.

    Attributes:
        n_gpus: GPUs of all replicas.
        n_replicas: Replicas.
        duration_s: From time zero to the last event [s].
        usd_per_gpu_hour: Price of a GPU [USD/h]; None if unknown.
        energy_j: Energy of all GPUs [J].
        matrix_flops: Matrix FLOPs that the model needed.
        memory_bytes: Bytes of weights and KV cache that had to be read.
        peak_flops: Dense peak rate of one GPU in the compute format [FLOP/s].
        peak_bytes_per_s: Peak memory bandwidth of one GPU [B/s].
        kv_cache_tokens: Tokens that the KV blocks of all replicas hold.
        preemptions: Times a request was evicted.
        busy: Exposed seconds by cause, `idle` included; they sum to `duration_s * n_replicas`.
        hidden: Seconds by cause that overlap with others and so cost nothing.
        prefix_caching: Whether requests could share KV blocks of equal prefixes.
        warmup_s: Requests sent before this time are not in the table; rates are over the time after it [s].
        arrived: Requests that arrived, if known; the table must have as many rows.
    """

    n_gpus: int
    n_replicas: int
    duration_s: float
    usd_per_gpu_hour: float | None
    energy_j: float
    matrix_flops: float
    memory_bytes: float
    peak_flops: float
    peak_bytes_per_s: float
    kv_cache_tokens: int
    preemptions: int
    busy: Mapping[str, float]
    hidden: Mapping[str, float] = field(default_factory=dict)
    prefix_caching: bool = False
    warmup_s: float = 0.0
    arrived: int | None = None

    @property
    def replica_s(self) -> float:
        """Seconds that the breakdown explains: duration times replicas."""
        return self.duration_s * self.n_replicas

    @property
    def busy_frac(self) -> float | None:
        """Share of that time in which there was work; None for a run of no length."""
        return _ratio(self.replica_s - self.busy.get("idle", 0.0), self.replica_s)


def compute_metrics(
    requests: pd.DataFrame, gaps: GapRuns, facts: RunFacts, slo: SloSpec | None
) -> dict[str, float | int | dict[str, Any] | None]:
    """Every metric of a run, in the order of `METRICS` and by the definitions there; None where it is undefined.

    Args:
        requests: One row per request that arrived; see `REQUEST_COLUMNS` (`slo_ok` is not needed).
        gaps: Gaps between the tokens of those requests.
        facts: The rest.
        slo: Limits; None leaves goodput and attainment undefined.

    Raises:
        PlansimError: if requests or tokens were lost or invented, or the breakdown does not add up.
    """
    check_conservation(requests, gaps, facts)
    window_s = facts.duration_s - facts.warmup_s
    found = {
        **_latencies(requests, gaps),
        **_throughput(requests, window_s, facts.n_gpus),
        **_within_slo(requests, window_s, slo),
        **_efficiency(facts),
        **_cost(facts, _ratio(float(requests["emitted_tokens"].sum()), window_s)),
        "n_gpus": facts.n_gpus,
        "kv_cache_tokens": facts.kv_cache_tokens,
        "prefix_hit_frac": _prefix_hits(requests) if facts.prefix_caching else None,
        "preemptions": facts.preemptions,
        "duration_s": facts.duration_s,
        "requests": _counts(requests),
    }
    median = found["tpot_s"]["p50"]
    found["interactivity_tokens_per_s_per_user"] = _ratio(1.0, median) if median is not None else None
    return {name: found[name] for name in METRICS if name in found}


def check_conservation(requests: pd.DataFrame, gaps: GapRuns, facts: RunFacts) -> None:
    """Proves that nothing was lost or invented: requests, tokens and time.

    Raises:
        PlansimError: naming what does not add up.
    """
    status = requests["status"]
    if not requests["request"].is_unique:
        raise PlansimError("a request appears twice in the request table")
    if facts.arrived is not None and facts.arrived != len(requests):
        raise PlansimError(f"{facts.arrived} requests arrived, but the table has {len(requests)}")
    if unknown := sorted(set(status) - set(STATUSES)):
        raise PlansimError(f"requests are in unknown states: {', '.join(map(str, unknown))}")
    finished = status == "finished"
    if bool((finished != requests["finish_s"].notna()).any()):
        raise PlansimError("a request has a finishing time without having finished, or the reverse")
    emitted = requests["emitted_tokens"]
    if bool((emitted > requests["output_tokens"]).any()) or bool((emitted[finished] < 1).any()):
        raise PlansimError("a request emitted more tokens than it was to, or finished without any")
    after_first = float((emitted - 1)[emitted > 0].sum())
    seen = float(np.sum(gaps.count))
    if facts.warmup_s == 0 and seen != after_first:
        raise PlansimError(f"{after_first:g} tokens were emitted after first ones, but {seen:g} token gaps recorded")
    total = math.fsum(facts.busy.values())
    if abs(total - facts.replica_s) > _SUM_TOLERANCE * max(facts.replica_s, 1e-9):
        raise PlansimError(f"the breakdown sums to {total:.9g} s, but has to explain {facts.replica_s:.9g} s")


def _ratio(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator > 0 else None


def _latencies(requests: pd.DataFrame, gaps: GapRuns) -> dict[str, Any]:
    finished = requests[requests["status"] == "finished"]
    samples = {
        "ttft_s": requests["ttft_s"],
        "engine_ttft_s": requests["engine_ttft_s"],
        "tpot_s": finished["tpot_s"],
        "e2e_s": finished["e2e_s"],
        "normalised_latency_s_per_token": finished["e2e_s"] / finished["emitted_tokens"],
        "queueing_s": requests["first_scheduled_s"] - requests["arrival_s"],
    }
    summaries: dict[str, Summary] = {name: summarise(values.to_numpy()) for name, values in samples.items()}
    summaries["itl_s"] = summarise(gaps.value_s, gaps.count)
    return dict(summaries)


def _throughput(requests: pd.DataFrame, window_s: float, n_gpus: int) -> dict[str, float | None]:
    emitted = float(requests["emitted_tokens"].sum())
    prompts = float(requests.loc[requests["first_token_s"].notna(), "input_tokens"].sum())
    return {
        "requests_per_s": _ratio(float((requests["status"] == "finished").sum()), window_s),
        "output_tokens_per_s": _ratio(emitted, window_s),
        "output_tokens_per_s_per_gpu": _ratio(emitted, window_s * n_gpus),
        "total_tokens_per_s_per_gpu": _ratio(prompts + emitted, window_s * n_gpus),
    }


def _prefix_hits(requests: pd.DataFrame) -> float | None:
    scheduled = requests[requests["first_scheduled_s"].notna()]
    return _ratio(float(scheduled["cached_tokens"].sum()), float(scheduled["input_tokens"].sum()))


def _within_slo(requests: pd.DataFrame, window_s: float, slo: SloSpec | None) -> dict[str, float | None]:
    good = None if slo is None else float(slo.satisfied(requests).sum())
    return {
        "goodput_requests_per_s": None if good is None else _ratio(good, window_s),
        "slo_attainment_frac": None if good is None else _ratio(good, float(len(requests))),
    }


def _efficiency(facts: RunFacts) -> dict[str, float | None]:
    gpu_s = facts.duration_s * facts.n_gpus
    mfu = _ratio(facts.matrix_flops, gpu_s * facts.peak_flops)
    mbu = _ratio(facts.memory_bytes, gpu_s * facts.peak_bytes_per_s)
    busy = facts.busy_frac
    return {
        "mfu_frac": mfu,
        "mbu_frac": mbu,
        "mfu_busy_frac": None if mfu is None or busy is None else _ratio(mfu, busy),
        "mbu_busy_frac": None if mbu is None or busy is None else _ratio(mbu, busy),
        "busy_frac": busy,
    }


def _cost(facts: RunFacts, tokens_per_s: float | None) -> dict[str, float | None]:
    power_w = _ratio(facts.energy_j, facts.duration_s)
    usd_per_h = None if facts.usd_per_gpu_hour is None else facts.usd_per_gpu_hour * facts.n_gpus
    rate = tokens_per_s or 0.0
    return {
        "energy_j": facts.energy_j,
        "energy_j_per_output_token": None if power_w is None else _ratio(power_w, rate),
        "cost_usd_per_million_output_tokens": None if usd_per_h is None else _ratio(usd_per_h / 3600.0 * 1e6, rate),
        "usd_per_hour": usd_per_h,
        "gpu_hours": facts.duration_s * facts.n_gpus / 3600.0,
    }


def _counts(requests: pd.DataFrame) -> dict[str, int]:
    by_status = requests["status"].value_counts()
    return {"in": len(requests), **{status: int(by_status.get(status, 0)) for status in STATUSES}}
