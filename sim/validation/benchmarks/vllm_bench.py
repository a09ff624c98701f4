"""`vllm bench serve --save-result`: one JSON object, or one a line with `--append-result`; times in ms.

With `--save-detailed` there are arrays of lengths, first-token times, gaps and send times of every request, in seconds;
then the real requests are simulated: as sent, or in a closed loop with the real lengths. Without them only the totals
of tokens are known, and all requests are taken as of mean length. An infinite rate without a limit sends all at once.
"""

from __future__ import annotations

import numpy as np

from sim.core import Array
from sim.validation.benchmarks.base import (
    BENCHMARKS,
    FROM_SEND,
    PER_GAP,
    PER_REQUEST,
    WHOLE_RUN,
    BenchmarkFormat,
    BenchmarkRun,
    Figure,
    latency_paths,
    load_of,
    taken,
)
from sim.validation.benchmarks.record import BenchmarkFile, Record
from sim.validation.benchmarks.requests import RequestTimes
from sim.validation.formats.base import exactly

_KEYS = frozenset({"model_id", "num_prompts", "request_rate", "total_output_tokens", "request_throughput"})
_NAMES = {"mean": "mean", "p50": "median", "p90": "p90", "p95": "p95", "p99": "p99"}
_LATENCIES = (
    Figure("ttft", "ttft_s", FROM_SEND),
    Figure("tpot", "tpot_s", PER_REQUEST),
    Figure("itl", "itl_s", PER_GAP),
    Figure("e2el", "e2e_s", FROM_SEND),
)
_RATES = (
    (Figure("request_throughput", "requests_per_s", WHOLE_RUN), "mean", "request_throughput", 1.0),
    (Figure("output_throughput", "output_tokens_per_s", WHOLE_RUN), "mean", "output_throughput", 1.0),
)


@BENCHMARKS.register("vllm_bench")
class VllmBench(BenchmarkFormat):
    """`vllm bench serve --save-result`, also with --append-result and --save-detailed."""

    assumptions = ("without --save-detailed all requests are of mean length",)

    @staticmethod
    def sniff(first: Record) -> bool:
        """Told by its keys."""
        return set(first.data) >= _KEYS

    @staticmethod
    def read(file: BenchmarkFile) -> list[BenchmarkRun]:
        """One run per object."""
        return [_run(record, file.path.name) for record in file.records]


def _run(record: Record, name: str) -> BenchmarkRun:
    paths = latency_paths(_LATENCIES, "{stat}_{name}_ms", names=_NAMES, factor=1e-3)
    measured, refused = taken(record, [*paths, *_RATES])
    done = record.count("completed")
    if done is None:
        raise record.error("no request was completed", "completed")
    times = _times(record)
    table, e2e_s = (None, None) if times is None else times.table(name)
    replayed = times is not None and times.sent_s is not None
    rate = float("inf") if record.get("request_rate") in ("inf", None) else record.number("request_rate")
    load = load_of(
        rate=rate,
        concurrency=record.count("max_concurrency"),
        everything=record.count("num_prompts"),
        replayed=replayed,
    )
    shape = record.number("burstiness") or 1.0
    return BenchmarkRun(
        record,
        measured,
        refused,
        model=record.text("model_id"),
        concurrency=load.concurrency,
        rate=load.rate,
        arrivals={"kind": "poisson"} if shape == 1.0 else {"kind": "gamma", "cv": shape**-0.5},
        requests=done,
        input_law=_mean_length(record, "total_input_tokens", done),
        output_law=_mean_length(record, "total_output_tokens", done),
        lengths="as measured" if table is not None else "mean only",
        table=table,
        e2e_s=e2e_s,
        replayed=replayed and load.rate is not None,
        duration_s=record.number("duration"),
        reason=_reason(record, replayed=replayed) or load.reason,
    )


def _reason(record: Record, *, replayed: bool) -> str:
    if any(key.startswith("spec_decode") for key in record.data):
        return "runs with speculative decoding are not compared"
    if record.text("ramp_up_strategy") and not replayed:
        return "a rate that ramps up is simulated only where send times are known"
    return ""


def _mean_length(record: Record, key: str, count: int) -> dict[str, object]:
    total = record.number(key)
    if not total:
        raise record.error("the number of tokens is missing", key)
    return exactly(total / count)


def _times(record: Record) -> RequestTimes | None:
    """The requests that ended well, where the file has them one by one."""
    prompts, outputs, first_s = (record.numbers(key) for key in ("input_lens", "output_lens", "ttfts"))
    gaps = record.get("itls")
    if prompts is None or outputs is None or first_s is None or not isinstance(gaps, list):
        return None
    sent_s = record.numbers("start_times")
    lists = [prompts, outputs, first_s, gaps, *([] if sent_s is None else [sent_s])]
    if len({len(one) for one in lists}) != 1:
        raise record.error("the arrays of requests are of different lengths", "itls")
    after_s = np.array([float(sum(one)) for one in gaps])
    good = (np.asarray(outputs) > 0) & (np.asarray(prompts) > 0) & (np.asarray(first_s) > 0)

    def kept(values: list[float] | Array) -> Array:
        return np.asarray(values, dtype=np.float64)[good]

    return RequestTimes(
        input_tokens=kept(prompts),
        output_tokens=kept(outputs),
        ttft_s=kept(first_s),
        e2e_s=kept(np.asarray(first_s) + after_s),
        sent_s=None if sent_s is None else kept(sent_s),
    )
