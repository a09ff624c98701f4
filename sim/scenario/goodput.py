"""Finding the edge of what a plan sustains: brackets and rates, without any simulation of its own."""

from __future__ import annotations

import math
from collections.abc import Callable

from sim.core import Array, InputError
from sim.results import SloSpec

_FIRST_STEP = 4
_WIDEST = 1e6
"""Rates this many times above or below the guess are not tried."""


def native_rate(arrival_s: Array) -> float:
    """Mean arrival rate [1/s] of a traffic: gaps over span; 1 if all arrive at once."""
    span = float(arrival_s[-1] - arrival_s[0]) if len(arrival_s) > 1 else 0.0
    return (len(arrival_s) - 1) / span if span > 0 else 1.0


def require_slo(slo: SloSpec | None, concurrency: int | None) -> SloSpec:
    """The SLO to attain.

    Raises:
        InputError: if there is none, or the load is a closed loop, whose rate is not free.
    """
    if slo is None:
        raise InputError("goodput needs an SLO", path="slo", hint="for example slo: {ttft: 2 s, tpot: 50 ms}")
    if concurrency is not None:
        raise InputError(
            "goodput needs an open loop: a closed loop has no arrival rate to raise",
            path="workload.concurrency",
            hint="give a rate or a trace, or leave goodput out of the objectives",
        )
    return slo


def bisect_edge(
    attains: Callable[[float], bool], *, anchor: float, tolerance: float, guess: float | None = None
) -> float:
    """The highest rate of the lattice `anchor (1 + tolerance)^k`, k whole, that attains; 0 if none does.

    On one lattice all plans are asked about the same rates, so plans that behave alike get equal answers, whatever the
    guess. From the guess the bracket grows by steps that double, so that a good guess costs two or three probes; then
    it is halved. Assumes that what attains at a rate attains at every lower one.

    Args:
        attains: Whether a rate [1/s] is sustained; asked once per rate.
        anchor: A rate of the lattice [1/s].
        tolerance: Relative distance of neighbouring rates.
        guess: Where to start [1/s]; None starts at the anchor.
    """
    spacing = math.log1p(tolerance)

    def ask(k: int) -> bool:
        return attains(anchor * math.exp(k * spacing))

    start = round(math.log((guess or anchor) / anchor) / spacing)
    widest = math.ceil(math.log(_WIDEST) / spacing)
    step = _FIRST_STEP
    if ask(start):
        low, high = start, start + step
        while ask(high):
            if high - start > widest:
                return anchor * math.exp(high * spacing)
            step *= 2
            low, high = high, high + step
    else:
        low, high = start - step, start
        while not ask(low):
            if start - low > widest:
                return 0.0
            step *= 2
            low, high = low - step, low
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if ask(middle) else (low, middle)
    return anchor * math.exp(low * spacing)
