"""Error bands cover what they are for: rows like the measured ones, and, stretched, rows of models nobody measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sim.core import InputError, data_root
from sim.plans import load_engine
from sim.scenario import Setting
from sim.validation.band_files import write_bands
from sim.validation.bands import EngineBands, Sample, fit_band, fit_bands
from sim.validation.entries import Entry
from sim.validation.rows import MeasuredRow


def sample(seed: int, *, models: int, rows: int, between: float, within: float) -> Sample:
    """Rows whose log ratio has an effect of their model and one of their own."""
    rng = np.random.default_rng(seed)
    effect = rng.normal(0.0, between, models)
    which = rng.integers(0, models, rows)
    ratio = effect[which] + rng.normal(0.0, within, rows)
    labels = {"model": [f"m{i}" for i in which], "system": [f"s{i % 3}" for i in range(rows)], "load": ["c"] * rows}
    return Sample(ratio, labels)


def test_known_models_need_no_stretch_and_new_ones_are_covered_by_it() -> None:
    """Each band is fitted to twelve models and met by sixty new ones of the same kind; nominally 90 % on average."""
    covered = []
    for seed in range(12):
        found = fit_band(sample(seed, models=12, rows=600, between=0.2, within=0.1))
        assert found.in_sample_frac == pytest.approx(0.9, abs=0.04)
        stretch = found.stretch["model"]
        assert stretch is not None
        middle, half = np.sqrt(found.low * found.high), np.sqrt(found.high / found.low) ** stretch
        fresh = np.exp(sample(seed + 100, models=60, rows=3000, between=0.2, within=0.1).log_ratio)
        covered.append(np.mean((fresh >= middle / half) & (fresh <= middle * half)))
    assert 0.85 < np.mean(covered) < 0.97


def test_coverage_of_what_is_left_out_is_nested() -> None:
    """One model far off: its rows must count as missed, since neither band nor stretch may know of them."""
    rng = np.random.default_rng(0)
    ratio = np.concatenate([rng.normal(0.0, 0.1, 300), np.full(100, 3.0)])
    models = [f"m{i % 3}" for i in range(300)] + ["far"] * 100
    found = fit_band(Sample(ratio, {"model": models, "system": ["s"] * 400, "load": ["c"] * 400}))
    left_out = found.left_out_frac["model"]
    assert left_out is not None
    assert left_out <= 0.75


def test_a_spread_between_models_makes_the_stretch_larger() -> None:
    alike = fit_band(sample(1, models=5, rows=500, between=0.0, within=0.1)).stretch["model"]
    unlike = fit_band(sample(1, models=5, rows=500, between=0.5, within=0.1)).stretch["model"]
    assert alike is not None
    assert alike < 1.3
    assert unlike is None or unlike > alike


def test_what_never_varied_has_no_stretch() -> None:
    found = fit_band(sample(1, models=5, rows=500, between=0.1, within=0.1))
    assert found.stretch["load"] is None
    assert found.left_out_frac["load"] is None


def test_large_groups_do_not_drown_small_ones() -> None:
    ratio = np.concatenate([np.zeros(900), np.full(30, 0.5), np.full(30, -0.5)])
    models = ["big"] * 900 + ["up"] * 30 + ["down"] * 30
    band = fit_band(Sample(ratio, {"model": models, "system": ["s"] * 960, "load": ["c"] * 960}))
    assert band.high > 1.5
    assert band.low < 0.7


def engine_rows(models: int) -> tuple[list[MeasuredRow], list[list[Entry]], list[Setting | None]]:
    rows = [
        MeasuredRow(
            id=str(i),
            dataset="d",
            groups={"engine": "vllm", "model": f"m{i % models}", "system": f"s{i % 2}", "load": "c"},
            scenario={"workload": {"concurrency": 4}},
            measured={},
        )
        for i in range(40)
    ]
    entries = [[Entry(row.id, "tpot_s", 1.0 + 0.01 * i, 1.1)] for i, row in enumerate(rows)]
    settings: list[Setting | None] = [Setting(f"m{i % models}", "d", False, 4 + i, 100.0, 10.0 + i) for i in range(40)]
    return rows, entries, settings


def test_engines_with_few_rows_or_models_get_no_band() -> None:
    rows, entries, settings = engine_rows(2)
    assert fit_bands(rows, entries, settings) == {}
    rows, entries, settings = engine_rows(3)
    assert fit_bands(rows[:5], entries[:5], settings[:5]) == {}


@pytest.fixture
def bands() -> dict[str, EngineBands]:
    return fit_bands(*engine_rows(4))


def test_the_domain_is_that_of_the_rows(bands: dict[str, EngineBands]) -> None:
    found = bands["vllm"]
    assert found.models == ("m0", "m1", "m2", "m3")
    assert found.concurrency == (4, 43)
    assert found.output_tokens == (10, 49)


def test_bands_go_into_a_profile_and_nothing_else_changes(tmp_path: Path, bands: dict[str, EngineBands]) -> None:
    profile = tmp_path / "vllm.yaml"
    original = (data_root() / "hardware_profiles/engines/vllm.yaml").read_text()
    profile.write_text(original)
    assert write_bands(bands, tmp_path, ref="serving-points") == [profile]
    once = profile.read_text()
    write_bands(bands, tmp_path, ref="serving-points")
    assert profile.read_text() == once
    engine, before = load_engine(str(profile)), load_engine("vllm")
    (band,) = engine.errors
    assert (band.metric, band.rows) == ("tpot_s", 40)
    assert band.low == pytest.approx(bands["vllm"].metrics["tpot_s"].low, abs=1e-3)
    assert engine.errors_on is not None
    assert engine.errors_on.models == bands["vllm"].models
    assert engine.model_copy(update={"errors": (), "errors_on": None}) == before.model_copy(
        update={"errors": (), "errors_on": None}
    )
    kept = [line for line in once.splitlines() if line in original.splitlines()]
    assert kept[0] == original.splitlines()[0], "comments stay"


def test_bands_need_a_reference_and_rows(tmp_path: Path, bands: dict[str, EngineBands]) -> None:
    (tmp_path / "vllm.yaml").write_text("name: x\nrefs: {}\n")
    with pytest.raises(InputError, match="no reference 'serving-points'"):
        write_bands(bands, tmp_path, ref="serving-points")
    with pytest.raises(InputError, match="no engine has enough measured closed loops"):
        write_bands({}, tmp_path, ref="serving-points")
