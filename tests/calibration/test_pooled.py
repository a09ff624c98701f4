"""A pooled fit: what a few rows say, what they do not, and how little the rows that nothing explains do to it."""

from __future__ import annotations

from math import log

import numpy as np
import pytest

from sim.calibration.objective import damped, weights_of
from sim.calibration.parameters import Parameter, first_guess
from sim.calibration.pooled import fit_versions
from sim.calibration.response import Response

GAP, FRONT = "step_gap_s", "frontend_s"
STEP_S = 5e-3
PROMPT_S = 20e-3


def made(pairs: dict[str, tuple[int, float, float]], *, profile: dict[str, float] | None = None) -> Response:
    """Rows of some pairs, each with a count, the true times between steps and of the front end.

    A token takes 5 ms and the gap, a prompt 20 ms and the front end; `profile` has the values they are linear about.
    """
    own = profile or {GAP: first_guess(GAP).value, FRONT: first_guess(FRONT).value}
    parameters = tuple(Parameter(name, value, log(4.0)) for name, value in own.items())
    row, group, measured, base, slopes, spread = [], [], [], [], [], []
    for number, (pair, (count, gap_s, front_s)) in enumerate(pairs.items()):
        for _ in range(count):
            row += [number, number]
            group += [(pair, "m", "tpot_s"), (pair, "m", "ttft_s")]
            measured += [STEP_S + gap_s, PROMPT_S + front_s]
            base += [STEP_S + own[GAP], PROMPT_S + own[FRONT]]
            slopes += [[own[GAP], 0.0], [0.0, own[FRONT]]]
            spread += [0.1, 0.25]
    kinks = np.array(slopes, dtype=np.float64).reshape(-1, 2)
    arrays = np.array(measured), np.array(base), kinks, kinks, np.array(spread)
    return Response(parameters, np.array(row, dtype=np.intp), group, *arrays)


def fit(**versions: Response) -> dict[str, dict[str, float]]:
    return fit_versions(versions, {name: np.ones(100, dtype=np.bool_) for name in versions})


def test_a_version_without_rows_takes_what_the_others_agree_on() -> None:
    told = made({f"s{i}": (5, 3e-3, 40e-3) for i in range(8)})
    found = fit(a=told, b=told, c=made({}))
    for name, true in ((GAP, 3e-3), (FRONT, 40e-3)):
        assert found["a"][name] == pytest.approx(true, rel=0.15)
        assert first_guess(name).value < found["c"][name] < found["a"][name]
        one = fit(a=told, c=made({}))
        assert abs(log(one["c"][name] / true)) > abs(log(found["c"][name] / true)), "two versions tell more than one"


def test_a_time_that_no_row_speaks_of_stays_with_its_first_guess() -> None:
    assert fit(a=made({}))["a"] == pytest.approx({GAP: first_guess(GAP).value, FRONT: first_guess(FRONT).value})


def test_the_values_of_a_profile_do_not_reach_the_fit() -> None:
    """Only where its lines start: with lines that are exact, any profile gives the same times."""
    pairs = {f"s{i}": (4, 1e-3, 30e-3) for i in range(4)}
    other = made(pairs, profile={GAP: 2e-3, FRONT: 90e-3})
    assert fit(a=other)["a"] == pytest.approx(fit(a=made(pairs))["a"], rel=1e-3)


def test_pairs_that_are_far_off_have_little_say() -> None:
    """Two of six pairs have tokens three times as slow as the gap of the others explains."""
    good = {f"s{i}": (5, 1e-3, 20e-3) for i in range(4)}
    bad = {f"t{i}": (5, 13e-3, 200e-3) for i in range(2)}
    plain, mixed = fit(a=made(good))["a"], fit(a=made({**good, **bad}))["a"]
    for name in (GAP, FRONT):
        assert mixed[name] == pytest.approx(plain[name], rel=0.25)


def test_rows_of_one_pair_count_as_two_at_most() -> None:
    assert weights_of(["a"] * 1000).sum() == pytest.approx(2.0, rel=0.01)
    assert weights_of(["a", "b", "c"]).tolist() == [1.0, 1.0, 1.0]
    few, many = (fit(a=made({"s": (count, 10e-3, 12e-3)}))["a"][GAP] for count in (1, 90))
    assert first_guess(GAP).value < few < many < 10e-3


@pytest.mark.parametrize("law", ["soft_l1", "cauchy"])
def test_derivatives_of_the_loss_are_its_own_and_priors_are_not_damped(law: str) -> None:
    z, weights = np.array([0.0, 0.3, 4.0, 400.0, 7.0]), np.array([1.0, 0.5, 2.0, 1.0])
    loss = damped(weights, law)  # type: ignore[arg-type]
    step = 1e-5
    above, here, below = loss(z + step), loss(z), loss(z - step)
    np.testing.assert_allclose((above[0] - below[0]) / (2.0 * step), here[1], rtol=1e-5)
    np.testing.assert_allclose((above[1] - below[1]) / (2.0 * step), here[2], rtol=1e-4, atol=1e-9)
    assert here[:, -1].tolist() == [7.0, 1.0, 0.0]
    assert here[0, 3] < (400.0 if law == "cauchy" else 41.0)
