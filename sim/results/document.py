"""The text of `docs/metrics.md`, made from the table of metrics so that it cannot go stale."""

from __future__ import annotations

from sim.results.compute import REQUEST_COLUMNS
from sim.results.metrics import METRICS, Metric

_INTRODUCTION = """\
# Metrics

Generated from `sim/results/metrics.py`; a test keeps it fresh. To write it again:
`python -c "from sim.results import metrics_markdown; print(metrics_markdown(), end='')" > docs/metrics.md`

Every name below is a key of `metrics` in the JSON and a column of the tables; numbers are in SI units. Latencies
have `mean`, `p50`, `p90`, `p95` and `p99`, written `ttft_s.p99`; without a suffix the mean is meant. Percentiles
interpolate linearly between neighbouring samples. A number that is undefined (no sample, no price, no SLO) is null,
never zero or NaN.

An objective of a search is any of these paths or a short name. The arrow says which way is better; a leading `+`
maximises and a leading `-` minimises instead.

## Clocks and tokens

- A request *arrives* when the client sends it. The engine receives it when the front end is done with it: a time that
  all requests spend side by side, and work that it does for one after the other (see the engine profile).
- Tokens are the client's when the front end has sent them. Where the engine profile says how long it takes to send one
  (`stream_token_s`), an engine may run ahead of it: first tokens and the ends of requests then come later than the
  iterations that made them. Percentiles of the ITL and what replicas record are times of iterations.
- The first output token ends the prompt's processing; the others follow one by one. A request with n output tokens
  has n - 1 gaps.
- E2E = TTFT + the sum of its gaps, and TPOT = (E2E - TTFT) / (n - 1) is their mean. Over many requests the mean ITL
  equals the mean TPOT only if requests are weighted by their gaps.
- The *measured time* is the duration of the run, less the warm-up where the scenario asks for one.
- A request counts into exactly one of finished, running, queued, rejected and failed. A run in which requests,
  tokens or seconds do not add up is an error, not a result.

## SLO and goodput

`slo: {ttft: 2 s, tpot: 50 ms, attainment: 0.99}`: a request satisfies the SLO if it finished and all limits hold
for it. The SLO is attained if that is true of at least the share `attainment` (0.9 unless said) of all requests
that arrived. `slo: {ttft_p99: 2 s}` is short for that limit at attainment 0.99.

Two things are called goodput in the literature. `goodput_requests_per_s` counts requests within the SLO per second
at the load of the run. `goodput_max_requests_per_s_per_gpu` is the highest load at which the SLO is still attained.
"""

_BREAKDOWN = """\
## Breakdown

`breakdown.parts` counts exposed seconds by cause: those on the critical path of an iteration, summed over replicas,
and `idle`, when a replica has no work. They sum to `breakdown.explains_s`, duration times replicas. What overlaps
with other work and so costs nothing is listed apart in `breakdown.hidden`.

## Intervals

`intervals` has the shape of `metrics`. An interval is where a repeat of the measurement on real hardware would
fall, 90 % of the time; null where it is not known. The `difference` of a comparison has the interval of the mean
over paired runs.

## Request table

`requests.parquet` has one row per request that arrived:

"""


def metrics_markdown() -> str:
    """The text of `docs/metrics.md`."""
    parts = [
        _INTRODUCTION,
        "## Every metric\n",
        *(_section(metric) for metric in METRICS.values()),
        _BREAKDOWN.rstrip(),
    ]
    columns = [f"| `{name}` | {unit or '–'} |" for name, unit in REQUEST_COLUMNS.items()]
    table = "\n".join(["| column | unit |", "|---|---|", *columns])
    closing = (
        "`output_tokens` is what was asked for, `emitted_tokens` what came. `first_scheduled_s`, `first_token_s` and "
        "`finish_s` are times since zero, the other seconds are durations; what did not happen is NaN."
    )
    return "\n".join([*parts, "", table, "", closing, ""])


def _section(metric: Metric) -> str:
    arrow = {"min": "↓ smaller is better", "max": "↑ larger is better", None: ""}[metric.direction]
    short = f"also `{'`, `'.join(metric.short)}`" if metric.short else ""
    unit = {"1": "a share of one", "": "a count"}.get(metric.unit, metric.unit)
    facts = "; ".join(part for part in (f"{metric.title}, {unit}", arrow, short) if part)
    return f"### `{metric.name}`\n\n{facts}.\n\n{metric.definition}\n"
