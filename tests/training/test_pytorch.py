"""What PyTorch's FSDP2, tensor parallelism and pipelining do unlike Megatron-LM: the profile of TorchTitan."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sim.models import Collective, Elementwise, Gemm, load_model
from sim.training import TrainingStep
from sim.training.analytic import Screen
from sim.training.layer import layer_work, tensor_collectives
from sim.training.memory import layer_activation_bytes, transfer_bytes
from sim.training.operators import Quantise, WeightGradient
from sim.training.precision import recipe_of
from sim.training.shape import WorkShape
from sim.training.spec import QuantisationSpec
from sim.training.states import layer_parameters
from tests.training.builders import resolved, step_of

LLAMA = load_model("llama-3-8b")
[LAYERS] = LLAMA.layers
SHAPE = WorkShape(micro_batch=2, sequence=8192, tp=8, sp=True)
TITAN: dict[str, Any] = {"engine": "torchtitan", "node": "dgx-h100", "model": LLAMA}


def products(shape: WorkShape) -> list[Any]:
    work = layer_work(LLAMA, LAYERS, shape)
    every = (*work.forward, *work.backward_input, *work.backward_weight)
    return [one for one in every if isinstance(one, (Gemm, WeightGradient))]


def test_projections_apart_do_the_same_work_in_more_products() -> None:
    fused, apart = products(SHAPE), products(replace(SHAPE, fused_projections=False))
    assert len(apart) - len(fused) == 3 * (2 + 1), "keys, values and the gate, three times each"
    assert sum(float(one.flops()) for one in apart) == pytest.approx(sum(float(one.flops()) for one in fused))
    assert sum(float(one.bytes()) for one in apart) > sum(float(one.bytes()) for one in fused)


def test_inputs_that_are_kept_whole_are_not_gathered_again() -> None:
    """One gather fewer per block, and two inputs of `s b h` kept whole for shares of them."""
    again, once = SHAPE, replace(SHAPE, gathers_again=False)
    assert len(tensor_collectives(LLAMA, again)[1]) - len(tensor_collectives(LLAMA, once)[1]) == 1
    whole = 2.0 * SHAPE.tokens * LLAMA.hidden_size
    more = layer_activation_bytes(LLAMA, LAYERS, once) - layer_activation_bytes(LLAMA, LAYERS, again)
    assert more == pytest.approx(2.0 * whole * (1.0 - 1.0 / 8))


def test_selected_operators_gather_inputs_again_whoever_keeps_them() -> None:
    plan = {"tp": 8, "recompute": "operators"}
    own = step_of(plan, **TITAN).times.parts_s["tp_comm"]
    none = step_of({**plan, "recompute": "none"}, **TITAN).times.parts_s["tp_comm"]
    full = step_of({**plan, "recompute": "full"}, **TITAN).times.parts_s["tp_comm"]
    assert none < own < full


@pytest.mark.parametrize(
    ("precision", "share"), [("bf16", 1.0), ("fp8", 0.5), ("fp8_dynamic", 0.5), ("fp8_rowwise", 1.0)]
)
def test_operands_are_gathered_as_they_are_multiplied(precision: str, share: float) -> None:
    """But for scales per row, whose direction the products after the gather choose; sums stay in 16 bits."""
    shape = replace(SHAPE, recipe=recipe_of(precision, QuantisationSpec()))
    forward, backward = tensor_collectives(LLAMA, shape)
    for one in (*forward, *backward):
        assert isinstance(one, Collective)
        expected = 2.0 * SHAPE.tokens * LLAMA.hidden_size * (share if one.kind == "all_gather" else 1.0)
        assert float(one.buffer_bytes) == expected


def test_ranks_divide_casts_of_what_they_gather() -> None:
    """3 B of each element's 4 before the gather, 2 B of the whole after it; without ranks 4 B."""
    recipe = recipe_of("fp8_dynamic", QuantisationSpec())
    assert recipe.inputs.gathered(1).forward_bytes == 4.0
    assert recipe.inputs.gathered(8).forward_bytes == pytest.approx(3.0 / 8 + 2.0)
    cast = {
        sp: sum(
            one.moved_bytes
            for one in layer_work(LLAMA, LAYERS, replace(SHAPE, recipe=recipe, sp=sp)).forward
            if isinstance(one, Quantise)
        )
        for sp in (False, True)
    }
    assert cast[True] < cast[False]


def test_shards_are_copied_once_a_micro_batch_for_each_pass_and_reduction() -> None:
    """Per weight 4 B for each of two gathers, 2 B read and 4 B written for the reduction; embeddings are looked up."""
    few, many = (step_of({"zero": 3, "micro_batch": 1}, **TITAN, batch=8 * m, sequence=8192) for m in (1, 3))
    [stage] = few.stages
    copied = [one for one in few.costs.raw_s if one.name == "shard_copies"]
    head = LLAMA.hidden_size * -(-LLAMA.vocab_size // 128) * 128
    layers = sum(o.moved_bytes for o in layer_work(LLAMA, LAYERS, few.plan.shape(8192)).backward_weight if o in copied)
    weights = 14.0 * (LAYERS.count * LLAMA.hidden_size * (2 * 4096 + 2 * 1024 + 3 * 14336))
    assert LAYERS.count * layers == pytest.approx(weights)
    assert stage.backward_weight.parts_s["dp_comm"] >= (weights + 14.0 * head) / few.device.memory_bytes_per_s
    assert many.times.parts_s["dp_comm"] > 2.0 * few.times.parts_s["dp_comm"]


def test_transfers_are_held_for_every_micro_batch() -> None:
    """`m` gradients at the first stage and its results, both and inputs between, inputs and logits at the last."""
    plan, things = resolved({"tp": 8, "pp": 4, "zero": 1}, **TITAN, gpus=64, batch=64)
    shape = plan.shape(1024)
    sent = 2.0 * 1024 * LLAMA.hidden_size / 8
    logits = 2.0 * 1024 * -(-LLAMA.vocab_size // 1024) * 1024 / 8
    found = [transfer_bytes(LLAMA, plan, shape, [stage]) for stage in range(4)]
    assert found[:3] == pytest.approx([2.0 * plan.microbatches * sent] * 3)
    assert found[3] == pytest.approx(plan.microbatches * (sent + logits))
    step = TrainingStep(plan=plan, **things)
    assert [one.buffers_bytes for one in step.memory] == pytest.approx(found)


def test_each_copy_of_a_two_way_pipeline_has_half_of_the_transfers() -> None:
    """Two stages on a device, each with every second micro-batch: as much as one with all of them, at either end."""
    plan, things = resolved(
        {"tp": 8, "pp": 4, "zero": 1, "schedule": "dualpipe"}, **TITAN, gpus=64, batch=64, sequence=1024
    )
    shape, step = plan.shape(1024), TrainingStep(plan=plan, **things)
    one_way = [transfer_bytes(LLAMA, plan, shape, [stage]) for stage in range(4)]
    mean = [(one_way[stage] + one_way[3 - stage]) / 2.0 for stage in range(4)]
    assert [one.buffers_bytes for one in step.memory] == pytest.approx(mean)


def test_weights_of_experts_are_copied_out_of_the_buffer_too() -> None:
    """Routed ones, as those of any product: four bytes a weight for each pass, and gradients into another."""
    model = load_model("mixtral-8x7b")
    [group] = model.layers
    shape = WorkShape(micro_batch=1, sequence=4096, ep=2, copies_shards=True)
    moved = sum(
        float(one.moved_bytes) * one.count
        for one in layer_work(model, group, shape).backward_weight
        if isinstance(one, Elementwise) and one.name == "shard_copies"
    )
    shared, expert = layer_parameters(model, group, tp=1, ep=2)
    assert expert > 10.0 * shared
    assert moved == pytest.approx((8.0 + 2.0 + 4.0) * (shared + expert), rel=1e-3)


@pytest.mark.parametrize(
    "plan",
    [
        {"zero": 3, "recompute": "operators"},
        {"zero": 3, "tp": 8, "overlap_tp": True, "recompute": "full", "compiled": True},
        {"zero": 1, "tp": 4, "pp": 4, "recompute": "full"},
        {"zero": 1, "tp": 2, "pp": 4, "vpp": 2, "recompute": "operators", "overlap_tp": True},
        {"zero": 3, "overlap_dp": False},
    ],
    ids=str,
)
def test_the_screen_agrees(plan: dict[str, Any]) -> None:
    found, things = resolved(plan, **TITAN, gpus=64, batch=256, sequence=4096)
    assert not isinstance(found, tuple), found
    step = TrainingStep(plan=found, **things)
    estimate = Screen(**things).estimate([found])
    assert estimate.step_s[0] == pytest.approx(step.step_s, rel=0.05)
    assert estimate.memory_bytes[0] == pytest.approx(step.peak_memory.allocated_bytes, rel=0.07)
