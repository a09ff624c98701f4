"""Measured rows for the tests of calibration: closed loops on one H100."""

from __future__ import annotations

from typing import Any

from sim.validation import MeasuredRow


def closed_loop(
    number: int, *, model: str, engine: str, concurrency: int, prompt: int, output: dict[str, Any], requests: int
) -> MeasuredRow:
    """A row whose measured values are still to be made; all prompts have `prompt` tokens."""
    lengths = {"kind": "joint", "input": {"kind": "constant", "value": prompt}, "output": output}
    traffic = {"name": "t", "arrivals": {"kind": "poisson"}, "lengths": lengths}
    scenario = {
        "name": "row",
        "model": model,
        "cluster": {"node": "dgx-h100"},
        "engine": engine,
        "plan": {"tp": 1},
        "workload": {"traffic": traffic, "concurrency": concurrency, "requests": requests},
    }
    groups = {"system": "h100", "model": model, "engine": "vllm", "load": str(concurrency)}
    return MeasuredRow(str(number), "made", groups, scenario, {"ttft_s": None, "tpot_s": None})
