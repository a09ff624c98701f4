"""Small numerical helpers shared by the cost forms: value types, p-norms and power-of-two depth."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from sim.core import Array

Value: TypeAlias = float | Array
"""A number or an array of them; the forms broadcast over both."""


def p_norm(first: Value, second: Value, p: float) -> Array:
    """`(first^p + second^p)^(1/p)` of two non-negative terms: how far two resources overlap in time.

    `p = 1` adds the terms (no overlap), `p = inf` takes the larger one (perfect overlap). Computed relative to the
    larger term, so that it neither overflows nor ever falls below it. Three terms are two nested calls.
    """
    larger = np.maximum(first, second)
    if np.isinf(p):
        return np.asarray(larger)
    smaller = np.minimum(first, second)
    ratio = np.divide(smaller, larger, out=np.zeros_like(larger, dtype=np.float64), where=larger > 0.0)
    return np.asarray(larger * (1.0 + ratio**p) ** (1.0 / p))


def where_positive(amount: Value, time_s: Value) -> Array:
    """`time_s` [s] where there is work (`amount > 0`), else 0: a kernel with nothing to do is not launched."""
    return np.where(np.asarray(amount) > 0.0, time_s, 0.0)
