"""Laws of arrival processes: mean, CV, common random numbers, windows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from sim.core import InputError, YamlDocument, build_spec, stream
from sim.testing.workloads import check_arrivals, check_mean_rate
from sim.workloads import ARRIVALS, ArrivalProcess, TrafficSpec
from sim.workloads.arrivals.piecewise import Piecewise
from sim.workloads.arrivals.weibull import Weibull, weibull_cv
from sim.workloads.report import gap_cv
from sim.workloads.traffic import AnyArrivals

ANY: TypeAdapter[ArrivalProcess] = TypeAdapter(AnyArrivals)
rates = st.floats(0.01, 1000)
seeds = st.integers(0, 2**32)


@st.composite
def piecewise(draw: st.DrawFn) -> dict[str, object]:
    count = draw(st.integers(1, 6))
    widths = draw(st.lists(st.floats(1, 100), min_size=count, max_size=count))
    levels = draw(st.lists(st.one_of(st.just(0), st.floats(0.1, 50)), min_size=count, max_size=count))
    levels[draw(st.integers(0, count - 1))] = 3.0
    starts = np.concatenate(([0.0], np.cumsum(widths)))
    windows = [{"start": start, "rate": rate} for start, rate in zip(starts[:-1].tolist(), levels, strict=True)]
    law = draw(
        st.sampled_from([{"process": "poisson"}, {"process": "gamma", "cv": 0.3}, {"process": "gamma", "cv": 3}])
    )
    return {"kind": "piecewise", "period": float(starts[-1]), "windows": windows, **law}


processes = st.one_of(
    st.fixed_dictionaries({"kind": st.sampled_from(["poisson", "constant"]), "rate": rates}),
    st.fixed_dictionaries({"kind": st.sampled_from(["gamma", "weibull"]), "rate": rates, "cv": st.floats(0.05, 20)}),
    piecewise(),
)


@given(data=processes, seed=seeds)
def test_contract(data: dict[str, object], seed: int) -> None:
    check_arrivals(ANY.validate_python(data), seed=seed)


def test_every_process_is_covered() -> None:
    assert ARRIVALS.names() == ["constant", "gamma", "piecewise", "poisson", "weibull"]


@pytest.mark.parametrize(
    ("data", "cv"),
    [
        ({"kind": "poisson"}, 1),
        ({"kind": "constant"}, 0),
        ({"kind": "gamma", "cv": 0.5}, 0.5),
        ({"kind": "gamma", "cv": 3}, 3),
        ({"kind": "weibull", "cv": 0.5}, 0.5),
        ({"kind": "weibull", "cv": 2}, 2),
    ],
    ids=str,
)
def test_mean_and_cv_of_gaps(data: dict[str, object], cv: float) -> None:
    process = ANY.validate_python(data | {"rate": 3.0})
    check_mean_rate(process)
    assert gap_cv(process.times(200_000, stream(0, "arrivals"))) == pytest.approx(cv, rel=0.03, abs=1e-6)


@given(st.floats(0.05, 30))
def test_weibull_shape_gives_the_cv(cv: float) -> None:
    assert weibull_cv(Weibull(kind="weibull", cv=cv).shape) == pytest.approx(cv, rel=1e-6)


def test_windows_hold_their_rates_and_pauses() -> None:
    process = Piecewise.model_validate(
        {
            "kind": "piecewise",
            "period": 10.0,
            "windows": [{"start": 0, "rate": 2.0}, {"start": 4.0, "rate": 0}, {"start": 6.0, "rate": 5.0}],
        }
    )
    check_mean_rate(process)
    phase = process.times(100_000, stream(1, "arrivals")) % 10
    counts = np.histogram(phase, bins=[0, 4, 6 - 1e-6, 10])[0]
    laps = 100_000 / 28
    assert counts[0] / laps == pytest.approx(8, rel=0.02)
    assert counts[1] <= 2  # rounding at the edges
    assert counts[2] / laps == pytest.approx(20, rel=0.02)


@pytest.mark.parametrize(
    ("arrivals", "said"),
    [
        ({"kind": "poison"}, "did you mean 'poisson'"),
        ({"kind": "gamma"}, "required"),
        ({"kind": "gamma", "cv": 0}, "greater than 0"),
        ({"kind": "poisson", "rate": "0 /s"}, "positive"),
        ({"kind": "poisson", "rate": 4}, "unit is missing"),
        ({"kind": "poisson", "cv": 2}, "unknown key 'cv'"),
        ({"kind": "piecewise", "period": "9 s", "windows": [{"start": "1 s", "rate": "1 /s"}]}, "ascend from 0 s"),
        ({"kind": "piecewise", "period": "0 s", "windows": [{"start": 0, "rate": "1 /s"}]}, "before `period`"),
        ({"kind": "piecewise", "period": "9 s", "windows": [{"start": 0, "rate": 0}]}, "above zero"),
        ({"kind": "piecewise", "period": "9 s", "windows": [{"start": 0, "rate": "1 /s"}], "cv": 2}, "process: gamma"),
    ],
    ids=str,
)
def test_bad_processes_are_refused(arrivals: dict[str, object], said: str) -> None:
    lengths = {"input": {"kind": "constant", "value": 1}, "output": {"kind": "constant", "value": 1}}
    document = YamlDocument({"name": "x", "arrivals": arrivals, "lengths": lengths}, "x.yaml", {})
    with pytest.raises(InputError, match="arrivals") as caught:
        build_spec(TrafficSpec, document)
    assert said in str(caught.value)
