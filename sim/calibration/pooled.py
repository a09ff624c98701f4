"""Times of all versions of one engine, fitted together: what is known of one version helps where another has no rows.

The logarithm of a time of a version is that of its engine plus a difference; the engine's is normal about a first guess
(`first_guess`), the difference about zero. So a version of which no rows are left takes its engine's times, a version
with one pair of system and model is drawn towards them, and an engine that rows say nothing about stays with orders of
magnitude. First guesses are those of no profile: its values were fitted to rows that a cross-validation leaves out.
Whole pairs are off for other reasons, so the fit starts from the first guesses and follows the law of Cauchy.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import log
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from sim.calibration.objective import damped, weights_of
from sim.calibration.parameters import PARAMETERS, first_guess
from sim.calibration.response import Response
from sim.core import Array

_OF_VERSION: Final = log(2.0)
"""Standard deviation of the logarithm of a version's time about its engine's (assumed: a release changes a time by a
factor of two, rarely by more)."""

Mask = NDArray[np.bool_]


def fit_versions(responses: Mapping[str, Response], kept: Mapping[str, Mask]) -> dict[str, dict[str, float]]:
    """Values of the parameters [SI] of each version of an engine, fitted to the rows that are kept.

    Args:
        responses: How rows of each version depend on its parameters.
        kept: Of each version, which of its rows are fitted to.
    """
    problem = _Pooled(responses, kept)
    answer = least_squares(problem.residuals, np.zeros(problem.size), loss=damped(problem.weights, "cauchy"))
    return {
        version: dict(zip(problem.names_of(version), np.exp(values).tolist(), strict=True))
        for version, values in problem.logarithms(answer.x).items()
    }


class _Pooled:
    """The fit of one engine; points hold deviations of the engine, then of each version, in standard deviations."""

    def __init__(self, responses: Mapping[str, Response], kept: Mapping[str, Mask]) -> None:
        self._responses = responses
        own = {name for version in responses for name in self.names_of(version)}
        names = [name for name in PARAMETERS if name in own]
        guesses = [first_guess(name) for name in names]
        self._middle = np.log([each.value for each in guesses])
        self._width = np.array([each.log_sd for each in guesses])
        self._places = {
            version: np.array([names.index(name) for name in self.names_of(version)], dtype=np.intp)
            for version in responses
        }
        ends = np.cumsum([len(names), *(len(places) for places in self._places.values())])
        self._parts = {
            version: slice(start, end) for version, start, end in zip(responses, ends[:-1], ends[1:], strict=True)
        }
        self.size = int(ends[-1])
        self._inside = {version: kept[version][one.row] for version, one in responses.items()}
        groups = [
            (version, *group)
            for version, one in responses.items()
            for group, inside in zip(one.group, self._inside[version], strict=True)
            if inside
        ]
        self.weights = weights_of(groups)

    def names_of(self, version: str) -> list[str]:
        """Names of the parameters of a version."""
        return [each.name for each in self._responses[version].parameters]

    def logarithms(self, point: Array) -> dict[str, Array]:
        """Logarithms of each version's values [SI]."""
        engine = self._middle + self._width * point[: len(self._middle)]
        return {
            version: engine[self._places[version]] + _OF_VERSION * point[part] for version, part in self._parts.items()
        }

    def residuals(self, point: Array) -> Array:
        """Errors of all values that are kept in terms of their spread, then the point itself, for the priors."""
        found = []
        for version, values in self.logarithms(point).items():
            one, inside = self._responses[version], self._inside[version]
            factors = values - np.log([each.value for each in one.parameters])
            errors = np.log(one.predicted(factors) / one.measured) / one.spread
            found.append(errors[inside])
        return np.concatenate([*found, point])
