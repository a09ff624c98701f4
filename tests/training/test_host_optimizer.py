"""Adam on the host: bound by its memory, shared by the devices of a node; nothing of it on the device."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sim.hardware import ClusterSpec, load_cluster
from sim.training import TrainingStep
from sim.training.analytic import Screen
from sim.training.host_optimizer import STATE_BYTES, host_reasons, host_update
from tests.training.builders import gpt, resolved, step_of

GIVEN: dict[str, Any] = {"node": "dgx-h100", "engine": "deepspeed-liger", "model": gpt(layers=8, hidden=4096, heads=32)}


def test_the_update_streams_gradient_states_and_parameter_through_host_memory() -> None:
    """(g + 12 + 12 + 2) bytes a parameter over a node's 614.4 GB/s, which eight devices share."""
    cluster = load_cluster(ClusterSpec(node="dgx-h100"))
    found = host_update(cluster, gradient_bytes=4.0, memory_frac=0.5)
    assert float(found.update_s) == pytest.approx(30.0 * 8 / (0.5 * 614.4e9))
    assert float(found.gradient_s) == pytest.approx(4.0 / (0.85 * 63e9))


def test_parameters_on_their_way_back_rule_where_the_link_is_slow() -> None:
    cluster = load_cluster(ClusterSpec(node="dgx-h100"))
    slow = replace(cluster, node=replace(cluster.node, device=replace(cluster.device, host_bytes_per_s=1e9)))
    assert float(host_update(slow, gradient_bytes=2.0, memory_frac=0.5).update_s) == pytest.approx(2.0 / 0.85e9)


@pytest.mark.parametrize("zero", [1, 3])
def test_the_device_holds_no_states_and_the_host_s_time_shows(zero: int) -> None:
    plan = {"zero": zero, "overlap_dp": False}
    here, there = (step_of(plan, **GIVEN, optimizer=name) for name in ("adam", "adam_cpu"))
    assert there.memory[0].optimizer_bytes == 0.0
    assert there.peak_memory.allocated_bytes < here.peak_memory.allocated_bytes
    share = there.parameters[0].total / 8
    each = host_update(there.cluster, gradient_bytes=2.0, memory_frac=0.15)
    assert there.times.parts_s["optimizer"] == pytest.approx(share * float(each.gradient_s + each.update_s))
    assert sum(there.times.parts_s.values()) == pytest.approx(there.times.step_s, rel=1e-12)


def test_gradients_cross_beside_the_backward_pass_where_plans_overlap() -> None:
    apart, beside = (
        step_of({"zero": 3, "overlap_dp": overlap}, **GIVEN, optimizer="adam_cpu").times.parts_s["optimizer"]
        for overlap in (False, True)
    )
    assert beside < apart


def test_more_devices_of_one_host_do_not_update_faster_and_more_hosts_do() -> None:
    seconds = [
        step_of({"zero": 3}, **GIVEN, gpus=gpus, optimizer="adam_cpu").times.parts_s["optimizer"] for gpus in (4, 8, 16)
    ]
    assert seconds[1] == pytest.approx(seconds[0])
    assert seconds[2] == pytest.approx(seconds[1] / 2.0)


def test_states_that_do_not_fit_the_host_are_refused_with_numbers() -> None:
    cluster = load_cluster(ClusterSpec(node="dgx-h100"))
    assert host_reasons(cluster, parameters=20e9) == []
    [reason] = host_reasons(cluster, parameters=25e9)
    assert reason.numbers["needed_bytes"] == pytest.approx(STATE_BYTES * 25e9 * 8)


def test_a_host_that_is_not_known_is_refused() -> None:
    cluster = load_cluster(ClusterSpec(node="dgx-h100"))
    silent = replace(cluster, node=replace(cluster.node, host_bytes_per_s=0.0))
    [reason] = host_reasons(silent)
    assert "host_memory_bandwidth" in reason.message


@pytest.mark.parametrize("plan", [{"zero": 3}, {"zero": 1, "tp": 4}, {"zero": 0, "pp": 4}], ids=str)
def test_the_screen_knows_the_host(plan: dict[str, Any]) -> None:
    found, things = resolved(plan, **GIVEN, gpus=16, batch=64, optimizer="adam_cpu")
    step = TrainingStep(plan=found, **things)
    estimate = Screen(**things).estimate([found])
    assert estimate.step_s[0] == pytest.approx(step.step_s, rel=0.05)
    assert estimate.memory_bytes[0] == pytest.approx(step.peak_memory.allocated_bytes, rel=0.05)
