"""Runs a scenario by the kind of its workload."""

from __future__ import annotations

from sim.results import RunResult, TrainingResult
from sim.scenario.load import Scenario
from sim.scenario.run import Progress
from sim.scenario.run import run as run_serving
from sim.scenario.training import run_training


def run(scenario: Scenario, *, seed: int | None = None, progress: Progress | None = None) -> RunResult | TrainingResult:
    """Simulates the plan of `scenario`: requests served, or a training step.

    Args:
        scenario: A loaded scenario.
        seed: Seed of all random streams; None takes the scenario's. A training step draws nothing.
        progress: Called with (done, total, what).

    Raises:
        InputError: if a name is unknown or a trace is unusable.
        InfeasibleError: if the plan cannot run, with reasons and numbers.
    """
    if scenario.is_training:
        return run_training(scenario)
    return run_serving(scenario, seed=seed, progress=progress)
