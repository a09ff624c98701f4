"""Laws of token counts, and of prompt and output together."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from scipy.stats import spearmanr

from sim.core import stream
from sim.testing.workloads import check_marginal
from sim.workloads import LENGTHS, JointLengths, Marginal
from sim.workloads.joint import AnyMarginal

ANY: TypeAdapter[Marginal] = TypeAdapter(AnyMarginal)
tokens = st.integers(1, 100_000)


@st.composite
def marginals(draw: st.DrawFn) -> dict[str, object]:
    low, middle, high = sorted(draw(st.tuples(tokens, tokens, tokens)))
    return draw(
        st.sampled_from(
            [
                {"kind": "constant", "value": low},
                {"kind": "uniform", "min": low, "max": high},
                {"kind": "normal", "mean": middle, "sd": max(middle / 3, 1), "min": low, "max": high},
                {"kind": "normal", "mean": middle, "sd": middle / 2},
                {"kind": "lognormal", "median": middle, "sigma": 1.2, "min": low, "max": high},
                {"kind": "lognormal", "median": middle, "sigma": 0.8},
                {"kind": "quantiles", "levels": [0, 0.3, 1], "tokens_at": [low, middle, high]},
            ]
        )
    )


@given(marginals())
def test_contract(data: dict[str, object]) -> None:
    law = ANY.validate_python(data)
    check_marginal(law)
    levels = np.linspace(1e-6, 1 - 1e-6, 101)
    for bound, compare in (("min", np.greater_equal), ("max", np.less_equal)):
        if data.get(bound) is not None:
            assert compare(law.tokens(levels), data[bound]).all()


def test_every_law_is_covered() -> None:
    assert LENGTHS.names() == ["constant", "lognormal", "normal", "quantiles", "uniform"]


def joint(correlation: float) -> JointLengths:
    return JointLengths.model_validate(
        {
            "input": {"kind": "lognormal", "median": 5000, "sigma": 1},
            "output": {"kind": "normal", "mean": 3000, "sd": 900},
            "rank_correlation": correlation,
        }
    )


@pytest.mark.parametrize("correlation", [-0.9, -0.3, 0.0, 0.5, 0.95])
def test_rank_correlation_and_marginals(correlation: float) -> None:
    prompts, outputs = joint(correlation).sample(40_000, stream(0, "lengths"))
    assert spearmanr(prompts, outputs).statistic == pytest.approx(correlation, abs=0.015)
    assert np.median(prompts) == pytest.approx(5000, rel=0.03)
    assert outputs.mean() == pytest.approx(3000, rel=0.01)
    assert outputs.std() == pytest.approx(900, rel=0.02)


def test_uniform_is_flat() -> None:
    law = ANY.validate_python({"kind": "uniform", "min": 3, "max": 6})
    drawn = law.tokens(stream(0, "lengths").random(40_000))
    assert np.bincount(drawn)[3:] / 40_000 == pytest.approx([0.25] * 4, abs=0.01)


def test_fewer_requests_are_the_first_of_more() -> None:
    few, many = (joint(0.4).sample(count, stream(3, "lengths")) for count in (17, 200))
    for short, long in zip(few, many, strict=True):
        assert np.array_equal(short, long[:17])


@pytest.mark.parametrize(
    "data",
    [
        {"kind": "constant", "value": 0},
        {"kind": "uniform", "min": 5, "max": 4},
        {"kind": "normal", "mean": 5, "sd": 1, "min": 6},
        {"kind": "lognormal", "median": 5, "sigma": 1, "max": 4},
        {"kind": "quantiles", "levels": [0, 1], "tokens_at": [1, 2, 3]},
        {"kind": "quantiles", "levels": [0, 0.5], "tokens_at": [1, 2]},
        {"kind": "quantiles", "levels": [0, 1], "tokens_at": [2, 1]},
        {"kind": "quantiles", "levels": [0, 1], "tokens_at": [0, 1]},
    ],
    ids=str,
)
def test_bad_laws_are_refused(data: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ANY.validate_python(data)
