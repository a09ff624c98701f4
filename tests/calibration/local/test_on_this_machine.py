"""The closed loop for real: this machine's CPU is profiled, and a transformer that PyTorch runs is predicted.

One thread, timed by the processor time it gets, so that other work on the machine hardly counts. The bounds are wide:
what is tested is that the loop closes, `plansim profile --check` reports how well.
"""

from pathlib import Path
from statistics import median
from typing import Any

import pytest

from sim.calibration.local import STEPS, Backend, CheckCase, LocalProfile, blocks, check, profile, read_samples
from sim.calibration.local.check import median_error, small_model
from sim.calibration.local.collective import SIZES_BYTES, fit_link, measure_all_reduce
from sim.calibration.local.operands import TORCH_DTYPES
from sim.calibration.local.transformer import Transformer
from sim.core import InputError
from sim.models import parameter_counts

torch: Any = pytest.importorskip("torch", reason="needs PyTorch (plansim[profile]); a CPU build will do")


@pytest.fixture(scope="module")
def backend() -> Backend:
    return Backend("cpu", threads=1)


@pytest.fixture(scope="module")
def found(backend: Backend) -> LocalProfile:
    return profile(backend=backend, dtypes=["fp32"], quick=True, name="here")


@pytest.fixture(scope="module")
def cases(found: LocalProfile, backend: Backend) -> list[CheckCase]:
    assert found.files is not None
    steps = [step for step in STEPS if step.tokens <= 384]
    return check(found.files, backend, dtypes=found.dtypes, steps=steps, rounds=3)


def test_the_profile_is_whole_and_written(found: LocalProfile, tmp_path: Path) -> None:
    assert not found.interrupted
    assert found.files is not None
    kernels = {curve.kernel for curve in found.curves}
    assert kernels == {"gemm", "decode_attention", "prefill_attention", "elementwise", "embedding", "sampling"}
    assert found.files.device.units.value == 1
    found.save(tmp_path)
    assert read_samples(tmp_path / "here-samples.csv") == [*found.samples]


def test_more_work_takes_longer(found: LocalProfile) -> None:
    times = {s.case.m: s.timing.time_s for s in found.samples if (s.case.kind, s.case.n) == ("gemm", 12288)}
    assert times[256] > 2 * times[16]


def test_steps_of_a_transformer_are_predicted(cases: list[CheckCase]) -> None:
    """Half is far more than is usual; a wrong unit, a missing layer or a cold cache taken for a warm one is farther."""
    errors = {case.step: f"{case.error_frac:+.0%}" for case in cases}
    assert {case.step.kind for case in cases} == {"prefill", "decode", "train"}
    assert median_error(cases) < 0.5, errors
    for kind in ("prefill", "decode", "train"):
        assert median(abs(case.error_frac) for case in cases if case.step.kind == kind) < 0.8, errors


def test_the_prediction_orders_the_steps_as_the_machine_does(cases: list[CheckCase]) -> None:
    by_prediction = sorted(cases, key=lambda case: case.predicted_s)
    for i, less in enumerate(by_prediction):
        for more in by_prediction[i + 1 :]:
            if more.predicted_s > 3 * less.predicted_s:
                assert more.measured_s > less.measured_s, (less.step, more.step)


def test_a_step_on_the_cache_equals_the_forward_pass_over_everything(backend: Backend) -> None:
    """The model that is timed is a real one: its cache holds what attention needs."""
    model = Transformer(backend, small_model("fp32", cache_bytes=1e6))
    with torch.inference_mode():
        tokens = torch.randint(1000, (2, 9))
        whole = model._forward(tokens, model.cache(2, 9), 0)
        cache = model.cache(2, 9)
        model._forward(tokens[:, :8], cache, 0)
        last = model._forward(tokens[:, 8:], cache, 8)
    assert torch.allclose(last[:, 0], whole[:, 8], atol=1e-4)


def test_the_model_has_the_weights_of_its_description(backend: Backend) -> None:
    spec = small_model("bf16", cache_bytes=1e6)
    weights = Transformer(backend, spec).parameters()
    assert sum(weight.numel() for weight in weights) == parameter_counts(spec).total
    assert {weight.dtype for weight in weights} == {torch.bfloat16}


def test_it_learns(backend: Backend) -> None:
    """Gradients reach all weights: the training step that is timed trains."""
    model = Transformer(backend, small_model("fp32", cache_bytes=1e6))
    weights = [weight.requires_grad_() for weight in model.parameters()]
    optimiser = torch.optim.AdamW(weights, lr=1e-3, fused=True)
    tokens = torch.randint(1000, (1, 16))
    losses = []
    for _ in range(3):
        optimiser.zero_grad(set_to_none=True)
        loss = model.loss(tokens, tokens)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert all(weight.grad is not None for weight in weights)
    assert losses[2] < losses[0]


def test_rotation_keeps_lengths_and_depends_on_distance_only() -> None:
    def rotated(x: Any, position: float) -> Any:
        turns = position * 10_000.0 ** (-torch.arange(4) / 4)
        both = torch.cat((turns, turns))
        return blocks.rotate(torch, x, both.cos(), both.sin())

    first, second = torch.rand(8), torch.rand(8)
    assert torch.allclose(rotated(first, 5.0).norm(), first.norm())
    near, far = (rotated(first, p) @ rotated(second, p + 3.0) for p in (1.0, 100.0))
    assert torch.allclose(near, far, atol=1e-3)


def test_samples_follow_the_softmax() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0]).repeat(20_000, 1)
    drawn = torch.bincount(blocks.sample(torch, logits), minlength=3) / 20_000
    assert torch.allclose(drawn, torch.softmax(logits[0] / blocks.TEMPERATURE, dim=0), atol=0.02)


def test_all_reduce_between_processes(backend: Backend) -> None:
    reduced = measure_all_reduce(backend, ranks=2, rounds=3)
    assert [sample.case.bytes for sample in reduced] == [*SIZES_BYTES]
    assert {sample.case.ranks for sample in reduced} == {2}
    assert reduced[-1].timing.time_s > reduced[0].timing.time_s > 0
    assert fit_link(reduced).best_bytes_per_s > 1e6


def test_what_this_machine_lacks_is_said(backend: Backend) -> None:
    with pytest.raises(InputError, match="--dtypes: this format cannot be profiled; got 'fp8'; allowed: fp32, bf16"):
        profile(backend=backend, dtypes=["fp8"])
    with pytest.raises(InputError, match="one 16-bit format at a time"):
        profile(backend=backend, dtypes=["bf16", "fp16"])
    with pytest.raises(InputError, match="--device: unknown device; got 'tpu'"):
        Backend("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match=r"--device: PyTorch .* sees no GPU here; got 'cuda'"):
            Backend("cuda")


@pytest.mark.parametrize("dtype", TORCH_DTYPES)
def test_cold_operands_come_round_in_turn(backend: Backend, dtype: str) -> None:
    pool = backend.pool(dtype, largest_bytes=1.0)
    size = int(backend.machine.eviction_bytes / pool.element_bytes)
    places = [pool.take(1, size).data_ptr() for _ in range(8)]
    assert len(set(places[:4])) == 4
    assert places[4:] == places[:4]
