"""Megatron-LM arguments: each feature of a plan is told to it, or a comment says that it cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from sim.models import ModelSpec, load_model
from sim.training import megatron_command
from tests.training.builders import gelu_layers, gpt, resolved

MODEL = gpt(layers=8, hidden=1024, heads=16)
ENCODER: dict[str, Any] = {
    "hidden_size": 512,
    "layers": gelu_layers(layers=2, hidden=512, heads=8),
    "patch_width": 588,
    "tokens": 64,
    "items_per_sequence": 1.0,
}


def command(plan: dict[str, Any], **workload: Any) -> str:
    given = {"model": MODEL, "gpus": 16, "node": "dgx-b200", "engine": "megatron-lm", **workload}
    found, things = resolved(plan, **given)
    assert not isinstance(found, tuple), found
    return megatron_command(found, model=MODEL, workload=things["workload"], cluster=things["cluster"])


@pytest.mark.parametrize(
    ("plan", "workload", "words"),
    [
        ({"zero": 1, "dp_replicas": 2}, {}, "--num-distributed-optimizer-instances 2"),
        ({"cp": 2, "cp_kind": "ulysses"}, {}, "--cp-comm-type a2a"),
        ({"cp": 2, "cp_kind": "token_ring"}, {}, "# no argument chooses token_ring"),
        ({"grad_dtype": "bf16"}, {}, "--grad-reduce-in-bf16"),
        ({"recompute": "cheap"}, {}, "--recompute-modules layernorm"),
        ({"recompute": "cheap"}, {}, "# no argument recomputes the activation of dense layers"),
        ({"cuda_graphs": True}, {}, "--enable-cuda-graph"),
        ({"power_cap": 300.0}, {}, "# the clock is"),
        ({}, {"optimizer": "adam_bf16"}, "--exp-avg-dtype bf16"),
        ({}, {"quantisation": {"activation_input_8bit": True}}, "--activation-func-fp8-input-store"),
        ({}, {"quantisation": {"dispatch_8bit": True}}, "# no argument dispatches tokens in 8 bits"),
        ({}, {"optimizer": "adam_cpu"}, "--optimizer-cpu-offload"),
        ({}, {"precision": "fp16"}, "--fp16"),
        ({}, {"precision": "nvfp4"}, "--bf16 --fp4-format e2m1 --fp4-recipe nvfp4"),
        ({}, {"precision": "fp8_rowwise"}, "# no argument chooses the recipe fp8_rowwise"),
        (
            {},
            {"precision": "mxfp8", "quantisation": {"first_16bit": 1, "last_16bit": 2}},
            "--first-last-layers-bf16 --num-layers-at-start-in-bf16 1 --num-layers-at-end-in-bf16 2",
        ),
        ({}, {"encoder": ENCODER}, "# the encoder on the first stage"),
        ({}, {"batch_ramp": {"start": 16, "increment": 16, "samples": 64}}, "--rampup-batch-size 16 16 64"),
        ({}, {"lora": {"rank": 16}}, "# adapters of rank 16"),
        ({"pp": 2, "schedule": "zb_h1"}, {}, "# no argument chooses the schedule zb_h1"),
    ],
)
def test_each_choice_is_an_argument_or_a_comment(plan: dict[str, Any], workload: dict[str, Any], words: str) -> None:
    found = command(plan, **workload)
    assert words in found
    assert words not in command({})


@pytest.mark.parametrize(("engine", "said"), [("megatron-lm-2021", False), ("fsdp", True)])
def test_a_plan_of_another_engine_says_whose_times_those_are(engine: str, said: bool) -> None:
    found, things = resolved({"zero": 1}, model=MODEL, engine=engine)
    plan = {"model": MODEL, "workload": things["workload"], "cluster": things["cluster"]}
    text = megatron_command(found, engine=engine, **plan)
    assert (f"those of {engine}; this is the same layout in Megatron-LM" in text) == said


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (MODEL, "--recompute-modules layernorm --"),
        (load_model("mixtral-8x7b"), "--recompute-modules layernorm moe_act --moe-grouped-gemm --"),
        (load_model("deepseek-v3"), "--recompute-modules layernorm moe_act mla_up_proj --moe-grouped-gemm --"),
    ],
    ids=lambda one: getattr(one, "name", None),
)
def test_modules_that_are_recomputed_are_those_that_the_model_has(model: ModelSpec, said: str) -> None:
    """Megatron-Core refuses `moe_act` without grouped products of experts, `mla_up_proj` without latent attention."""
    found, things = resolved({"recompute": "cheap"}, model=model, gpus=16, node="dgx-b200", engine="megatron-lm")
    text = megatron_command(found, model=model, workload=things["workload"], cluster=things["cluster"])
    assert said in text
    assert ("dense layers" in text) == (model.name != "mixtral-8x7b")
