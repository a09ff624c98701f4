"""What an importer did to a trace: rows kept and dropped with reasons, and the statistics of what is left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.core import Array, Summary, format_quantity, summarise


@dataclass(frozen=True)
class TraceReport:
    """How a trace became requests.

    Attributes:
        path: File name, without its folder.
        format: Name of the importer.
        rows_read: Data rows in the file.
        rows_kept: Requests in the table.
        dropped: Rows left out, by reason.
        notes: What a reader should know, in sentences.
        span_s: Time from the first to the last arrival [s].
        rate_per_s: Requests per second over the span; None if all arrive at once.
        gap_cv: Coefficient of variation of the gaps between arrivals; None with fewer than three requests.
        input_tokens: Mean and quantiles of prompt tokens.
        output_tokens: Mean and quantiles of output tokens.
        prefix_share: Share of prompt blocks whose whole prefix was seen before (infinite cache); None if unknown.
    """

    path: str
    format: str
    rows_read: int
    rows_kept: int
    dropped: Mapping[str, int]
    notes: tuple[str, ...]
    span_s: float
    rate_per_s: float | None
    gap_cv: float | None
    input_tokens: Summary
    output_tokens: Summary
    prefix_share: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The report as plain dicts, lists and scalars, ready for JSON."""
        return asdict(self) | {"dropped": dict(self.dropped), "notes": list(self.notes)}

    def __str__(self) -> str:
        lines = [f"{self.path} ({self.format}): {self.rows_kept} of {self.rows_read} rows kept"]
        lines += [f"  dropped {count}: {reason}" for reason, count in self.dropped.items()]
        rate = "-" if self.rate_per_s is None else format_quantity(self.rate_per_s, "per_s")
        cv = "-" if self.gap_cv is None else f"{self.gap_cv:.3g}"
        lines.append(f"  span {format_quantity(self.span_s, 's')}, rate {rate}, CV of gaps {cv}")
        for name, summary in (("input", self.input_tokens), ("output", self.output_tokens)):
            shown = ", ".join(f"{key} {value:.0f}" for key, value in summary.items() if value is not None)
            lines.append(f"  {name} tokens: {shown or 'none'}")
        if self.prefix_share is not None:
            lines.append(f"  prompt blocks with a prefix seen before: {self.prefix_share:.1%}")
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)


def gap_cv(arrival_s: Array) -> float | None:
    """Coefficient of variation (population) of the gaps of `arrival_s`; None if it has fewer than two or no span."""
    gaps = np.diff(arrival_s)
    if gaps.size < 2 or gaps.mean() == 0:
        return None
    return float(gaps.std() / gaps.mean())


def mean_rate(arrival_s: Array) -> float | None:
    """Gaps per second of span [1/s]; None if the span is zero."""
    span = float(arrival_s[-1] - arrival_s[0]) if arrival_s.size else 0.0
    return (arrival_s.size - 1) / span if span > 0 else None


def make_report(
    *,
    path: str,
    format: str,
    rows_read: int,
    dropped: Mapping[str, int],
    notes: tuple[str, ...],
    arrival_s: Array,
    input_tokens: NDArray[np.int64],
    output_tokens: NDArray[np.int64],
    prefix_share: float | None,
) -> TraceReport:
    """The report of a trace whose kept requests have the given columns."""
    return TraceReport(
        path=path,
        format=format,
        rows_read=rows_read,
        rows_kept=int(arrival_s.size),
        dropped={reason: int(count) for reason, count in dropped.items() if count},
        notes=notes,
        span_s=float(arrival_s[-1] - arrival_s[0]) if arrival_s.size else 0.0,
        rate_per_s=mean_rate(arrival_s),
        gap_cv=gap_cv(arrival_s),
        input_tokens=summarise(input_tokens),
        output_tokens=summarise(output_tokens),
        prefix_share=prefix_share,
    )
