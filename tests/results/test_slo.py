"""What an SLO may say in a file, and which requests keep it."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator
from pydantic import ValidationError

from sim.core import InputError, Spec, build_spec, parse_yaml
from sim.results import SloSpec, slo_of


class Root(Spec):
    slo: SloSpec


def from_file(text: str) -> SloSpec:
    return build_spec(Root, parse_yaml(f"slo: {text}\n", "x.yaml")).slo


def test_limits_with_units() -> None:
    slo = from_file("{ttft: 2 s, tpot: 50 ms, attainment: 0.99}")
    assert slo.limits_s == {"ttft_s": 2.0, "tpot_s": 0.05}
    assert slo.attainment == 0.99
    assert from_file("{e2e: 1 min}").attainment == 0.9
    assert from_file("{ttft: 2 s, attainment: 95 %}").attainment == 0.95


def test_short_keys() -> None:
    assert from_file("{ttft_p99: 2 s}") == SloSpec(ttft=2.0, attainment=0.99)
    assert from_file("{ttft_p95: 2 s, tpot_p95: 50 ms}") == SloSpec(ttft=2.0, tpot=0.05, attainment=0.95)
    assert from_file("{e2e_p99.9: 10 s}").attainment == pytest.approx(0.999)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{ttft_p99: 2 s, tpot_p90: 50 ms}", "different percentiles"),
        ("{ttft_p99: 2 s, attainment: 0.9}", "both say how many"),
        ("{ttft_p99: 2 s, ttft: 1 s}", "both limit the same"),
        ("{attainment: 0.9}", "needs a limit"),
        ("{itl: 50 ms}", "token gaps are not kept per request"),
        ("{ttft: 2}", "unit is missing"),
        ("{ttft: 2 GB}", "it measures bytes"),
        ("{ttft: 0 s}", "greater than 0"),
        ("{ttft: 2 s, attainment: 1.5}", "less than or equal to 1"),
        ("{ttft: 2 s, attainment: 0}", "greater than 0"),
        ("{tftt: 2 s}", "unknown key 'tftt'; did you mean 'ttft'?"),
        ("{ttft_p100: 2 s}", "unknown key 'ttft_p100'"),
    ],
)
def test_mistakes(text: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        from_file(text)
    assert said in str(caught.value)
    assert str(caught.value).startswith("x.yaml:1 slo")


def test_schema_accepts_what_the_parser_accepts() -> None:
    validator = Draft7Validator(SloSpec.model_json_schema())
    good: list[Any] = [
        {"ttft": "2 s", "attainment": 0.99},
        {"ttft_p99": "2 s"},
        {"e2e_p99.9": "3 s", "tpot_p99.9": "1 s"},
    ]
    assert [*map(validator.is_valid, good)] == [True] * 3
    assert [*map(validator.is_valid, [{"tftt": "2 s"}, {"itl_p99": "2 s"}])] == [False, False]


def test_satisfied() -> None:
    requests = {
        "status": np.array(["finished", "finished", "finished", "running", "rejected"], dtype=object),
        "ttft_s": np.array([1.0, 3.0, 2.0, 1.0, np.nan]),
        "tpot_s": np.array([np.nan, 0.01, 0.06, 0.01, np.nan]),
    }
    assert SloSpec(ttft=2.0, tpot=0.05).satisfied(requests).tolist() == [True, False, False, False, False]
    assert SloSpec(ttft=2.0).satisfied(requests).tolist() == [True, False, True, False, False]


@given(st.floats(0.001, 100), st.floats(0.5, 1.0))
def test_resolved_data_reads_back(limit: float, share: float) -> None:
    slo = SloSpec(ttft=limit, attainment=share)
    assert slo_of({"slo": slo.model_dump(mode="json", exclude_none=True)}) == slo
    assert slo_of({}) is None


def test_is_frozen() -> None:
    with pytest.raises(ValidationError):
        SloSpec(ttft=1.0).ttft = 2.0  # type: ignore[misc]
