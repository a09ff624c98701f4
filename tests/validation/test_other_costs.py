"""The same rows with kernel times of another source: its errors stand beside those of the curves."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from sim.core import InputError
from sim.report import scoreboard_page
from sim.validation import digest, read_rows, regressions, score, with_other_costs
from tests.conftest import Command
from tests.validation.samples import OWN, TRAINING, write

HEADER = "kind,dtype,m,n,k,batch,query_tokens,kv_tokens,heads,kv_heads,head_dim,bytes,ranks,time_s"
SLOW = [f"gemm,bf16,{m},{n},{k},,,,,,,,,1e-2" for m in (1, 8192) for n in (1024, 200000) for k in (1024, 20000)]


@pytest.fixture
def profile(tmp_path: Path) -> str:
    path = tmp_path / "mine.csv"
    path.write_text("\n".join((HEADER, *SLOW)) + "\n", encoding="utf-8")
    return str(path)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write(tmp_path / "own.csv", OWN, {**OWN, "id": "unknown", "model": "llama-99"})


def test_errors_of_both_sources_and_how_much_came_from_tables(rows: Path, profile: str) -> None:
    plain = score([read_rows(rows)])
    board = with_other_costs(plain, [profile])
    assert "other_costs" not in plain.summary["own"], "nothing is simulated twice unless asked for"
    assert board.entries == plain.entries
    found = board.summary["own"]["other_costs"][profile]
    assert (found["rows"], found["answered"]) == (2, 1)
    assert 0.0 < found["from_tables_frac"] < 1.0, "the file has products alone"
    assert found["operators"] > 0
    slow, quick = (one["metrics"]["tpot_s"]["bias_frac"] for one in (found, plain.summary["own"]))
    assert slow > quick + 10.0, "10 ms at the corners of the table"
    same = score([read_rows(rows)], overrides=[f"costs={profile}"]).summary["own"]
    assert found["metrics"] == same["metrics"], "the mode is the override, no more"


def test_the_page_and_the_gate_take_it(rows: Path, profile: str) -> None:
    plain = score([read_rows(rows)])
    both = digest(with_other_costs(plain, [profile]))
    assert f"### Kernel times: analytic and {profile}" in scoreboard_page(both)
    assert regressions(both, digest(plain)) == regressions(digest(plain), both) == []
    assert json.loads(json.dumps(both, allow_nan=False)) == both


def test_training_rows_have_no_tables_and_are_left_out(tmp_path: Path, profile: str) -> None:
    board = score([read_rows(write(tmp_path / "training.csv", TRAINING))])
    assert board.summary["training"]["answered"] == 1
    assert "other_costs" not in with_other_costs(board, [profile]).summary["training"]


def test_without_the_package_it_is_said_and_the_rest_stands(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiconfigurator_core", None)
    board = with_other_costs(score([read_rows(rows)]), ["measured"])
    assert "pip install 'plansim[measured]'" in board.summary["own"]["other_costs"]["measured"]["reason"]
    assert board.summary["own"]["answered"] == 1
    assert "Not scored: this needs the package" in scoreboard_page(digest(board))


def test_a_source_that_nobody_knows_is_an_error(rows: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'measured'"):
        with_other_costs(score([read_rows(rows)]), ["mesured"])


@pytest.mark.skipif(find_spec("aiconfigurator_core") is None, reason="aiconfigurator-core is not installed")
def test_validate_shows_both(rows: Path, plansim: Command) -> None:
    done = plansim("validate", "--rows", rows, "--costs", "measured", "-q", "--workers", 1)
    assert done.code == 0
    assert "costs: measured, 100.0 % of operators from tables, 1 of 2 rows answered" in done.out
    document = plansim("validate", "--rows", rows, "--costs", "measured", "-q", "--json").document
    assert document["summary"]["own"]["other_costs"]["measured"]["from_tables_frac"] == 1.0
    assert len(document["rows"]) == 6, "rows are those of the scenario's own costs"
