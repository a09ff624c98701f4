"""A sample of every public table goes through: each row is answered or says why not, within wide bounds of sanity."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from sim.validation import dataset_files, read_rows, score

pytestmark = pytest.mark.skipif("PLANSIM_DATA" not in os.environ, reason="PLANSIM_DATA names no folder of measurements")
NAMES = [*dataset_files()] if "PLANSIM_DATA" in os.environ else []
LIMITS = {"tpot_s": 0.4, "itl_s": 0.4, "ttft_s": 1.5, "engine_ttft_s": 1.5, "e2e_s": 0.6}
"""Largest believable median of |error|; far above what is reached, so that only a broken row or unit trips it."""


@pytest.mark.parametrize("name", NAMES)
def test_coverage_and_sanity(name: str) -> None:
    whole = read_rows(dataset_files()[name][0])
    table = replace(whole, rows=whole.rows[:: max(1, min(40, len(whole.rows) // 4))])
    found = score([table]).summary[name]
    assert found["answered"] > 0
    assert found["answered"] + sum(found["reasons"].values()) == len(table.rows)
    for metric, limit in LIMITS.items():
        errors = found["metrics"].get(metric)
        if errors is not None:
            assert errors["median_abs_error_frac"] < limit, metric
