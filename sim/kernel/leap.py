"""Arithmetic of leaps: k equal-but-growing steps taken at once.

While the batch of a replica stays the same, iteration j (from 0) costs `first_s + growth_s * j`, because attention
reads one more token per sequence each time and its cost is affine in the tokens read. So k iterations take
k * first_s + growth_s * k (k - 1) / 2 (sum of an arithmetic series), and the iteration during which a given instant
falls is the root of a quadratic.
"""

from __future__ import annotations

from math import ceil, sqrt


def leap_end_s(start_s: float, first_s: float, growth_s: float, steps: int) -> float:
    """Time [s] at which `steps` iterations end that began at `start_s` [s]; see the module's formula."""
    return start_s + steps * first_s + growth_s * (0.5 * steps * (steps - 1))


def steps_until(instant_s: float, start_s: float, first_s: float, growth_s: float) -> int:
    """The least number of whole iterations, at least one, after which the time is `instant_s` [s] or later.

    Solves growth/2 k^2 + (first - growth/2) k = instant - start for k in the numerically stable form, then mends
    the last unit against `leap_end_s`, so that a step boundary equal to the instant counts as reached.
    """
    span = instant_s - start_s
    if span <= first_s:
        return 1
    b = first_s - 0.5 * growth_s
    root = 2.0 * span / (b + sqrt(b * b + 2.0 * growth_s * span))
    steps = max(1, ceil(root))
    while steps > 1 and leap_end_s(start_s, first_s, growth_s, steps - 1) >= instant_s:
        steps -= 1
    while leap_end_s(start_s, first_s, growth_s, steps) < instant_s:
        steps += 1
    return steps
