"""aiperf and GenAI-Perf summaries (`profile_export_aiperf.json`): per metric its unit, mean and percentiles.

Their `inter_token_latency` is one value a request, (latency - first token) / (tokens - 1): plansim's TPOT, not its ITL.
Lengths are the recorded quantiles of both sides, drawn independently.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from sim.validation.benchmarks.base import (
    BENCHMARKS,
    FROM_SEND,
    PER_GAP,
    PER_REQUEST,
    SECONDS,
    WHOLE_RUN,
    BenchmarkFormat,
    BenchmarkRun,
    Figure,
    load_of,
    taken,
)
from sim.validation.benchmarks.record import BenchmarkFile, Record
from sim.validation.benchmarks.requests import law_of_summary

_NAMES: Final = {"mean": "avg", "p50": "p50", "p90": "p90", "p95": "p95", "p99": "p99"}
_LATENCIES: Final = (
    Figure("time_to_first_token", "ttft_s", FROM_SEND),
    Figure("request_latency", "e2e_s", FROM_SEND),
    Figure("inter_token_latency", "tpot_s", PER_REQUEST),
    Figure("inter_chunk_latency", "itl_s", PER_GAP),
)
_RATES: Final = (
    Figure("request_throughput", "requests_per_s", WHOLE_RUN),
    Figure("output_token_throughput", "output_tokens_per_s", WHOLE_RUN),
)
_PER_SECOND: Final = {"tokens/sec": 1.0, "tokens/s": 1.0, "requests/sec": 1.0, "requests/s": 1.0}
_PLACES: Final = ("input_config.loadgen", "input_config.perf_analyzer.stimulus", "input_config")
_LEVELS: Final = (1, 5, 10, 25, 50, 75, 90, 95, 99)


@BENCHMARKS.register("aiperf")
class Aiperf(BenchmarkFormat):
    """aiperf's or GenAI-Perf's profile_export_aiperf.json: means and percentiles with their units."""

    assumptions = ("lengths follow the recorded quantiles of prompts and outputs, independently",)

    @staticmethod
    def sniff(first: Record) -> bool:
        """Told by metrics that carry a unit."""
        return all(first.get(f"{name}.unit") is not None for name in ("request_latency", "request_throughput"))

    @staticmethod
    def read(file: BenchmarkFile) -> list[BenchmarkRun]:
        """The one run of the file."""
        return [_run(record) for record in file.records]


def _run(record: Record) -> BenchmarkRun:
    measured, refused = taken(record, _paths(record))
    count = record.number("request_count.avg")
    rate, concurrency = (_setting(record, key) for key in ("request_rate", "concurrency"))
    load = load_of(
        rate=rate, concurrency=None if concurrency is None else int(concurrency), everything=None, replayed=False
    )
    laws = [_law(record, side) for side in ("input", "output")]
    return BenchmarkRun(
        record,
        measured,
        refused,
        model=_model(record),
        concurrency=load.concurrency,
        rate=load.rate,
        requests=None if count is None else int(count),
        input_law=laws[0],
        output_law=laws[1],
        lengths="quantiles" if None not in laws else "",
        duration_s=_duration_s(record),
        reason=load.reason,
    )


def _paths(record: Record) -> Iterator[tuple[Figure, str, str, float]]:
    for figures, units in ((_LATENCIES, SECONDS), (_RATES, _PER_SECOND)):
        for figure in figures:
            if record.get(figure.name) is not None:
                factor = unit_factor(record.inside(figure.name), units)
                for stat, name in _NAMES.items() if units is SECONDS else (("mean", "avg"),):
                    yield figure, stat, f"{figure.name}.{name}", factor


def unit_factor(metric: Record, units: Mapping[str, float]) -> float:
    """From the unit that a metric names to SI.

    Raises:
        InputError: if it names none of `units`.
    """
    unit = metric.text("unit")
    if unit not in units:
        raise metric.error("the unit does not fit", "unit", value=unit, allowed=[*units])
    return units[unit]


def _setting(record: Record, key: str) -> float | None:
    return next((value for at in _PLACES if (value := record.number(f"{at}.{key}")) is not None), None)


def _model(record: Record) -> str:
    for path in ("input_config.endpoint.model_names", "input_config.model_names", "input_config.model"):
        found = record.get(path)
        if isinstance(found, list) and len(found) == 1 and isinstance(found[0], str):
            return found[0]
    return ""


def _law(record: Record, side: str) -> dict[str, object] | None:
    name = f"{side}_sequence_length"
    percentiles = {level: value for level in _LEVELS if (value := record.number(f"{name}.p{level}")) is not None}
    if len(percentiles) < 2:
        return None
    return law_of_summary(record.number(f"{name}.min"), record.number(f"{name}.max"), percentiles)


def _duration_s(record: Record) -> float | None:
    length = record.number("benchmark_duration.avg")
    return None if length is None else length * unit_factor(record.inside("benchmark_duration"), SECONDS)
