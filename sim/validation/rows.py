"""A measured configuration: how to simulate it, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sim.core import Array, PlansimError
from sim.workloads import RequestTable

THROUGHPUT: Final = "output_tokens_per_s_per_gpu"


@dataclass(frozen=True)
class ClosedPoint:
    """The nominal load of a closed loop, from which its throughput is worked out on both sides.

    Attributes:
        concurrency: Requests in flight.
        output_tokens: Nominal output length [tokens].
        n_gpus: GPUs of the whole deployment.
    """

    concurrency: int
    output_tokens: float
    n_gpus: int

    def throughput(self, ttft_s: float, tpot_s: float) -> float:
        """Output tokens per second and GPU: c x osl / (TTFT + (osl - 1) x TPOT) / GPUs."""
        seconds = ttft_s + (self.output_tokens - 1) * tpot_s
        return self.concurrency * self.output_tokens / seconds / self.n_gpus


@dataclass(frozen=True, eq=False)
class MeasuredRow:
    """One row of a table of measurements.

    Attributes:
        id: Name of the row, unique in its table.
        dataset: Name of the table.
        groups: What the row is summarised by: `system`, `model`, `engine`, `precision`, `mode` and `load`.
        scenario: What `sim.load` takes; None where the row cannot be simulated.
        measured: Values in SI units by metric path, such as `tpot_s` or `ttft_s.p99`; None where the table has none.
        requests: The requests as they really came, where known: one table per replica, each with its own arrivals.
        e2e_s: Measured end-to-end latency of each of those requests [s], in the order of the tables; empty if unknown.
        closed: Nominal load, where throughput is to be worked out from TTFT and TPOT.
        reason: Why the row cannot be simulated; empty where it can.
        weight: What the row counts in a pooled figure.
        cannot: Why a metric of the row cannot be compared, by its path, although the row can be simulated.
    """

    id: str
    dataset: str
    groups: Mapping[str, str]
    scenario: Mapping[str, Any] | None
    measured: Mapping[str, float | None]
    requests: tuple[RequestTable, ...] = ()
    e2e_s: tuple[Array, ...] = field(default=(), repr=False)
    closed: ClosedPoint | None = None
    reason: str = ""
    weight: float = 1.0
    cannot: Mapping[str, str] = field(default_factory=dict)

    @property
    def closed_loop(self) -> bool:
        """Whether its load is a closed loop."""
        return "concurrency" in (self.scenario or {}).get("workload", {})

    @property
    def is_serving(self) -> bool:
        """Whether it is of serving, as far as is known: not of training."""
        return bool((self.scenario or {}).get("workload", {}).get("kind") != "training")

    def __post_init__(self) -> None:
        if (self.scenario is None) != bool(self.reason):
            raise PlansimError(f"the row {self.id!r} needs either a scenario or a reason")
