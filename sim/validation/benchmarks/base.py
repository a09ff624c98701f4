"""What an importer of a benchmark tool returns, the registry of them, and what the metrics they fill mean.

Tools use the same word for different things. So an importer says of each figure how the tool defines it (`Figure`), and
only a figure that is defined as plansim's metric becomes a measured value; the rest is named as not compared.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, Final

from sim.core import Array, Registry
from sim.validation.benchmarks.record import BenchmarkFile, Record
from sim.workloads import RequestTable

FROM_SEND: Final = "from the client's send, one value a request"
PER_REQUEST: Final = "(last token - first token) / (output tokens - 1), one value a request"
PER_GAP: Final = "time between neighbouring tokens, one value a gap"
WITH_FIRST: Final = "latency / output tokens, the first token included"
PER_REQUEST_BY_GAPS: Final = (
    "means of requests weighted by their gaps: its mean is that of all gaps, its percentiles are not"
)
WHOLE_RUN: Final = "over the whole run"

DEFINITIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "ttft_s": FROM_SEND,
        "e2e_s": FROM_SEND,
        "tpot_s": PER_REQUEST,
        "itl_s": PER_GAP,
        "requests_per_s": WHOLE_RUN,
        "output_tokens_per_s": WHOLE_RUN,
    }
)
"""plansim's own definition of each metric that an importer may fill."""

SECONDS: Final[Mapping[str, float]] = MappingProxyType({"s": 1.0, "sec": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9})
STATISTICS: Final = ("mean", "p50", "p90", "p95", "p99")
_PLAUSIBLE_S: Final[Mapping[str, tuple[float, float]]] = MappingProxyType(
    {"ttft_s": (1e-4, 1e4), "e2e_s": (1e-4, 1e5), "tpot_s": (5e-5, 60.0), "itl_s": (5e-5, 60.0)}
)
"""Means outside point to a wrong unit: no engine makes 20,000 tokens a second for one user, or one in a minute."""

_LONGER_THAN_RUN: Final = 1.05


@dataclass(frozen=True)
class Figure:
    """A figure of a tool.

    Attributes:
        name: What the tool calls it.
        metric: The metric of plansim that it may stand for.
        definition: How the tool defines it: one of the texts above.
    """

    name: str
    metric: str
    definition: str

    def comparable(self, statistic: str) -> bool:
        """Whether a statistic of it is that of the metric; means of requests weighted by gaps are the mean gap."""
        if self.definition == PER_REQUEST_BY_GAPS:
            return self.metric == "itl_s" and statistic == "mean"
        return DEFINITIONS[self.metric] == self.definition


@dataclass(frozen=True)
class BenchmarkRun:
    """One run as its file tells it; None and empty where the file does not say.

    Attributes:
        record: Where it stands.
        measured: Values in SI units by metric path, such as `ttft_s.p99`.
        refused: Figures that are not defined as the metric of that name, with their definition.
        model: The model's name, as the tool was told.
        engine_family: Family of the engine that is named.
        engine_version: Its version.
        device: What the GPUs are called.
        precision: Number format that is named.
        plan: Degrees of parallelism, as in a scenario's plan.
        concurrency: Requests in flight of a closed loop.
        rate: Arrivals per second of an open loop.
        arrivals: Law of the gaps between those, as in a traffic file.
        requests: How many were measured.
        input_law: Law of prompt tokens, as in a traffic file.
        output_law: Law of output tokens.
        lengths: Where the lengths come from, in a word.
        table: The requests one by one.
        e2e_s: Their measured latencies [s], in the order of the table.
        replayed: Whether `table` has the times at which they were really sent.
        duration_s: Time of the run [s].
        reason: Why it cannot be simulated whatever its deployment.
    """

    record: Record
    measured: Mapping[str, float]
    refused: tuple[str, ...] = ()
    model: str = ""
    engine_family: str = ""
    engine_version: str = ""
    device: str = ""
    precision: str = ""
    plan: Mapping[str, int] = field(default_factory=dict)
    concurrency: int | None = None
    rate: float | None = None
    arrivals: Mapping[str, Any] = field(default_factory=lambda: {"kind": "poisson"})
    requests: int | None = None
    input_law: Mapping[str, Any] | None = None
    output_law: Mapping[str, Any] | None = None
    lengths: str = ""
    table: RequestTable | None = None
    e2e_s: Array | None = None
    replayed: bool = False
    duration_s: float | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        _check_units(self)


class BenchmarkFormat(ABC):
    """An importer of one kind of result file.

    Attributes:
        assumptions: What its files do not record and is assumed, one sentence each.
    """

    assumptions: ClassVar[tuple[str, ...]] = ()

    @staticmethod
    @abstractmethod
    def sniff(first: Record) -> bool:
        """Whether a file whose first object is `first` is of this kind."""

    @staticmethod
    @abstractmethod
    def read(file: BenchmarkFile) -> list[BenchmarkRun]:
        """The runs of the file.

        Raises:
            InputError: for a value that cannot be read or has an implausible unit.
        """


BENCHMARKS: Registry[type[BenchmarkFormat]] = Registry("benchmark", package="sim.validation.benchmarks")


def taken(
    record: Record, figures: Iterable[tuple[Figure, str, str, float]]
) -> tuple[dict[str, float], tuple[str, ...]]:
    """Measured values by metric path, and the figures that were left out as not comparable.

    Args:
        record: Where they stand.
        figures: For each a figure, the statistic, its path in the record and the factor to SI units.
    """
    values: dict[str, float] = {}
    refused: dict[str, None] = {}
    for figure, statistic, path, factor in figures:
        number = record.number(path)
        if number is None:
            continue
        if not figure.comparable(statistic):
            refused[f"{figure.name} is not {figure.metric}: {figure.definition}"] = None
        elif number >= 0:
            values[figure.metric if statistic == "mean" else f"{figure.metric}.{statistic}"] = number * factor
        else:
            raise record.error("a time or rate is never negative", path, value=number)
    return values, tuple(refused)


def latency_paths(
    figures: Sequence[Figure], pattern: str, *, names: Mapping[str, str], factor: float
) -> list[tuple[Figure, str, str, float]]:
    """All statistics of some figures for `taken`; `pattern` makes a path from `{stat}` and `{name}`.

    Args:
        figures: The figures.
        pattern: Such as `{stat}_{name}_ms`.
        names: What the tool calls each statistic; the keys are of `STATISTICS`.
        factor: From the tool's unit to seconds.
    """
    return [
        (figure, stat, pattern.format(stat=name, name=figure.name), factor)
        for figure in figures
        for stat, name in names.items()
    ]


def _check_units(run: BenchmarkRun) -> None:
    """Refuses times that no engine can have had: their unit does not fit.

    Raises:
        InputError: if a mean is out of all proportion, or requests take longer than the run.
    """
    for metric, (least, most) in _PLAUSIBLE_S.items():
        value = run.measured.get(metric)
        if value is not None and not least <= value <= most:
            raise run.record.error(
                f"implausible {metric}: the unit does not fit",
                metric,
                value=f"{value:g} s",
                allowed=f"{least:g} to {most:g} s",
            )
    e2e_s = run.measured.get("e2e_s", run.measured.get("ttft_s", 0.0))
    if run.duration_s is not None and e2e_s > _LONGER_THAN_RUN * run.duration_s:
        raise run.record.error(
            "requests cannot take longer than the whole run: the units do not fit",
            "duration",
            value=f"{run.duration_s:g} s",
            allowed=f"at least {e2e_s:g} s, the mean latency",
        )


@dataclass(frozen=True)
class Load:
    """What a tool was told to send: one of `concurrency` and `rate`, or why that cannot be simulated."""

    concurrency: int | None = None
    rate: float | None = None
    reason: str = ""


def load_of(*, rate: float | None, concurrency: int | None, everything: int | None, replayed: bool) -> Load:
    """The load of a tool that sends at `rate` with at most `concurrency` requests in flight.

    Args:
        rate: Arrivals per second; None or infinite if it does not wait.
        concurrency: Most requests in flight; None for no limit.
        everything: Requests in all, which are in flight at once with neither rate nor limit.
        replayed: Whether it is known when each request was really sent.
    """
    if rate is None or rate == float("inf"):
        return Load(concurrency=concurrency or everything)
    if concurrency is None or replayed:
        return Load(rate=rate)
    return Load(
        reason="a rate together with a limit of requests in flight is simulated only where send times are known"
    )
