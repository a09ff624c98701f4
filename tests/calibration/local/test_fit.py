"""Fits on made-up timings: parameters come back, noise and outliers do little, errors are of shapes left out."""

import math

import numpy as np
import pytest

from sim.calibration.local import shapes
from sim.calibration.local.fit import FORMS, fit_kernels
from sim.calibration.local.rates import rates
from sim.calibration.local.samples import Case, Sample
from sim.hardware import Device
from tests.calibration.local.conftest import CURVES, made_up, predicted_s, sample

WELL_KNOWN = {
    "gemm": ("e", "f", "f_1", "t0_s", "p"),
    "attention_decode": ("f", "e", "t0_s"),
    "attention_prefill": ("e_128",),
    "elementwise": ("t0_s", "f"),
    "embedding": ("t0_s", "f"),
    "sampling": ("t0_s", "f"),
}


@pytest.mark.parametrize("kind", WELL_KNOWN)
def test_parameters_come_back(device: Device, samples: list[Sample], kind: str) -> None:
    (curve,) = fit_kernels([s for s in samples if s.case.kind == kind], device)
    assert curve.kernel == FORMS[kind][0]
    assert {name: curve.params[name] for name in WELL_KNOWN[kind]} == pytest.approx(
        {name: CURVES[kind][name] for name in WELL_KNOWN[kind]}, rel=0.1
    )
    assert curve.median_error < 0.01


def test_noise_and_a_few_wild_samples_do_little(device: Device) -> None:
    cases = [c for c in shapes.cases(shapes.QUICK, "bf16", cache_bytes=16e6, limit_bytes=1e9) if c.kind == "gemm"]
    draw = np.random.default_rng(3)
    factors = draw.lognormal(0.0, 0.05, len(cases))
    factors[::10] *= 4.0
    (curve,) = fit_kernels(made_up(device, cases, lambda index: float(factors[index])), device)
    ratios = [predicted_s(device, c, dict(curve.params)) / predicted_s(device, c, CURVES["gemm"]) for c in cases]
    assert abs(math.log(float(np.median(ratios)))) < 0.05
    assert max(abs(math.log(ratio)) for ratio in ratios) < 0.25
    assert curve.p90_error > 3 * curve.median_error, "the wild ones are in the error that is reported"


def test_too_few_samples_give_no_curve(device: Device, samples: list[Sample]) -> None:
    few = [s for s in samples if s.case.kind == "gemm"][: len(FORMS["gemm"][1]) + 1]
    assert fit_kernels(few, device) == []


def test_formats_are_fitted_apart(device: Device) -> None:
    both = [
        s
        for dtype, slow in (("fp32", 1.0), ("bf16", 2.0))
        for s in made_up(
            device,
            [c for c in shapes.cases(shapes.QUICK, dtype, cache_bytes=16e6, limit_bytes=1e9) if c.kind == "sampling"],
            lambda _, slow=slow: slow,  # type: ignore[misc]
        )
    ]
    first, second = fit_kernels(both, device)
    assert (first.dtype, second.dtype) == ("fp32", "bf16")
    assert second.params["f"] == pytest.approx(first.params["f"] / 2, rel=0.05)


def test_rates_are_the_best_seen() -> None:
    found = rates(
        [
            sample(Case(kind="copy", dtype="fp32", operation="copy", bytes=10**9), 0.1),
            sample(Case(kind="copy", dtype="fp32", operation="read", bytes=10**9), 0.08),
            sample(Case(kind="copy", dtype="fp32", operation="from_host", bytes=10**9), 0.5),
            sample(Case(kind="gemm", dtype="fp32", m=1, n=1000, k=1000), 1e-4),
            sample(Case(kind="gemm", dtype="fp32", m=100, n=1000, k=1000), 1e-3),
        ]
    )
    assert found is not None
    assert found.flops == {"fp32": pytest.approx(2e11)}
    assert found.bytes_per_s == pytest.approx(4e10), "of the matrix-vector product"
    assert found.copy_frac == pytest.approx(0.5)
    assert found.host_bytes_per_s == pytest.approx(2e9)


@pytest.mark.parametrize("kind", ["copy", "gemm"])
def test_without_copies_or_products_there_are_no_rates(samples: list[Sample], kind: str) -> None:
    assert rates([s for s in samples if s.case.kind != kind]) is None


def test_no_sample_beats_the_roofline_of_the_rates(samples: list[Sample]) -> None:
    found = rates(samples)
    assert found is not None
    for s in samples:
        case = s.case
        if case.kind == "gemm":
            assert s.timing.time_s >= 2.0 * case.m * case.n * case.k / found.flops["fp32"] * (1 - 1e-9)
            assert s.timing.time_s >= 4.0 * case.n * case.k / found.bytes_per_s * (1 - 1e-9)


def test_the_limit_leaves_out_what_does_not_fit() -> None:
    kept = shapes.cases(shapes.FULL, "fp32", cache_bytes=16e6, limit_bytes=1e8)
    everything = shapes.cases(shapes.FULL, "fp32", cache_bytes=16e6, limit_bytes=1e12)
    assert max(shapes.operand_bytes(case) for case in kept) <= 1e8
    assert 0 < len(kept) < len(everything)
    assert len(set(everything)) == len(everything)
