"""Cross-validation: a fit without a model predicts that model, and nothing of it reaches the fit."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sim.calibration import cross_validate, cross_validate_all
from sim.calibration.cross import _fits
from sim.calibration.parameters import first_guess, parameters_of
from sim.calibration.pooled import fit_versions
from sim.calibration.response import Response, changed, response_of, variants_of
from sim.core import InputError
from sim.plans import load_engine, with_values
from sim.report import scoreboard_page
from sim.validation import (
    Dataset,
    MeasuredRow,
    Scoreboard,
    digest,
    predict,
    predict_all,
    score,
    with_other_costs,
)
from tests.calibration.test_fit import row

NAMES = ("frontend_s", "host_step_s")
TRUE = {"frontend_s": 0.03, "host_step_s": 4e-3}
MODELS = ("qwen2.5-0.5b", "llama-3.2-1b", "qwen2.5-1.5b")
POINTS = ((1, 100), (2, 100), (4, 400), (8, 100), (1, 400), (4, 100), (2, 800))


@cache
def rows() -> tuple[MeasuredRow, ...]:
    """Rows of three models on two systems, measured with the parameters of `TRUE`."""
    engine = with_values(load_engine("vllm"), TRUE)
    blank = [
        row(100 * i + j, concurrency, prompt, model)
        for i, model in enumerate(MODELS)
        for j, (concurrency, prompt) in enumerate(POINTS)
    ]
    placed = [replace(one, groups={**one.groups, "system": f"s{i % 2}"}) for i, one in enumerate(blank)]
    return tuple(replace(one, measured=dict(predict(one, engine=engine).values)) for one in placed)


def dataset(*, spoilt: str = "") -> Dataset:
    """The rows as a dataset; those of the model `spoilt` measured ten times as slow."""
    changed_rows = tuple(
        replace(one, measured={name: 10.0 * (value or 0.0) for name, value in one.measured.items()})
        if one.groups["model"] == spoilt
        else one
        for one in rows()
    )
    return Dataset("made", "plansim_rows", (), "0" * 64, changed_rows)


@cache
def found(spoilt: str = "") -> dict[str, Any]:
    return cross_validate(dataset(spoilt=spoilt), names=NAMES)


def response_to(some: tuple[MeasuredRow, ...]) -> Response:
    engine = load_engine("vllm")
    parameters = parameters_of(engine, NAMES)
    variants = [{}, *variants_of(engine, parameters)]
    return response_of(some, predict_all(some, values=[variants] * len(some)), parameters)


@cache
def response() -> Response:
    return response_to(rows())


def fitted(one: Response, kept: list[bool]) -> dict[str, float]:
    return fit_versions({"vllm": one}, {"vllm": np.array(kept)})["vllm"]


@pytest.mark.parametrize(
    "factors",
    [{"frontend_s": 1.5}, {"frontend_s": 2.0}, {"frontend_s": 0.5}, {"host_step_s": 3.0}, {"host_step_s": 0.5}],
)
def test_lines_through_three_simulations_foretell_a_fourth(factors: dict[str, float]) -> None:
    """Of times that add up; host time that hides behind the device has a kink, and is met where it was simulated."""
    point = np.log([factors.get(name, 1.0) for name in NAMES])
    values = changed(load_engine("vllm"), factors)
    simulated = response_of(rows(), predict_all(rows(), values=[[values]] * len(rows())), ()).base
    np.testing.assert_allclose(response().predicted(point), simulated, rtol=0.07)


def test_a_fit_to_responses_finds_true_parameters() -> None:
    assert fitted(response(), [True] * len(rows())) == pytest.approx(TRUE, rel=0.15)


def test_parameters_of_the_engine_hold_for_models_and_systems_left_out() -> None:
    assert found()["parameters"] == [*NAMES]
    for scheme in ("in_sample", "model", "system"):
        part = found()[scheme]
        assert part["answered"] == part["rows"] == len(rows())
        for metric in ("ttft_s", "tpot_s"):
            assert part["metrics"][metric]["median_abs_error_frac"] < 0.05
    shipped = [abs((predict(one).values["ttft_s"] or 0) / (one.measured["ttft_s"] or 1) - 1) for one in rows()]
    assert np.median(shipped) > 0.1, "otherwise nothing was to be fitted"


def test_other_kernel_times_are_cross_validated_with_fits_of_their_own(tmp_path: Path) -> None:
    """Products that take a millisecond each hide host times; a fit with such kernels is not that of the curves."""
    source = tmp_path / "slow.csv"
    shapes = [f"gemm,bf16,{m},{n},{k}" for m in (1, 8192) for n in (64, 200000) for k in (64, 20000)]
    source.write_text("kind,dtype,m,n,k,time_s\n" + "".join(f"{one},1e-3\n" for one in shapes), encoding="utf-8")
    plain = score([dataset()])
    board = cross_validate_all(with_other_costs(plain, [str(source)]), by=["model"])
    own, other = board.summary["made"], board.summary["made"]["other_costs"][str(source)]
    assert own["cross_validation"] == cross_validate_all(plain, by=["model"]).summary["made"]["cross_validation"]
    alone = cross_validate(dataset(), by=["model"], overrides=(f"costs={source}",))
    assert other["cross_validation"] == alone
    errors = [one["model"]["metrics"]["tpot_s"]["bias_frac"] for one in (alone, own["cross_validation"])]
    assert errors[0] > errors[1] + 1.0
    page = scoreboard_page(digest(board))
    assert page.count("| model left out |") == 2 + 2, "errors with each source, and the intervals"


def test_a_model_left_out_does_not_reach_the_fit_that_predicts_it() -> None:
    """Spoilt measurements of a model change the fits of the others, never the prediction of its own rows."""
    spoilt = MODELS[0]
    others = [one.groups["model"] != MODELS[1] for one in rows()]
    alone = replace(dataset(spoilt=spoilt), rows=tuple(one for one in rows() if one.groups["model"] != spoilt))
    assert fitted(response_to(dataset(spoilt=spoilt).rows), others) != pytest.approx(
        fitted(response(), others), rel=5e-3
    )
    own = cross_validate(dataset(spoilt=spoilt), by=["model"], names=NAMES)
    assert own["model"]["by_engine"]["vllm"]["rows"] == len(rows())
    without = fitted(response(), [one.groups["model"] != spoilt for one in rows()])
    assert without == pytest.approx(fitted(response_to(alone.rows), [True] * len(alone.rows)), rel=1e-6)


@pytest.mark.parametrize("factor", [1.0, 10.0])
def test_a_version_that_only_the_rows_left_out_told_takes_the_times_of_its_engine(factor: float) -> None:
    """Rows of one model with vLLM 0.12, whatever they measured: without them its times are those fitted to vLLM's."""
    older = [
        replace(
            one,
            scenario={**(one.scenario or {}), "engine": "vllm-0.12"},
            measured={name: factor * (value or 0.0) for name, value in one.measured.items()},
        )
        if one.groups["model"] == MODELS[2]
        else one
        for one in rows()
    ]
    base = [one for (one,) in predict_all(older, values=[[{}]] * len(older))]
    (fit,) = _fits(older, base, ["model"], NAMES, lambda values: predict_all(older, values=values))
    left, plain = older[-1], older[0]
    assert fit.is_known(left, "model")
    alone = fitted(response(), [one.groups["model"] != MODELS[2] for one in rows()])
    assert fit.values["model", MODELS[2]]["vllm"] == pytest.approx(alone, rel=0.01)
    guess = {name: first_guess(name).value for name in NAMES}
    for name, value in fit.values_for(left, "model").items():
        ends = sorted([guess[name], alone[name]])
        assert ends[0] <= value <= ends[1], "the engine's: between what its other version says and the first guess"
    assert fit.values_for(left, "in_sample") != pytest.approx(fit.values_for(left, "model"), rel=0.01)
    assert fit.values_for(plain, "model") != fit.values_for(left, "model")


def test_too_few_rows_left_are_said() -> None:
    few = replace(dataset(), rows=tuple(one for one in rows() if one.groups["model"] != MODELS[2])[:9])
    part = cross_validate(few, by=["model"], names=NAMES)["model"]
    assert part["answered"] == 9 - 7, "without the first model two rows are left, without the second seven"


def test_wrong_groups_and_too_few_rows_are_refused() -> None:
    with pytest.raises(InputError, match="cannot be left out by 'colour'"):
        cross_validate(dataset(), by=["colour"])
    with pytest.raises(InputError, match="no engine has enough rows"):
        cross_validate(replace(dataset(), rows=rows()[:3]))
    few = replace(dataset(), rows=rows()[:6])
    with pytest.raises(InputError, match="no table has rows enough"):
        cross_validate_all(Scoreboard((few,), ((),), seed=0))


def test_workers_change_nothing() -> None:
    assert cross_validate(dataset(), by=["model"], names=NAMES, workers=2) == cross_validate(
        dataset(), by=["model"], names=NAMES
    )
