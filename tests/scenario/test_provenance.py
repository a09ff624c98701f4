"""Where a result says it comes from."""

import json
from typing import Any

import numpy as np
import pytest

import sim
from sim.scenario import run
from sim.testing.scenarios import small_scenario

ALIKE = {
    "name": "alike",
    "arrivals": {"kind": "poisson"},
    "lengths": {"input": {"kind": "constant", "value": 100}, "output": {"kind": "constant", "value": 5}},
    "shared_prefix": {"groups": 2, "tokens": 64},
}


def provenance(values: dict[str, Any] | None = None, seed: int = 0) -> dict[str, Any]:
    return run(small_scenario({"workload.requests": 10, **(values or {})}), seed=seed).provenance


def test_it_names_versions_seed_inputs_and_sources() -> None:
    found = provenance(seed=9)
    assert found["seed"] == 9
    assert found["versions"]["plansim"] == sim.__version__
    assert found["versions"]["numpy"] == np.__version__
    assert found["inputs"]["requests"] == 10
    assert found["device"]["name"] == "h100-sxm"
    assert found["device"]["sources"]
    assert found["price"]["usd_per_gpu_hour"] > 0
    assert found["price"]["source"]
    assert any("decode" in name for name in found["costs"])
    assert all(found["costs"].values()), "every curve says where it comes from"
    assert json.loads(json.dumps(found)) == found


def test_hashes_follow_their_input_and_nothing_else() -> None:
    base, again = provenance(), provenance()
    assert base == again
    plan = provenance({"plan.tp": 2})["inputs"]
    assert plan["requests_sha256"] == base["inputs"]["requests_sha256"]
    assert plan["scenario_sha256"] != base["inputs"]["scenario_sha256"]
    seed = provenance(seed=1)["inputs"]
    assert seed["requests_sha256"] != base["inputs"]["requests_sha256"]
    assert seed["scenario_sha256"] == base["inputs"]["scenario_sha256"]


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({}, "no two prompts begin alike"),
        ({"plan.prefix_caching": False}, "prefix caching is off"),
        ({"workload.traffic": ALIKE}, "full blocks of prompts"),
        ({"plan.pp": 2}, "pipeline"),
        ({"model": "deepseek-v2-lite"}, "experts"),
        ({"model": "deepseek-v2-lite", "plan": {"dp": 2, "ep": 2}}, "lock step"),
    ],
)
def test_what_is_assumed_is_said(values: dict[str, Any], word: str) -> None:
    assert any(word in note for note in provenance(values)["assumptions"])
    if values:
        assert not any(word in note for note in provenance()["assumptions"])
