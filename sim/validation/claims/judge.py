"""When a published claim counts as reproduced: the rules, the same for every claim, and pure functions of numbers.

Bands come from how well the claim itself is known, never from what is simulated:

- a value (time, rate, memory) is met within 10 %; within 15 % where part of the layout had to be assumed; 5 points more
  where it was read off a figure;
- a ratio is met within 0.3 of the gain that it claims (0.45 with an assumed layout), and at least within 0.03;
- `at_least` and `at_most` claims leave the far side open; of a ratio of at most so much, up to no effect at all.

A ratio outside its band that is on the claimed side of 1 by more than 0.005 is right in direction only; so is a value
outside whose place in every order that names it is right. An effect that does not lose 70 % of itself when its cause is
switched off is missed, however close the number: it is right for a wrong reason.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from sim.validation.claims.spec import Bound, Grade, Verdict

_VALUE_FRAC: Final = {"stated": 0.10, "assumed": 0.15}
_GAIN_FRAC: Final = {"stated": 0.30, "assumed": 0.45}
_BY_EYE_FRAC: Final = 0.05
_RATIO_LEAST: Final = 0.03
_NO_EFFECT: Final = 0.005
"""Ratios this close to 1 have no direction: less than step times repeat to."""
_REMAINS_FRAC: Final = 0.3
"""Share of an effect that may remain without its cause."""
_FLAT: Final = 1.05
"""Largest over smallest of values that count as flat: twice the 2 % to which published rates repeat, and rounding."""

Band: TypeAlias = tuple[float | None, float | None]
"""Lowest and highest value that meets a claim, ends included; None where a side is open."""
RANKS: Final[dict[Verdict, int]] = {"reproduced": 3, "direction only": 2, "missed": 1, "cannot be evaluated": 0}
"""How good a verdict is."""


@dataclass(frozen=True)
class Judged:
    """A verdict and why it is not a better one.

    Attributes:
        verdict: What became of the claim.
        reason: Why; empty where it is reproduced.
    """

    verdict: Verdict
    reason: str = ""


def band_of(
    claimed: float, *, ratio: bool, bound: Bound = "about", setup: Literal["stated", "assumed"], grade: Grade
) -> Band:
    """The values that meet a claim: value or ratio, by bound, setup and grade of evidence."""
    eye = _BY_EYE_FRAC if grade == "read by eye" else 0.0
    if ratio:
        slack = max(_GAIN_FRAC[setup] * abs(claimed - 1.0), _RATIO_LEAST) + eye * claimed
    else:
        slack = (_VALUE_FRAC[setup] + eye) * abs(claimed)
    low, high = claimed - slack, claimed + slack
    if bound == "at_least":
        return low, None
    if bound == "at_most":
        return (1.0 if ratio and claimed > 1.0 else None), high
    return low, high


def inside(value: float, band: Band) -> bool:
    """Whether a value is in a band."""
    low, high = band
    return (low is None or value >= low) and (high is None or value <= high)


def right_direction(ratio: float, claimed: float) -> bool:
    """Whether a ratio is on the claimed side of 1; without a claimed effect, any is."""
    if abs(claimed - 1.0) <= _NO_EFFECT:
        return True
    return (ratio - 1.0) * math.copysign(1.0, claimed - 1.0) > _NO_EFFECT


def effect_lost(ratio: float, without: float) -> bool:
    """Whether most of the effect of `ratio` is gone in `without`, the same comparison without its cause."""
    side = math.copysign(1.0, ratio - 1.0)
    remains = (without - 1.0) * side
    return remains <= max(_REMAINS_FRAC * abs(ratio - 1.0), _NO_EFFECT)


def in_order(values: Sequence[float], order: Literal["rising", "falling", "flat"]) -> bool:
    """Whether values rise or fall at every step, or are flat."""
    if order == "flat":
        return max(values) <= _FLAT * min(values)
    sign = 1.0 if order == "rising" else -1.0
    return all(sign * (after - before) > 0.0 for before, after in itertools.pairwise(values))


def judge_ratio(value: float, claimed: float, band: Band, *, without: float | None = None) -> Judged:
    """Verdict on a variant over its baseline.

    Args:
        value: Simulated ratio.
        claimed: Published ratio.
        band: What meets the claim.
        without: The simulated ratio without the cause; None where that was not asked.
    """
    if without is not None and not effect_lost(value, without):
        return Judged("missed", f"without its cause the ratio is still {without:.3f}")
    if not right_direction(value, claimed):
        return Judged("missed", "no effect" if abs(value - 1.0) <= _NO_EFFECT else "the effect points the other way")
    if inside(value, band):
        return Judged("reproduced")
    return Judged("missed" if abs(claimed - 1.0) <= _NO_EFFECT else "direction only", _off(value, claimed))


def judge_value(value: float, claimed: float, band: Band, *, orders: Sequence[bool] = ()) -> Judged:
    """Verdict on a value.

    Args:
        value: Simulated value.
        claimed: Published value.
        band: What meets the claim.
        orders: Whether each order that names it holds.
    """
    if inside(value, band):
        return Judged("reproduced")
    why = _off(value, claimed)
    return Judged("direction only", f"{why}, in the right order") if orders and all(orders) else Judged("missed", why)


def _off(value: float, claimed: float) -> str:
    return f"{value / claimed - 1.0:+.0%}" if claimed else f"{value:.4g} instead of none"
