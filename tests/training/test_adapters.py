"""Low-rank adapters: frozen weights cost no gradient, no state and no reduction; adapters cost their closed forms."""

from __future__ import annotations

from typing import Any

import pytest

from sim.models import Gemm, load_model
from sim.training import TrainingStep, job_metrics, layer_activation_bytes
from sim.training.adapters import Adapters, adapter_parameters
from sim.training.analytic import Screen
from sim.training.flops import attention_forward_flops, forward_flops, training_flops
from sim.training.layer import layer_work
from sim.training.operators import Quantise, WeightGradient, matrix_flops
from sim.training.shape import WorkShape
from sim.training.spec import LoraSpec
from sim.training.states import layer_parameters
from tests.training.builders import gpt, resolved, step_of

H, B, S, R = 4096, 2, 2048, 16
GPT = gpt(layers=8, hidden=H, heads=32)
GIVEN: dict[str, Any] = {"model": GPT, "node": "dgx-h100", "engine": "megatron-lm", "sequence": S}
LORA: dict[str, Any] = {"rank": R}


def adapters(**options: Any) -> Adapters:
    found = Adapters.of(LoraSpec(**{"rank": R, **options}))
    assert found is not None
    return found


def work(used: Adapters | None) -> Any:
    return layer_work(GPT, GPT.layers[0], WorkShape(micro_batch=B, sequence=S, adapters=used))


def test_an_adapter_has_rank_times_rows_and_columns() -> None:
    """Of a GPT layer: r (h + 3h) + r (h + h) + r (h + 4h) + r (4h + h)."""
    assert adapter_parameters(GPT, GPT.layers[0], adapters(), tp=1) == 16.0 * R * H
    assert adapter_parameters(GPT, GPT.layers[0], adapters(targets=["qkv"]), tp=1) == 4.0 * R * H
    on_rank = adapter_parameters(GPT, GPT.layers[0], adapters(), tp=4)
    assert on_rank == R * H * ((1 + 3 / 4) + (1 / 4 + 1) + (1 + 4 / 4) + (4 / 4 + 1))


def test_frozen_weights_have_no_gradient_and_the_rest_of_the_work_stays() -> None:
    full, lora = work(None), work(adapters())
    base = [o for o in lora.backward_weight if o.cause != "adapters"]
    assert base == []
    for part in ("forward", "backward_input"):
        kept = [o for o in getattr(lora, part) if o.cause != "adapters"]
        assert kept == getattr(full, part)


def test_adapters_do_six_flops_a_parameter_and_token() -> None:
    lora = work(adapters())
    own = [o for part in lora[:3] for o in part if o.cause == "adapters"]
    assert {type(o) for o in own if matrix_flops(o)} == {Gemm, WeightGradient}
    assert sum(matrix_flops(o) for o in own) == pytest.approx(6.0 * 16.0 * R * H * B * S)


def test_model_flops_count_frozen_weights_twice_and_attention_three_times() -> None:
    model, used = load_model("llama-3-8b"), adapters()
    linear = forward_flops(model, sequence=S) - attention_forward_flops(model, sequence=S)
    trained = sum(group.count * adapter_parameters(model, group, used, tp=1) for group in model.layers)
    expected = 2.0 * linear + 3.0 * attention_forward_flops(model, sequence=S) + 6.0 * trained * S
    assert training_flops(model, sequence=S, adapters=used) == pytest.approx(expected)
    assert expected < training_flops(model, sequence=S)


@pytest.mark.parametrize("zero", [0, 1, 3])
@pytest.mark.parametrize(("base", "each"), [("bf16", 2.0), ("int8", 1.0), ("nf4", 0.5 + 0.127 / 8)])
def test_only_adapters_have_gradients_and_states(zero: int, base: str, each: float) -> None:
    """2 bytes a frozen weight, or as packed; embeddings stay in 16 bits; 2 + 4 + 12 bytes an adapter's parameter."""
    step = step_of({"zero": zero}, **GIVEN, lora={**LORA, "base": base})
    own, memory, copies = step.parameters[0], step.memory[0], 8.0
    assert own.adapters == 8 * 16.0 * R * H
    shared = {name: copies if zero >= stage else 1.0 for name, stage in (("states", 1), ("parameters", 3))}
    assert memory.optimizer_bytes == pytest.approx(12.0 * own.adapters / shared["states"])
    assert memory.gradients_bytes == pytest.approx(4.0 * own.adapters / (copies if zero >= 2 else 1.0))
    frozen = each * (own.total - own.embedding) + 2.0 * own.embedding + 2.0 * own.adapters
    assert memory.parameters_bytes == pytest.approx(frozen / shared["parameters"], rel=1e-4)


@pytest.mark.parametrize("zero", [0, 1])
def test_data_parallel_ranks_reduce_adapters_alone(zero: int) -> None:
    step = step_of({"zero": zero, "overlap_dp": False}, **GIVEN, gpus=32, lora=LORA)
    trained = 8 * 16.0 * R * H
    kind = "all_reduce" if zero == 0 else "reduce_scatter"
    expected_s = step.costs.collective_s(kind, 4.0 * trained, "dp")
    expected_s += step.costs.collective_s("all_gather", 2.0 * trained, "dp") if zero else 0.0
    assert step.times.parts_s["dp_comm"] == pytest.approx(expected_s)


def test_sharded_frozen_weights_are_gathered_as_they_are_packed() -> None:
    """Twice a micro-batch and layer, in the base's bytes; gradients of adapters are scattered after each."""
    for base in ("bf16", "nf4"):
        step = step_of({"zero": 3, "overlap_dp": False}, **GIVEN, gpus=32, lora={**LORA, "base": base})
        layer, _ = layer_parameters(GPT, GPT.layers[0], tp=1, ep=1)
        gather_s = step.costs.collective_s("all_gather", adapters(base=base).base_bytes * layer, "dp")
        scatter_s = step.costs.collective_s("reduce_scatter", 4.0 * 16.0 * R * H, "dp")
        expected_s = 8 * step.plan.microbatches * (2.0 * gather_s + scatter_s)
        assert step.times.parts_s["dp_comm"] == pytest.approx(expected_s)


def test_packed_weights_are_unpacked_before_each_use() -> None:
    """Read as they are packed, written in 16 bits, forward and backward: 12 h^2 weights of a layer."""
    used = adapters(base="nf4")
    lora = work(used)
    moved = [sum(o.moved_bytes for o in part if isinstance(o, Quantise)) for part in lora[:3]]
    expected = (used.base_bytes + 2.0) * 12.0 * H * H
    assert moved == [pytest.approx(expected), pytest.approx(expected), 0.0]
    assert not [o for part in work(adapters())[:3] for o in part if isinstance(o, Quantise)]


def test_inputs_are_kept_where_an_adapter_needs_them() -> None:
    """Without adapters on the feed-forward block: less its input (2h) and that of its second product (8h)."""

    def kept(used: Adapters | None) -> float:
        return layer_activation_bytes(GPT, GPT.layers[0], WorkShape(micro_batch=B, sequence=S, adapters=used)) / (B * S)

    between = 2.0 * R
    assert kept(adapters()) - kept(None) == pytest.approx(4.0 * between)
    assert kept(None) - kept(adapters(targets=["qkv", "o"])) == pytest.approx(10.0 * H - 2.0 * between)


def test_a_larger_rank_costs_more_and_never_as_much_as_training_all() -> None:
    full = step_of({"tp": 2}, **GIVEN)
    steps = [step_of({"tp": 2}, **GIVEN, lora={"rank": rank}) for rank in (4, 64, 256)]
    assert [s.times.hardware_flops for s in steps] == sorted(s.times.hardware_flops for s in steps)
    assert steps[0].step_s < steps[1].step_s < steps[2].step_s < full.step_s
    assert steps[2].peak_memory.allocated_bytes < full.peak_memory.allocated_bytes
    for step in steps:
        assert sum(step.times.parts_s.values()) == pytest.approx(step.times.step_s, rel=1e-12)
        assert job_metrics(step)["mfu_frac"] is not None


def test_a_model_that_does_not_fit_is_tuned_on_one_gpu_with_packed_weights() -> None:
    """Llama 2 70B: 140 GB in 16 bits, 37 GB packed (QLoRA's point: 65B on 48 GB)."""
    given: dict[str, Any] = {**GIVEN, "model": load_model("llama-2-70b"), "gpus": 1, "batch": 1}
    plan = {"recompute": "full"}
    assert step_of(plan, **given, lora=LORA).memory_reasons()
    packed = step_of(plan, **given, lora={**LORA, "base": "nf4"})
    assert packed.memory_reasons() == []
    assert 35e9 < packed.memory[0].parameters_bytes < 40e9


def test_routed_experts_stay_frozen_without_adapters() -> None:
    mixtral = load_model("mixtral-8x7b")
    step = step_of({"tp": 2, "ep": 4}, **{**GIVEN, "model": mixtral}, lora=LORA)
    products = mixtral.n_layers * R * ((4096 + (4096 + 2 * 1024) / 2) + (4096 / 2 + 4096))
    assert step.parameters[0].adapters == pytest.approx(products)
    full = step_of({"tp": 2, "ep": 4}, **{**GIVEN, "model": mixtral})
    assert step.times.parts_s["experts"] == pytest.approx(full.times.parts_s["experts"] * 2.0 / 3.0)


@pytest.mark.parametrize("base", ["bf16", "nf4"])
@pytest.mark.parametrize(
    "plan",
    [
        {"tp": 4},
        {"tp": 2, "pp": 4, "recompute": "full", "zero": 1, "overlap_dp": True},
        {"zero": 3, "overlap_dp": True},
        {"zero": 2, "tp": 2},
    ],
    ids=str,
)
def test_the_screen_knows_adapters(base: str, plan: dict[str, Any]) -> None:
    wide = gpt(layers=16, hidden=8192, heads=64)
    found, things = resolved(plan, **{**GIVEN, "model": wide, "gpus": 64, "batch": 256}, lora={**LORA, "base": base})
    assert not isinstance(found, tuple), found
    step = TrainingStep(plan=found, **things)
    estimate = Screen(**things).estimate([found])
    assert estimate.step_s[0] == pytest.approx(step.step_s, rel=0.05)
    assert estimate.memory_bytes[0] == pytest.approx(step.peak_memory.allocated_bytes, rel=0.03)
    assert estimate.energy_j[0] == pytest.approx(job_metrics(step)["energy_j"], rel=0.05)
