"""Scenario files, overrides and the messages for everything that can be wrong with them."""

from pathlib import Path
from typing import Any

import pytest

from sim.core import InputError, data_names, data_root
from sim.scenario import load

GOOD = """\
name: small
model: llama-3.1-8b
cluster: {node: dgx-h100, nodes: 1}
workload: {kind: serving, traffic: chat-poisson, rate: 4 req/s, requests: 20}
plan: {tp: 2}
slo: {ttft: 2 s, tpot: 50 ms, attainment: 0.99}
variants:
  - {name: wide, set: {plan.tp: 4}}
"""


def write(folder: Path, text: str = GOOD) -> Path:
    path = folder / "small.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def message(source: Any, *overrides: str) -> str:
    with pytest.raises(InputError) as caught:
        load(source, overrides=overrides)
    return str(caught.value)


def test_quantities_become_si_numbers(tmp_path: Path) -> None:
    spec = load(write(tmp_path)).spec
    assert spec.slo is not None
    assert (spec.slo.ttft, spec.slo.tpot, spec.workload.rate, spec.plan.tp) == (2.0, 0.05, 4.0, 2)


@pytest.mark.parametrize("name", data_names("scenarios"))
def test_shipped_scenarios_load_by_name_and_by_path(name: str) -> None:
    by_name = load(name)
    assert by_name.root == load(data_root() / "scenarios" / f"{name}.yaml").root
    assert by_name.root.name == name
    assert by_name.root.description


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("plan: {tp: 2}", "plan: {replica: 2}", 5, ["plan.replica", "did you mean"]),
        ("plan: {tp: 2}", "plan: {tp: two}", 5, ["plan.tp", "'two'"]),
        ("plan: {tp: 2}", "plan: {tp: 0}", 5, ["plan.tp", "0"]),
        ("rate: 4 req/s", "rate: 4", 4, ["workload.rate", "unit"]),
        ("rate: 4 req/s", "rate: 4 ms", 4, ["workload.rate", "ms"]),
        ("tpot: 50 ms", "tpot: 50 GB", 6, ["slo.tpot", "GB"]),
        ("name: small\n", "name: small\nname: other\n", 2, ["duplicate key 'name'", "first at line 1"]),
        ("traffic: chat-poisson, ", "", 4, ["workload", "traffic"]),
        ("requests: 20", "requests: 20, concurrency: 4", 4, ["concurrency", "rate"]),
        ("cluster: {node: dgx-h100, nodes: 1}", "cluster: {nodes: 1}", 3, ["cluster.node"]),
        ("variants:", "variants: [", 7, []),
    ],
)
def test_mistakes_name_line_path_value_and_way_out(
    tmp_path: Path, old: str, new: str, line: int, words: list[str]
) -> None:
    assert old in GOOD
    text = message(write(tmp_path, GOOD.replace(old, new, 1)))
    assert f"small.yaml:{line}" in text or "small.yaml" in text.partition(" ")[0]
    assert f":{line}" in text or not words
    for word in words:
        assert word in text


def test_files_that_are_no_scenario(tmp_path: Path) -> None:
    assert "mapping" in message(write(tmp_path, "- 1\n- 2\n"))
    assert "h100-or-h200" in message(tmp_path / "h100-or-h20.yaml")
    assert "plansim list scenarios" in message("nothing-like-it.yaml")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00\x01")
    assert "binary.yaml" in message(binary)


def test_an_override_changes_one_value_and_leaves_the_rest(tmp_path: Path) -> None:
    path = write(tmp_path)
    changed = load(path, overrides=["plan.tp=4", "slo.ttft='500 ms'", "cluster.node=dgx-h200"]).spec
    base = load(path).spec
    assert (changed.plan.tp, changed.slo and changed.slo.ttft) == (4, 0.5)
    assert changed.workload == base.workload
    assert changed.cluster != base.cluster


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("plan.tp", ["a.b=value"]),
        ("=4", ["a.b=value"]),
        ("plan.replica=4", ["--set plan.replica=4", "did you mean"]),
        ("slo.ttft=2 GB", ["--set slo.ttft=2 GB", "GB"]),
        ("name.x=1", ["is a value, not a mapping"]),
        ("plan.tp=[1", ["--set plan.tp=[1"]),
    ],
)
def test_a_mistake_in_an_override_is_blamed_on_it(tmp_path: Path, override: str, words: list[str]) -> None:
    text = message(write(tmp_path), override)
    for word in words:
        assert word in text


def test_paths_start_from_the_file_and_in_overrides_from_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    scenario = load(write(tmp_path), overrides=["workload.trace.path=t.csv"])
    assert scenario.spec.workload.trace is not None
    assert scenario.spec.workload.trace.path == str(tmp_path / "t.csv")


def test_a_named_cluster_can_be_changed_in_part(tmp_path: Path) -> None:
    name = data_names("hardware_profiles/clusters")[0]
    path = write(tmp_path, GOOD.replace("{node: dgx-h100, nodes: 1}", name))
    changed = load(path, overrides=["cluster.nodes=3"]).spec.cluster
    assert not isinstance(changed, str)
    assert changed.nodes == 3


def test_a_mapping_is_a_scenario_too() -> None:
    data = {"name": "x", "model": "llama-3.1-8b", "cluster": "dgx-h100-1", "workload": {"traffic": "chat-poisson"}}
    assert load(data).spec.name == "x"
    assert "modle" in message({**data, "modle": "x"})
    assert data == {**data}


def test_resolved_data_loads_again_to_the_same(tmp_path: Path) -> None:
    scenario = load(write(tmp_path))
    again = load(scenario.resolved())
    assert again.spec == scenario.spec
