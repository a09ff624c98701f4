"""Error bands cover what they are for: rows of models that were left out of the fit."""

import numpy as np

from sim.validation.bands import _Sample, fit_band, fit_bands
from sim.validation.entries import Entry
from sim.validation.rows import MeasuredRow


def sample(seed: int, *, models: int, rows: int, between: float, within: float) -> _Sample:
    """Rows whose log ratio has an effect of their model and one of their own."""
    rng = np.random.default_rng(seed)
    effect = rng.normal(0.0, between, models)
    which = rng.integers(0, models, rows)
    ratio = effect[which] + rng.normal(0.0, within, rows)
    names = tuple(f"m{i}" for i in which)
    return _Sample(ratio, names, tuple(f"s{i % 3}" for i in range(rows)))


def test_new_models_fall_inside_nine_times_of_ten() -> None:
    """Each band is fitted to twelve models and met by sixty new ones of the same kind; nominally 90 % on average."""
    covered = []
    for seed in range(12):
        band = fit_band(sample(seed, models=12, rows=600, between=0.2, within=0.1))
        fresh = sample(seed + 100, models=60, rows=3000, between=0.2, within=0.1)
        covered.append(np.mean((np.exp(fresh.log_ratio) >= band.low) & (np.exp(fresh.log_ratio) <= band.high)))
        assert band.left_out_model_frac >= 0.9
    assert 0.85 < np.mean(covered) < 0.97


def test_a_spread_between_models_makes_the_band_wider_than_the_quantiles() -> None:
    alike = fit_band(sample(1, models=5, rows=500, between=0.0, within=0.1))
    unlike = fit_band(sample(1, models=5, rows=500, between=0.5, within=0.1))
    assert alike.stretch < 1.3
    assert unlike.stretch > alike.stretch
    assert unlike.high / unlike.low > alike.high / alike.low


def test_large_groups_do_not_drown_small_ones() -> None:
    ratio = np.concatenate([np.zeros(900), np.full(30, 0.5), np.full(30, -0.5)])
    names = ("big",) * 900 + ("up",) * 30 + ("down",) * 30
    band = fit_band(_Sample(ratio, names, ("s",) * len(names)))
    assert band.high > 1.5
    assert band.low < 0.7
    assert band.left_out_system_frac is None


def test_engines_with_few_rows_or_models_get_no_band() -> None:
    rows = [
        MeasuredRow(
            id=str(i),
            dataset="d",
            groups={"engine": "e", "model": f"m{i % 2}", "system": "s"},
            scenario={},
            measured={},
        )
        for i in range(40)
    ]
    entries = [[Entry(row.id, "tpot_s", 1.0, 1.1)] for row in rows]
    assert fit_bands(rows, entries) == {}
    assert fit_bands(rows[:5], entries[:5]) == {}
