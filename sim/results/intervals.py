"""Where a repeat of a measurement would fall, 90 % of the time, from the errors that predictions had before."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sim.results.run import no_intervals

TTFT, TPOT, THROUGHPUT = "ttft_s", "tpot_s", "output_tokens_per_s_per_gpu"
STEP: Final = "step_time_s"
_LIKE_TTFT: Final = (TTFT,)
_LIKE_TPOT: Final = (TPOT, "itl_s")
_LIKE_THROUGHPUT: Final = (
    "requests_per_s",
    "output_tokens_per_s",
    THROUGHPUT,
    "total_tokens_per_s_per_gpu",
)
_LIKE_STEP: Final = (STEP, "cost_usd_per_million_tokens", "training_time_s", "training_cost_usd")
_INVERSE_STEP: Final = ("tokens_per_s_per_gpu", "samples_per_s_per_gpu", "model_tflops_per_gpu", "mfu_frac", "hfu_frac")
_INVERSE_THROUGHPUT: Final = ("cost_usd_per_million_output_tokens",)


@dataclass(frozen=True)
class Band:
    """Factors on a prediction between which the measured value falls, 90 % of the time."""

    low: float
    high: float

    def of(self, value: float) -> list[float]:
        """The interval of a predicted value, in its unit."""
        return [value * self.low, value * self.high]

    def inverse(self) -> Band:
        """The band of one over the quantity."""
        return Band(1.0 / self.high, 1.0 / self.low)

    def widened(self, factor: float) -> Band:
        """The band stretched about its middle, in the logarithm."""
        middle, half = math.sqrt(self.low * self.high), math.sqrt(self.high / self.low) ** factor
        return Band(middle / half, middle * half)


def band_of(path: str, bands: Mapping[str, Band]) -> Band | None:
    """The band that a metric path goes by, if one of those given is about it."""
    head = path.partition(".")[0]
    for names, band in ((_LIKE_TTFT, TTFT), (_LIKE_TPOT, TPOT), (_LIKE_THROUGHPUT, THROUGHPUT)):
        if head in names:
            return bands.get(band)
    if STEP in bands and head in (*_LIKE_STEP, *_INVERSE_STEP):
        return bands[STEP] if head in _LIKE_STEP else bands[STEP].inverse()
    return None


def bands_that_hold(bands: Mapping[str, Band], *, closed_loop: bool) -> dict[str, Band]:
    """Those of the bands that hold for such a load: a training step's, TPOT's in any, all others in closed loops."""
    return {name: band for name, band in bands.items() if name in (TPOT, STEP) or closed_loop}


def training_intervals(metrics: Mapping[str, Any], band: Band | None) -> dict[str, Any]:
    """Intervals of a training run from the band of its step time; None where it is not known.

    Rates go with one over the step time, time and money of the job with it. How it divides (bubble, communication),
    memory and energy have no bands.
    """
    bands = {} if band is None else {STEP: band}
    found = {name: band_of(name, bands) for name in metrics}
    return {
        name: None if own is None or metrics[name] is None else own.of(float(metrics[name]))
        for name, own in found.items()
    }


def intervals_of(metrics: Mapping[str, Any], bands: Mapping[str, Band], *, closed_loop: bool) -> dict[str, Any]:
    """Intervals of the shape of `metrics`; None where it is not known how wrong the prediction may be.

    TTFT, TPOT and throughput have bands of their own; gaps between tokens are as sure as TPOT, and E2E is the sum of
    both. The bands come from closed loops. TPOT held them in open loops too; TTFT did not, so it stays unknown there.
    Throughput, and the cost per token with it, follows from the arrivals in an open loop that keeps up. Energy, power
    and utilisation were not compared with measurements.

    Args:
        metrics: Metrics of a run.
        bands: By `TTFT`, `TPOT` and `THROUGHPUT`; what is absent stays unknown.
        closed_loop: Whether the load is a closed loop.
    """
    found = no_intervals(metrics)
    known = bands_that_hold(bands, closed_loop=closed_loop)
    groups = (
        (_LIKE_TTFT, known.get(TTFT)),
        (_LIKE_TPOT, known.get(TPOT)),
        (_LIKE_THROUGHPUT, known.get(THROUGHPUT)),
        (_INVERSE_THROUGHPUT, known[THROUGHPUT].inverse() if THROUGHPUT in known else None),
        (("interactivity_tokens_per_s_per_user",), known[TPOT].inverse() if TPOT in known else None),
    )
    for names, band in groups:
        for name in names:
            if band is not None and name in metrics:
                found[name] = _banded(metrics[name], band)
    if TTFT in known and TPOT in known and "e2e_s" in metrics:
        found["e2e_s"] = _banded(metrics["e2e_s"], _e2e_band(metrics, known))
    return found


def _e2e_band(metrics: Mapping[str, Any], bands: Mapping[str, Band]) -> Band:
    """The bands of first token and the rest, weighted by their shares of the mean E2E latency."""
    first, whole = metrics[TTFT]["mean"], metrics["e2e_s"]["mean"]
    share = min(1.0, first / whole) if first is not None and whole else 0.0
    low = share * bands[TTFT].low + (1.0 - share) * bands[TPOT].low
    high = share * bands[TTFT].high + (1.0 - share) * bands[TPOT].high
    return Band(low, high)


def _banded(value: Any, band: Band) -> Any:
    if isinstance(value, Mapping):
        return {name: _banded(one, band) for name, one in value.items()}
    return None if value is None else band.of(float(value))
