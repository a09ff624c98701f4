"""Named streams: stable, independent of each other, and the same whatever else is drawn."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sim.core import stream


def test_is_stable_across_versions() -> None:
    assert stream(0, "arrivals").integers(0, 2**32, 4).tolist() == [1612779739, 2459480269, 1743224422, 1035246647]


@given(st.integers(0, 2**63), st.text(max_size=10))
def test_same_name_same_draws(seed: int, name: str) -> None:
    assert np.array_equal(stream(seed, name).random(4), stream(seed, name).random(4))


@given(st.integers(0, 2**32), st.lists(st.text(max_size=8), min_size=2, max_size=2, unique=True))
def test_other_name_or_seed_other_draws(seed: int, names: list[str]) -> None:
    first, second = (stream(seed, name).random(4) for name in names)
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, stream(seed + 1, names[0]).random(4))


def test_parts_of_a_name_are_kept_apart() -> None:
    draws = {stream(7, *names).integers(2**62) for names in (("a", "b"), ("ab",), ("a", "b", ""), ("a", 1), ("a", "2"))}
    assert len(draws) == 5


def test_streams_are_uncorrelated() -> None:
    many = np.array([stream(1, "lengths", i).standard_normal(4000) for i in range(12)])
    correlation = np.corrcoef(many) - np.eye(12)
    assert np.abs(correlation).max() < 0.08
