"""Which replica each policy chooses."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from sim.core import stream
from sim.serving import ROUTERS


@dataclass
class Fleet:
    outstanding: list[int]
    slots: list[int] = field(default_factory=lambda: [2, 2, 2])


def choices(name: str, fleet: Fleet, count: int, seed: int = 0) -> list[int | None]:
    router = ROUTERS.get(name)(fleet, stream(seed, "router"))
    return [router.choose(request) for request in range(count)]


def test_round_robin_ignores_load() -> None:
    assert choices("round_robin", Fleet([9, 0, 0]), 5) == [0, 1, 2, 0, 1]


def test_least_outstanding_takes_the_lowest_number_among_equals() -> None:
    assert choices("least_outstanding", Fleet([3, 1, 1]), 2) == [1, 1]


def test_central_queue_holds_what_no_replica_can_run() -> None:
    assert choices("central_queue", Fleet([2, 1, 2]), 1) == [1]
    assert choices("central_queue", Fleet([2, 2, 3]), 1) == [None]


def test_random_is_uniform_and_follows_the_seed() -> None:
    drawn = choices("random", Fleet([0, 0, 0]), 9000, seed=4)
    assert drawn == choices("random", Fleet([5, 5, 5]), 9000, seed=4)
    assert drawn != choices("random", Fleet([0, 0, 0]), 9000, seed=5)
    counts = np.bincount(np.asarray(drawn, dtype=np.int64))
    assert counts == pytest.approx([3000] * 3, abs=4 * np.sqrt(9000 * 2 / 9))
