"""Recipes in low precision: passes by their closed forms, kept layers, memory, and devices that cannot follow them."""

from __future__ import annotations

from typing import Any

import pytest

from sim.hardware import load_device
from sim.models import Collective, Elementwise, load_model
from sim.training import TrainingStep, layer_activation_bytes
from sim.training.analytic import Screen
from sim.training.layer import layer_work
from sim.training.operators import Quantise
from sim.training.precision import HADAMARD_FLOPS, ROUNDING_OPS, Recipe, recipe_of, with_wide_ends
from sim.training.shape import WorkShape
from sim.training.spec import QuantisationSpec
from tests.training.builders import gpt, resolved, step_of

H, B, S = 4096, 2, 2048
GPT = gpt(layers=8, hidden=H, heads=32)
B200: dict[str, Any] = {"model": GPT, "node": "hgx-b200", "engine": "megatron-lm", "sequence": S}


def recipe(name: str, **options: Any) -> Recipe:
    return recipe_of(name, QuantisationSpec(**options))


def casts(used: Recipe) -> dict[str, float]:
    """Bytes that casts of one layer move, by pass, over tokens x width."""
    work = layer_work(GPT, GPT.layers[0], WorkShape(micro_batch=B, sequence=S, recipe=used))
    return {
        part: sum(o.moved_bytes * o.count for o in getattr(work, part) if isinstance(o, Quantise)) / (B * S * H)
        for part in ("forward", "backward_input", "backward_weight")
    }


@pytest.mark.parametrize("name", ["bf16", "fp16", "fp8"])
def test_known_scales_need_no_pass(name: str) -> None:
    assert sum(casts(recipe(name)).values()) == 0.0


def test_modules_apart_cast_inputs_behind_attention_and_activation_transpose_all_and_cast_gradients() -> None:
    """Inputs without a norm in front (1 + 4) of 3 B; transposes of all (1 + 1 + 1 + 4), 2 B each, for weight gradients;
    gradients (3 + 1 + 4 + 1) of 4 B."""
    apart = recipe_of("fp8", QuantisationSpec(), fused_casts=False)
    found = casts(apart)
    assert found == {
        "forward": pytest.approx(3.0 * 5.0),
        "backward_input": pytest.approx(4.0 * 9.0),
        "backward_weight": pytest.approx(2.0 * 7.0),
    }
    assert apart.weight_cast_bytes == 4.0
    assert recipe_of("bf16", QuantisationSpec(), fused_casts=False) == recipe("bf16")


@pytest.mark.parametrize(("low", "widths"), [(False, 4096 + 14336), (True, 14336)])
def test_experts_cast_tokens_that_came_in_sixteen_bits(low: bool, widths: int) -> None:
    """Per token: attention's output once, and twice the tokens of 4096, unless they came in 8 bits, and the hidden."""
    model = load_model("mixtral-8x7b")
    used = recipe_of("fp8", QuantisationSpec(dispatch_8bit=low), fused_casts=False)
    work = layer_work(model, model.layers[0], WorkShape(micro_batch=1, sequence=S, ep=8, recipe=used))
    moved = sum(o.moved_bytes * o.count for o in work.forward if isinstance(o, Quantise))
    assert moved == pytest.approx(3.0 * S * (4096 + 2 * widths))


def test_tokens_go_to_experts_in_eight_bits_and_come_back_in_sixteen() -> None:
    """Of two exchanges each way one takes 1 + 4/128 bytes an element instead of 2."""
    model = load_model("mixtral-8x7b")
    sizes = []
    for low in (False, True):
        shape = WorkShape(micro_batch=1, sequence=S, ep=8, recipe=recipe("fp8", dispatch_8bit=low))
        work = layer_work(model, model.layers[0], shape)
        for part in (work.forward, work.backward_input):
            sizes.append(sum(o.buffer_bytes for o in part if isinstance(o, Collective) and o.group == "ep"))
    assert sizes == pytest.approx([4.0 * 2 * S * 4096] * 2 + [(2.0 + 1.0 + 4.0 / 128) * 2 * S * 4096] * 2)


@pytest.mark.parametrize(
    ("name", "options", "inputs", "gradients", "across"),
    [
        ("fp8_dynamic", {}, 4.0, 4.0, 0.0),
        ("fp8_rowwise", {}, 3.0, 3.0, 5.0),
        ("nvfp4", {}, 4.5625, 4.5625, 2.5625),
        ("nvfp4", {"hadamard": False}, 4.5625, 4.5625, 0.5625),
    ],
)
def test_every_operand_has_its_passes(
    name: str, options: dict[str, Any], inputs: float, gradients: float, across: float
) -> None:
    """Inputs of the four products are (1 + 1 + 1 + 4) tokens x width, gradients of their results (3 + 1 + 4 + 1)."""
    found = casts(recipe(name, **options))
    assert found["forward"] == pytest.approx(7.0 * inputs)
    assert found["backward_input"] == pytest.approx(9.0 * gradients)
    assert found["backward_weight"] == pytest.approx(16.0 * across)


def test_norms_and_activations_write_blocks_in_place() -> None:
    """MXFP8: only the input behind attention, and the gradients that no activation makes, have a pass."""
    each = 2.0 + 2.0 * (1.0 + 1.0 / 32)
    found = casts(recipe("mxfp8"))
    assert (found["forward"], found["backward_input"]) == (pytest.approx(each), pytest.approx(5.0 * each))
    assert found["backward_weight"] == 0.0


@pytest.mark.parametrize("name", ["b200-sxm", "gb200", "gb300"])
def test_transform_and_rounding_hide_behind_the_traffic_of_their_pass(name: str) -> None:
    device = load_device(name)
    moved_s = 2.5625 / device.memory_bytes_per_s
    assert HADAMARD_FLOPS / device.flops["bf16"] < moved_s
    assert ROUNDING_OPS / device.vector_flops < moved_s


def test_a_pass_lasts_as_long_as_the_longest_of_what_it_does() -> None:
    costs = step_of({}, precision="nvfp4", **B200).costs
    traffic_s = costs.time_s(Elementwise(name="x", cause="quantisation", moved_bytes=1e9))
    assert costs.time_s(Quantise(name="x", moved_bytes=1e9, vector_ops=1e9)) == traffic_s
    rounded_s = costs.time_s(Quantise(name="x", moved_bytes=1e9, vector_ops=1e13))
    assert rounded_s == pytest.approx(1e13 / costs.device.vector_flops / costs.sustained.stream)


@pytest.mark.parametrize(
    ("node", "precision"),
    [("dgx-a100", "fp8"), ("dgx-a100", "nvfp4"), ("dgx-h100", "mxfp8"), ("dgx-h100", "nvfp4")],
)
def test_devices_without_the_format_are_refused(node: str, precision: str) -> None:
    reasons, _ = resolved({}, node=node, precision=precision)
    assert [reason.code for reason in reasons] == ["precision"]
    assert "bf16" in reasons[0].message


@pytest.mark.parametrize(
    ("node", "precision"), [("dgx-h100", "fp8_rowwise"), ("hgx-b200", "mxfp8"), ("hgx-b200", "nvfp4")]
)
def test_devices_with_it_are_not(node: str, precision: str) -> None:
    found, _ = resolved({}, node=node, precision=precision)
    assert not isinstance(found, tuple)


def test_narrower_products_are_faster_where_they_are_large() -> None:
    """But not in proportion: casts, attention, norms and vocabulary stay."""
    wide = gpt(layers=4, hidden=12288, heads=96)
    times = [step_of({"tp": 8}, **{**B200, "model": wide}, precision=name).times for name in ("bf16", "mxfp8", "nvfp4")]
    steps, products = [t.step_s for t in times], [t.parts_s["linear"] for t in times]
    assert steps == sorted(steps, reverse=True)
    assert products == sorted(products, reverse=True)
    assert steps[0] / steps[2] < products[0] / products[2]
    assert times[2].parts_s["attention"] == pytest.approx(times[0].parts_s["attention"])
    assert times[2].hardware_flops == times[0].hardware_flops


def test_the_gain_falls_with_layers_kept_in_16_bits_and_is_gone_when_all_are() -> None:
    def step_s(first: int, last: int) -> float:
        options = {"first_16bit": first, "last_16bit": last}
        return step_of({"tp": 2}, **B200, precision="nvfp4", quantisation=options).step_s

    steps = [step_s(*ends) for ends in ((0, 0), (1, 1), (2, 4), (4, 4))]
    assert steps == sorted(steps)
    assert steps[-1] == pytest.approx(step_of({"tp": 2}, **B200).step_s, rel=1e-12)


@pytest.mark.parametrize(("first", "last"), [(0, 0), (2, 0), (0, 3), (1, 2), (4, 4)])
def test_kept_layers_are_the_outermost(first: int, last: int) -> None:
    model = with_wide_ends(GPT, QuantisationSpec(first_16bit=first, last_16bit=last))
    kept = [group.kept_16bit for group in model.layers for _ in range(group.count)]
    assert kept == [True] * first + [False] * (8 - first - last) + [True] * last
    assert with_wide_ends(model, QuantisationSpec(first_16bit=first, last_16bit=last)) == model


def test_more_kept_layers_than_there_are_is_refused_with_the_numbers() -> None:
    reasons, _ = resolved({}, **B200, precision="nvfp4", quantisation={"first_16bit": 5, "last_16bit": 4})
    assert reasons[0].numbers == {"kept": 9, "layers": 8}


def test_inputs_of_products_are_kept_as_they_are_multiplied() -> None:
    """Two norms' results and the activation's (2 + 4 widths) shrink from 2 to 1.03 bytes, attention's is kept twice."""
    shape = WorkShape(micro_batch=B, sequence=S)
    wide = layer_activation_bytes(GPT, GPT.layers[0], shape)
    low = layer_activation_bytes(GPT, GPT.layers[0], WorkShape(micro_batch=B, sequence=S, recipe=recipe("mxfp8")))
    each = 1.0 + 1.0 / 32
    assert wide - low == pytest.approx(B * S * H * (6.0 * (2.0 - each) - each))


def test_weights_are_cast_once_a_step_or_in_every_micro_batch_that_gathers_them() -> None:
    plan = {"micro_batch": 1}
    for zero in (0, 1):
        few, many = (step_of({**plan, "zero": zero}, **B200, precision="nvfp4", batch=b) for b in (8, 32))
        assert few.times.parts_s["optimizer"] == many.times.parts_s["optimizer"]
        plain = step_of({**plan, "zero": zero}, **B200, batch=8)
        assert few.times.parts_s["optimizer"] > plain.times.parts_s["optimizer"]
        copies = few.memory[0].parameters_bytes - plain.memory[0].parameters_bytes
        assert copies == pytest.approx(2.0 * (0.5 + 1.0 / 256) * few.parameters[0].low)
    sharded = step_of({**plan, "zero": 3}, **B200, precision="nvfp4")
    names = {o.name for o in sharded.costs.raw_s} if sharded.stages else set()
    assert "weight_cast" in names
    assert sharded.memory[0].parameters_bytes == step_of({**plan, "zero": 3}, **B200).memory[0].parameters_bytes


@pytest.mark.parametrize("precision", ["mxfp8", "nvfp4", "fp8_block"])
@pytest.mark.parametrize("plan", [{"tp": 4}, {"tp": 2, "pp": 4, "recompute": "full"}, {"zero": 3}], ids=str)
def test_the_screen_knows_the_recipe(precision: str, plan: dict[str, Any]) -> None:
    wide = gpt(layers=16, hidden=8192, heads=64)
    options = {"first_16bit": 1, "last_16bit": 3}
    given = {**B200, "model": wide, "gpus": 64, "batch": 256}
    found, things = resolved(plan, **given, precision=precision, quantisation=options)
    step = TrainingStep(plan=found, **things)
    estimate = Screen(**things).estimate([found])
    assert estimate.step_s[0] == pytest.approx(step.step_s, rel=0.05)
    assert estimate.memory_bytes[0] == pytest.approx(step.peak_memory.allocated_bytes, rel=0.03)
