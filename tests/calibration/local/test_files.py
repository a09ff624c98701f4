"""What a profile writes: devices that load from where they lie, cost what was fitted, and run in a scenario."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import sim
from sim.calibration.local.collective import SIZES_BYTES, fit_link
from sim.calibration.local.files import ASSUMED_W_PER_UNIT, DeviceFiles, FittedLink, device_files
from sim.calibration.local.fit import fit_kernels
from sim.calibration.local.operands import Machine
from sim.calibration.local.rates import rates
from sim.calibration.local.samples import Case, Sample
from sim.costs import CostModel, bind_collective
from sim.hardware import ClusterSpec, Device, device_of, load_cluster, load_node
from sim.models import Gemm
from tests.calibration.local.conftest import sample

DATE = "2026-01-02"


def files_of(
    machine: Machine, samples: list[Sample], link: FittedLink | None = None, peak_w: float | None = None
) -> DeviceFiles:
    found = rates(samples)
    assert found is not None
    bare = device_files("mine", machine, found, [], date=DATE)
    curves = fit_kernels(samples, device_of(bare.device))
    return device_files("mine", machine, found, curves, date=DATE, link=link, peak_w=peak_w)


@pytest.fixture
def files(machine: Machine, samples: list[Sample]) -> DeviceFiles:
    return files_of(machine, samples)


def test_the_files_load_from_where_they_lie(
    files: DeviceFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, samples: list[Sample]
) -> None:
    written = files.write(tmp_path)
    assert [path.name for path in written] == [
        "mine.yaml",
        "mine-kernels.yaml",
        "mine-node.yaml",
        "mine-scenario.yaml",
    ]
    monkeypatch.chdir(tmp_path.parent)
    node = load_node(str(written[2]))
    assert (node.n_devices, node.device.name, node.device.kind) == (1, "mine", "cpu")
    assert node.device.memory_bytes == 16e9
    assert node.device.memory_bytes_per_s == pytest.approx(30e9, rel=0.05)
    gemm = next(s for s in samples if s.case.kind == "gemm" and s.case.m == 64)
    product = Gemm(name="g", cause="g", m=64.0, n=gemm.case.n, k=gemm.case.k, weights_dtype="fp32")
    costs = CostModel(node.device)
    assert float(costs.cost(product).time_s) == pytest.approx(gemm.timing.time_s, rel=0.05)
    assert costs.sources["gemm fp32"].startswith(
        f"analytic: mine-kernels: gemm fp32 any, fitted: plansim profile on {DATE}"
    )


def test_every_number_says_where_it_comes_from(files: DeviceFiles, machine: Machine) -> None:
    assert files.device.refs["profile"] == f"plansim profile on {DATE}: {machine.title}, {machine.versions}"
    assert {rate.source for rate in files.device.flops.values()} == {"measured"}
    assert {curve.source for curve in files.kernels.curves} == {"fitted"}
    assert all(curve.median_error is not None for curve in files.kernels.curves)
    power = files.device.peak_power
    assert (power.value, power.source, power.confidence) == (ASSUMED_W_PER_UNIT, "assumed", "low")


def test_a_power_limit_may_be_given(machine: Machine, samples: list[Sample]) -> None:
    device = files_of(machine, samples, peak_w=90.0).device
    assert device.peak_power.value == 90.0
    assert device.refs["assumed-power"].startswith("given")


def test_a_machine_that_hides_its_cache_has_none(machine: Machine, samples: list[Sample]) -> None:
    assert files_of(replace(machine, cache_bytes=None), samples).device.cache is None


def test_the_example_scenario_runs(files: DeviceFiles, tmp_path: Path) -> None:
    scenario = files.write(tmp_path)[-1]
    result = sim.run(sim.load(scenario, overrides=["workload.requests=3"]))
    assert result.metrics["requests"]["finished"] == 3
    assert "mine-kernels: gemm" in str(result.provenance["costs"])


def reduced(time_s: Callable[[float], float], ranks: int) -> list[Sample]:
    return [
        sample(Case(kind="all_reduce", dtype="fp32", bytes=size, ranks=ranks), time_s(size)) for size in SIZES_BYTES
    ]


def test_several_devices_have_a_link_with_the_all_reduce_that_was_measured(
    machine: Machine, samples: list[Sample], tmp_path: Path
) -> None:
    wire = 2.0 * 3 / 4

    def true_s(size: float) -> float:
        return 2e-5 + 3e-9 * math.sqrt(wire * size) + wire * size / 80e9

    measured = reduced(true_s, 4)
    link = fit_link(measured)
    assert (link.alpha_s, link.beta_bytes_per_s) == (pytest.approx(2e-5, rel=0.05), pytest.approx(80e9, rel=0.1))
    written = files_of(replace(machine, devices=4), samples, link).write(tmp_path)
    assert [path.stem for path in written] == ["mine", "mine-kernels", "mine-node", "mine-link", "mine-scenario"]
    cluster = load_cluster(ClusterSpec(node=str(written[2])))
    assert cluster.n_devices == 4
    timer = bind_collective("all_reduce", cluster.group(range(4)), engine="pytorch")
    sizes = np.array(SIZES_BYTES, dtype=np.float64)
    assert timer.time_s(sizes) == pytest.approx([s.timing.time_s for s in measured], rel=0.05)


def test_the_device_keeps_what_the_cost_model_promises(files: DeviceFiles, tmp_path: Path) -> None:
    """A profile is a device like any other: no product beats the roofline of its own rates."""
    device: Device = load_node(str(files.write(tmp_path)[2])).device
    rows = np.array([1.0, 7.0, 100.0, 3000.0])
    product = Gemm(name="g", cause="g", m=rows, n=4096, k=4096, weights_dtype="fp32")
    least = np.maximum(product.flops() / device.flops["fp32"], product.bytes() / device.memory_bytes_per_s)
    assert (CostModel(device).cost(product).time_s >= least).all()
