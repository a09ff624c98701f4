"""Analytic steady state of every plan at once: the cheap rung of the search ladder.

For a replica with n sequences decoding, let `d(n)` be the time of a decode cycle at the traffic's mean context and
`t_p` the device time that one prompt adds. At arrival rate L per replica the engine spends a share `L t_p` of its time
on prompts, so a token takes `d(n) / (1 - L t_p)`; with Little's law `n = L * O * d(n) / (1 - L t_p)` for O decode steps
per request. Solved for the rate,

    L(n) = n / (O d(n) + n t_p)        and        token time(n) = d(n) + n t_p / O

rise with n, so capacity is L at the largest batch that slots and KV blocks allow, and the highest rate within an SLO
is at the largest n whose token time and estimated TTFT keep it. Queueing for prompts is that of M/G/1
(Pollaczek-Khinchine).

Ranks in lock step and pipeline lanes, G groups, share a cycle: one prompt stretches it for all, and several in the same
cycle stretch it together. With x prompts per cycle a prompt therefore costs `t_p max(1/G, (1 - exp(-x))/x)`: its share
of the cycles in which there is one (Poisson), and no less than an even share. With prefix caching only the share of a
prompt counts that no earlier one began with, as if the cache were endless. These figures only rank plans; everything
reported for promoted plans is simulated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sim.core import Array
from sim.plans import EngineSpec, ResolvedPlan
from sim.results import SloSpec
from sim.scenario import Assembled, PlanRunner, native_rate

_POINTS = 32
_SHARE_ROUNDS = 3
_WINDOW_S = 60.0
"""Width of the window over which the arrival rate around a request is taken: longer than a queue lasts that drains."""
_TAIL_99 = float(np.log(100.0))
_STAND_INS = {
    "engine_ttft_s": "ttft_s",
    "queueing_s": "ttft_s",
    "normalised_latency_s_per_token": "tpot_s",
    "total_tokens_per_s_per_gpu": "output_tokens_per_s_per_gpu",
    "mfu_frac": "output_tokens_per_s_per_gpu",
    "goodput_requests_per_s": "sustained_requests_per_s",
    "slo_attainment_frac": "sustained_requests_per_s",
    "usd_per_hour": "n_gpus",
    "gpu_hours": "n_gpus",
}
"""Metrics that are not estimated, and the estimate that ranks plans as they would."""

SPREAD = (("sustained_requests_per_s", True), ("tpot_s", False), ("n_gpus", False))
"""Estimates, with whether larger is better, that tell plans apart where an objective has none of its own."""


@dataclass(frozen=True)
class TrafficMoments:
    """What the screen needs of the traffic.

    Attributes:
        rate_per_s: Mean arrival rate [1/s].
        burst: Arrival rate around the busiest requests that the SLO allows to miss it, over the mean rate.
        prompt: Mean prompt [tokens].
        prompt_squared: Mean squared prompt.
        prompt_p99: Long prompt [tokens].
        output: Mean output [tokens].
        context: Mean keys that a decode step attends to [tokens].
        computed_frac: Share of the prompts that no earlier prompt began with.
    """

    rate_per_s: float
    burst: float
    prompt: float
    prompt_squared: float
    prompt_p99: float
    output: float
    context: float
    computed_frac: float = 1.0

    @classmethod
    def of(cls, things: Assembled, *, attainment: float) -> TrafficMoments:
        """Moments of the scenario's requests; `attainment` is the share that must keep the SLO."""
        prompt = things.requests.input_tokens.astype(np.float64)
        output = things.requests.output_tokens.astype(np.float64)
        steps = np.maximum(output, 1.0)
        blocks = things.requests.blocks
        shared = None if blocks is None else blocks.prefix_share()
        return cls(
            rate := native_rate(things.requests.arrival_s),
            _burst(things.requests.arrival_s, rate, attainment),
            float(prompt.mean()),
            float((prompt**2).mean()),
            float(np.quantile(prompt, 0.99)),
            float(output.mean()),
            float(((prompt + output / 2) * steps).sum() / steps.sum()),
            1.0 - (shared or 0.0),
        )


def _burst(arrival_s: Array, rate: float, quantile: float) -> float:
    """Quantile over requests of the arrival rate around them, over the mean rate; at least 1."""
    span = float(arrival_s[-1] - arrival_s[0])
    if span < 2.0 * _WINDOW_S:
        return 1.0
    low = np.searchsorted(arrival_s, arrival_s - _WINDOW_S / 2.0)
    high = np.searchsorted(arrival_s, arrival_s + _WINDOW_S / 2.0)
    around = (high - low) / (
        np.minimum(arrival_s + _WINDOW_S / 2.0, arrival_s[-1]) - np.maximum(arrival_s - _WINDOW_S / 2.0, arrival_s[0])
    )
    return max(1.0, float(np.quantile(around, quantile)) / rate)


def screen(
    plans: Sequence[ResolvedPlan], things: Assembled, *, runner: PlanRunner, slo: SloSpec | None
) -> pd.DataFrame:
    """Estimated metrics of every plan, one row each, in the order given; columns are metric paths.

    Args:
        plans: Feasible plans.
        things: The scenario's model, cluster and traffic.
        runner: Gives the compiled cost of each plan shape.
        slo: Limits for the sustainable rate; None takes capacity.
    """
    moments = TrafficMoments.of(things, attainment=slo.attainment if slo is not None else 1.0)
    by_shape: dict[object, list[int]] = {}
    for index, plan in enumerate(plans):
        by_shape.setdefault(plan.shape_key, []).append(index)
    columns: dict[str, Array] = {}
    for members in by_shape.values():
        part = _screen_shape([plans[i] for i in members], things, runner, moments, slo)
        for name, values in part.items():
            columns.setdefault(name, np.full(len(plans), np.nan))[members] = values
    return pd.DataFrame(columns)


def _screen_shape(
    plans: Sequence[ResolvedPlan], things: Assembled, runner: PlanRunner, moments: TrafficMoments, slo: SloSpec | None
) -> Mapping[str, Array]:
    """The estimates for plans that differ only in replicas and limits: one set of cost curves, one 2-D solve."""
    curves = runner.steady(plans[0], context=moments.context)
    groups = plans[0].dp * plans[0].pp
    replicas = np.array([float(p.replicas) for p in plans])
    gpus = np.array([float(p.n_gpus) for p in plans])
    slots = np.array([float(p.max_num_seqs * p.dp) for p in plans])
    fitting = np.array([p.kv_blocks * p.dp / p.kv_layout.mean_blocks(moments.context) for p in plans])
    budget = np.array([float(p.max_num_batched_tokens) for p in plans])
    most = np.maximum(1.0, np.minimum(slots, fitting))
    batch = np.exp(np.linspace(0.0, 1.0, _POINTS)[None, :] * np.log(most)[:, None])
    decode_s = curves.decode_s(batch / groups)
    computed = moments.computed_frac if plans[0].prefix_caching else 1.0
    alone_prompt_s = curves.prompt_s(moments.prompt * computed, budget)[:, None]
    chunks = np.maximum(1.0, moments.prompt * computed / budget)[:, None]
    steps = max(moments.output - 1.0, 1.0)
    share = np.full_like(batch, 1.0 / groups)
    for _ in range(_SHARE_ROUNDS if groups > 1 else 1):
        prompt_s = alone_prompt_s * share
        rate = batch / (steps * decode_s + batch * prompt_s)
        token_s = decode_s + batch * prompt_s / steps
        per_cycle = rate * token_s * chunks
        share = np.maximum(1.0 / groups, -np.expm1(-per_cycle) / per_cycle)
    load = np.minimum(rate * prompt_s, 0.999)
    spread = moments.prompt_squared / moments.prompt**2
    wait_s = load * prompt_s * spread / (2 * (1 - load))

    def first_token_s(prompt: float, waits: float) -> Array:
        """Time to the first token of a prompt [tokens] that waits so many mean waits."""
        alone_s = _frontend_s(things.engine, prompt) + curves.alone_s(prompt * computed, budget)[:, None]
        return np.asarray(alone_s + token_s + waits * wait_s)

    ttft_s = first_token_s(moments.prompt_p99, _TAIL_99)
    limits = slo.limits_s if slo is not None else {}
    kept = (token_s <= limits.get("tpot_s", np.inf)) & (ttft_s <= limits.get("ttft_s", np.inf))
    kept &= ttft_s + steps * token_s <= limits.get("e2e_s", np.inf)
    sustained = np.where(kept, rate, 0.0).max(axis=1) / moments.burst

    offered = moments.rate_per_s / replicas
    # A batch that needs the next larger graph may be slower than one before.
    rising = np.maximum.accumulate(rate, axis=1)
    at = np.array([np.interp(want, row, np.arange(_POINTS)) for want, row in zip(offered, rising, strict=True)])
    overload = np.maximum(1.0, offered / rate[:, -1])

    def now(values: Array) -> Array:
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, _POINTS - 1)
        rows = np.arange(len(plans))
        values = np.broadcast_to(values, batch.shape)
        return np.asarray(values[rows, low] + (at - low) * (values[rows, high] - values[rows, low]))

    token_now = now(token_s) * overload
    ttft_now = now(first_token_s(moments.prompt, 1.0)) * overload**4
    served = np.minimum(offered, rate[:, -1]) * replicas
    tokens_per_s = served * moments.output
    busy = np.minimum(1.0, served / replicas * (moments.output * now(decode_s) / now(batch) + now(prompt_s)))
    watts = curves.idle_w + (curves.busy_w - curves.idle_w) * busy
    price = things.cluster.usd_per_device_hour
    return {
        "goodput_max_requests_per_s_per_gpu": sustained * replicas / gpus,
        "requests_per_s": served,
        "output_tokens_per_s": tokens_per_s,
        "output_tokens_per_s_per_gpu": tokens_per_s / gpus,
        "ttft_s": ttft_now,
        "tpot_s": token_now,
        "itl_s": token_now,
        "e2e_s": ttft_now + steps * token_now,
        "n_gpus": gpus,
        "energy_j_per_output_token": watts * gpus / tokens_per_s,
        "cost_usd_per_million_output_tokens": np.full(len(plans), np.nan)
        if price is None
        else price * gpus / 3600.0 / tokens_per_s * 1e6,
        "interactivity_tokens_per_s_per_user": 1.0 / token_now,
        "capacity_requests_per_s": rate[:, -1] * replicas,
        "sustained_requests_per_s": sustained * replicas,
    }


def _frontend_s(engine: EngineSpec, prompt: float) -> float:
    """Time [s] of a prompt [tokens] in the front end, alone."""
    return engine.frontend_s.value + engine.frontend_request_s.value + engine.frontend_token_s.value * prompt


def proxy(path: str, screened: pd.DataFrame) -> Array | None:
    """The screen's column that ranks the metric `path`, any percentile of a latency by its estimate; None if none."""
    head = path.partition(".")[0]
    for name in (path, head, _STAND_INS.get(head)):
        if name in screened:
            return screened[name].to_numpy(dtype=np.float64)
    return None
