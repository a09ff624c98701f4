"""The stored scoreboard: it is fresh, the page is made of it, and errors that rise are noticed."""

from __future__ import annotations

import copy
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sim.core import data_root
from sim.report import scoreboard_page
from sim.validation import Dataset, dataset_files, digest, read_rows, regressions, score
from sim.validation.digest import TOLERANCE, repeats
from tests.conftest import Command
from tests.validation.samples import OWN, POINT, write

DOCS = data_root() / "docs"


@pytest.fixture(scope="module")
def stored() -> dict[str, Any]:
    data: dict[str, Any] = json.loads((DOCS / "scoreboard.json").read_text(encoding="utf-8"))
    return data


@pytest.mark.skipif("PLANSIM_DATA" not in os.environ, reason="PLANSIM_DATA names no folder of measurements")
def test_no_error_rose_by_more_than_is_tolerated(stored: dict[str, Any]) -> None:
    """`make scoreboard` renews what is stored; do so only if the change is understood."""
    board = score([read_rows(path) for path, _ in dataset_files().values()], seed=stored["seed"])
    assert regressions(digest(board), stored) == []


def test_the_page_is_made_of_what_is_stored(stored: dict[str, Any]) -> None:
    assert (DOCS / "scoreboard.md").read_text(encoding="utf-8") == scoreboard_page(stored)


def test_every_public_table_is_on_the_page_with_its_source(stored: dict[str, Any]) -> None:
    page = scoreboard_page(stored)
    for name, found in stored["datasets"].items():
        assert f"## {name}\n" in page
        assert found["source"]
        assert found["source"] in page
        for peer in found["peers"]:
            assert peer["peer"] in page
    assert "left out" in page


def test_a_rise_within_the_tolerance_passes_and_one_beyond_it_does_not(stored: dict[str, Any]) -> None:
    assert regressions(stored, stored) == []
    name, metric = "serving_points", "tpot_s"
    for statistic, tolerance in TOLERANCE.items():
        for share, count in ((0.9, 0), (1.1, 1), (-5.0, 0)):
            now = copy.deepcopy(stored)
            now["datasets"][name]["metrics"][metric][statistic] += share * tolerance
            assert len(regressions(now, stored)) == count
    by_engine = copy.deepcopy(stored)
    by_engine["datasets"][name]["by"]["engine"]["vllm"]["metrics"][metric]["median_abs_error_frac"] += 0.1
    assert "serving_points, vllm" in regressions(by_engine, stored)[0]


def test_answering_less_is_a_regression_and_another_table_is_no_comparison(stored: dict[str, Any]) -> None:
    fewer = copy.deepcopy(stored)
    fewer["datasets"]["vllm0151_runs"]["metrics"]["e2e_s"]["answered"] -= 1
    assert "is answered for" in regressions(fewer, stored)[0]
    other = copy.deepcopy(stored)
    other["datasets"]["vllm0151_runs"]["sha256"] = "0" * 64
    assert "another one" in regressions(other, stored)[0]
    absent = copy.deepcopy(stored)
    del absent["datasets"]["vllm0151_runs"]
    assert regressions(absent, stored) == []


def test_repeats_are_of_equal_configurations(tmp_path: Path) -> None:
    rows = [
        {**POINT, "id": "a", "silicon_tpot_ms": "10"},
        {**POINT, "id": "b", "silicon_tpot_ms": "12"},
        {**POINT, "id": "c", "silicon_tpot_ms": "90", "concurrency": "8", "batch_size": "8"},
    ]
    found = repeats(read_rows(write(tmp_path / "points.csv", *rows)))
    assert found["tpot_s"]["configurations"] == 1
    assert found["tpot_s"]["p75"] == pytest.approx(1.2)


def test_the_largest_errors_are_listed_first(tmp_path: Path) -> None:
    table = read_rows(write(tmp_path / "own.csv", OWN, {**OWN, "id": "far", "tpot_s": "8"}))
    worst = [one for one in digest(score([table]))["datasets"]["own"]["worst"] if one["metric"] == "tpot_s"]
    assert [one["id"] for one in worst] == ["far", "mine"]


def test_validate_holds_a_run_against_a_stored_one(tmp_path: Path, plansim: Command) -> None:
    path = write(tmp_path / "own.csv", OWN)
    out = tmp_path / "out"
    assert plansim("validate", "--rows", path, "-q", "--out", out).code == 0
    stored = out / "scoreboard.json"
    assert (out / "scoreboard.md").read_text().startswith("# Scoreboard")
    assert plansim("validate", "--rows", path, "-q", "--against", stored).code == 0
    data = json.loads(stored.read_text())
    data["datasets"]["own"]["metrics"]["ttft_s"]["median_abs_error_frac"] /= 2
    stored.write_text(json.dumps(data))
    done = plansim("validate", "--rows", path, "-q", "--against", stored)
    assert done.code == 5
    assert "median_abs_error_frac of ttft_s rose" in done.err
    wrong = plansim("validate", "--rows", path, "--against", path)
    assert wrong.code == 2
    assert "cannot read the stored errors" in wrong.err


def test_a_table_of_ones_own_has_a_page_too(tmp_path: Path) -> None:
    table: Dataset = read_rows(write(tmp_path / "own.csv", OWN, {**OWN, "id": "unknown", "model": "llama-99"}))
    page = scoreboard_page(digest(score([replace(table, name="mine")])))
    assert "1 of 2 rows are answered" in page
    assert "unknown model 'llama-99'" in page
