"""Prompt and output lengths with a rank correlation between them."""

from __future__ import annotations

from math import pi, sin, sqrt
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field, SerializeAsAny

from sim.core import Spec
from sim.workloads.lengths import LENGTHS, Marginal, Tokens
from sim.workloads.unions import tagged_union

if TYPE_CHECKING:
    AnyMarginal = Marginal
else:
    AnyMarginal = tagged_union(LENGTHS)


class JointLengths(Spec):
    """Two laws of lengths joined by a Gaussian copula: independent, or with a rank correlation.

    Attributes:
        kind: `joint`.
        input: Law of prompt tokens.
        output: Law of output tokens.
        rank_correlation: Spearman's rank correlation of the two.
    """

    kind: Literal["joint"] = "joint"
    input: SerializeAsAny[AnyMarginal]
    output: SerializeAsAny[AnyMarginal]
    rank_correlation: float = Field(default=0.0, gt=-1, lt=1)

    def sample(self, count: int, rng: np.random.Generator) -> tuple[Tokens, Tokens]:
        """Prompt and output tokens of `count` requests; the first n of m requests equal those of n."""
        normal = rng.standard_normal((count, 2))
        pearson = 2 * sin(pi * self.rank_correlation / 6)
        second = pearson * normal[:, 0] + sqrt(1 - pearson**2) * normal[:, 1]
        from scipy.special import ndtr

        return self.input.tokens(ndtr(normal[:, 0])), self.output.tokens(ndtr(second))
