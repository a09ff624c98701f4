"""`plansim schema`: the stored scenario schema is fresh, and what is shipped fits the schemas."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator, Draft202012Validator

from sim.cli.schema import SPECS, schema_text
from sim.core import data_names, data_root, load_yaml
from tests.conftest import Command

FOLDERS = {
    "device": "hardware_profiles/devices",
    "link": "hardware_profiles/links",
    "node": "hardware_profiles/nodes",
    "cluster": "hardware_profiles/clusters",
    "price": "hardware_profiles/prices",
    "engine": "hardware_profiles/engines",
    "training_engine": "hardware_profiles/training_engines",
    "sustained": "hardware_profiles/sustained",
    "model": "workloads/models",
    "traffic": "workloads/traffic",
}
MOST = 20


def file_data(folder: str, name: str) -> Any:
    return load_yaml(data_root() / folder / f"{name}.yaml").data


@pytest.fixture
def validator(plansim: Command) -> Draft7Validator:
    return Draft7Validator(plansim("schema", "scenario").document)


def test_the_stored_schema_is_fresh(plansim: Command, tmp_path: Path) -> None:
    stored = (data_root() / "schemas" / "scenario.schema.json").read_text(encoding="utf-8")
    assert stored == schema_text("scenario"), "make schemas writes it again"
    assert plansim("schema", "scenario").document == json.loads(stored)
    assert plansim("schema").out == plansim("schema", "scenario").out
    assert plansim("schema", "--out", tmp_path).code == 0
    assert (tmp_path / "scenario.schema.json").read_text(encoding="utf-8") == stored


@pytest.mark.parametrize("name", data_names("scenarios"))
def test_shipped_scenarios_fit(name: str, validator: Draft7Validator) -> None:
    validator.validate(file_data("scenarios", name))
    first = (data_root() / "scenarios" / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert first == "# yaml-language-server: $schema=../schemas/scenario.schema.json"


@pytest.mark.parametrize(
    "change",
    [
        {"modle": "llama-3.1-8b"},
        {"plan": {"tq": 2}},
        {"plan": {"tp": "two"}},
        {"workload": {"traffic": "chat-poisson", "requests": 0}},
        {"search": {"space": {"tp": []}}},
        {"search": {"objectives": []}},
        {"slo": {"ttft_q99": "1 s"}},
        {"variants": [{"set": {}}]},
        {"name": "with/slash"},
    ],
)
def test_mistakes_do_not_fit(change: dict[str, Any], validator: Draft7Validator) -> None:
    scenario = file_data("scenarios", "h100-or-h200")
    assert validator.is_valid(scenario)
    assert not validator.is_valid({**scenario, **change})


@pytest.mark.parametrize("kind", SPECS)
def test_every_kind_has_a_valid_schema_that_shipped_files_fit(kind: str, plansim: Command) -> None:
    document = plansim("schema", kind).document
    Draft202012Validator.check_schema(document)
    assert document["properties"]
    validate = Draft202012Validator(document)
    for name in data_names(FOLDERS[kind])[:MOST] if kind in FOLDERS else ():
        validate.validate(file_data(FOLDERS[kind], name))
        assert not validate.is_valid({**file_data(FOLDERS[kind], name), "unknown": 1})
