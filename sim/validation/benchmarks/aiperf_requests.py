"""aiperf's `profile_export.jsonl`: one request a line with its real times, the best source there is.

Requests of other phases than `profiling`, cancelled and failed ones are left out. The file does not say how the load
was made: with `workload.concurrency` in the scenario it is a closed loop with the real lengths, else requests are sent
when they were. Turns of a conversation are sent as recorded, each with its whole prompt; shared prefixes are computed
again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from sim.core import InputError
from sim.validation.benchmarks.aiperf import unit_factor
from sim.validation.benchmarks.base import BENCHMARKS, SECONDS, BenchmarkFormat, BenchmarkRun
from sim.validation.benchmarks.record import BenchmarkFile, Record
from sim.validation.benchmarks.requests import RequestTimes

_TOKENS: Final = {"tokens": 1.0, "token": 1.0}
_NEEDED: Final[Mapping[str, Mapping[str, float]]] = {
    "input_sequence_length": _TOKENS,
    "output_sequence_length": _TOKENS,
    "time_to_first_token": SECONDS,
    "request_latency": SECONDS,
}


@BENCHMARKS.register("aiperf_requests")
class AiperfRequests(BenchmarkFormat):
    """aiperf's profile_export.jsonl: every request with its real times."""

    assumptions = (
        "a closed loop where the scenario gives a concurrency, else requests are sent when they really were",
        "shared prefixes of conversations are computed again",
    )

    @staticmethod
    def sniff(first: Record) -> bool:
        """Told by the times and metrics of a request."""
        return first.get("metadata.request_start_ns") is not None and first.get("metrics") is not None

    @staticmethod
    def read(file: BenchmarkFile) -> list[BenchmarkRun]:
        """One run: all requests of the profiling phase."""
        kept = [record for record in file.records if _counts(record)]
        if not kept:
            raise InputError("no request of the profiling phase ended well", file=str(file.path))
        columns = {name: np.array([_value(record, name) for record in kept]) for name in _NEEDED}
        start_ns = np.array([record.number("metadata.request_start_ns") for record in kept], dtype=np.float64)
        times = RequestTimes(
            input_tokens=columns["input_sequence_length"],
            output_tokens=columns["output_sequence_length"],
            ttft_s=columns["time_to_first_token"],
            e2e_s=columns["request_latency"],
            sent_s=(start_ns - start_ns.min()) * 1e-9,
        )
        table, e2e_s = times.table(file.path.name)
        duration_s = times.duration_s or 0.0
        rates = {
            "requests_per_s": len(kept) / duration_s,
            "output_tokens_per_s": float(times.output_tokens.sum()) / duration_s,
        }
        return [
            BenchmarkRun(
                kept[0],
                {**times.metrics(), **rates},
                requests=len(kept),
                lengths="as measured",
                table=table,
                e2e_s=e2e_s,
                replayed=True,
                duration_s=duration_s,
            )
        ]


def _counts(record: Record) -> bool:
    measured = record.text("metadata.benchmark_phase") in ("", "profiling")
    return measured and record.get("error") is None and record.get("metadata.was_cancelled") is not True


def _value(record: Record, name: str) -> float:
    """A metric of a request in SI units.

    Raises:
        InputError: if it is missing, below zero or in an unknown unit.
    """
    value = record.number(f"metrics.{name}.value")
    if value is None or value <= 0:
        raise record.error("expected a number above zero", f"metrics.{name}.value", value=value)
    return value * unit_factor(record.inside(f"metrics.{name}"), _NEEDED[name])
