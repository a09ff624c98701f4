"""Predictions as linear functions of the parameters, so that many fits cost no further simulation.

Front-end times add to a request and host times to a step, so a prediction is nearly linear in them, but for a kink
where host time stops hiding behind the device. Each row is simulated once more per parameter, with that parameter
doubled; what is fitted is then checked by simulation (`cross`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from sim.calibration.fit import BOUND, EXPECTED_SPREAD
from sim.calibration.parameters import Parameter
from sim.core import Array
from sim.plans import EngineSpec
from sim.validation import MeasuredRow, Prediction

FACTOR: Final = 2.0
"""By how much each parameter is changed to see what it does: about as much as a fit moves it."""

_LEAST_SHARE: Final = 0.1
"""A prediction never falls below this share of the one with the profile's values, however far the line goes down."""


def changed(engine: EngineSpec, factors: Mapping[str, float]) -> dict[str, float]:
    """Values of the profile's parameters multiplied by `factors`; those that it does not have stay out."""
    own = {name: getattr(engine, name) for name in factors}
    return {name: sourced.value * factors[name] for name, sourced in own.items() if sourced is not None}


@dataclass(frozen=True)
class Response:
    """How the predicted values of rows depend on the parameters of an engine.

    Attributes:
        parameters: What is varied, with priors.
        row: Number of the row of each value, shape `(n,)`.
        measured: Measured values [SI], shape `(n,)`.
        base: Predicted values with the profile as it is, shape `(n,)`.
        slopes: Their change per relative change of each parameter, shape `(n, p)`.
        spread: Expected spread of ln(predicted / measured) with right parameters, shape `(n,)`.
        pairs: System and model of each row.
    """

    parameters: tuple[Parameter, ...]
    row: NDArray[np.intp]
    measured: Array
    base: Array
    slopes: Array
    spread: Array
    pairs: Sequence[tuple[str, str]]

    def predicted(self, point: Array) -> Array:
        """The values where each parameter is multiplied by the exponential of `point`, shape `(n,)`."""
        return np.maximum(self.base + self.slopes @ np.expm1(point), _LEAST_SHARE * self.base)

    def fit(self, kept: Sequence[bool]) -> Array:
        """The best point for the rows that are kept: robust, pairs of system and model alike, held by the priors."""
        inside = np.asarray(kept)[self.row]
        codes = np.unique(["/".join(self.pairs[i]) for i in self.row[inside]], return_inverse=True)[1]
        sizes = np.bincount(codes)
        weights = np.sqrt(len(codes) / len(sizes) / sizes[codes]) / self.spread[inside]
        priors = np.array([each.log_sd for each in self.parameters])

        def residuals(point: Array) -> Array:
            errors = np.log(self.predicted(point)[inside] / self.measured[inside])
            return np.concatenate([weights * errors, point / priors])

        start = np.zeros(len(self.parameters))
        answer = least_squares(residuals, start, bounds=(start - BOUND, start + BOUND), loss="soft_l1")
        return np.asarray(answer.x)


def response_of(
    rows: Sequence[MeasuredRow], predictions: Sequence[Sequence[Prediction]], parameters: tuple[Parameter, ...]
) -> Response:
    """The response of `rows`.

    Args:
        rows: Measured rows that can be simulated.
        predictions: Per row its prediction as it is, then one with each parameter times `FACTOR`.
        parameters: The parameters, in that order.
    """
    places, measured, base, slopes, spread = [], [], [], [], []
    for i, (row, found) in enumerate(zip(rows, predictions, strict=True)):
        for metric, expected in EXPECTED_SPREAD.items():
            values = [one.values.get(metric) for one in found]
            known = [value for value in values if value]
            if not row.measured.get(metric) or len(known) < len(values):
                continue
            places.append(i)
            measured.append(row.measured[metric])
            base.append(known[0])
            slopes.append([(value - known[0]) / (FACTOR - 1.0) for value in known[1:]])
            spread.append(expected)
    return Response(
        parameters,
        np.array(places, dtype=np.intp),
        np.array(measured, dtype=np.float64),
        np.array(base, dtype=np.float64),
        np.array(slopes, dtype=np.float64).reshape(len(places), len(parameters)),
        np.array(spread, dtype=np.float64),
        [(row.groups.get("system", ""), row.groups.get("model", "")) for row in rows],
    )
