"""Routing of tokens to experts: how many a batch touches, how unequal ranks are, how many ranks a token goes to."""

from __future__ import annotations

from typing import Final

import numpy as np

from sim.core import Array

EVEN = float("inf")
"""Popularity of experts that tokens pick equally often."""

_TOGETHER: Final = 0.38
"""Experts on one rank as independent draws over how many they are. Measured: of 32 ranks with 8 experts of DeepSeek-R1
each the busiest gets 2.56 times the mean, averaged over layers and iterations (TensorRT-LLM,
examples/wide_ep/ep_load_balancer), as of gamma laws of shape 3; 8 independent experts of shape 1 add up to 8.
For other numbers of experts on a rank it is extrapolated, as if popularity were that much more unequal: were experts
of one rank alike instead (correlation 0.24), the busiest of 8 ranks would have 1.8 times the mean, not 1.5.
"""


def touched_experts(tokens: float | Array, *, experts: float, top_k: float, popularity: float = EVEN) -> Array:
    """Expected number of experts that get at least one of `tokens` tokens, each of which picks `top_k` different ones.

    `E (1 - (1 - k/E) (1 + (T - 1) x/r)^-r)` with `x = -ln(1 - k/E)`. How often tokens pick an expert is spread over
    experts by a gamma law of shape r, so that tokens after the first miss one with the Laplace transform of that law
    (the zero class of a negative binomial). One token touches exactly k. In the limit of even popularity this is
    `E (1 - (1 - k/E)^T)`, the exact count for independent uniform choices.

    Args:
        tokens: Tokens T, any shape.
        experts: Experts E.
        top_k: Experts per token k.
        popularity: Shape r of the gamma law; its Gini coefficient is 0 at infinity, 0.375 at 2, 0.5 at 1, 0.64 at 0.5.
    """
    count = np.asarray(tokens, dtype=np.float64)
    missed = 1.0 - min(top_k / experts, 1.0)
    if missed == 0.0:
        return np.asarray(experts * np.minimum(count, 1.0))
    each = -np.log(missed)
    if np.isinf(popularity):
        return np.asarray(experts * -np.expm1(-each * count))
    later = np.maximum(count - 1.0, 0.0)
    first = -each * np.minimum(count, 1.0)
    return np.asarray(experts * -np.expm1(first - popularity * np.log1p(later * each / popularity)))


def rank_spread(experts: float, *, popularity: float) -> float:
    """Variance of how often tokens pick the experts of a rank, over the square of its mean.

    A rank's load is taken to be gamma distributed like that of an expert, with the shapes of its experts added up as
    far as they are independent (`_TOGETHER`).

    Args:
        experts: Experts of the rank.
        popularity: Shape of the law of one expert.
    """
    return 0.0 if np.isinf(popularity) else 1.0 / (_TOGETHER * popularity * experts)


def reached_ranks(ranks: float | Array, *, top_k: float) -> Array:
    """Expected number of ranks that hold an expert of a token which picks `top_k`: `n (1 - (1 - 1/n)^k)` of n, evenly.

    Args:
        ranks: Ranks n that share the experts, any shape.
        top_k: Experts per token k.
    """
    n = np.asarray(ranks, dtype=np.float64)
    return np.asarray(n * (1.0 - (1.0 - 1.0 / n) ** top_k))
