"""`plansim validate`: exit codes, one document, files; and the datasets that `plansim list` knows."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import Command
from tests.validation.samples import OWN, RUN_019, write


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write(tmp_path / "own.csv", OWN, {**OWN, "id": "unknown", "model": "llama-99"})


def test_a_table_of_ones_own(rows: Path, tmp_path: Path, plansim: Command) -> None:
    done = plansim("validate", "--rows", rows, "--json", "--quiet", "--workers", 1, "--out", tmp_path / "out")
    assert (done.code, done.err) == (0, "")
    assert len(done.document["rows"]) == 6
    assert json.loads((tmp_path / "out" / "result.json").read_text()) == done.document
    table = pd.read_parquet(tmp_path / "out" / "rows.parquet")
    assert len(table) == 6
    assert {"dataset", "id", "metric", "error_frac", "system"} <= set(table.columns)


def test_tables_for_people(rows: Path, plansim: Command) -> None:
    done = plansim("validate", "--rows", rows, "--workers", 1)
    assert done.code == 0
    assert "own: 1 of 2 rows answered" in done.out
    assert "unknown model 'llama-99'" in done.out


def test_datasets_come_from_the_data_folder(tmp_path: Path, plansim: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "measured").mkdir()
    write(tmp_path / "measured" / "lab_runs.csv", RUN_019)
    write(tmp_path / "measured" / "other.csv", {"a": "1"})
    monkeypatch.setenv("PLANSIM_DATA", str(tmp_path))
    listed = {item["name"]: item["state"] for item in plansim("list", "datasets", "--json").document["items"]}
    assert listed["lab_runs"] == "found: lab_runs.csv"
    assert "other" not in listed
    for name in ("lab_runs", "vllm019_runs"):
        assert [*plansim("validate", "--dataset", name, "--json", "-q").document["summary"]] == ["lab_runs"]
    assert [*plansim("validate", "--json", "-q").document["summary"]] == ["lab_runs"]
    misspelt = plansim("validate", "--dataset", "lab_run")
    assert misspelt.code == 2
    assert "did you mean 'lab_runs'?" in misspelt.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "PLANSIM_DATA must name their folder"),
        (["--dataset", "x"], "PLANSIM_DATA must name their folder"),
        (["--rows", "absent.csv"], "cannot read the file"),
        (["--rows", "a.csv", "--dataset", "b"], "exclude each other"),
        (["--requests", "a.csv"], "--requests needs the table"),
    ],
)
def test_bad_input_exits_2(
    arguments: list[str], message: str, plansim: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PLANSIM_DATA", raising=False)
    done = plansim("validate", *arguments, "--json")
    assert done.code == 2
    assert message in done.err
    assert done.document["error"]["kind"] == "input"
