"""From names to things: what is found, how much traffic there is, and what is said when a name is unknown."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sim.core import InputError, data_root
from sim.scenario import assemble
from sim.scenario.assemble import longest_request
from sim.testing.scenarios import small_scenario


def test_names_become_things() -> None:
    things = assemble(small_scenario(), seed=0)
    assert things.model.name == "llama-3.1-8b"
    assert things.cluster.device.name == "h100-sxm"
    assert things.engine.name == "vllm"
    assert things.concurrency is None
    assert len(things.requests) == 120
    assert things.requests.name == "chat-poisson"


@pytest.mark.parametrize(
    ("workload", "count"),
    [
        ({"traffic": "chat-poisson"}, 2000),
        ({"traffic": "chat-poisson", "requests": 7}, 7),
        ({"traffic": "chat-poisson", "concurrency": 5}, 50),
        ({"traffic": "chat-poisson", "concurrency": 5, "requests": 8}, 8),
    ],
)
def test_how_many_requests(workload: dict[str, Any], count: int) -> None:
    assert len(assemble(small_scenario({"workload": workload}), seed=0).requests) == count


def test_every_plan_and_cluster_sees_the_same_traffic() -> None:
    base = assemble(small_scenario(), seed=3).requests
    other = assemble(small_scenario({"plan.tp": 4, "cluster": "dgx-h200-1", "model": "qwen2.5-0.5b"}), seed=3).requests
    assert np.array_equal(base.arrival_s, other.arrival_s)
    assert np.array_equal(base.input_tokens, other.input_tokens)
    assert np.array_equal(base.output_tokens, other.output_tokens)
    assert not np.array_equal(base.arrival_s, assemble(small_scenario(), seed=4).requests.arrival_s)


def test_a_rate_scales_the_gaps_and_leaves_the_lengths() -> None:
    slow, fast = (assemble(small_scenario({"workload.rate": rate}), seed=0).requests for rate in (2.0, 8.0))
    np.testing.assert_allclose(slow.arrival_s, 4 * fast.arrival_s)
    assert np.array_equal(slow.input_tokens, fast.input_tokens)


def test_a_model_and_an_engine_may_be_files(tmp_path: Path) -> None:
    model = tmp_path / "mine.yaml"
    text = (data_root() / "workloads" / "models" / "llama-3.1-8b.yaml").read_text(encoding="utf-8")
    model.write_text(text.replace("name: llama-3.1-8b", "name: mine"), encoding="utf-8")
    assert assemble(small_scenario({"model": str(model)}), seed=0).model.name == "mine"


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("model", "llama-3.1-8", ["llama-3.1-8b"]),
        ("cluster", "dgx-h10-1", ["dgx-h100-1"]),
        ("engine", "vlm", ["vllm"]),
        ("workload.traffic", "chat-poison", ["chat-poisson"]),
        ("plan.router", "round_robbin", ["round_robin"]),
        ("plan.scheduler", "vllm-v2", ["vllm-v1"]),
        ("search.space", {"router": ["round_robbin"]}, ["round_robin"]),
        ("workload.trace", {"path": "nowhere.csv"}, ["nowhere.csv"]),
    ],
)
def test_unknown_names_are_refused_with_a_suggestion(path: str, value: Any, words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        assemble(small_scenario({path: value}), seed=0)
    for word in words:
        assert word in str(caught.value)


def test_the_longest_request_counts_prompt_and_output() -> None:
    requests = assemble(small_scenario(), seed=0).requests
    assert longest_request(requests) == max((requests.input_tokens + requests.output_tokens).tolist())
