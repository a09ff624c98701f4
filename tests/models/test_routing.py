"""How many experts a batch touches."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.models.routing import EVEN, rank_spread, touched_experts

SHAPES = st.sampled_from([0.3, 1.0, 2.0, 30.0, EVEN])


@given(st.integers(1, 8), st.integers(8, 512), SHAPES)
def test_one_token_touches_its_own_experts_and_enough_tokens_all(top_k: int, experts: int, shape: float) -> None:
    def touched(tokens: float) -> float:
        return float(touched_experts(tokens, experts=experts, top_k=top_k, popularity=shape))

    assert touched(0) == 0
    assert touched(1) == pytest.approx(top_k)
    assert touched(1e14) == pytest.approx(experts, rel=1e-3)


@given(st.floats(0, 5000), st.floats(0, 5000), SHAPES)
def test_more_tokens_never_touch_fewer_nor_more_than_they_pick(tokens: float, more: float, shape: float) -> None:
    low, high = (float(touched_experts(t, experts=128, top_k=8, popularity=shape)) for t in (tokens, tokens + more))
    assert low <= high * (1 + 1e-9)
    assert high <= min(128.0, 8.0 * max(1.0, tokens + more)) * (1 + 1e-9)


@pytest.mark.parametrize("experts", [8, 128])
def test_unequal_popularity_touches_fewer(experts: int) -> None:
    tokens = np.arange(2.0, 200.0)
    steps = [touched_experts(tokens, experts=experts, top_k=2, popularity=r) for r in (0.5, 1.0, 4.0, 1e6, EVEN)]
    assert all((a < b).all() for a, b in pairwise(steps[:4]))
    assert steps[3] == pytest.approx(steps[4], rel=1e-4)


def test_equal_a_random_draw() -> None:
    draw = np.random.default_rng(0)
    counts = [len(set(np.concatenate([draw.permutation(64)[:6] for _ in range(20)]))) for _ in range(400)]
    assert float(touched_experts(20, experts=64, top_k=6)) == pytest.approx(np.mean(counts), rel=0.01)


@pytest.mark.parametrize("shape", [0.7, 1.0, 3.0])
@pytest.mark.parametrize(("top_k", "tokens"), [(1, 300), (8, 8), (8, 64)])
def test_unequal_popularity_equals_a_random_draw(shape: float, top_k: int, tokens: int) -> None:
    """Experts of gamma popularity, each token picking different ones in turn: what the law stands for."""
    draw, experts, counts = np.random.default_rng(1), 256, []
    for _ in range(120):
        popularity = draw.gamma(shape, size=experts)
        raced = draw.exponential(size=(tokens, experts)) / popularity  # the first k to ring are a draw without return
        counts.append(len(np.unique(np.argpartition(raced, top_k - 1, axis=1)[:, :top_k])))
    found = float(touched_experts(tokens, experts=experts, top_k=top_k, popularity=shape))
    assert found == pytest.approx(np.mean(counts), rel=0.04)


def test_no_experts_missed_by_a_layer_that_uses_all() -> None:
    assert touched_experts(np.array([0.0, 0.5, 3.0]), experts=4, top_k=4, popularity=1.0).tolist() == [0.0, 2.0, 4.0]


def test_ranks_of_more_experts_are_more_alike() -> None:
    """As sums are, and as the busiest of 32 ranks was measured: 2.56 times the mean, averaged over layers."""
    spreads = [rank_spread(experts, popularity=1.0) for experts in (1, 8, 32)]
    assert spreads == sorted(spreads, reverse=True)
    assert rank_spread(8, popularity=EVEN) == 0.0
    busiest = np.random.default_rng(3).gamma(1 / spreads[1], spreads[1], size=(4000, 32)).max(axis=1)
    assert busiest.mean() == pytest.approx(2.56, rel=0.05)
