"""A scenario may name files beside it in place of shipped names; overrides name files from the working directory."""

import json
import shutil
from pathlib import Path

import pytest

from sim.core import data_root
from tests.conftest import Command

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
}
SCENARIO = """\
name: own
model: {model}
cluster: {cluster}
engine: {engine}
workload: {{traffic: {traffic}, requests: 20}}
"""
SHIPPED = {
    "model": "workloads/models/llama-3.1-8b.yaml",
    "engine": "hardware_profiles/engines/vllm.yaml",
    "traffic": "workloads/traffic/chat-poisson.yaml",
    "cluster": "hardware_profiles/clusters/dgx-h100-1.yaml",
    "node": "hardware_profiles/nodes/dgx-h100.yaml",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with copies of shipped files called `my-KIND.yaml`, seen from another working directory."""
    below = tmp_path / "scenarios"
    (below / "hf").mkdir(parents=True)
    for kind, path in SHIPPED.items():
        shutil.copyfile(data_root() / path, below / f"my-{kind}.yaml")
    (below / "hf" / "config.json").write_text(json.dumps(CONFIG))
    monkeypatch.chdir(tmp_path)
    return below


def written(folder: Path, **names: str) -> Path:
    shipped = {"model": "llama-3.1-8b", "cluster": "dgx-h100-1", "engine": "vllm", "traffic": "chat-poisson"}
    path = folder / "own.yaml"
    path.write_text(SCENARIO.format(**{**shipped, **names}))
    return path


@pytest.mark.parametrize(
    "names",
    [
        {"model": "my-model.yaml", "engine": "my-engine.yaml", "traffic": "my-traffic.yaml"},
        {"cluster": "my-cluster.yaml"},
        {"cluster": "{node: my-node.yaml}"},
    ],
)
def test_files_beside_the_scenario_do_what_the_names_do(names: dict[str, str], folder: Path, plansim: Command) -> None:
    shipped = plansim("run", written(folder), "--json").document
    own = plansim("run", written(folder, **names), "--json")
    assert (own.code, own.err) == (0, "")
    assert own.document["metrics"] == shipped["metrics"]


@pytest.mark.parametrize("model", ["hf", "hf/config.json"])
def test_a_hugging_face_config_beside_the_scenario_is_a_model(model: str, folder: Path, plansim: Command) -> None:
    done = plansim("run", written(folder, model=model), "--json")
    assert (done.code, done.err) == (0, "")
    assert done.document["metrics"]["requests"]["finished"] == 20


@pytest.mark.parametrize(
    "override",
    [
        "model=scenarios/my-model.yaml",
        "model=scenarios/hf",
        "engine=scenarios/my-engine.yaml",
        "cluster=scenarios/my-cluster.yaml",
        "cluster.node=scenarios/my-node.yaml",
        "workload.traffic=scenarios/my-traffic.yaml",
    ],
)
def test_overrides_name_files_from_the_working_directory(override: str, folder: Path, plansim: Command) -> None:
    done = plansim("run", written(folder), "--set", override, "--json")
    assert (done.code, done.err) == (0, "")


def test_a_part_of_an_own_cluster_can_be_changed(folder: Path, plansim: Command) -> None:
    path = written(folder, cluster="my-cluster.yaml")
    document = plansim("run", path, "--set", "cluster.nodes=2", "--set", "plan.replicas=16", "--json").document
    assert document["metrics"]["n_gpus"] == 16


def test_a_mistake_in_an_own_file_names_that_file(folder: Path, plansim: Command) -> None:
    engine = folder / "my-engine.yaml"
    engine.write_text(engine.read_text() + "\nunknown_key: 1\n")
    path = written(folder, engine="my-engine.yaml")
    done = plansim("run", path)
    assert done.code == 2
    assert done.err.startswith(f"error: {engine}:")
    assert "unknown_key" in done.err
    assert f"named by {path}:4 engine" in done.err
