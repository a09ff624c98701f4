"""The scoreboard: one entry per row and metric, reasons for silence, the same bytes for any number of workers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import sim
from sim.core import InputError
from sim.plans import load_engine
from sim.validation import ClosedPoint, Dataset, predict, read_rows, score
from tests.validation.samples import OPEN_RUN, OWN, POINT, RUN_060, write


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> list[Dataset]:
    folder = tmp_path_factory.mktemp("tables")
    points = [
        POINT,
        {**POINT, "id": "p2", "backend": "sglang", "concurrency": "8", "batch_size": "8"},
        {**POINT, "id": "p3", "backend": "trtllm"},
        {**POINT, "id": "too large", "tp_size": "1", "n_gpus": "1", "precision": ""},
        {**POINT, "id": "split", "mode": "disagg"},
    ]
    own = [OWN, {**OWN, "id": "unknown", "model": "llama-99"}, {**OWN, "id": "partly", "tpot_s": ""}]
    return [
        read_rows(write(folder / "points.csv", *points)),
        read_rows(write(folder / "own.csv", *own)),
        read_rows(write(folder / "open_runs.csv", OPEN_RUN)),
    ]


def test_the_document(tables: list[Dataset]) -> None:
    board = score(tables, seed=0)
    document = json.loads(json.dumps(board.to_json(), allow_nan=False))
    assert [*document] == ["schema_version", "command", "rows", "summary", "provenance"]
    assert document["command"] == "validate"
    assert all([*row] == ["id", "metric", "measured", "predicted", "low", "high", "reason"] for row in document["rows"])
    assert len(document["rows"]) == 5 * 3 + 3 * 3 + 7
    for row in document["rows"]:
        assert (row["predicted"] is None) == bool(row["reason"])
        assert (row["low"] is None) == (row["high"] is None)
        if row["low"] is not None:
            assert 0 < row["low"] < row["high"]
    assert any(row["low"] is not None for row in document["rows"])
    assert set(document["summary"]) == {"points", "own", "open_runs"}
    assert set(document["provenance"]["inputs"]) == {"points", "own", "open_runs"}


def test_overrides_hold_for_every_row_and_are_said(tables: list[Dataset]) -> None:
    plain, changed = score(tables[:1]), score(tables[:1], overrides=["engine=vllm-0.6", "costs=analytic"])
    assert changed.provenance["set"] == ["engine=vllm-0.6", "costs=analytic"]
    assert plain.provenance["set"] == []
    answered = sum(entry.predicted is not None for own in changed.entries[0] for entry in own) // 3
    assert changed.provenance["costs"]["sampling bf16"] == {"analytic": answered}
    first = [board.entries[0][0][0].predicted for board in (plain, changed)]
    assert first[0] != first[1]
    with pytest.raises(InputError, match="unknown source of costs"):
        score(tables[:1], overrides=["costs=mesured"])


def test_rows_are_conserved_in_every_grouping(tables: list[Dataset]) -> None:
    summary = score(tables).summary
    for table in tables:
        found = summary[table.name]
        assert found["rows"] == len(table.rows)
        assert found["answered"] + sum(found["reasons"].values()) == found["rows"]
        for parts in found["by"].values():
            assert sum(part["rows"] for part in parts.values()) == found["rows"]
            assert sum(part["answered"] for part in parts.values()) == found["answered"]


def test_reasons(tables: list[Dataset]) -> None:
    rows = {(row["id"], row["metric"]): row for row in score(tables).to_json()["rows"]}
    assert "leave no KV block" in rows["too large", "tpot_s"]["reason"]
    assert rows["split", "ttft_s"]["reason"] == "prefill workers: parallelism is not recorded"
    assert "unknown model 'llama-99'" in rows["unknown", "ttft_s"]["reason"]
    assert rows["partly", "tpot_s"]["measured"] is None
    assert rows["partly", "tpot_s"]["predicted"] > 0


def test_workers_change_nothing(tables: list[Dataset]) -> None:
    assert score(tables, seed=3, workers=2).to_json() == score(tables, seed=3, workers=1).to_json()


def test_predictions_are_those_of_a_run(tables: list[Dataset]) -> None:
    for row in (tables[0].rows[0], tables[0].rows[1], tables[2].rows[0]):
        found = predict(row, seed=5).values
        assert row.scenario is not None
        metrics = sim.run(sim.load(row.scenario), seed=5).metrics
        for path, value in found.items():
            if row.closed is not None and path.startswith("output"):
                continue
            head, _, part = path.partition(".")
            assert value == pytest.approx(metrics[head][part or "mean"], rel=1e-9), path


def test_predicted_throughput_follows_from_predicted_times(tables: list[Dataset]) -> None:
    found = predict(tables[0].rows[0]).values
    ttft_s, tpot_s = found["ttft_s"], found["tpot_s"]
    assert ttft_s is not None
    assert tpot_s is not None
    assert found["output_tokens_per_s_per_gpu"] == ClosedPoint(4, 64, 4).throughput(ttft_s, tpot_s)


def test_known_replicas_are_pooled(tmp_path: Path) -> None:
    requests = [
        {"run_id": "a", "replica": str(i % 2), "arrival_s": str(i), "prompt_tokens": "200", "output_tokens": "20"}
        for i in range(6)
    ]
    write(tmp_path / "x_requests.csv", *requests)
    table = read_rows(write(tmp_path / "x_runs.csv", RUN_060))
    found = predict(table.rows[0]).values
    # far apart, every request is alone: the same times on both replicas
    engine = load_engine("vllm-0.6")
    before_s = engine.frontend_s.value + engine.frontend_request_s.value + 200 * engine.frontend_token_s.value
    after_s = (found["engine_ttft_s"] or 0) + 19 * (found["itl_s"] or 0)
    assert found["e2e_s"] == pytest.approx(before_s + after_s, rel=1e-6)


def test_the_error_is_signed_and_the_bias_its_median(tables: list[Dataset]) -> None:
    board = score(tables[:1])
    errors = sorted(e.error for own in board.entries[0] for e in own if e.metric == "ttft_s" and e.error is not None)
    found = board.summary["points"]["metrics"]["ttft_s"]
    assert found["n"] == 5
    assert found["answered"] == len(errors) == 3
    assert found["bias_frac"] == pytest.approx(errors[1])
    assert found["median_abs_error_frac"] == pytest.approx(sorted(map(abs, errors))[1])
