"""An encoder before the model: its work by closed forms, its place in the pipeline, its share of memory."""

from __future__ import annotations

from typing import Any

import pytest

from sim.models import load_model, parameter_counts
from sim.training import TrainingStep, job_metrics
from sim.training.analytic import Screen
from sim.training.encoder import encoder_model, encoder_work
from sim.training.flops import attention_forward_flops, encoder_forward_flops, training_flops
from sim.training.operators import FlashAttention, matrix_flops
from sim.training.shape import WorkShape
from sim.training.spec import EncoderSpec
from sim.training.states import encoder_parameters
from tests.training.builders import gelu_layers, resolved, step_of

LLAMA = load_model("llama-3-8b")
VIT: dict[str, Any] = {
    "hidden_size": 1024,
    "layers": gelu_layers(layers=24, hidden=1024, heads=16),
    "patch_width": 588,
    "tokens": 576,
    "merge": 4,
    "items_per_sequence": 4.0,
}
"""ViT-L/14 at 336 x 336 pixels, as LLaVA has it, four patches to a token."""
SPEC = EncoderSpec.model_validate(VIT)
GIVEN: dict[str, Any] = {"model": LLAMA, "node": "dgx-h100", "engine": "megatron-lm", "sequence": 4096}


def test_products_are_six_flops_a_weight_and_patch() -> None:
    """Layers 12 h^2, patches 588 h; the projector sees a quarter of the tokens."""
    work = encoder_work(SPEC, LLAMA, WorkShape(micro_batch=2, sequence=4096, encoder=SPEC))
    ours = sum(matrix_flops(o) for part in work for o in part if not isinstance(o, FlashAttention))
    patches, width, wide = 2 * 4 * 576, 1024, LLAMA.hidden_size
    weights = 24 * 12 * width**2 + 588 * width + (4 * width * wide + wide * wide) / 4
    assert ours == pytest.approx(6.0 * patches * weights)


def test_every_patch_attends_to_all_of_its_image() -> None:
    work = encoder_work(SPEC, LLAMA, WorkShape(micro_batch=1, sequence=4096, encoder=SPEC))
    flash = sum(matrix_flops(o) for o in work.forward if isinstance(o, FlashAttention))
    whole = attention_forward_flops(encoder_model(SPEC), sequence=576, attention="full")
    assert flash == pytest.approx(4 * whole)


def test_the_step_does_the_encoder_s_work_on_top() -> None:
    plain, seeing = step_of({"tp": 2}, **GIVEN), step_of({"tp": 2}, **GIVEN, encoder=VIT)
    more = seeing.times.hardware_flops - plain.times.hardware_flops
    attention = 0.5 / 3.0 * 3.0 * 4 * attention_forward_flops(encoder_model(SPEC), sequence=576)
    assert more == pytest.approx(32 * (3.0 * encoder_forward_flops(SPEC, LLAMA) + attention), rel=0.02)
    assert job_metrics(seeing)["model_tflops_per_gpu"] == pytest.approx(
        32 * training_flops(LLAMA, sequence=4096, encoder=SPEC) / seeing.step_s / 8 / 1e12
    )
    assert seeing.step_s > plain.step_s


def test_parameters_are_those_of_its_layers_patches_and_projector() -> None:
    inner = parameter_counts(encoder_model(SPEC))
    layers = inner.attention + inner.ffn + inner.norms - 2 * 1024
    wide = LLAMA.hidden_size
    assert encoder_parameters(SPEC, LLAMA, tp=1) == layers + 588 * 1024 + 4096 * wide + wide * wide
    plain, seeing = (step_of({"pp": 4}, **GIVEN, **more) for more in ({}, {"encoder": VIT}))
    assert seeing.parameters[0].total - plain.parameters[0].total == encoder_parameters(SPEC, LLAMA, tp=1)
    assert seeing.parameters[1:] == plain.parameters[1:]


def test_it_keeps_activations_on_the_first_stage_in_proportion_to_its_images() -> None:
    def first(items: float) -> float:
        encoder = {"encoder": {**VIT, "items_per_sequence": items}} if items else {}
        memory = step_of({"pp": 4}, **GIVEN, **encoder).memory
        return float(memory[0].activations_bytes)

    assert first(4.0) - first(0.0) == pytest.approx(2.0 * (first(2.0) - first(0.0)))


def test_a_stage_of_its_own_relieves_the_first_layers() -> None:
    heavy = {**VIT, "items_per_sequence": 12.0}
    layers = {"beside": (8, 8, 8, 8), "alone": (0, 11, 11, 10)}
    steps = {
        name: step_of({"pp": 4, "layers_per_stage": counts, "micro_batch": 1}, **GIVEN, encoder=heavy)
        for name, counts in layers.items()
    }
    times = {name: [stage.total_s for stage in step.stages] for name, step in steps.items()}
    assert times["alone"][0] < times["beside"][0]
    assert steps["alone"].parameters[0].total < steps["beside"].parameters[0].total


@pytest.mark.parametrize(
    ("change", "words"),
    [({"lora": {"rank": 8}}, "leave out `lora` or `encoder`"), ({}, "do not divide by tp")],
)
def test_what_an_encoder_cannot_be_says_why(change: dict[str, Any], words: str) -> None:
    heads = {"kind": "gqa", "heads": 6, "kv_heads": 6, "head_dim": 64}
    odd = {**VIT, "layers": [{**VIT["layers"][0], "attention": heads}]}
    reasons, _ = resolved({"tp": 4}, **GIVEN, encoder=VIT if change else odd, **change)
    assert any(words in reason.message for reason in reasons)


@pytest.mark.parametrize("plan", [{"tp": 4}, {"tp": 2, "pp": 4}, {"zero": 3}], ids=str)
def test_the_screen_knows_the_encoder(plan: dict[str, Any]) -> None:
    found, things = resolved(plan, **GIVEN, gpus=16, batch=64, encoder=VIT)
    step = TrainingStep(plan=found, **things)
    estimate = Screen(**things).estimate([found])
    assert estimate.step_s[0] == pytest.approx(step.step_s, rel=0.05)
    assert estimate.memory_bytes[0] == pytest.approx(step.peak_memory.allocated_bytes, rel=0.03)
