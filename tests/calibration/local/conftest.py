"""A machine made up: known rates and curves, and samples that they would give."""

from collections.abc import Callable, Iterable

import numpy as np
import pytest

from sim.calibration.local import fit, shapes
from sim.calibration.local.operands import Machine
from sim.calibration.local.samples import Case, Sample, Timing
from sim.costs import CostModel
from sim.hardware import Device, DeviceSpec, device_of

GB, GFLOP = 1e9, 1e9
CURVES = {
    "gemm": {"t0_s": 4e-5, "e": 0.9, "f": 0.35, "f_1": 0.6, "p": 1.3, "tau_s": 1e-12, "k_sat": float("inf"), "c": 0.0},
    "attention_decode": {"t0_s": 3e-5, "f": 0.5, "p": 1.5, "tau_s": 1e-9, "lam_s": 1e-9, "e": 0.2, "a": 1.0},
    "attention_prefill": {"t0_s": 2e-5, "e_128": 0.5, "a_h": 20, "d_h": 10, "tau_s": 1e-12, "p": 2, "c": 2},
    "elementwise": {"t0_s": 2e-5, "f": 0.4},
    "embedding": {"t0_s": 1e-5, "f": 0.3},
    "sampling": {"t0_s": 5e-5, "f": 0.02},
}


def sample(case: Case, time_s: float) -> Sample:
    timing = Timing(time_s=time_s, spread_frac=0.05, repeats=7)
    return Sample(case=case, timing=timing, device="Test CPU", versions="PyTorch 0, 1 thread")


def predicted_s(device: Device, case: Case, params: dict[str, float]) -> float:
    """What the cost model says for one case, with curves given."""
    from dataclasses import replace

    costs = CostModel(replace(device, kernels=fit._Trial("t", params)))
    _, (operator,) = fit._operators([case])
    return float(np.sum(costs.cost(operator).time_s))


@pytest.fixture
def machine() -> Machine:
    return Machine(
        kind="cpu",
        title="Test CPU",
        vendor="Test",
        units=1,
        memory_bytes=16e9,
        cache_bytes=16e6,
        devices=1,
        versions="PyTorch 0, 1 thread",
    )


@pytest.fixture
def device() -> Device:
    def known(value: float) -> dict[str, object]:
        return {"value": value, "source": "assumed", "ref": "test"}

    return device_of(
        DeviceSpec.model_validate(
            {
                "name": "test",
                "title": "Test CPU",
                "vendor": "Test",
                "kind": "cpu",
                "units": known(1),
                "flops": {"fp32": known(100 * GFLOP), "bf16": known(200 * GFLOP)},
                "memory": known(16 * GB),
                "memory_bandwidth": known(30 * GB),
                "peak_power": known(10.0),
                "idle_power": known(1.0),
            }
        )
    )


@pytest.fixture
def samples(device: Device) -> list[Sample]:
    """What the made-up machine gives for the quick grid in fp32."""
    return [*made_up(device, shapes.cases(shapes.QUICK, "fp32", cache_bytes=16e6, limit_bytes=1e9))]


def made_up(device: Device, cases: Iterable[Case], noise: Callable[[int], float] = lambda _: 1.0) -> list[Sample]:
    found = []
    for index, case in enumerate(cases):
        if case.kind == "copy":
            moved = case.bytes * (2.0 if case.operation == "copy" else 1.0)
            time_s = moved / (30 * GB if case.operation == "copy" else 25 * GB)
        else:
            time_s = predicted_s(device, case, CURVES[case.kind])
        found.append(sample(case, time_s * noise(index)))
    return found
