"""Sources of kernel costs as a scenario names them: what is used, what stands in, and what the result says."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from sim.core import InputError
from sim.scenario import load, run
from sim.testing.scenarios import small_scenario

HEADER = "kind,dtype,m,n,k,batch,query_tokens,kv_tokens,heads,kv_heads,head_dim,bytes,ranks,time_s"
SLOW_GEMM = [f"gemm,bf16,{m},{n},{k},,,,,,,,,1e-2" for m in (1, 8192) for n in (1024, 200000) for k in (1024, 20000)]
SCENARIO = """\
name: mine
model: llama-3.1-8b
cluster: dgx-h100-1
costs: mine.csv
workload: {kind: serving, traffic: chat-poisson, rate: 2 req/s, requests: 10}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.csv").write_text("\n".join((HEADER, *SLOW_GEMM)) + "\n", encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(SCENARIO, encoding="utf-8")
    return tmp_path


def sources(provenance: dict[str, Any]) -> dict[str, str]:
    return {label: use["source"] for label, use in provenance["cost_sources"].items()}


def test_a_profile_beside_the_scenario_is_used_and_said(folder: Path) -> None:
    found = run(load(folder / "mine.yaml"))
    plain = run(load(folder / "mine.yaml", overrides=["costs=analytic"]))
    assert sources(found.provenance)["gemm bf16"] == "measured"
    assert found.provenance["cost_sources"]["gemm bf16"]["table"].startswith("mine.csv (sha256")
    assert found.provenance["costs"]["gemm bf16"].startswith("measured: mine.csv")
    assert found.metrics["tpot_s"]["mean"] > 20 * plain.metrics["tpot_s"]["mean"], "10 ms at the corners of the table"
    assert set(sources(plain.provenance).values()) == {"analytic"}


def test_the_example_of_the_documentation_runs(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "kernel_costs.md").read_text(encoding="utf-8")
    blocks = [block.split("```")[0] for block in page.split("```")[1::2]]
    table = next(block for block in blocks if block.lstrip().startswith("kind,dtype"))
    scenario = next(block for block in blocks if "on-my-measurements" in block).removeprefix("yaml")
    (tmp_path / "my_profile.csv").write_text(table.lstrip(), encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(scenario, encoding="utf-8")
    found = run(load(tmp_path / "mine.yaml")).provenance
    for label in ("gemm bf16", "decode_attention bf16"):
        use = found["cost_sources"][label]
        assert use["source"] == "measured"
        assert use["table"].startswith("my_profile.csv (sha256")
        assert 0 < use["outside"] <= use["look_ups"]
        assert any(note.startswith(f"{label}: {use['outside']} of") for note in found["assumptions"])
    assert found["cost_sources"]["prefill_attention bf16"]["source"] == "analytic"


def test_what_stands_in_and_what_lies_outside_is_among_the_assumptions(folder: Path) -> None:
    notes = run(load(folder / "mine.yaml")).provenance["assumptions"]
    assert any(
        note.startswith("decode_attention bf16: analytic, since mine.csv has no attention_decode") for note in notes
    )
    far = [f"gemm,bf16,{m},64,64,,,,,,,,,1e-5" for m in (1, 2)]
    (folder / "mine.csv").write_text("\n".join((HEADER, *far)) + "\n", encoding="utf-8")
    notes = run(load(folder / "mine.yaml")).provenance["assumptions"]
    assert any(note.startswith("gemm bf16: ") and "lie outside what was measured" in note for note in notes)


def test_one_kernel_can_be_changed_where_a_file_names_a_source_for_all(folder: Path) -> None:
    found = run(load(folder / "mine.yaml", overrides=["costs.gemm=analytic"]))
    assert "measured" not in sources(found.provenance).values()
    assert "note" not in found.provenance["cost_sources"]["gemm bf16"], "analytic by choice, nothing stands in"
    assert "note" in found.provenance["cost_sources"]["decode_attention bf16"]


def test_a_path_in_an_override_starts_from_the_working_directory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    found = run(load(folder / "mine.yaml", overrides=["costs.gemm=./mine.csv"]))
    assert sources(found.provenance)["gemm bf16"] == "measured"


def test_a_source_that_nobody_knows_is_an_error_with_its_place(folder: Path) -> None:
    path = folder / "mine.yaml"
    path.write_text(SCENARIO.replace("mine.csv", "mesured"), encoding="utf-8")
    with pytest.raises(InputError, match="did you mean 'measured'") as caught:
        run(load(path))
    assert (caught.value.file, caught.value.line, caught.value.path) == (str(path), 4, "costs")
    with pytest.raises(InputError, match="unknown") as caught:
        load(folder / "mine.yaml", overrides=["costs.gemmm=analytic"])
    assert "costs.gemmm" in str(caught.value)


def test_without_the_package_the_error_says_how_to_get_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiconfigurator_core", None)
    with pytest.raises(InputError, match="aiconfigurator_core") as caught:
        run(load(folder / "mine.yaml", overrides=["cluster={node: 1x-a30, nodes: 1}", "costs=measured"]))
    assert (caught.value.file, caught.value.hint) == ("--set costs=measured", "pip install 'plansim[measured]'")


@pytest.mark.skipif(find_spec("aiconfigurator_core") is None, reason="aiconfigurator-core is not installed")
def test_measured_costs_change_little_for_a_device_whose_curves_were_fitted_to_them() -> None:
    values = {"workload.requests": 40, "plan.tp": 2}
    plain, measured = run(small_scenario(values)), run(small_scenario({**values, "costs": "measured"}))
    assert measured.metrics["tpot_s"]["mean"] == pytest.approx(plain.metrics["tpot_s"]["mean"], rel=0.15)
    found = sources(measured.provenance)
    assert {found[label] for label in ("gemm bf16", "decode_attention bf16", "all_reduce over tp")} == {"measured"}
    assert found["sampling bf16"] == "analytic"
    assert "predicted with analytic costs" in measured.provenance["intervals"]


def test_costs_of_all_pools_count(folder: Path) -> None:
    plan = ["plan.tp=1", "plan.prefill={tp: 2, replicas: 1}"]
    one = run(load(folder / "mine.yaml", overrides=["plan.tp=1"]))
    two = run(load(folder / "mine.yaml", overrides=plan))
    assert "all_reduce over tp" in sources(two.provenance)
    assert "all_reduce over tp" not in sources(one.provenance)
    look_ups = [found.provenance["cost_sources"]["gemm bf16"]["look_ups"] for found in (one, two)]
    assert look_ups[1] > look_ups[0]
