"""Which plan to recommend, by one stated rule."""

from __future__ import annotations

from collections.abc import Sequence

from sim.results import Evaluation, SloSpec, get_metric

COST_TIE_FRAC = 0.01
"""Costs this close count as equal. At a fixed arrival rate plans with as many GPUs cost the same per token but for when
the last request of the run happens to end, which must not decide."""

STEP_TIE_FRAC = 0.01
"""Step times this close count as equal: predictions are not that sharp."""
SAFE_HEADROOM_FRAC = 0.05
"""Memory that a recommended training plan leaves free: predictions of it are off by some per cent, and allocators
fragment (assumed)."""

_INFINITY = float("inf")


def recommend(front: Sequence[Evaluation], slo: SloSpec | None) -> tuple[Evaluation | None, str]:
    """The recommended plan of the front and why.

    Among the plans that attain the SLO the cheapest per output token, then the fewest GPUs, then the lowest mean TTFT;
    if none attains it, the one that comes closest, of equally close ones that with the lowest mean TTFT. Without an SLO
    every plan attains it; without a price the number of GPUs decides.
    """
    if not front:
        return None, "no plan can serve this traffic"
    target = 0.0 if slo is None else slo.attainment
    attained = {id(each): 1.0 if slo is None else _number(each, "slo_attainment_frac", 0.0) for each in front}
    good = [each for each in front if attained[id(each)] >= target]
    if not good:
        best = min(
            front, key=lambda each: (-attained[id(each)], _number(each, "ttft_s.mean", _INFINITY), *_order(each))
        )
        share = attained[id(best)]
        return (
            best,
            f"no plan attains the SLO for {target:.4g} of the requests; this one is closest with {share:.4g}",
        )
    cheapest = min(_cost(each) for each in good)
    tied = [each for each in good if _cost(each) <= cheapest * (1.0 + COST_TIE_FRAC)]
    best = min(tied, key=_order)
    what = f"plan{'s' if len(good) != 1 else ''}{'' if slo is None else ' that attain the SLO'}"
    gpus = int(_number(best, "n_gpus", 0))
    on = f"on {gpus} GPU{'s' if gpus != 1 else ''}"
    if cheapest == _INFINITY:
        return best, f"fewest GPUs, then lowest TTFT, of {len(good)} {what}, {on}; no price is known"
    tie = f"; of {len(tied)} that cost the same, fewest GPUs and then lowest TTFT" if len(tied) > 1 else ""
    return best, f"cheapest of {len(good)} {what} at {_cost(best):.3g} USD per million output tokens, {on}{tie}"


def recommend_training(front: Sequence[Evaluation]) -> tuple[Evaluation | None, str]:
    """The recommended training plan of the front and why.

    Among the plans that leave a share `SAFE_HEADROOM_FRAC` of memory free the one with the shortest step; of plans that
    are as fast within `STEP_TIE_FRAC`, the one with the most memory left. If none leaves that much, among all.
    """
    if not front:
        return None, "no plan can train this job on this cluster"
    safe = [each for each in front if _free_frac(each) >= SAFE_HEADROOM_FRAC]
    good = safe or list(front)
    fastest_s = min(_number(each, "step_time_s", _INFINITY) for each in good)
    tied = [each for each in good if _number(each, "step_time_s", _INFINITY) <= fastest_s * (1.0 + STEP_TIE_FRAC)]
    best = min(tied, key=lambda each: (-_free_frac(each), _number(each, "step_time_s", _INFINITY), each.label))
    free = f"{SAFE_HEADROOM_FRAC:.0%} of memory free"
    which = f"that leave {free}" if safe else f"(none leaves {free})"
    tie = f"; of {len(tied)} as fast within {STEP_TIE_FRAC:.0%}, the one with most memory left" if len(tied) > 1 else ""
    step_s = _number(best, "step_time_s", _INFINITY)
    return best, f"shortest step of {len(good)} plans {which}, {step_s:.4g} s{tie}"


def _free_frac(evaluation: Evaluation) -> float:
    """Memory left over memory available."""
    left = _number(evaluation, "memory_headroom_bytes", 0.0)
    return left / (left + _number(evaluation, "peak_memory_bytes", _INFINITY))


def _number(evaluation: Evaluation, path: str, missing: float) -> float:
    value = get_metric(evaluation.metrics, path)
    return missing if value is None else float(value)


def _cost(evaluation: Evaluation) -> float:
    return _number(evaluation, "cost_usd_per_million_output_tokens", _INFINITY)


def _ttft(evaluation: Evaluation) -> float:
    return _number(evaluation, "ttft_s.mean", _INFINITY)


def _order(evaluation: Evaluation) -> tuple[float, float, str]:
    return _number(evaluation, "n_gpus", _INFINITY), _ttft(evaluation), evaluation.label
