"""Arithmetic of leaps: k equal-but-growing steps taken at once.

While the batch of a replica stays the same, iteration j (from 0) costs `first_s + growth_s * j`, because attention
reads one more token per sequence each time and its cost is affine in the tokens read. So k iterations take
k * first_s + growth_s * k (k - 1) / 2 (sum of an arithmetic series), and the iteration during which a given instant
falls is the root of a quadratic.

Steps end on a grid of `TICK_S`, so that steps of equal length that lies on it (`on_grid`) add up without rounding, be
they taken one by one or at once: actors that march together then meet at the very same instant in both cases, and
ties are decided by priority, not by the last bit of a sum.
"""

from __future__ import annotations

from math import ceil, sqrt
from typing import Final

TICK_S: Final = 2.0**-36
"""Grid of the times at which steps end [s], 15 ps; sums of its multiples are exact up to 36 hours."""


def on_grid(seconds: float) -> float:
    """The nearest multiple of `TICK_S` [s]."""
    return round(seconds / TICK_S) * TICK_S


def leap_end_s(start_s: float, first_s: float, growth_s: float, steps: int) -> float:
    """Time [s] at which `steps` iterations end that began at `start_s` [s], on the grid; see the module's formula."""
    return on_grid(start_s + steps * first_s + growth_s * (0.5 * steps * (steps - 1)))


def steps_until(instant_s: float, start_s: float, first_s: float, growth_s: float) -> int:
    """The least number of whole iterations, at least one, after which the time is `instant_s` [s] or later.

    Solves growth/2 k^2 + (first - growth/2) k = instant - start for k in the numerically stable form, then mends
    the last unit against `leap_end_s`, so that a step boundary equal to the instant counts as reached.
    """
    if leap_end_s(start_s, first_s, growth_s, 1) >= instant_s:
        return 1
    span = instant_s - start_s
    b = first_s - 0.5 * growth_s
    root = 2.0 * span / (b + sqrt(b * b + 2.0 * growth_s * span))
    steps = max(1, ceil(root))
    while steps > 1 and leap_end_s(start_s, first_s, growth_s, steps - 1) >= instant_s:
        steps -= 1
    while leap_end_s(start_s, first_s, growth_s, steps) < instant_s:
        steps += 1
    return steps
