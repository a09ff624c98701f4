"""A step over time, as tables: which pass ran when, and what each pipeline stage held."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from sim.training.replay import PipelineTimes
from sim.training.step import TrainingStep

if TYPE_CHECKING:
    import pandas as pd

MOST_PASSES: Final = 20_000
"""Passes of the largest step that is written out pass by pass."""


def replayed_or_none(step: TrainingStep) -> PipelineTimes | None:
    """Every pass of the step, None if there are more than can be of use one by one."""
    plan = step.plan
    if 2 * plan.stages * plan.microbatches > MOST_PASSES:
        return None
    return step.replayed()


def memory_by_stage(step: TrainingStep) -> pd.DataFrame:
    """Memory of a rank of each pipeline stage at its peak, by class [B]; one row per stage."""
    import pandas as pd

    rows = [{"device": device, **each.to_dict()} for device, each in enumerate(step.memory)]
    table = pd.DataFrame(rows)
    table["allocated_bytes"] = [each.allocated_bytes for each in step.memory]
    return table


def memory_over_time(step: TrainingStep, run: PipelineTimes) -> pd.DataFrame:
    """What micro-batches in flight keep on each stage, and all that it has allocated, from each change on [B].

    Columns `device`, `at_s`, `activations_bytes` and `allocated_bytes`. What a pass needs for itself counts throughout,
    as in the peak, which the last column therefore reaches.
    """
    import pandas as pd

    kept = step.kept_bytes
    parts = []
    for device, peak in enumerate(step.memory):
        at_s, held = run.held(device, kept, kept)
        rest = peak.allocated_bytes - peak.activations_bytes
        parts.append(
            pd.DataFrame({"device": device, "at_s": at_s, "activations_bytes": held, "allocated_bytes": held + rest})
        )
    table = pd.concat(parts, ignore_index=True)
    table["activations_bytes"] = np.maximum(table["activations_bytes"], 0.0)
    return table
