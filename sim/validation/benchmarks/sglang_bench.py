"""SGLang's `bench_serving`: one JSON object a line, appended run by run; times in ms.

`random_range_ratio` r of its random data means lengths uniform in [r n, n], unlike vLLM's, which spreads around n. It
is used where it agrees with the recorded totals; else, and for other data, all requests are taken as of mean length.
With `--output-details` there are the lengths of every request, but not when each was sent.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

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
from sim.validation.benchmarks.requests import quantile_law
from sim.validation.formats.base import exactly

_KEYS: Final = frozenset({"backend", "completed", "total_output_tokens", "mean_e2e_latency_ms"})
_NAMES: Final = {"mean": "mean", "p50": "median", "p90": "p90", "p95": "p95", "p99": "p99"}
_LATENCIES: Final = (
    Figure("ttft", "ttft_s", FROM_SEND),
    Figure("tpot", "tpot_s", PER_REQUEST),
    Figure("itl", "itl_s", PER_GAP),
    Figure("e2e_latency", "e2e_s", FROM_SEND),
)
_RATES: Final = (
    (Figure("request_throughput", "requests_per_s", WHOLE_RUN), "mean", "request_throughput", 1.0),
    (Figure("output_throughput", "output_tokens_per_s", WHOLE_RUN), "mean", "output_throughput", 1.0),
)
_FAMILIES: Final = {"sglang": "sglang", "vllm": "vllm", "trt": "trtllm"}
_AGREES: Final = 0.1
"""How far the recorded mean length may be from that of the law, beside sampling: chat template, early ends."""


@BENCHMARKS.register("sglang_bench")
class SglangBench(BenchmarkFormat):
    """SGLang's bench_serving: JSON lines, also with --output-details."""

    assumptions = (
        "lengths are uniform in [random_range_ratio x n, n] where that fits the totals, else all of mean length",
    )

    @staticmethod
    def sniff(first: Record) -> bool:
        """Told by its keys."""
        return set(first.data) >= _KEYS

    @staticmethod
    def read(file: BenchmarkFile) -> list[BenchmarkRun]:
        """One run per line."""
        return [_run(record) for record in file.records]


def _run(record: Record) -> BenchmarkRun:
    paths = latency_paths(_LATENCIES, "{stat}_{name}_ms", names=_NAMES, factor=1e-3)
    measured, refused = taken(record, [*paths, *_RATES])
    done = record.count("completed")
    if done is None:
        raise record.error("no request was completed", "completed")
    rate = float("inf") if record.get("request_rate") in ("inf", None) else record.number("request_rate")
    load = load_of(rate=rate, concurrency=record.count("max_concurrency"), everything=done, replayed=False)
    accepted = record.number("accept_length")
    laws = [_law(record, side, done) for side in ("input", "output")]
    return BenchmarkRun(
        record,
        measured,
        refused,
        engine_family=_FAMILIES.get(record.text("backend").partition("-")[0], ""),
        concurrency=load.concurrency,
        rate=load.rate,
        requests=done,
        input_law=laws[0][0],
        output_law=laws[1][0],
        lengths=" and ".join(dict.fromkeys(how for _, how in laws)),
        duration_s=record.number("duration"),
        reason="runs with speculative decoding are not compared"
        if accepted is not None and accepted > 1.0
        else load.reason,
    )


def _law(record: Record, side: str, count: int) -> tuple[dict[str, Any], str]:
    """The law of prompt or output lengths, and where it comes from."""
    each = record.numbers(f"{side}_lens")
    if each is not None:
        return quantile_law(np.array([tokens for tokens in each if tokens > 0])), "as measured"
    total = record.number(f"total_{side}_tokens")
    if not total:
        raise record.error("the number of tokens is missing", f"total_{side}_tokens")
    longest, ratio = record.count(f"random_{side}_len"), record.number("random_range_ratio")
    if longest is not None and ratio is not None and record.text("dataset_name").startswith("random"):
        least = max(1, round(ratio * longest))
        mean = 0.5 * (least + longest)
        sampling = 3.0 * (longest - least) / (12.0 * count) ** 0.5
        if abs(total / count - mean) <= _AGREES * mean + sampling:
            return {"kind": "uniform", "min": least, "max": longest}, "random_range_ratio"
    return exactly(total / count), "mean only"
