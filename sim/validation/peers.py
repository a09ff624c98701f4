"""What other predictors have published about themselves, to stand beside our errors. Cited, never computed here."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final


@dataclass(frozen=True)
class PeerFigure:
    """One published error.

    Attributes:
        peer: Who, with version.
        metric: Metric path.
        median_abs_error_frac: Median of |predicted / measured - 1|.
        p90_abs_error_frac: 90th percentile; None if not published.
        answered_frac: Share of the rows it answers; None if not published.
        note: On which rows, and what to know.
    """

    peer: str
    metric: str
    median_abs_error_frac: float
    p90_abs_error_frac: float | None
    answered_frac: float | None
    note: str

    def to_json(self) -> dict[str, Any]:
        """The figure as plain data."""
        return asdict(self)


def _points(metric: str, tables: float, formulas: float, p90: float) -> tuple[PeerFigure, PeerFigure]:
    same = "the usable rows of this table, aggregated and disaggregated; constants partly tuned on this collection"
    return (
        PeerFigure("AIConfigurator 0.12, measured tables only", metric, tables, None, 0.72, same),
        PeerFigure("AIConfigurator 0.12, with formulas", metric, formulas, p90, 0.94, same),
    )


def _held_out(peer: str, metric: str, error: float) -> PeerFigure:
    return PeerFigure(peer, metric, error, None, None, "held-out runs of the same collection, not these rows")


PEERS: Final[dict[str, tuple[PeerFigure, ...]]] = {
    "serving_points": (
        *_points("tpot_s", 0.148, 0.157, 0.65),
        *_points("ttft_s", 0.490, 0.450, 0.87),
        *_points("output_tokens_per_s_per_gpu", 0.149, 0.158, 0.45),
    ),
    "vllm0151_runs": (
        _held_out("BLIS", "e2e_s", 0.068),
        _held_out("BLIS", "ttft_s", 0.184),
        _held_out("BLIS", "itl_s", 0.065),
        _held_out("AIConfigurator 0.9", "e2e_s", 0.215),
        _held_out("LLMServingSim 2", "e2e_s", 0.188),
        _held_out("LLMServingSim 2", "ttft_s", 0.725),
    ),
}
"""Published figures by format of table."""
