"""The screen of many plans agrees with the replayed step of each, in time and memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sim.core import InputError
from sim.models import load_model
from sim.training import SCHEDULES, TrainingStep, job_metrics
from sim.training.analytic import Screen
from tests.training.builders import gpt, resolved

DEEP = gpt(layers=32, hidden=4096, heads=32)
PLANS: tuple[dict[str, Any], ...] = (
    {"tp": 8},
    {"tp": 4, "pp": 4},
    {"tp": 8, "pp": 8, "recompute": "full"},
    {"tp": 2, "pp": 8, "micro_batch": 2, "recompute": "selective"},
    {"tp": 4, "pp": 4, "vpp": 4},
    {"tp": 4, "pp": 2, "vpp": 2, "zero": 1, "overlap_dp": True},
    {"tp": 1, "zero": 3, "overlap_dp": True, "recompute": "full"},
    {"tp": 2, "zero": 2, "overlap_dp": True},
    {"tp": 8, "sp": True, "recompute": "selective", "pp": 2},
    {"tp": 1, "pp": 16},
)


def compared(engine: str, node: str, model: Any = DEEP, choices: Any = PLANS) -> tuple[Any, Any, Any]:
    """Estimates of all plans, and the step time and memory of each one replayed."""
    plans, times, memory, things = [], [], [], {}
    for plan in choices:
        found, things = resolved(plan, model=model, gpus=64, batch=512, sequence=2048, engine=engine, node=node)
        assert not isinstance(found, tuple), found
        step = TrainingStep(things["model"], found, **{k: v for k, v in things.items() if k != "model"})
        plans.append(found)
        times.append(step.step_s)
        memory.append(step.peak_memory.allocated_bytes)
    return Screen(**things).estimate(plans), np.array(times), np.array(memory)


@pytest.mark.parametrize(
    ("engine", "node"),
    [("megatron-lm-2021", "dgx-a100"), ("megatron-lm", "dgx-h100"), ("nemo", "dgx-h100")],
)
def test_the_screen_agrees_with_the_replay(engine: str, node: str) -> None:
    found, times, memory = compared(engine, node)
    np.testing.assert_allclose(found.step_s, times, rtol=0.05)
    np.testing.assert_allclose(found.memory_bytes, memory, rtol=0.03)
    assert np.argmin(found.step_s) == np.argmin(times)


def test_the_screen_knows_gathered_products() -> None:
    plans = ({"zero": 3, "overlap_dp": True}, {"tp": 2, "zero": 3, "recompute": "full"}, {"tp": 2, "zero": 1})
    found, times, memory = compared("deepspeed", "dgx-a100", choices=plans)
    np.testing.assert_allclose(found.step_s, times, rtol=0.05)
    np.testing.assert_allclose(found.memory_bytes, memory, rtol=1e-3)


def test_the_screen_agrees_for_gated_models_with_few_kv_heads() -> None:
    found, times, memory = compared("megatron-lm", "dgx-h100", load_model("llama-3-8b"))
    np.testing.assert_allclose(found.step_s, times, rtol=0.05)
    np.testing.assert_allclose(found.memory_bytes, memory, rtol=0.03)


@pytest.mark.parametrize(
    ("model", "plan"),
    [
        ("mixtral-8x7b", {"tp": 4, "ep": 8}),
        ("mixtral-8x7b", {"tp": 2, "ep": 4, "pp": 4, "vpp": 2}),
        ("mixtral-8x7b", {"tp": 2, "ep": 4, "zero": 2, "overlap_dp": True}),
        ("llama-3-8b", {"pp": 4, "zero": 2, "overlap_dp": False}),
        ("llama-3-8b", {"pp": 4, "vpp": 2, "zero": 2, "overlap_dp": True}),
        ("deepseek-v2-lite", {"ep": 8, "pp": 4, "recompute": "cheap"}),
        ("mixtral-8x7b", {"ep": 8, "zero": 3, "recompute": "full", "recompute_every": 2}),
        ("deepseek-v2-lite", {"ep": 8, "pp": 4}),
        ("llama-3-8b", {"tp": 2, "pp": 4, "vpp": 3}),
        ("llama-3-8b", {"tp": 2, "pp": 16, "vpp": 2}),
        ("llama-3-8b", {"pp": 8, "layers_per_stage": (2, 5, 5, 5, 5, 5, 4, 1)}),
        ("llama-3-8b", {"tp": 2, "cp": 4, "pp": 2}),
        ("llama-3-8b", {"tp": 2, "pp": 4, "schedule": "gpipe", "micro_batch": 4}),
        ("llama-3-8b", {"tp": 4, "sp": True, "clock": 0.7, "overlap_tp": True, "grad_dtype": "bf16"}),
        ("llama-3.2-1b", {"pp": 4, "zero": 0, "overlap_p2p": False}),
        ("qwen3.5-27b", {"tp": 4, "pp": 4}),
        ("nemotron-h-56b", {"tp": 8, "sp": True, "pp": 2}),
        ("nemotron-h-56b", {"tp": 8, "sp": True, "cp": 2}),
        ("qwen3.5-27b", {"tp": 2, "cp": 4, "pp": 2, "cp_kind": "ring"}),
    ],
)
def test_the_screen_knows_experts_unequal_stages_and_switches(model: str, plan: dict[str, Any]) -> None:
    """Time, memory and energy of layouts whose stages, layers or schedules differ; chunks in flight are rounded."""
    found, things = resolved(plan, model=load_model(model), gpus=64, batch=512, sequence=2048, node="dgx-h100")
    assert not isinstance(found, tuple), found
    step = TrainingStep(plan=found, **things)
    assert not step.schedule_reasons()
    estimate = Screen(**things).estimate([found])
    assert estimate.step_s[0] == pytest.approx(step.step_s, rel=0.05)
    assert estimate.memory_bytes[0] == pytest.approx(step.peak_memory.allocated_bytes, rel=0.07)
    assert estimate.energy_j[0] == pytest.approx(job_metrics(step)["energy_j"], rel=0.05)


@pytest.mark.parametrize("engine", ["megatron-lm-2021", "torchtitan"])
@pytest.mark.parametrize("more", [{}, {"recompute": "full", "zero": 3}, {"tp": 1, "zero": 2}])
@pytest.mark.parametrize("name", [name for name in SCHEDULES.names() if name != "forward_only"])
def test_the_screen_knows_what_schedules_hold(name: str, more: dict[str, Any], engine: str) -> None:
    """Routes, copies, passes and transfers in flight are the schedule's: memory to 3 %; times need only rank plans."""
    schedule = SCHEDULES.get(name)()
    chunks = next(v for v in (1, 2) if not schedule.reasons(stages=8, chunks=v, microbatches=32))
    plan = {"tp": 2, "pp": 8, "vpp": chunks, "schedule": name, **more}
    given: dict[str, Any] = {"gpus": 64, "batch": 256, "sequence": 4096, "node": "dgx-h100", "engine": engine}
    found, things = resolved(plan, model=load_model("llama-3-8b"), **given)
    assert not isinstance(found, tuple), found
    step = TrainingStep(plan=found, **things)
    estimate = Screen(**things).estimate([found])
    assert estimate.memory_bytes[0] == pytest.approx(step.peak_memory.allocated_bytes, rel=0.03)
    assert estimate.step_s[0] == pytest.approx(step.step_s, rel=0.2)


def test_other_prefetches_are_refused_where_they_change_something() -> None:
    """Which is with sharded parameters that are gathered ahead; in any order of the plans."""
    given = {"model": DEEP, "gpus": 64, "batch": 512, "node": "dgx-h100"}
    ahead, things = resolved({"zero": 3, "overlap_dp": True}, **given)
    late, _ = resolved({"zero": 3, "overlap_dp": True, "prefetch": 0}, **given)
    alike = [
        resolved({**plan, "prefetch": 2}, **given)[0]
        for plan in ({"zero": 3, "overlap_dp": False}, {"zero": 1, "overlap_dp": True})
    ]
    screen = Screen(**things)
    for plans in ([late], [ahead, late], [*alike, late]):
        with pytest.raises(InputError, match="one layer ahead"):
            screen.estimate(plans)
    found = screen.estimate([*alike, ahead])
    for row, plan in enumerate(alike):
        step = TrainingStep(plan=plan, **things)
        assert found.step_s[row] == pytest.approx(step.step_s, rel=0.05)
        assert found.memory_bytes[row] == pytest.approx(step.peak_memory.allocated_bytes, rel=0.03)


def test_together_or_one_by_one_is_the_same() -> None:
    """The estimate of a plan does not depend on which others are asked for."""
    found, things = zip(
        *(resolved(plan, model=DEEP, gpus=64, batch=512, node="dgx-h100") for plan in PLANS), strict=True
    )
    screen = Screen(**things[0])
    together = screen.estimate(found)
    for row, plan in enumerate(found):
        alone = screen.estimate([plan])
        for one, many in zip(alone, together, strict=True):
            assert one[0] == pytest.approx(many[row], rel=1e-12)
