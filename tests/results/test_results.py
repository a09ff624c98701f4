"""Results as data: JSON, files on disk, and the one screen they print as."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from sim.core import InputError, PlansimError, load_yaml
from sim.results import (
    REQUEST_COLUMNS,
    Evaluation,
    GapRuns,
    SearchResult,
    build_result,
    column_units,
    evaluations_frame,
    json_ready,
    json_text,
    read_units,
    rejected_frame,
    resolve_metric,
    write_table,
)
from sim.testing.results import (
    gaps_of,
    synthetic_compare,
    synthetic_facts,
    synthetic_requests,
    synthetic_run,
    synthetic_search,
)

MAKERS: list[Callable[[], Any]] = [synthetic_run, synthetic_search, synthetic_compare]


@pytest.mark.parametrize("make", MAKERS)
def test_json_is_deterministic_and_finite(make: Callable[[], Any]) -> None:
    text = json_text(make().to_json())
    assert text == json_text(make().to_json())
    document = json.loads(text)
    assert list(document)[:2] == ["schema_version", "command"]
    assert "NaN" not in text
    assert "Infinity" not in text


def test_json_of_a_run_has_the_contract_at_the_top() -> None:
    document = synthetic_run().to_json()
    assert {"metrics", "intervals", "breakdown", "infeasible", "provenance"} <= set(document)
    assert list(document["intervals"]) == list(document["metrics"])
    assert document["intervals"]["ttft_s"] == dict.fromkeys(document["metrics"]["ttft_s"])
    parts = document["breakdown"]["parts"]
    assert sum(parts.values()) == pytest.approx(document["breakdown"]["explains_s"])


def test_json_of_a_search() -> None:
    document = synthetic_search().to_json()
    assert {"plan", "metrics", "intervals", "launch", "why"} <= set(document["recommended"])
    assert all({"plan", "metrics", "intervals", "launch"} <= set(each) for each in document["front"])
    assert {"front", "space", "provenance"} <= set(document)
    assert document["objectives"][0] == {
        "name": "goodput_max_per_gpu",
        "path": "goodput_max_requests_per_s_per_gpu",
        "direction": "max",
    }


def test_json_of_a_comparison() -> None:
    document = synthetic_compare().to_json()
    assert {"metrics", "breakdown", "provenance"} <= set(document["base"])
    variant = document["variants"][0]
    assert {"name", "metrics", "difference"} <= set(variant)
    assert set(variant["difference"]["ttft_s.p99"]) == {"value", "relative", "interval"}


def test_json_ready() -> None:
    mixed = {"a": np.float64("nan"), "b": [np.int64(3), (True, np.bool_(False))], 1: pd.NA, "d": float("inf")}
    assert json_ready(mixed) == {"a": None, "b": [3, [True, False]], "1": None, "d": None}
    with pytest.raises(TypeError, match="cannot put"):
        json_ready({"a": object()})


@pytest.mark.parametrize("make", MAKERS)
def test_saved_bytes_are_the_same_every_time(make: Callable[[], Any], tmp_path: Path) -> None:
    one, two = make().save(tmp_path / "one"), make().save(tmp_path / "deep" / "two")
    names = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(two) for path in two.rglob("*") if path.is_file())
    assert [name for name in names if (one / name).read_bytes() != (two / name).read_bytes()] == []
    listed = json.loads((one / "manifest.json").read_text())["files"]
    assert sorted([*listed, "manifest.json"]) == [str(name) for name in names]
    assert load_yaml(one / "scenario.yaml").data["name"] == "synthetic"


def test_saved_tables_read_back_with_units(tmp_path: Path) -> None:
    run = synthetic_run()
    run.save(tmp_path)
    back = pd.read_parquet(tmp_path / "requests.parquet")
    assert list(back) == list(REQUEST_COLUMNS)
    assert np.array_equal(back["ttft_s"], run.requests["ttft_s"])
    assert bool(back["slo_ok"].all())
    assert read_units(tmp_path / "requests.parquet") == REQUEST_COLUMNS
    assert pq.read_schema(tmp_path / "requests.parquet").field("ttft_s").metadata[b"unit"] == b"s"
    compression = pq.ParquetFile(tmp_path / "requests.parquet").metadata.row_group(0).column(0).compression
    assert compression == "ZSTD"
    assert read_units(tmp_path / "iterations.parquet")["growth_s"] == "s"
    search = synthetic_search().save(tmp_path / "search")
    assert read_units(search / "evaluations.parquet")["cost_usd_per_million_output_tokens"] == "USD/1M tok"
    assert len(pd.read_parquet(search / "rejected.parquet")) == 30


def test_units_of_columns() -> None:
    names = ["start_s", "kv_bytes", "rate_per_s", "ttft_s.p99", "plan.tp", "slo_attainment_frac", "keys"]
    frame = pd.DataFrame(columns=names)
    frame.attrs["units"] = {"keys": "tokens"}
    assert list(column_units(frame).values()) == ["s", "bytes", "1/s", "s", "", "1", "tokens"]


def test_empty_tables_can_be_written(tmp_path: Path) -> None:
    write_table(rejected_frame([]), tmp_path / "rejected.parquet")
    write_table(evaluations_frame([]), tmp_path / "evaluations.parquet")
    assert len(pd.read_parquet(tmp_path / "rejected.parquet")) == 0
    assert list(pd.read_parquet(tmp_path / "evaluations.parquet"))[:2] == ["label", "stage"]


def test_unwritable_folder_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write results"):
        synthetic_run().save(tmp_path / "file" / "below")


def test_requests_without_an_slo_have_no_verdict() -> None:
    requests = synthetic_requests(20)
    arguments: dict[str, Any] = {
        "gaps": gaps_of(requests),
        "facts": synthetic_facts(30.0),
        "slo": None,
        "iterations": pd.DataFrame(),
        "plan": {},
        "memory": {},
        "launch": "",
        "scenario": {},
        "provenance": {},
    }
    run = build_result(requests=requests, **arguments)
    assert run.requests["slo_ok"].isna().all()
    assert run.metrics["peak_memory_bytes"] is None
    assert "SLO" not in repr(run)
    with pytest.raises(PlansimError, match="without a definition: speed"):
        build_result(requests=requests, **arguments, extra={"speed": 1.0})
    lost = GapRuns(np.array([1.0]), np.array([1.0]))
    with pytest.raises(PlansimError, match="token gaps"):
        build_result(requests=requests, **{**arguments, "gaps": lost})


def test_memory_of_the_fullest_gpu_leaves_free_bytes_out() -> None:
    run = synthetic_run()
    assert run.metrics["peak_memory_bytes"] == pytest.approx(sum(run.memory.values()) - run.memory["free_bytes"])


@pytest.mark.parametrize("make", MAKERS)
def test_a_repr_is_one_screen(make: Callable[[], Any]) -> None:
    lines = repr(make()).splitlines()
    assert len(lines) <= 45
    assert max(map(len, lines)) <= 120
    html = make()._repr_html_()
    assert html.startswith("<div>")
    assert html.endswith("</div>")
    assert "<script" not in html


def test_labels_are_escaped_in_html() -> None:
    run = synthetic_run(label="<b>&")
    assert "<b>&" not in run._repr_html_()
    assert "&lt;b&gt;&amp;" in run._repr_html_()


def test_a_search_puts_the_recommended_plan_first() -> None:
    found = synthetic_search()
    rows = found.front_rows()
    assert len(rows) == len(found.front)
    assert rows[0][0].endswith("★")
    assert found.recommended is not None
    assert rows[0][0].startswith(found.recommended.label)
    assert len(found.simulated) == 24
    assert int(found.evaluations["on_front"].sum()) == len(found.front)


def test_a_search_without_any_plan() -> None:
    empty = SearchResult(
        [], None, "every plan needs more memory", {"generated": 2, "infeasible": {"memory": 2}}, rejected_frame([]),
        evaluations_frame([]), [resolve_metric("cost")], {},
    )  # fmt: skip
    assert "no plan recommended: every plan needs more memory" in repr(empty)
    assert "2 plans generated, 2 infeasible (memory 2)" in repr(empty)
    assert empty.to_json()["recommended"] is None
    assert "No plan recommended" in empty._repr_html_()


def test_evaluation_of_a_run() -> None:
    run = synthetic_run()
    evaluation = Evaluation.of(run, layer=1)
    assert evaluation.metrics is run.metrics
    assert (evaluation.stage, evaluation.layer, evaluation.launch) == ("simulated", 1, run.launch)
