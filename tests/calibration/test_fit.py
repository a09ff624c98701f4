"""A fit finds the parameters that made the rows, and says which ones the rows could not tell."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from sim.calibration import PARAMETERS, Calibration, calibrate, parameters_of, profile_yaml
from sim.calibration.response import changed
from sim.core import InputError, parse_yaml
from sim.plans import load_engine, with_values
from sim.validation import MeasuredRow, predict
from tests.calibration.builders import closed_loop

TRUE = {"frontend_s": 0.06, "host_step_s": 9e-3}


def row(number: int, concurrency: int, prompt: int, model: str) -> MeasuredRow:
    return closed_loop(
        number,
        model=model,
        engine="vllm",
        concurrency=concurrency,
        prompt=prompt,
        output={"kind": "uniform", "min": 20, "max": 40},
        requests=6 * concurrency,
    )


@cache
def made_rows(models: tuple[str, ...] = ("qwen2.5-0.5b",)) -> tuple[MeasuredRow, ...]:
    """Rows whose measured values are predictions with the parameters of `TRUE`."""
    engine = with_values(load_engine("vllm"), TRUE)
    blank = [
        row(100 * i + j, concurrency, prompt, model)
        for i, model in enumerate(models)
        for j, (concurrency, prompt) in enumerate([(1, 100), (2, 100), (4, 400), (8, 100), (1, 400), (4, 100)])
    ]
    return tuple(replace(one, measured=dict(predict(one, engine=engine).values)) for one in blank)


@cache
def fit(*names: str) -> Calibration:
    return calibrate(made_rows(), profile="vllm", names=names)


def test_true_parameters_are_found() -> None:
    found = {each.name: each for each in fit("frontend_s", "host_step_s").parameters}
    for name, value in TRUE.items():
        assert found[name].identified
        assert found[name].value == pytest.approx(value, rel=0.1)
        assert found[name].low < value < found[name].high


def test_errors_shrink_and_are_reported_by_metric() -> None:
    done = fit("frontend_s", "host_step_s")
    assert set(done.after) == {"ttft_s", "tpot_s"}
    for metric, after in done.after.items():
        assert after < 0.05 < done.before[metric]
    largest = [abs(one.after_frac) for one in done.residuals]
    assert len(largest) == 12
    assert largest[0] == max(largest)
    assert np.median([abs(one.before_frac) for one in done.residuals if one.metric == "ttft_s"]) == pytest.approx(
        done.before["ttft_s"]
    )
    document = done.to_json()
    assert document["command"] == "calibrate"
    assert len(document["rows"]) == 6


def test_what_rows_do_not_speak_of_stays_with_its_prior() -> None:
    """With at most eight sequences a time per sequence cannot be told from one per step."""
    found = {each.name: each for each in fit("frontend_s", "host_step_s", "host_per_sequence_s").parameters}
    lost = found["host_per_sequence_s"]
    assert not lost.identified
    assert lost.low < lost.before < lost.high


def test_leaving_a_model_out_reports_its_errors() -> None:
    rows = made_rows(("qwen2.5-0.5b", "llama-3.2-1b"))
    done = calibrate(rows, profile="vllm", names=["frontend_s", "host_step_s"], leave_out=True)
    assert done.left_out["ttft_s"] < 0.1, "the parameters are those of the engine, whatever the model"
    assert calibrate(made_rows(), profile="vllm", names=["frontend_s"], leave_out=True).left_out == {}


def test_a_profile_is_written_that_loads_and_has_only_what_was_identified(tmp_path: Any) -> None:
    text = profile_yaml(fit("frontend_s", "host_step_s", "host_per_sequence_s"), name="mine", sources="made rows")
    data: Mapping[str, Any] = parse_yaml(text).data
    assert "host_per_sequence_s" in data["note"]
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    engine = load_engine(str(path))
    assert engine.frontend_s.value == pytest.approx(0.06, rel=0.1)
    assert engine.frontend_s.source == "fitted"
    assert engine.host_per_sequence_s == load_engine("vllm").host_per_sequence_s
    assert engine.errors == (), "bands of the old values do not hold for new ones"


def test_too_few_rows_and_unknown_names_are_refused() -> None:
    with pytest.raises(InputError, match="3 measured rows of vllm can be simulated; a fit needs 5: of 3 in all"):
        calibrate(made_rows()[:3], profile="vllm")
    broken = replace(made_rows()[3], id="x", scenario={**(made_rows()[3].scenario or {}), "model": "llama-99"})
    silent = replace(made_rows()[4], id="y", scenario=None, reason="tp is empty")
    with pytest.raises(InputError) as caught:
        calibrate([*made_rows()[:2], broken, silent], profile="vllm")
    assert "1 cannot be simulated (unknown model" in caught.value.message
    assert "1 cannot be simulated (tp is empty)" in caught.value.message
    with pytest.raises(InputError, match=r"0 measured rows of sglang.*6 are of vllm"):
        calibrate(made_rows(), profile="sglang")
    with pytest.raises(InputError, match="did you mean 'host_step_s'"):
        parameters_of(load_engine("vllm"), ["host_stp_s"])
    assert [each.name for each in parameters_of(load_engine("sglang"))] == [*PARAMETERS]


def test_a_profile_without_a_parameter_is_not_fitted_to_it() -> None:
    names = [each.name for each in parameters_of(load_engine("vllm"))]
    assert names == [name for name in PARAMETERS if name not in ("step_gap_s", "stream_token_s")]
    with pytest.raises(InputError, match="the profile vllm has no step_gap_s"):
        parameters_of(load_engine("vllm"), ["step_gap_s"])


def test_a_parameter_that_a_version_does_not_have_stays_out() -> None:
    engine = load_engine("vllm-0.12")
    assert changed(engine, {"host_step_s": 2.0, "step_gap_s": 2.0}) == {"host_step_s": 2.0 * engine.host_step_s.value}
