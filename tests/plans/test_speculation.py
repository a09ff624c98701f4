"""Speculative decoding as a plan says it: what it expects, where it is refused, what it takes, how it is launched."""

from __future__ import annotations

import json
import shlex
import subprocess

import pytest
import yaml
from pydantic import ValidationError

from sim.models import load_model
from sim.plans import Infeasible, PlanSpec, SpeculationSpec, launch_command, load_engine, require, resolve

MTP = {"draft_tokens": 3, "acceptance": [0.8, 0.5, 0.5]}


def resolved(model: str, cluster, *, engine: str = "trtllm", **fields: object):
    plan = PlanSpec(**{"tp": 8, **fields})
    return resolve(plan, model=load_model(model), engine=load_engine(engine), cluster=cluster)


def test_a_step_emits_the_chain_up_to_its_first_failure() -> None:
    """1 + a1 + a1 a2 + a1 a2 a3; one rate stands for all places."""
    assert float(SpeculationSpec(**MTP).emitted_tokens) == pytest.approx(1 + 0.8 + 0.4 + 0.2)
    same = SpeculationSpec(draft_tokens=2, acceptance=0.5)
    assert float(same.emitted_tokens) == pytest.approx(1.75)
    assert SpeculationSpec(draft_tokens=4, acceptance=0).emitted_tokens == 1
    assert SpeculationSpec(draft_tokens=4, acceptance=1).emitted_tokens == same.step_tokens + 2 == 5


@pytest.mark.parametrize(
    "wrong",
    [
        {"draft_tokens": 3, "acceptance": [0.8, 0.5]},
        {"draft_tokens": 0, "acceptance": 0.5},
        {"draft_tokens": 1, "acceptance": 1.5},
        {"draft_tokens": 1, "acceptance": []},
        {"draft_tokens": 1},
        {"draft_tokens": 1, "acceptance": 0.5, "method": "medusa"},
    ],
)
def test_contradictions_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SpeculationSpec(**wrong)


@pytest.mark.parametrize(
    ("model", "fields", "why"),
    [
        ("llama-3.1-70b", {"engine": "vllm-0.6"}, "has no speculative decoding"),
        ("llama-3.1-70b", {"pp": 2, "tp": 4}, "not modelled with 2 pipeline stages"),
        ("llama-3.1-70b", {"max_num_seqs": 64, "max_num_batched_tokens": 128}, "does not hold 4 tokens of each"),
    ],
)
def test_where_it_is_not_modelled_it_is_refused(model: str, fields: dict[str, object], why: str, make_cluster) -> None:
    found = resolved(model, make_cluster(memory_gib=140), speculation=MTP, **fields)
    assert isinstance(found, Infeasible)
    assert why in " ".join(reason.message for reason in found.reasons)


def test_draft_layers_take_memory_for_weights_and_cache(make_cluster) -> None:
    """A draft layer is one more layer of 80; drafts from earlier tokens need none."""
    plain, mtp, ngram = (
        resolved("llama-3.1-70b", make_cluster(), **fields)
        for fields in ({}, {"speculation": MTP}, {"speculation": {**MTP, "method": "ngram"}})
    )
    ratio = mtp.tightest.kv_bytes_per_token / plain.tightest.kv_bytes_per_token
    assert ratio == pytest.approx(81 / 80)
    assert mtp.memory.weights_bytes > plain.memory.weights_bytes
    assert mtp.kv_blocks < plain.kv_blocks
    assert (ngram.memory.weights_bytes, ngram.kv_blocks) == (plain.memory.weights_bytes, plain.kv_blocks)
    assert mtp.label.endswith("mtp 3")
    assert mtp.to_dict()["speculation"] == {"method": "mtp", **MTP}
    assert PlanSpec(**{k: v for k, v in mtp.to_dict().items() if k != "prefill"}).speculation == mtp.speculation


def test_recurrent_layers_keep_a_state_for_every_token_of_a_step(make_cluster) -> None:
    """Four states of a sequence with three drafts, so four times as many blocks whatever its length."""
    plain, drafted = (
        resolved("qwen3.5-35b-a3b", make_cluster(), tp=2, **fields).kv_layout
        for fields in ({}, {"speculation": {**MTP, "method": "ngram"}})
    )
    assert plain.fixed > 0
    assert 4 * (plain.fixed - 1) < drafted.fixed <= 4 * plain.fixed


def test_launch_commands_name_it(make_cluster) -> None:
    model = load_model("llama-3.1-70b")
    texts = {}
    for name in ("vllm", "sglang", "trtllm"):
        engine = load_engine(name)
        plan = require(PlanSpec(tp=8, speculation=MTP), model=model, engine=engine, cluster=make_cluster())
        texts[name] = launch_command(plan, model=model, engine=engine)
        subprocess.run(["bash", "-n"], input=texts[name], text=True, check=True)
    words = shlex.split(texts["vllm"], comments=True)
    assert json.loads(words[words.index("--speculative-config") + 1]) == {"method": "mtp", "num_speculative_tokens": 3}
    assert (
        "--speculative-algorithm EAGLE --speculative-num-steps 3 --speculative-eagle-topk 1 "
        "--speculative-num-draft-tokens 4" in texts["sglang"]
    )
    options = yaml.safe_load(texts["trtllm"].split("<<'END'\n")[1].split("\nEND")[0])
    assert options["speculative_config"] == {"decoding_type": "MTP", "num_nextn_predict_layers": 3}


def test_waits_and_graphs_in_the_words_of_tensorrt_llm(make_cluster) -> None:
    model, engine = load_model("llama-3.1-70b"), load_engine("trtllm")
    plan = PlanSpec(tp=8, batch_wait=20, batch_fill=0.9, prompt_graphs=True)
    text = launch_command(require(plan, model=model, engine=engine, cluster=make_cluster()), model=model, engine=engine)
    options = yaml.safe_load(text.split("<<'END'\n")[1].split("\nEND")[0])
    assert (options["batch_wait_timeout_iters"], options["batch_wait_max_tokens_ratio"]) == (20, 0.9)
    assert options["torch_compile_config"] == {"enable_piecewise_cuda_graph": True}


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"engine": "vllm", "batch_wait": 5}, "batch_wait must be 0"),
        ({"engine": "sglang", "prompt_graphs": True}, "prompt_graphs must be false"),
        ({"tp": 1, "dp": 8, "batch_wait": 5}, "fills no iterations of 8 attention-data-parallel ranks"),
    ],
)
def test_engines_without_them_refuse_waits_and_graphs(fields: dict[str, object], why: str, make_cluster) -> None:
    found = resolved("qwen3-30b-a3b", make_cluster(), **fields)
    assert isinstance(found, Infeasible)
    assert why in " ".join(reason.message for reason in found.reasons)
