"""The screen of many plans agrees with the replayed step of each, in time and memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sim.models import load_model
from sim.training import TrainingStep
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


def compared(engine: str, node: str, model: Any = DEEP) -> tuple[Any, Any, Any]:
    """Estimates of all plans, and the step time and memory of each one replayed."""
    plans, times, memory, things = [], [], [], {}
    for plan in PLANS:
        found, things = resolved(plan, model=model, gpus=64, batch=512, sequence=2048, engine=engine, node=node)
        assert not isinstance(found, tuple), found
        step = TrainingStep(things["model"], found, **{k: v for k, v in things.items() if k != "model"})
        plans.append(found)
        times.append(step.step_s)
        memory.append(step.peak_memory.allocated_bytes)
    return Screen(**things).estimate(plans), np.array(times), np.array(memory)


@pytest.mark.parametrize(("engine", "node"), [("megatron-lm-2021", "dgx-a100"), ("megatron-lm", "dgx-h100")])
def test_the_screen_agrees_with_the_replay(engine: str, node: str) -> None:
    found, times, memory = compared(engine, node)
    np.testing.assert_allclose(found.step_s, times, rtol=0.05)
    np.testing.assert_allclose(found.memory_bytes, memory, rtol=0.03)
    assert np.argmin(found.step_s) == np.argmin(times)


def test_the_screen_agrees_for_gated_models_with_few_kv_heads() -> None:
    found, times, memory = compared("megatron-lm", "dgx-h100", load_model("llama-3-8b"))
    np.testing.assert_allclose(found.step_s, times, rtol=0.05)
    np.testing.assert_allclose(found.memory_bytes, memory, rtol=0.03)
