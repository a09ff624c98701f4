"""Evaluates plans on one traffic, in this process or in several; results come in the order of the plans.

Each worker process assembles the scenario once and keeps its compiled costs. Which worker evaluates a plan does not
matter: an evaluation depends only on the scenario, the seed and the plan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from sim.core import InfeasibleError, Reason, map_in_processes
from sim.plans import ResolvedPlan
from sim.results import RunResult
from sim.scenario import PlanRunner, Scenario, assemble

S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True)
class Task:
    """One plan to simulate, with a first guess of its sustainable rate [requests/s]."""

    plan: ResolvedPlan
    goodput: bool
    guess_per_s: float | None


Outcome = RunResult | tuple[Reason, ...]


def evaluate(runner: PlanRunner, task: Task) -> Outcome:
    """The result of a task, or the reasons why the plan cannot serve the traffic."""
    try:
        return runner.evaluate(task.plan, goodput=task.goodput, guess_per_s=task.guess_per_s)
    except InfeasibleError as error:
        return error.reasons


_worker: PlanRunner | None = None


def _start_worker(scenario: Scenario, seed: int) -> None:
    global _worker
    _worker = PlanRunner(assemble(scenario, seed=seed), seed=seed)


def _in_worker(task: Task) -> Outcome:
    assert _worker is not None
    return evaluate(_worker, task)


def run_tasks(
    tasks: Sequence[Task],
    runner: PlanRunner,
    *,
    workers: int,
    report: Callable[[int], None] | None = None,
) -> Iterator[Outcome]:
    """Outcomes of the tasks, in their order.

    Args:
        tasks: Plans to simulate.
        runner: Used when one process is enough; its scenario and seed start the others.
        workers: Processes.
        report: Called with the number of tasks done.
    """
    inputs = (runner.things.scenario, runner.seed)
    here = partial(evaluate, runner)
    return spread(tasks, here, there=_in_worker, start=_start_worker, arguments=inputs, workers=workers, report=report)


def spread(
    items: Sequence[S],
    here: Callable[[S], T],
    *,
    there: Callable[[S], T],
    start: Callable[..., None],
    arguments: tuple[Any, ...],
    workers: int,
    report: Callable[[int], None] | None,
) -> Iterator[T]:
    """Outcomes of the items, in their order, with the number of those that are done told to `report`.

    Args:
        items: What to evaluate.
        here: Evaluates one in this process, when one is enough.
        there: Evaluates one in a worker process.
        start: Called once in each worker before anything else.
        arguments: What `start` is called with.
        workers: Processes.
        report: Called with the number of items done.
    """
    outcomes: Iterator[T]
    if workers <= 1 or len(items) < 2:
        outcomes = map(here, items)
    else:
        outcomes = map_in_processes(there, items, workers=workers, start=start, arguments=arguments)
    for done, outcome in enumerate(outcomes, start=1):
        if report is not None:
            report(done)
        yield outcome
