"""What a fit makes smallest: robust errors of measured values, and the distance of parameters from their priors.

The residual of a value is ln(predicted / measured) over the spread that is expected of its metric even with right
parameters, since kernel curves err too. Two things keep a fit from blaming one thing for the errors of another:

- Rows of one pair of system and model share the errors of its kernels, so n of them count as n / (1 + (n - 1) r) values
  that know nothing of each other, with the correlation r: a long table of one pair cannot outweigh a prior, nor other
  pairs.
- Some values are far off for reasons that no parameter explains. Under soft L1 they pull with a limited force; under
  Cauchy's law, whose force falls again with the distance, whole pairs that are off by a factor of two (an option that
  was not recorded, a wrong label) have next to no say. It needs a start from which most are not far off.

Priors are normal in the logarithm and are not damped: a parameter that the rows say nothing about stays where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Final, Literal

import numpy as np

from sim.core import Array

EXPECTED_SPREAD: Final = {"tpot_s": 0.10, "itl_s": 0.10, "e2e_s": 0.10, "ttft_s": 0.25, "engine_ttft_s": 0.25}
"""Spread of ln(predicted / measured) expected with right overheads (assumed: errors of the kernel curves, and repeats
of one configuration, which differ by 20 % at P75)."""

_SHARED: Final = 0.5
"""Correlation of errors within a pair of system and model and a metric: the medians of pairs of the serving points
spread as much as their rows do about them (0.07 and 0.06 of TPOT, 0.18 and 0.22 of TTFT; 1.48 times the median
deviation)."""

Loss = Callable[[Array], Array]
Law = Literal["soft_l1", "cauchy"]


def weights_of(groups: Sequence[Hashable]) -> Array:
    """How many independent values each value counts as, shape `(n,)`; those of equal `groups` share their errors."""
    sizes: dict[Hashable, int] = {}
    for group in groups:
        sizes[group] = sizes.get(group, 0) + 1
    return np.array([1.0 / (1.0 + (sizes[group] - 1) * _SHARED) for group in groups], dtype=np.float64)


def damped(weights: Array, law: Law) -> Loss:
    """The loss of `scipy.optimize.least_squares`: robust for as many residuals as there are weights, squares beyond.

    Of squared residuals `z`, shape `(m,)`, it gives value and first two derivatives, shape `(3, m)`; those after the
    weighted ones are distances from priors.
    """
    n = len(weights)

    def loss(z: Array) -> Array:
        found = np.stack([z, np.ones_like(z), np.zeros_like(z)])
        beyond = 1.0 + z[:n]
        if law == "cauchy":
            own = np.stack([np.log(beyond), 1.0 / beyond, -1.0 / beyond**2])
        else:
            own = np.stack([2.0 * (np.sqrt(beyond) - 1.0), beyond**-0.5, -0.5 * beyond**-1.5])
        found[:, :n] = weights * own
        return found

    return loss
