"""The fit of training: it finds what made the rows, sees one half of them, and the study counts right."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from sim.calibration import FreeNumber, fit_training, study_training
from sim.calibration.training_cases import TrainingCase, training_cases
from sim.calibration.training_effects import EFFECTS
from sim.calibration.training_study import error_factors, ordering
from sim.validation import MeasuredRow, predict, read_rows
from tests.validation.samples import TRAINING, write

LINEAR, LINKS = FreeNumber("a100", "linear", 0.8), FreeNumber("a100", "local_comm", 0.8)
LAYOUTS = [(1, 1, 8), (2, 1, 4), (1, 2, 4), (2, 2, 2), (4, 1, 2), (1, 4, 2)]


@cache
def rows() -> tuple[MeasuredRow, ...]:
    """Rows of two sources whose measured times are predictions, each layout with three micro-batches."""
    blank: list[MeasuredRow] = []
    with TemporaryDirectory() as folder:
        for number, (tp, pp, dp) in enumerate(LAYOUTS):
            for micro in (1, 2, 4):
                changes = {
                    "id": f"made{number}-{micro}",
                    "source": f"report {number % 2}",
                    "tp": str(tp),
                    "pp": str(pp),
                    "dp": str(dp),
                    "micro_batch": str(micro),
                }
                blank += read_rows(write(Path(folder) / "t.csv", {**TRAINING, **changes, "extra_metrics": ""})).rows
    return tuple(replace(one, measured={"step_time_s": predict(one).values["step_time_s"]}) for one in blank)


def slower(factor: float, *, half: str) -> list[MeasuredRow]:
    """The rows with the times of one half longer by a factor."""
    return [
        replace(row, measured={"step_time_s": (row.measured["step_time_s"] or 0.0) * factor})
        if row.groups["half"] == half
        else row
        for row in rows()
    ]


def test_both_halves_are_there() -> None:
    assert {row.groups["half"] for row in rows()} == {"fit", "held out"}


def test_the_numbers_that_made_the_rows_are_found() -> None:
    """The priors are elsewhere, and wide enough to be left."""
    found = fit_training(rows(), free=[LINEAR, LINKS])
    [kept] = {(case.sustained.linear, case.sustained.local_comm) for case in training_cases(rows())}
    assert [*found.values.values()] == pytest.approx(kept, rel=0.03)


def test_nothing_of_the_held_out_half_reaches_the_fit() -> None:
    plain, other = (fit_training(given, free=[LINEAR]) for given in (rows(), slower(3.0, half="held out")))
    assert plain.values == other.values
    assert fit_training(slower(1.2, half="fit"), free=[LINEAR]).values != plain.values


def test_priors_are_no_profile_s_value() -> None:
    """So a fit says the same wherever the profiles stand, and what no row narrows down stays at its prior."""
    idle = FreeNumber("torchtitan", "stream_passes", 4.0)
    assert fit_training(rows(), free=[idle]).values["torchtitan.stream_passes"] == pytest.approx(4.0)


def test_profiles_of_one_engine_s_versions_share_fitted_numbers(tmp_path: Path) -> None:
    """Its runs of 2025 answer to the numbers of `torchtitan`, though their profile is another."""
    changes = {"source": "TorchTitan Jun-2025 H200 (Trainy)", "sharding_offload": "FSDP2 (ZeRO-3)", "gpu": "H200-141GB"}
    [case] = training_cases(read_rows(write(tmp_path / "t.csv", {**TRAINING, **changes, "extra_metrics": ""})).rows)
    assert case.things.engine.name == "torchtitan-2025"
    assert case.error({"torchtitan.stream_passes": 9.0}) > case.error({"torchtitan.stream_passes": 1.0})


@pytest.mark.parametrize("name", EFFECTS)
def test_steps_without_an_effect_are_shorter(name: str) -> None:
    """Or as long, where it plays no part."""
    cases = training_cases(rows())
    without = np.array([case.error({}, EFFECTS[name]) for case in cases])
    assert (without < 1e-9).all()
    assert (without < -1e-6).any() or name == "s^2 traffic of plain attention"


def test_layouts_in_their_own_order_are_all_right() -> None:
    cases = training_cases(rows())
    right = ordering(cases)
    assert right.right_frac == {0.05: 1.0, 0.1: 1.0}
    assert right.regret_frac == pytest.approx(0.0)
    wrong = ordering(cases, lambda case: -2.0 * float(np.log(case.measured_s)))
    assert wrong.right_frac == {0.05: 0.0, 0.1: 0.0}
    assert wrong.regret_frac > 0.1


def test_bands_hold_for_the_errors_behind_them() -> None:
    """Rows that all take a fifth longer than predicted have bands around 1.2."""
    factors = error_factors(training_cases([replace(row, weight=1.0) for row in slower(1.2, half="fit")]), [])
    for each in factors.values():
        assert each.low <= 1.2 + 1e-6
        assert each.high >= 1.2 - 1e-6
        assert each.inside_frac == pytest.approx(0.0), "the other half is as predicted"


def test_the_study_is_tables() -> None:
    text = str(study_training(rows(), free=[LINEAR]))
    for words in ("held out", "in order above 10%", "without", "bubble", "report 0", "ratio of means"):
        assert words in text


def test_a_case_knows_its_source() -> None:
    assert {case.source for case in training_cases(rows())} == {"report 0", "report 1"}
    assert all(isinstance(case, TrainingCase) for case in training_cases(rows()))
