"""guidellm's `benchmarks.json` of version 2: several benchmarks, one a load; only successful requests count.

Times are in ms but for `request_latency`, in s. `time_per_output_token_ms` includes the first token and is not TPOT.
`inter_token_latency_ms` is one value a request, weighted by its gaps: its mean is the mean ITL, its percentiles are of
neither kind. Where all requests are listed, TPOT is worked out from their own times, and they are simulated one by one.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from sim.validation.benchmarks.base import (
    BENCHMARKS,
    FROM_SEND,
    PER_REQUEST_BY_GAPS,
    WITH_FIRST,
    BenchmarkFormat,
    BenchmarkRun,
    Figure,
    Load,
    latency_paths,
    load_of,
    taken,
)
from sim.validation.benchmarks.record import BenchmarkFile, Record
from sim.validation.benchmarks.requests import RequestTimes, law_of_summary

VERSION: Final = 2
_MS: Final = (
    Figure("time_to_first_token_ms", "ttft_s", FROM_SEND),
    Figure("inter_token_latency_ms", "itl_s", PER_REQUEST_BY_GAPS),
    Figure("time_per_output_token_ms", "tpot_s", WITH_FIRST),
)
_S: Final = (Figure("request_latency", "e2e_s", FROM_SEND),)
_NAMES: Final = {"mean": "mean", **{stat: f"percentiles.{stat}" for stat in ("p50", "p90", "p95", "p99")}}
_GOOD: Final = "metrics.{name}.successful.{stat}"
_LEVELS: Final = {1: "p01", 5: "p05", 10: "p10", 25: "p25", 50: "p50", 75: "p75", 90: "p90", 95: "p95", 99: "p99"}


@BENCHMARKS.register("guidellm")
class Guidellm(BenchmarkFormat):
    """guidellm's benchmarks.json, version 2."""

    assumptions = ("lengths follow the recorded quantiles, unless all requests are listed",)

    @staticmethod
    def sniff(first: Record) -> bool:
        """Told by its list of benchmarks, whatever the version."""
        return isinstance(first.get("benchmarks"), list) and (first.get("metadata") or first.get("args")) is not None

    @staticmethod
    def read(file: BenchmarkFile) -> list[BenchmarkRun]:
        """One run per benchmark.

        Raises:
            InputError: if it is a report of another version.
        """
        report = file.records[0]
        version = report.number("metadata.version")
        if version != VERSION:
            raise report.error(
                "reports of this version have another shape",
                "metadata.version",
                value=version,
                allowed=str(VERSION),
                hint="write it again with a newer guidellm",
            )
        return [_run(record, file.path.name) for record in report.inside_all("benchmarks")]


def _run(record: Record, name: str) -> BenchmarkRun:
    measured, refused = taken(
        record,
        [
            *latency_paths(_MS, _GOOD, names=_NAMES, factor=1e-3),
            *latency_paths(_S, _GOOD, names=_NAMES, factor=1.0),
        ],
    )
    times = _times(record)
    if times is not None:
        own = times.metrics()
        measured |= {path: value for path, value in own.items() if path.startswith("tpot_s")}
        refused = ()
    table, e2e_s = (None, None) if times is None else times.table(name)
    load = _load(record, replayed=times is not None)
    count = record.count("metrics.request_totals.successful")
    return BenchmarkRun(
        record,
        measured,
        refused,
        concurrency=load.concurrency,
        rate=load.rate,
        arrivals={"kind": "constant" if _strategy(record) == "constant" else "poisson"},
        requests=count,
        input_law=_law(record, "prompt"),
        output_law=_law(record, "output"),
        lengths="as measured" if table is not None else "quantiles",
        table=table,
        e2e_s=e2e_s,
        replayed=table is not None and load.rate is not None,
        duration_s=record.number("duration"),
        reason=load.reason,
    )


def _strategy(record: Record) -> str:
    return record.text("config.strategy.type_")


def _load(record: Record, *, replayed: bool) -> Load:
    kind = _strategy(record)
    if kind == "synchronous":
        return Load(concurrency=1)
    if kind == "concurrent":
        return Load(concurrency=record.count("config.strategy.streams"))
    limit = record.count("config.strategy.max_concurrency")
    if kind == "throughput":
        return Load(concurrency=limit)
    return load_of(rate=record.number("config.strategy.rate"), concurrency=limit, everything=None, replayed=replayed)


def _law(record: Record, side: str) -> dict[str, object] | None:
    at = f"metrics.{side}_token_count.successful"
    points = {
        level: value
        for level, key in _LEVELS.items()
        if (value := record.number(f"{at}.percentiles.{key}")) is not None
    }
    if len(points) < 2:
        return None
    return law_of_summary(record.number(f"{at}.min"), record.number(f"{at}.max"), points)


def _times(record: Record) -> RequestTimes | None:
    """The successful requests, if all of them are listed and none was lost."""
    totals = record.get("metrics.request_totals") or {}
    listed = record.inside_all("requests.successful") if record.get("requests") is not None else []
    whole = len(listed) == totals.get("successful") and not totals.get("incomplete") and not totals.get("errored")
    if not listed or not whole:
        return None
    columns = [
        [one.number(key) for one in listed]
        for key in (
            "prompt_tokens",
            "output_tokens",
            "info.timings.request_start",
            "info.timings.first_token_iteration",
            "info.timings.last_token_iteration",
        )
    ]
    if any(value is None for column in columns for value in column):
        return None
    prompts, outputs, sent_s, first_s, last_s = (np.array(column, dtype=np.float64) for column in columns)
    return RequestTimes(prompts, outputs, first_s - sent_s, last_s - sent_s, sent_s - sent_s.min())
