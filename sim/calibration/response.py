"""Predictions as functions of the parameters that are piecewise linear, so that many fits cost no further simulation.

Front-end times add to a request and host times to a step, so a prediction is nearly linear in each of them, but for a
kink where host time stops hiding behind the device, and for queues where work one after the other fills a process.
Each row is simulated twice more per parameter, with that parameter divided and multiplied by `FACTOR`, and taken to be
linear between those and beyond, and effects to add up; what is fitted is then checked by simulation (`cross`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.calibration.objective import EXPECTED_SPREAD
from sim.calibration.parameters import Parameter
from sim.core import Array
from sim.plans import EngineSpec
from sim.validation import MeasuredRow, Prediction

FACTOR: Final = 3.0
"""By how much each parameter is changed, down and up, to see what it does: about as much as a fit moves it."""

_LEAST_SHARE: Final = 0.1
"""A prediction never falls below this share of the one with the profile's values, however far the line goes down."""


def changed(engine: EngineSpec, factors: Mapping[str, float]) -> dict[str, float]:
    """Values of the profile's parameters multiplied by `factors`; those that it does not have stay out."""
    own = {name: getattr(engine, name) for name in factors}
    return {name: sourced.value * factors[name] for name, sourced in own.items() if sourced is not None}


def variants_of(engine: EngineSpec, parameters: Sequence[Parameter]) -> list[dict[str, float]]:
    """The values that a response needs predictions with: each parameter divided by `FACTOR`, then multiplied by it."""
    return [changed(engine, {each.name: factor}) for each in parameters for factor in (1.0 / FACTOR, FACTOR)]


@dataclass(frozen=True)
class Response:
    """How the predicted values of rows depend on the parameters of an engine.

    Attributes:
        parameters: What is varied, with the profile's values.
        row: Number of the row of each value, shape `(n,)`.
        group: Its pair of system and model, and its metric; values with equal ones share their errors.
        measured: Measured values [SI], shape `(n,)`.
        base: Predicted values with the profile as it is, shape `(n,)`.
        falls: Their change per relative change of each parameter below the profile's value, shape `(n, p)`.
        rises: The same above it.
        spread: Expected spread of ln(predicted / measured) with right parameters, shape `(n,)`.
    """

    parameters: tuple[Parameter, ...]
    row: NDArray[np.intp]
    group: Sequence[tuple[str, str, str]]
    measured: Array
    base: Array
    falls: Array
    rises: Array
    spread: Array

    def predicted(self, point: Array) -> Array:
        """The values where each parameter is multiplied by the exponential of `point`, shape `(n,)`."""
        moves = np.expm1(point)
        added = self.falls @ np.minimum(moves, 0.0) + self.rises @ np.maximum(moves, 0.0)
        return np.maximum(self.base + added, _LEAST_SHARE * self.base)


def response_of(
    rows: Sequence[MeasuredRow], predictions: Sequence[Sequence[Prediction]], parameters: tuple[Parameter, ...]
) -> Response:
    """The response of `rows`.

    Args:
        rows: Measured rows that can be simulated.
        predictions: Per row its prediction as it is, then one with each of the values of `variants_of`.
        parameters: The parameters, in that order.
    """
    places, groups, measured, base, falls, rises, spread = [], [], [], [], [], [], []
    for i, (row, found) in enumerate(zip(rows, predictions, strict=True)):
        for metric, expected in EXPECTED_SPREAD.items():
            values = [one.values.get(metric) for one in found]
            known = [value for value in values if value]
            if not row.measured.get(metric) or len(known) < len(values):
                continue
            places.append(i)
            groups.append((row.groups.get("system", ""), row.groups.get("model", ""), metric))
            measured.append(row.measured[metric])
            base.append(known[0])
            falls.append([(known[0] - value) / (1.0 - 1.0 / FACTOR) for value in known[1::2]])
            rises.append([(value - known[0]) / (FACTOR - 1.0) for value in known[2::2]])
            spread.append(expected)
    shape = (len(places), len(parameters))
    return Response(
        parameters,
        np.array(places, dtype=np.intp),
        groups,
        np.array(measured, dtype=np.float64),
        np.array(base, dtype=np.float64),
        np.array(falls, dtype=np.float64).reshape(shape),
        np.array(rises, dtype=np.float64).reshape(shape),
        np.array(spread, dtype=np.float64),
    )
