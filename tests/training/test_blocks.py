"""Layers of every kind do the work that their shapes say: parallel branches, recurrences, single blocks, latents."""

from __future__ import annotations

from typing import Any

import pytest

from sim.models import (
    Collective,
    Elementwise,
    LayerGroup,
    ModelSpec,
    load_model,
    model_flops_per_token,
    parameter_counts,
)
from sim.training import job_metrics, layer_activation_bytes
from sim.training.blocks import blocks_of
from sim.training.flops import attention_forward_flops, training_flops
from sim.training.layer import layer_work
from sim.training.operators import FlashAttention, Scan, TrainingOperator, matrix_flops
from sim.training.shape import WorkShape
from tests.training.builders import SMALL, resolved, step_of

MODELS = (
    "llama-3-8b",
    "deepseek-v3",
    "mixtral-8x7b",
    "qwen3.5-27b",
    "nemotron-h-56b",
    "nemotron-3-super-120b-a12b",
    "gemma-2-9b",
)


def parallel(model: ModelSpec) -> ModelSpec:
    """The model with attention and feed-forward block of every layer side by side."""
    groups = [group.model_copy(update={"parallel": True}) for group in model.layers]
    return ModelSpec.model_validate(model.model_dump() | {"layers": [group.model_dump() for group in groups]})


def operators(model: ModelSpec, shape: WorkShape) -> list[tuple[TrainingOperator, float]]:
    """All operators of the layers, and how many layers have each."""
    found = []
    for group in model.layers:
        work = layer_work(model, group, shape)
        found += [(o, float(group.count)) for o in (*work.forward, *work.backward_input, *work.backward_weight)]
    return found


def collectives(model: ModelSpec, part: str, **shape: Any) -> dict[str, float]:
    """How often each tensor-parallel collective runs in one layer's pass."""
    work = layer_work(model, model.layers[0], WorkShape(micro_batch=2, sequence=1024, tp=4, **shape))
    found: dict[str, float] = {}
    for operator in getattr(work, part):
        if isinstance(operator, Collective) and operator.group == "tp":
            found[operator.kind] = found.get(operator.kind, 0.0) + operator.count
    return found


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("tp", [1, 2])
def test_products_are_six_flops_a_weight_and_token(name: str, tp: int) -> None:
    """Forward, by input, by weight, two FLOPs each, of the weights that a token passes through (PaLM, appendix B).

    Down-projections of latent attention, routers and latent experts are whole on every rank.
    """
    model, shape = load_model(name), WorkShape(micro_batch=2, sequence=4096, tp=tp)
    cores = (FlashAttention, Scan)
    ours = tp * sum(count * matrix_flops(o) for o, count in operators(model, shape) if not isinstance(o, cores))
    published = 3.0 * model_flops_per_token(model)[0] * shape.tokens
    assert ours == pytest.approx(published, rel=1e-9 if tp == 1 else 0.05)
    assert ours >= published * (1 - 1e-9)


@pytest.mark.parametrize("name", ["llama-3-8b", "gemma-2-9b", "mistral-7b"])
def test_attention_counts_unmasked_keys_once_forward_and_two_and_a_half_times_backward(name: str) -> None:
    model, shape = load_model(name), WorkShape(micro_batch=1, sequence=16384)
    flash = [(o, count) for o, count in operators(model, shape) if isinstance(o, FlashAttention)]
    forward = sum(count * matrix_flops(o) for o, count in flash if not o.backward)
    backward = sum(count * matrix_flops(o) for o, count in flash if o.backward)
    assert backward == pytest.approx(2.5 * forward)
    causal = attention_forward_flops(model, sequence=16384, attention="causal")
    assert forward == pytest.approx(causal, rel=0.2 if name != "llama-3-8b" else 1e-3)


def test_a_window_makes_attention_linear_in_the_sequence() -> None:
    model = load_model("mistral-7b")

    def flops(sequence: int) -> float:
        shape = WorkShape(micro_batch=1, sequence=sequence)
        return sum(count * matrix_flops(o) for o, count in operators(model, shape) if isinstance(o, FlashAttention))

    window = 4096
    assert flops(4 * window) - flops(3 * window) == pytest.approx(flops(3 * window) - flops(2 * window))
    assert flops(2 * window) / flops(window) == pytest.approx(3.0, rel=1e-3)


def test_latent_attention_expands_its_keys_in_training() -> None:
    """`2 h (d_k + d_v)` per key with d_k = nope + rope, not the absorbed form of decoding (DeepSeek-V2)."""
    model = load_model("deepseek-v3")
    [flash] = [
        o for o in layer_work(model, model.layers[0], WorkShape(micro_batch=1, sequence=4096)).forward
        if isinstance(o, FlashAttention)
    ]  # fmt: skip
    assert flash.flops() == pytest.approx(2.0 * 128 * (192 + 128) * 4096 * 4097 / 2)


@pytest.mark.parametrize("part", ["forward", "backward_input"])
def test_parallel_branches_halve_the_collectives_of_tensor_parallelism(part: str) -> None:
    """One all-reduce per layer and direction in place of two (PaLM, arXiv 2204.02311, section 2)."""
    side_by_side = parallel(SMALL)
    assert collectives(SMALL, part) == {"all_reduce": 2.0}
    assert collectives(side_by_side, part) == {"all_reduce": 1.0}
    both, one = collectives(SMALL, part, sp=True), collectives(side_by_side, part, sp=True)
    assert one == {kind: times / 2.0 for kind, times in both.items()}


def test_parallel_branches_do_the_same_products_with_a_norm_less() -> None:
    side_by_side = parallel(SMALL)
    plain, other = step_of({"tp": 4}), step_of({"tp": 4}, model=side_by_side)
    assert other.times.hardware_flops == plain.times.hardware_flops
    assert other.times.parts_s["tp_comm"] < 0.6 * plain.times.parts_s["tp_comm"]
    assert other.step_s < plain.step_s
    norms = SMALL.n_layers * 2 * SMALL.hidden_size
    assert parameter_counts(SMALL).total - parameter_counts(side_by_side).total == norms
    assert plain.parameters[0].total - other.parameters[0].total == norms


def test_parallel_branches_keep_one_input_less() -> None:
    """s b h (34 + 5 a s/h) less the second norm's input and result, 4 s b h."""
    shape, side_by_side = WorkShape(micro_batch=2, sequence=1024, attention="plain", dropout=True), parallel(SMALL)
    plain, other = (layer_activation_bytes(model, model.layers[0], shape) for model in (SMALL, side_by_side))
    assert plain - other == pytest.approx(4.0 * 2 * 1024 * SMALL.hidden_size)


@pytest.mark.parametrize(
    ("name", "plan"),
    [
        ("qwen3.5-27b", {"tp": 4, "sp": True}),
        ("nemotron-h-56b", {"tp": 8, "pp": 2}),
        ("nemotron-3-super-120b-a12b", {"tp": 2, "ep": 8}),
    ],
)
def test_hybrid_models_train(name: str, plan: dict[str, Any]) -> None:
    given: dict[str, Any] = {"model": load_model(name), "gpus": 64, "node": "dgx-h100", "engine": "megatron-lm"}
    step = step_of(plan, batch=128, sequence=8192, mfu_attention="causal", **given)
    times, metrics = step.times, job_metrics(step)
    assert sum(times.parts_s.values()) == pytest.approx(times.step_s, rel=1e-12)
    assert metrics["mfu_frac"] is not None
    assert metrics["hfu_frac"] is not None
    assert 0.05 < metrics["mfu_frac"] <= metrics["hfu_frac"] < 1.0
    assert metrics["model_tflops_per_gpu"] == pytest.approx(
        128 * training_flops(step.model, sequence=8192, attention="causal") / times.step_s / 64 / 1e12
    )
    states = sum(own.total for own in step.parameters) * step.plan.tp
    experts = sum(own.expert for own in step.parameters) * step.plan.tp * (step.plan.ep - 1)
    assert states + experts == pytest.approx(parameter_counts(step.model).total, rel=0.02)


def test_a_recurrence_costs_its_tokens_whatever_the_length_of_their_sequences() -> None:
    """Same tokens in sequences four times as long: attention works more, the scan only walks further."""
    model = load_model("nemotron-h-56b")
    recurrent, attention = (
        next(g for g in model.layers if g.attention is not None and g.attention.kind == kind)
        for kind in ("mamba2", "gqa")
    )

    def flops(group: LayerGroup, micro_batch: int, sequence: int) -> float:
        work = layer_work(model, group, WorkShape(micro_batch=micro_batch, sequence=sequence))
        return sum(matrix_flops(o) for o in work.forward)

    assert flops(recurrent, 4, 4096) == flops(recurrent, 1, 16384)
    assert flops(attention, 4, 4096) < flops(attention, 1, 16384)
    kept = [layer_activation_bytes(model, recurrent, WorkShape(micro_batch=1, sequence=s)) for s in (4096, 8192)]
    assert kept[1] == pytest.approx(2.0 * kept[0])


def test_layers_of_one_block_have_one_norm_and_one_addition() -> None:
    model = load_model("nemotron-h-56b")
    shape = WorkShape(micro_batch=1, sequence=4096)
    for group in model.layers[:2]:
        named = {o.name: o for o in layer_work(model, group, shape).forward if isinstance(o, Elementwise)}
        assert (named["norm"].count, named["residual"].count) == (1, 1)


@pytest.mark.parametrize("name", ["qwen3.5-27b", "nemotron-h-56b", "kimi-k3"])
def test_context_parallel_ranks_divide_the_heads_of_a_recurrence(name: str) -> None:
    """They scan as much in all, keep as much of it, and send what goes in and comes out of the scan, both ways."""
    model = load_model(name)
    group = next(g for g in model.layers if blocks_of(g).recurrence is not None)

    def found(cp: int) -> tuple[float, float, float, float]:
        shape = WorkShape(micro_batch=1, sequence=16384, tp=2, cp=cp, cp_kind="ring")
        work = layer_work(model, group, shape)
        scans = [o for o in (*work.forward, *work.backward_input) if isinstance(o, Scan)]
        sent = {
            part: sum(o.buffer_bytes for o in part_work if isinstance(o, Collective) and o.cause == "cp_comm")
            for part, part_work in (("forward", work.forward), ("backward", work.backward_input))
        }
        flops = sum(matrix_flops(o) for o in scans)
        return flops, layer_activation_bytes(model, group, shape), sent["forward"], sent["backward"]

    (flops, kept, *none), (shared_flops, shared_kept, forward, backward) = found(1), found(4)
    assert 4.0 * shared_flops == pytest.approx(flops)
    assert 4.0 * shared_kept == pytest.approx(kept, rel=1e-3 if model.name != "nemotron-h-56b" else 0.05)
    assert none == [0.0, 0.0]
    assert forward == backward > 0.0


def test_exchanges_around_a_recurrence_do_not_hide_beside_it() -> None:
    """Only hops of a ring do; a layer of a recurrence shows all it sends, whatever attention layers exchange."""
    given: dict[str, Any] = {"model": load_model("qwen3.5-27b"), "gpus": 32, "node": "dgx-h100", "sequence": 16384}
    shown = {kind: step_of({"tp": 2, "cp": 4, "cp_kind": kind}, **given) for kind in ("ring", "all_gather")}
    assert shown["ring"].step_s < shown["all_gather"].step_s
    model = given["model"]
    group = next(g for g in model.layers if blocks_of(g).recurrence is not None)
    layers = {kind: step._stage_model.layer(group).forward for kind, step in shown.items()}
    assert layers["ring"].parts_s["cp_comm"] == layers["all_gather"].parts_s["cp_comm"] > 0.0


def test_heads_of_a_recurrence_that_do_not_divide_say_the_nearest() -> None:
    reasons, _ = resolved({"tp": 4, "cp": 8}, model=load_model("qwen3.5-27b"), gpus=32, batch=32, sequence=8192)
    assert {reason.code for reason in reasons} == {"context_parallel"}
    assert "tp 4 leaves 4; the nearest cp are 4" in reasons[0].message
