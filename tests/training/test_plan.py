"""Layouts that cannot be: refused with the numbers and the nearest values that can."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from sim.core import data_names
from sim.models import load_model
from sim.plans import TrainingPlanSpec, load_training_engine
from sim.training.plan import even_layers
from tests.training.builders import resolved, step_of


@pytest.mark.parametrize(
    ("plan", "given", "code", "words"),
    [
        ({"tp": 3}, {}, "ranks", ["3", "8 GPUs", "2 and 4"]),
        ({"dp": 3, "tp": 2}, {}, "ranks", ["3 x tp 2", "dp 4 would"]),
        ({"micro_batch": 3}, {}, "batch", ["32", "24", "24 or 48"]),
        ({"tp": 8, "dp": 1}, {"batch": 5, "sequence": 64}, None, []),
        ({"pp": 8, "vpp": 4}, {}, "layers", ["32 virtual stages", "8 layers", "10"]),
        ({"vpp": 2}, {}, "schedule", ["pp is 1"]),
        ({"sp": True}, {}, "sequence_parallel", ["tp is 1"]),
        ({"tp": 2, "overlap_tp": True}, {}, "sequence_parallel", ["tp 2", "set sp"]),
        ({"tp": 2, "sp": True, "overlap_tp": True}, {}, None, []),
        ({"overlap_tp": True}, {}, None, []),
        ({"power_cap": 60.0}, {}, "power", ["60 W", "20% of its clock", "to 400 W"]),
        ({"power_cap": 500.0}, {}, None, []),
        ({"cp": 2}, {"sequence": 1026}, "sequence", ["1026", "4 slices", "1024 or 1028"]),
        ({"cp": 2, "cp_zigzag": False}, {"sequence": 1026}, None, []),
        ({"cp": 2, "cp_zigzag": False}, {"sequence": 1025}, "sequence", ["2 slices for cp 2;", "1024 or 1026"]),
        ({"ep": 2}, {}, "experts", ["no experts"]),
        ({"pp": 2, "layers_per_stage": (3, 4)}, {}, "layers", ["7", "8 layers"]),
        ({"tp": 8}, {"model": load_model("qwen2.5-0.5b")}, "heads", ["14", "7 and 14"]),
    ],
)
def test_impossible_layouts(plan: dict[str, Any], given: dict[str, Any], code: str | None, words: list[str]) -> None:
    found, _ = resolved(plan, **given)
    if code is None:
        assert not isinstance(found, tuple)
        return
    assert isinstance(found, tuple)
    mine = [reason for reason in found if reason.code == code]
    assert mine, [reason.message for reason in found]
    assert all(word in mine[0].message for word in words), mine[0].message


def test_interleaving_needs_a_multiple_of_the_stages() -> None:
    reasons = step_of({"pp": 4, "tp": 2, "vpp": 2, "micro_batch": 16}, batch=32).schedule_reasons()
    assert reasons
    assert "4" in reasons[0].message


@pytest.mark.parametrize(
    "wrong",
    [
        {"zero": 4},
        {"recompute": "some"},
        {"recompute": "none", "recompute_every": 2},
        {"pp": 2, "layers_per_stage": [4]},
        {"tq": 2},
        {"micro_batch": 0},
    ],
)
def test_contradictions_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TrainingPlanSpec(**wrong)


@pytest.mark.parametrize(
    ("layers", "stages", "expected"),
    [
        (8, 4, (2, 2, 2, 2)),
        (22, 8, (2, 3, 3, 3, 3, 3, 3, 2)),
        (30, 4, (7, 8, 8, 7)),
        (6, 8, (0, 1, 1, 1, 1, 1, 1, 0)),
    ],
)
def test_what_does_not_divide_goes_to_the_middle(layers: int, stages: int, expected: tuple[int, ...]) -> None:
    assert even_layers(layers, stages) == expected


@pytest.mark.parametrize("name", data_names("hardware_profiles/training_engines"))
def test_shipped_engines_cite_what_they_say(name: str) -> None:
    engine = load_training_engine(name)
    assert engine.name == name
    cited = {value.ref for _, value in engine if hasattr(value, "ref")}
    cited |= {value.ref for _, value in engine.kernels}
    assert cited <= engine.refs.keys()
