"""One training step: the FLOPs and bytes of its parts by the textbook."""

from dataclasses import replace

import numpy as np
import pytest

from sim.calibration.local.check import Step, predict, small_model
from sim.calibration.local.fit import _Trial
from sim.calibration.local.training import backward_operators, forward_operators, training_step_s
from sim.costs import CostModel
from sim.hardware import Device
from sim.models import Gemm, parameter_counts, stages, weight_bytes

PERFECT = {"t0_s": 0.0, "e": 1.0, "e_128": 1.0, "f": 1.0, "p": float("inf"), "tau_s": 0.0, "k_sat": float("inf")}
NOTHING = {"c": 0.0, "a_h": 0.0, "d_h": 0.0, "lam_s": 0.0, "a": 1.0}


def perfect(device: Device, **fields: object) -> CostModel:
    """A device whose kernels reach its rates."""
    return CostModel(replace(device, kernels=_Trial("perfect", {**PERFECT, **NOTHING}), **fields))  # type: ignore[arg-type]


def products(operators: list[object]) -> float:
    return sum(float(np.sum(op.flops() * op.count)) for op in operators if isinstance(op, Gemm))


@pytest.mark.parametrize(("batch", "tokens"), [(1, 256), (4, 64)])
def test_products_of_the_backward_are_twice_those_of_the_forward(batch: int, tokens: int) -> None:
    model = small_model("fp32", cache_bytes=32e6)
    forward = forward_operators(model, batch=batch, tokens=tokens)
    weights = parameter_counts(model).total - model.vocab_size * model.hidden_size  # all but the look-up
    assert products(forward) == pytest.approx(2.0 * weights * batch * tokens, rel=1e-3)
    assert products(backward_operators(model, forward)) == pytest.approx(2.0 * products(forward))


def test_without_memory_traffic_the_step_is_its_flops_at_the_peak(device: Device) -> None:
    model = small_model("fp32", cache_bytes=32e6)
    costs = perfect(device, memory_bytes_per_s=1e30)
    forward = forward_operators(model, batch=2, tokens=512)
    a = model.layers[0].attention
    attention = 3.5 * model.n_layers * 2 * 4.0 * a.heads * 64 * 512 * 513 / 2
    flops = 3.0 * products(forward) + attention
    assert training_step_s(model, costs, batch=2, tokens=512) == pytest.approx(flops / device.flops["fp32"], rel=1e-3)


def test_without_arithmetic_the_optimiser_moves_seven_elements_a_weight(device: Device) -> None:
    model = small_model("fp32", cache_bytes=32e6)
    few, many = (
        training_step_s(model, perfect(device, flops={"fp32": 1e30}), batch=1, tokens=tokens) for tokens in (64, 128)
    )
    at_no_token_s = few - (many - few)
    weights = parameter_counts(model).total
    assert at_no_token_s > 7.0 * 4.0 * weights / device.memory_bytes_per_s
    assert at_no_token_s < (7.0 + 4.5) * 4.0 * weights / device.memory_bytes_per_s, (
        "and weights and gradients once each"
    )


def test_a_batch_of_prompts_attends_within_each(device: Device) -> None:
    model = small_model("fp32", cache_bytes=32e6)
    costs = perfect(device)
    one, two = (predict(model, costs, Step("prefill", batch, 256, 256))[1] for batch in (1, 2))
    assert two["prefill_attention"] == pytest.approx(2 * one["prefill_attention"])
    assert two["sampling"] == pytest.approx(2 * one["sampling"])


@pytest.mark.parametrize("cache_bytes", [1e6, 32e6, 256e6])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_the_checked_model_outgrows_the_cache(cache_bytes: float, dtype: str) -> None:
    model = small_model(dtype, cache_bytes=cache_bytes)
    assert weight_bytes(model, stages(model)[0]) >= 4.0 * cache_bytes
    assert model.n_layers >= 4


def test_a_decode_step_on_a_perfect_device_reads_weights_and_cache_once(device: Device) -> None:
    model = small_model("bf16", cache_bytes=32e6)
    costs = perfect(device, flops={"bf16": 1e30}, vector_flops=1e30)
    time_s, causes = predict(model, costs, Step("decode", 1, 1, 1024))
    weights = weight_bytes(model, stages(model)[0]) - 2.0 * model.vocab_size * model.hidden_size  # but the look-up
    cache = model.n_layers * 2 * 4 * 64 * 1024 * 2.0
    assert time_s == pytest.approx((weights + cache) / device.memory_bytes_per_s, rel=0.02)
    assert sum(causes.values()) == time_s
