"""Every shipped scenario through the command, with few requests: the documents hold what the contract promises."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

import sim
from sim.core import data_names
from sim.plans import load_engine
from tests.conftest import Command

FEW = "workload.requests=60"
SERVING = [name for name in data_names("scenarios") if not sim.load(name).is_training]
SUMMARIES = ("ttft_s", "tpot_s", "itl_s", "e2e_s")
SUMMARY = {"mean", "p50", "p90", "p95", "p99"}
REQUESTS = {"in", "finished", "running", "queued", "rejected", "failed"}
NUMBERS = {
    "requests_per_s",
    "output_tokens_per_s",
    "output_tokens_per_s_per_gpu",
    "total_tokens_per_s_per_gpu",
    "mfu_frac",
    "mbu_frac",
    "energy_j",
    "energy_j_per_output_token",
    "cost_usd_per_million_output_tokens",
    "interactivity_tokens_per_s_per_user",
    "n_gpus",
    "kv_cache_tokens",
    "preemptions",
    "duration_s",
    "peak_memory_bytes",
}
BY_SLO = ("goodput_requests_per_s", "slo_attainment_frac")
SMALL_SEARCH = (FEW, "search.space={tp: [4, 8], replicas: 1, max_num_seqs: [64, 256]}", "search.max_simulated=3")


def shape(tree: Any) -> Any:
    """Keys of nested mappings, without their values."""
    return {key: shape(value) for key, value in tree.items()} if isinstance(tree, Mapping) else None


def plain(document: Mapping[str, Any]) -> Any:
    """The document as it comes back from JSON."""
    return json.loads(json.dumps(document, allow_nan=False))


def check_provenance(provenance: Mapping[str, Any], *, seed: int) -> None:
    assert provenance["versions"]["plansim"] == sim.__version__
    assert {"numpy", "scipy", "pandas", "simpy"} <= provenance["versions"].keys()
    assert provenance["seed"] == seed
    for name in ("scenario_sha256", "requests_sha256"):
        assert len(provenance["inputs"][name]) == 64
    assert provenance["costs"]
    assert all(source.strip() for source in provenance["costs"].values())
    assert provenance["device"]["sources"]
    assert provenance["assumptions"]


def traffic_of(entry: Mapping[str, Any]) -> Any:
    return entry["provenance"]["inputs"]["requests_sha256"]


def check_plan(entry: Mapping[str, Any]) -> None:
    """What every evaluated plan has, in a run, a front or a comparison."""
    metrics = entry["metrics"]
    for name in SUMMARIES:
        assert metrics[name].keys() == SUMMARY
        assert 0 < metrics[name]["p50"] <= metrics[name]["p99"]
    assert metrics["requests"].keys() == REQUESTS
    assert metrics["requests"]["in"] == sum(metrics["requests"].values()) - metrics["requests"]["in"]
    assert {name for name in NUMBERS if metrics[name] is None} == set()
    assert shape(entry["intervals"]) == shape(metrics)


@pytest.mark.parametrize("name", SERVING)
def test_run_gives_the_document_of_the_contract(name: str, plansim: Command) -> None:
    done = plansim("run", name, "--set", FEW, "--seed", 3, "--json")
    assert (done.code, done.err) == (0, "")
    document = done.document
    assert (document["schema_version"], document["command"]) == (1, "run")
    check_plan(document)
    check_provenance(document["provenance"], seed=3)
    assert document["metrics"]["requests"]["finished"] == 60
    has_slo = sim.load(name).spec.slo is not None
    assert [document["metrics"][part] is not None for part in BY_SLO] == [has_slo, has_slo]
    assert document["infeasible"] == []
    breakdown = document["breakdown"]
    assert sum(breakdown["parts"].values()) == pytest.approx(breakdown["explains_s"], rel=1e-9)
    assert min(breakdown["parts"].values()) >= 0
    server = {"vllm": "vllm serve", "trtllm": "trtllm-serve", "sglang": "sglang.launch_server"}
    assert server[load_engine(sim.load(name).spec.engine).family] in document["launch"]
    found = sim.run(sim.load(name, overrides=[FEW]), seed=3)
    assert plain(found.to_json()) == document, "from Python come the same numbers"


@pytest.mark.parametrize("name", SERVING)
def test_run_prints_tables_for_people(name: str, plansim: Command) -> None:
    done = plansim("run", name, "--set", FEW)
    assert (done.code, done.err) == (0, "")
    assert name in done.out.splitlines()[0]
    for word in ("TTFT", "TPOT", "p99"):
        assert word in done.out
    assert not {"nan", "None"} & {*done.out.split()}


def test_search_gives_the_document_of_the_contract(plansim: Command) -> None:
    overrides = [part for value in SMALL_SEARCH for part in ("--set", value)]
    done = plansim("search", "llama3-70b-azure-conv", *overrides, "--workers", 1, "--json")
    assert (done.code, done.err) == (0, "")
    document = done.document
    assert (document["schema_version"], document["command"], document["interrupted"]) == (1, "search", False)
    front, best, space = document["front"], document["recommended"], document["space"]
    assert front
    for entry in front:
        check_plan(entry)
        assert entry["launch"].startswith("# vLLM")
        assert f"--tensor-parallel-size {entry['plan']['tp']}" in entry["launch"]
        assert entry["metrics"]["goodput_max_requests_per_s_per_gpu"] >= 0
    assert {key: value for key, value in best.items() if key != "why"} in front
    assert best["why"]
    assert space["generated"] == space["screened"] + sum(space["infeasible"].values())
    assert len(front) <= space["simulated"] <= 3
    check_provenance(document["provenance"], seed=0)
    found = sim.search(sim.load("llama3-70b-azure-conv", overrides=SMALL_SEARCH))
    assert plain(found.to_json()) == document, "from Python come the same numbers"


def test_compare_gives_the_document_of_the_contract(plansim: Command) -> None:
    overrides = ["workload.requests=60", "replications=1"]
    arguments = [part for value in overrides for part in ("--set", value)]
    done = plansim("compare", "h100-or-h200", *arguments, "--workers", 1, "--json")
    assert (done.code, done.err) == (0, "")
    document = done.document
    assert (document["schema_version"], document["command"]) == (1, "compare")
    check_plan(document["base"])
    check_provenance(document["base"]["provenance"], seed=0)
    assert [variant["name"] for variant in document["variants"]] == ["h200", "fp8", "half-the-gpus"]
    base = document["base"]["metrics"]
    for variant in document["variants"]:
        check_plan(variant)
        ttft = variant["difference"]["ttft_s.p99"]
        assert ttft["value"] == pytest.approx(variant["metrics"]["ttft_s"]["p99"] - base["ttft_s"]["p99"])
        assert ttft["interval"] is None, "one pair has no spread"
        assert traffic_of(variant) == traffic_of(document["base"])
    assert document["variants"][2]["difference"]["n_gpus"]["value"] == -4
    found = sim.compare(sim.load("h100-or-h200", overrides=overrides))
    assert plain(found.to_json()) == document, "from Python come the same numbers"
