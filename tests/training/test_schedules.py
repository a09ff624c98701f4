"""Every schedule keeps the contract; bubbles and memory are those of the papers."""

import pytest

from sim.core import InputError
from sim.testing.training import check_schedule, equal_times
from sim.training import SCHEDULES, PipelineTimes, replay

SHAPES = ((2, 2), (4, 4), (4, 12), (8, 16), (5, 10))


def run(name: str, stages: int, microbatches: int, chunks: int = 1, **times: float) -> PipelineTimes:
    return replay(
        SCHEDULES.get(name)(),
        equal_times(stages * chunks, **times),
        stages=stages,
        chunks=chunks,
        microbatches=microbatches,
    )


@pytest.mark.parametrize("name", SCHEDULES.names())
def test_contract(name: str) -> None:
    check_schedule(name)


@pytest.mark.parametrize("name", ["gpipe", "1f1b"])
@pytest.mark.parametrize(("p", "m"), [*SHAPES, (8, 3), (4, 1)])
def test_bubble_of_gpipe_and_1f1b(name: str, p: int, m: int) -> None:
    # Narayanan et al. (2021), section 2.2: p - 1 stages' worth of one F and one B on top of m of each.
    step = run(name, p, m, forward_s=1.0, input_s=1.3, weight_s=0.9)
    assert step.bubble_over_ideal == pytest.approx((p - 1) / m)
    assert step.bubble_frac == pytest.approx((p - 1) / (m + p - 1))


@pytest.mark.parametrize(("p", "m"), [*SHAPES, (8, 3)])
def test_activations_in_flight(p: int, m: int) -> None:
    assert run("gpipe", p, m).peak_activations.tolist() == [m] * p
    assert run("1f1b", p, m).peak_activations.tolist() == [min(m, p - device) for device in range(p)]


@pytest.mark.parametrize("v", [2, 3, 5])
@pytest.mark.parametrize(("p", "m"), SHAPES)
def test_interleaving_divides_the_bubble(p: int, m: int, v: int) -> None:
    # Narayanan et al. (2021), section 2.2.2: the same number of idle passes, each a v-th as long.
    step = run("interleaved", p, m, chunks=v, forward_s=1.0, input_s=1.3, weight_s=0.9)
    assert step.bubble_over_ideal == pytest.approx((p - 1) / (m * v))
    # Korthikanti et al. (2023), section 4.2.3: 1 + (p - 1) / (p v) times the p stages' worth of the first device.
    if m > p:
        assert step.peak_activations[0] == pytest.approx(p * v * (1 + (p - 1) / (p * v)))


def test_rules_name_the_numbers_and_the_nearest_valid_values() -> None:
    with pytest.raises(InputError, match=r"multiple of 8, not 20; nearest: 16 or 24"):
        run("interleaved", 8, 20, chunks=2)
    with pytest.raises(InputError, match="at least 2, not 1"):
        run("interleaved", 8, 16, chunks=1)
    with pytest.raises(InputError, match="1 virtual stage per device, not 2"):
        run("1f1b", 4, 8, chunks=2)
    with pytest.raises(InputError, match="at least one of microbatches"):
        run("1f1b", 4, 0)
