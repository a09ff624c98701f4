"""Memory of a training rank against the closed forms of Korthikanti et al. and of ZeRO."""

from __future__ import annotations

from typing import Any

import pytest

from sim.models import load_model, parameter_counts
from sim.training import TrainingStep, layer_activation_bytes
from sim.training.analytic import Screen
from sim.training.memory import kept_layer_bytes, layer_working_bytes
from sim.training.shape import WorkShape
from tests.training.builders import SMALL, gpt, resolved, step_of

GPT = gpt(layers=4, hidden=6144, heads=64)
S, B, H, A = 2048, 4, 6144, 64
GIB = 2.0**30


def shape(**changes: Any) -> WorkShape:
    return WorkShape(micro_batch=B, sequence=S, attention="plain", dropout=True, **changes)


def kept(**changes: Any) -> float:
    return layer_activation_bytes(GPT, GPT.layers[0], shape(**changes))


def test_a_layer_keeps_34_sbh_and_the_scores() -> None:
    """s b h (34 + 5 a s/h) (arXiv 2205.05198, equation 1)."""
    assert kept() == pytest.approx(S * B * H * (34 + 5 * A * S / H))


@pytest.mark.parametrize("tp", [2, 4, 8])
def test_tensor_parallelism_divides_all_but_10_sbh(tp: int) -> None:
    """s b h (10 + 24/t + 5 a s/(h t)) (equation 2)."""
    assert kept(tp=tp) == pytest.approx(S * B * H * (10 + 24 / tp + 5 * A * S / (H * tp)))


@pytest.mark.parametrize("tp", [2, 4, 8])
def test_sequence_parallelism_divides_everything(tp: int) -> None:
    """s b h/t (34 + 5 a s/h) (equation 4)."""
    assert kept(tp=tp, sp=True) == pytest.approx(kept() / tp)


@pytest.mark.parametrize(("recompute", "factor"), [("selective", 34.0), ("full", 2.0)])
def test_recomputation_keeps_34_or_2_sbh(recompute: str, factor: float) -> None:
    """Selective s b h 34/t (equation 6); full the input alone, 2 s b h."""
    plan, things = resolved({"recompute": recompute, "micro_batch": B}, model=GPT, sequence=S, gpus=8)
    found = kept_layer_bytes(things["model"], GPT.layers[0], shape(), plan)
    assert found == pytest.approx(S * B * H * factor)


def test_every_second_layer_keeps_half_of_each() -> None:
    plan, _ = resolved({"recompute": "full", "recompute_every": 2}, model=GPT, sequence=S)
    found = kept_layer_bytes(GPT, GPT.layers[0], shape(), plan)
    assert found == pytest.approx((kept() + 2.0 * S * B * H) / 2.0)


def test_selected_operators_keep_every_second_product() -> None:
    """Of a GPT layer: input, attention, queries, values, first product of the block, 2 (1 + 1 + 1 + 1 + 4) s b h; the
    output of attention and the second product come second."""
    plan, _ = resolved({"recompute": "operators", "micro_batch": B}, model=GPT, sequence=S)
    found = kept_layer_bytes(GPT, GPT.layers[0], WorkShape(micro_batch=B, sequence=S), plan)
    assert found == pytest.approx(2.0 * (1 + 1 + 1 + 1 + 4) * S * B * H)


def test_flash_attention_keeps_no_scores() -> None:
    flash = layer_activation_bytes(GPT, GPT.layers[0], WorkShape(micro_batch=B, sequence=S))
    double = layer_activation_bytes(GPT, GPT.layers[0], WorkShape(micro_batch=B, sequence=2 * S))
    assert double == pytest.approx(2.0 * flash)


@pytest.mark.parametrize(("zero", "expected"), [(0, 18.0), (1, 6.0 + 12.0 / 8), (2, 2.0 + 16.0 / 8), (3, 16.0 / 8)])
def test_states_of_zero(zero: int, expected: float) -> None:
    """2 + 4 + 12 bytes a parameter with fp32 gradients, of which ZeRO-1, 2 and 3 share 12, 16 and all (arXiv
    1910.02054, section 3); with ZeRO-3 the 16-bit copy is only gathered, not kept."""
    step = step_of({"zero": zero, "tp": 1}, gpus=8)
    states = step.memory[0].parameters_bytes + step.memory[0].gradients_bytes + step.memory[0].optimizer_bytes
    assert states / step.parameters[0].total == pytest.approx(expected)


@pytest.mark.parametrize(
    ("optimizer", "expected"), [("adam", 12.0), ("adam_bf16", 8.0), ("adam_8bit", 6.0), ("sgd_momentum", 8.0)]
)
def test_states_of_optimizers(optimizer: str, expected: float) -> None:
    """An fp32 copy, and two moments in fp32, bf16 or 8 bits, or one in fp32; smaller moments also move less."""
    step, adam = step_of({}, optimizer=optimizer), step_of({})
    assert step.memory[0].optimizer_bytes / step.parameters[0].total == pytest.approx(expected)
    moved = step.times.parts_s["optimizer"] / adam.times.parts_s["optimizer"]
    assert moved == pytest.approx((46.0 - 2.0 * (12.0 - expected)) / 46.0, rel=1e-3)


def test_states_of_nemo() -> None:
    """bf16 gradients and the 16 bits that a bf16 parameter lacks: 2 + 2 + 8 + 2 bytes a parameter, unsharded."""
    step = step_of({"tp": 8, "zero": 1}, engine="nemo", node="dgx-h100")
    one = step.memory[0]
    found = one.parameters_bytes + one.gradients_bytes + one.optimizer_bytes
    assert found / step.parameters[0].total == pytest.approx(14.0)


def test_cheap_recomputation_keeps_what_no_norm_or_activation_makes() -> None:
    """Of a GPT layer without dropout 2 h each: two inputs of norms, queries, keys, values and output, and 4 in front of
    the activation; a DeepSeek-V3 layer keeps latents before their norms instead of what they are projected to."""
    plan, _ = resolved({"recompute": "cheap"}, model=GPT, sequence=S)
    found = kept_layer_bytes(GPT, GPT.layers[0], WorkShape(micro_batch=B, sequence=S), plan)
    assert found == pytest.approx(2.0 * (2 + 4 + 4) * S * B * H)
    model = load_model("deepseek-v3")
    experts = model.layers[-1]
    latents, core, hidden, inner = 1536 + 512 + 64, 128 * 128, 7168, 2048
    rows = 8 * (hidden + 2 * inner) + 2 * inner
    found = kept_layer_bytes(model, experts, WorkShape(micro_batch=1, sequence=4096, ep=64), plan)
    assert found == pytest.approx(2.0 * 4096 * (2 * hidden + latents + core + rows))


def test_gradients_of_the_widest_block_are_alive_at_once() -> None:
    """Of a GPT layer that keeps everything: 4 h behind and before the activation, and twice the residual stream."""
    plan, things = resolved({"micro_batch": B}, model=GPT, sequence=S)
    flash = WorkShape(micro_batch=B, sequence=S)
    found = layer_working_bytes(GPT, GPT.layers[0], flash, plan, things["engine"])
    assert found == pytest.approx(2.0 * (4 + 4 + 2) * S * B * H)


def test_deepspeed_gathers_products_up_to_a_limit() -> None:
    """A hundred billion parameters in layers of five: one product at hand, its gradient, and a bucket; not a layer."""
    huge = gpt(layers=20, hidden=20480, heads=128)
    step = step_of({"zero": 3}, model=huge, gpus=64, batch=64, engine="deepspeed")
    largest = 4 * 20480**2
    assert step.memory[0].buffers_bytes == pytest.approx(2.0 * largest + 2.0 * largest + 1e9)
    small = step_of({"zero": 3}, model=GPT, engine="deepspeed")
    assert small.memory[0].buffers_bytes == pytest.approx(2.0 * 1e9 + 2.0 * max(4 * H * H, 51200 * H) + 1e9)


def test_interleaved_stages_add_up_gradients_of_a_chunk_before_they_are_sharded() -> None:
    """ZeRO-2: two chunks of four are whole, one at work and one on its way; each is reduced once in `pp` of them."""
    plan = {"pp": 2, "vpp": 4, "zero": 2, "overlap_dp": True}
    step, whole = step_of(plan, batch=32), step_of({**plan, "zero": 1}, batch=32)
    assert step.plan.reduced_after == 2
    for one, other in zip(step.memory, whole.memory, strict=True):
        assert one.buffers_bytes == pytest.approx(other.gradients_bytes / 2.0)
        assert one.gradients_bytes == pytest.approx(other.gradients_bytes / 4.0)
    alone = step_of({**plan, "vpp": 1}, batch=32)
    assert alone.plan.reduced_after == 1


@pytest.mark.parametrize("schedule", ["zb_v", "v_half"])
def test_gradients_are_reduced_by_micro_batch_where_chunks_take_turns(schedule: str) -> None:
    """ZeRO-2 over two chunks in a V: no run of micro-batches on one of them, so a bucket is whole and no chunk."""
    plan = {"pp": 4, "vpp": 2, "zero": 2, "schedule": schedule, "overlap_dp": True}
    found, things = resolved(plan, gpus=16, batch=64)
    step = TrainingStep(plan=found, **things)
    assert step.plan.reduced_after == 1
    for one, own in zip(step.memory, step.parameters, strict=True):
        assert one.buffers_bytes == pytest.approx(min(step.engine.bucket_bytes.value, 4.0 * own.trained.total))
    estimate = Screen(**things).estimate([found])
    assert estimate.memory_bytes[0] == pytest.approx(step.peak_memory.allocated_bytes, rel=0.03)
    assert estimate.step_s[0] == pytest.approx(step.step_s, rel=0.12)


def test_stages_hold_all_parameters_together() -> None:
    """With stages, the tied embedding is held twice."""
    held = sum(own.total for own in step_of({"pp": 4, "tp": 2}).parameters) * 2
    counts = parameter_counts(SMALL)
    assert held == pytest.approx(counts.total + counts.embedding, rel=0.01)


@pytest.mark.parametrize(
    ("less", "more"),
    [
        ({"micro_batch": 1}, {"micro_batch": 4}),
        ({"recompute": "full"}, {"recompute": "selective"}),
        ({"recompute": "selective"}, {"recompute": "none"}),
        ({"zero": 1}, {"zero": 0}),
        ({"zero": 2}, {"zero": 1}),
        ({"tp": 4}, {"tp": 2}),
        ({"tp": 4, "sp": True}, {"tp": 4, "sp": False}),
    ],
)
def test_memory_is_monotone(less: dict[str, Any], more: dict[str, Any]) -> None:
    small, large = (step_of(plan).peak_memory.allocated_bytes for plan in (less, more))
    assert small < large


def test_activations_in_flight_follow_the_schedule() -> None:
    """1F1B: stage i of p holds p - i micro-batches (Narayanan et al., SC'21, section 2.2)."""
    step = step_of({"pp": 4, "tp": 2, "micro_batch": 1}, batch=32)
    middle = step.memory[1].activations_bytes / 3.0
    assert step.memory[2].activations_bytes == pytest.approx(2.0 * middle)


def test_what_does_not_fit_says_so_with_numbers() -> None:
    huge = gpt(layers=96, hidden=12288, heads=96)
    reasons = step_of({"tp": 8}, model=huge, gpus=8).memory_reasons()
    assert [reason.code for reason in reasons] == ["memory"]
    assert reasons[0].numbers["available_bytes"] < 80 * GIB
    assert reasons[0].numbers["optimizer_bytes"] > 200 * GIB
    assert step_of({"tp": 8}).memory_reasons() == []
