"""The search over training plans: all listed, all screened at once, the promising ones replayed, the best kept.

The ladder of ADR 3 again, with the screen of `sim.training.analytic` and the replay of a step in place of traffic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import pandas as pd

from sim.core import Array, Reason
from sim.explore.algorithms import ALGORITHMS
from sim.explore.executor import spread
from sim.explore.pareto import ParetoArchive
from sim.explore.recommend import recommend_training
from sim.explore.training_screen import MEMORY_MARGIN, estimated_metrics, ranking, training_objectives
from sim.plans import TrainingSpace
from sim.results import (
    Evaluation,
    Objective,
    SearchResult,
    TrainingResult,
    evaluations_frame,
    get_metric,
    rejected_frame,
    training_intervals,
)
from sim.scenario import (
    Scenario,
    TrainingThings,
    assemble_training,
    launch_of,
    step_band,
    step_of,
    training_provenance,
    training_result,
)
from sim.training import (
    SCHEDULES,
    PlanTable,
    Rejected,
    Screen,
    TrainingPlan,
    TrainingPlans,
    available_bytes,
    few_microbatches,
    job_metrics,
)

Progress = Callable[[int, int, str], None]
Outcome = Evaluation | tuple[Reason, ...]

_SCREENED_ROWS: Final = 1000
"""Screened plans that the table of evaluations shows, best first; all are ranked."""
_MEMORY_EXAMPLES: Final = 5
_WORTH_A_PROCESS: Final = 5_000_000
"""Passes that are replayed in this process at least as fast as others start: some seconds' worth."""
_SWITCHES: Final = ("sp", "overlap_dp", "overlap_p2p", "overlap_tp", "compiled")


def search_training(scenario: Scenario, *, progress: Progress | None = None, workers: int = 1) -> SearchResult:
    """The Pareto front of training plans for `scenario`, and one recommended plan.

    Ctrl-C ends the search early; what was simulated by then is the result, marked as interrupted.

    Args:
        scenario: A loaded training scenario.
        progress: Called with (done, total, what).
        workers: Processes to simulate in; the result does not depend on it.

    Raises:
        InputError: if a name is unknown, or an objective cannot be measured in this scenario.
    """
    things = assemble_training(scenario)
    spec = things.spec.search
    with scenario.errors_at("search.objectives"):
        objectives = training_objectives(things.spec, priced=things.cluster.usd_per_device_hour is not None)
    with scenario.errors_at("search.algorithm"):
        ALGORITHMS.get(spec.algorithm)
    with scenario.errors_at("search.space.schedule"):
        for name in spec.space.schedule or ():
            SCHEDULES.get(name)
    return _TrainingSearch(scenario, things, objectives, progress).run(workers)


@dataclass(frozen=True)
class _Ranked:
    """Plans that fit by their estimates, and those estimates by metric path."""

    table: PlanTable
    metrics: dict[str, Array]


class _TrainingSearch:
    def __init__(
        self, scenario: Scenario, things: TrainingThings, objectives: Sequence[Objective], progress: Progress | None
    ) -> None:
        self.scenario = scenario
        self.things = things
        self.spec = things.spec.search
        self.objectives = objectives
        self.progress = progress or (lambda done, total, what: None)
        self.archive: ParetoArchive[Evaluation] = ParetoArchive([each.maximise for each in objectives])
        self.simulated: list[Evaluation] = []
        self.rejected = Rejected()
        self.generated = 0

    def run(self, workers: int) -> SearchResult:
        self.progress(0, 1, "listing plans")
        things = self.things
        inputs = (things.model, things.spec.workload, things.engine, things.cluster)
        table, self.rejected = TrainingPlans(self.spec.space, *inputs).listed()
        self.generated = self.rejected.counts.total() + (0 if table is None else len(table))
        if table is None:
            return self.result(None, {}, interrupted=False)
        self.progress(0, 1, f"screening {len(table):,} plans")
        ranked = self.screened(Screen(*inputs), table)
        groups = self.promoted(ranked)
        plans = {row: ranked.table.plan(row) for group in groups for row in group}
        layer = {row: number for number, group in enumerate(groups) for row in group}
        interrupted = self.simulate(ranked, plans, layer, workers)
        return self.result(ranked, plans, interrupted=interrupted)

    # ---- the three rungs ----

    def screened(self, screen: Screen, table: PlanTable) -> _Ranked:
        """The plans that may fit; the others are counted, the nearest ones with their memory in numbers."""
        estimates = screen.estimate_table(table)
        limit = available_bytes(self.things.cluster.device, self.things.engine) * (1.0 + MEMORY_MARGIN)
        fits = estimates.memory_bytes <= limit
        over = np.flatnonzero(~fits)
        nearest = over[np.argsort(estimates.memory_bytes[over], kind="stable")]
        for row in nearest[:_MEMORY_EXAMPLES].tolist():
            plan = table.plan(row)
            reasons = step_of(self.things, plan).memory_reasons()
            self.rejected.add(plan.label, reasons or _estimated(float(estimates.memory_bytes[row])))
        if len(over) > _MEMORY_EXAMPLES:
            self.rejected.counts["memory"] += len(over) - _MEMORY_EXAMPLES
        rows = np.flatnonzero(fits)
        kept, metrics = table.take(rows), estimated_metrics(table, estimates, self.things)
        return _Ranked(kept, {name: values[rows] for name, values in metrics.items()})

    def promoted(self, ranked: _Ranked) -> list[list[int]]:
        """Rows worth simulating, in groups by promise; objectives that rank plans alike count once."""
        if not len(ranked.table):
            return []
        columns = [ranking(each.path, ranked.metrics, maximise=each.maximise) for each in self.objectives]
        order: dict[bytes, Array] = {}
        for values in columns:
            order.setdefault(np.argsort(values, kind="stable").tobytes(), values)
        algorithm = ALGORITHMS.get(self.spec.algorithm)()
        return algorithm.promote(
            np.column_stack([*order.values()]), layers=self.spec.layers, most=self.spec.max_simulated
        )

    def simulate(self, ranked: _Ranked, plans: dict[int, TrainingPlan], layer: dict[int, int], workers: int) -> bool:
        """Replays the promoted plans into the archive; True if Ctrl-C ended it early."""
        what = f"simulating {len(plans):,} of {len(ranked.table):,} plans"
        self.progress(0, len(plans), what)
        tasks = [*plans.values()]
        outcomes = run_plans(
            tasks,
            self.scenario,
            self.things,
            workers=workers,
            report=lambda done: self.progress(done, len(plans), what),
        )
        try:
            for (row, plan), outcome in zip(plans.items(), outcomes, strict=True):
                if isinstance(outcome, Evaluation):
                    outcome.layer = layer[row]
                    self.keep(outcome)
                else:
                    self.rejected.add(plan.label, outcome)
        except KeyboardInterrupt:
            return True
        return False

    def keep(self, evaluation: Evaluation) -> None:
        """Offers a simulated plan to the archive."""
        self.simulated.append(evaluation)
        values = [get_metric(evaluation.metrics, each.path) for each in self.objectives]
        self.archive.add(evaluation, [float("nan") if value is None else float(value) for value in values])

    # ---- the answer ----

    def result(self, ranked: _Ranked | None, plans: dict[int, TrainingPlan], *, interrupted: bool) -> SearchResult:
        """What the search found."""
        front, resolved = self.archive.items, self.scenario.resolved()
        best, why = recommend_training(front)
        run = None if best is None else self._run_of(best, plans, resolved)
        simulated = evaluations_frame(self.simulated, front=front)
        screened = pd.DataFrame() if ranked is None else self._screened_frame(ranked)
        frames = [frame for frame in (simulated, screened) if len(frame)] or [simulated]
        return SearchResult(
            front=front,
            recommended=best,
            why=why,
            space={
                "generated": self.generated,
                "infeasible": dict(sorted(self.rejected.counts.items(), key=lambda item: (-item[1], item[0]))),
                "screened": self.generated - self.rejected.counts.total(),
                "simulated": len(self.simulated),
            },
            rejected=rejected_frame(_reason_rows(self.rejected)),
            evaluations=pd.concat(frames).reset_index(drop=True),
            objectives=self.objectives,
            provenance=training_provenance(self.things, None, resolved) if run is None else run.provenance,
            scenario=resolved,
            recommended_run=run,
            interrupted=interrupted,
        )

    def _run_of(self, best: Evaluation, plans: dict[int, TrainingPlan], resolved: dict[str, Any]) -> TrainingResult:
        """The recommended plan's step again, with its tables."""
        plan = next(plan for plan in plans.values() if plan.to_dict() == best.plan)
        return training_result(self.things, step_of(self.things, plan), resolved)

    def _screened_frame(self, ranked: _Ranked) -> pd.DataFrame:
        """The best of the screened plans by the first objective, in the columns of `evaluations_frame`."""
        first = self.objectives[0]
        order = np.argsort(ranking(first.path, ranked.metrics, maximise=first.maximise), kind="stable")[:_SCREENED_ROWS]
        evaluations = []
        for row in order.tolist():
            plan = ranked.table.plan(row)
            metrics = {name: float(values[row]) for name, values in ranked.metrics.items()}
            label = training_label(plan, self.spec.space)
            evaluations.append(Evaluation(plan.to_dict(), label, metrics, stage="analytic"))
        return evaluations_frame(evaluations)


def training_label(plan: TrainingPlan, space: TrainingSpace) -> str:
    """The plan in short, with what else plans of the space differ in."""
    parts = [plan.label]
    if plan.cp > 1 and (space.cp_kind is None or len(space.cp_kind) > 1):
        parts.append(plan.cp_kind)
    for name in _SWITCHES:
        values = getattr(space, name)
        if values is not None and len(values) > 1 and not (name == "sp" and plan.tp == 1):
            parts.append(name if getattr(plan, name) else f"no_{name}")
    if space.grad_dtype is not None and len(space.grad_dtype) > 1:
        parts.append(plan.grad_dtype)
    return " ".join(parts)


def _estimated(size_bytes: float) -> list[Reason]:
    message = f"needs about {size_bytes / 2**30:.1f} GiB by estimate"
    return [Reason("memory", message, {"estimated_bytes": size_bytes})]


def _reason_rows(rejected: Rejected) -> Iterator[tuple[str, str, str]]:
    for label, reasons in rejected.examples:
        for reason in reasons:
            yield label, reason.code, reason.message


# ---- plans in one process or several ----


def evaluate_training(things: TrainingThings, plan: TrainingPlan) -> Outcome:
    """What the plan delivers, or why it does not fit."""
    step = step_of(things, plan)
    if reasons := step.memory_reasons():
        return tuple(reasons)
    metrics = job_metrics(step)
    intervals = training_intervals(metrics, step_band(step))
    label = training_label(plan, things.spec.search.space)
    return Evaluation(plan.to_dict(), label, metrics, intervals, launch_of(things, plan))


def _passes(plan: TrainingPlan) -> int:
    """Passes of the plan's replay."""
    schedule = SCHEDULES.get(plan.schedule)()
    return 2 * plan.stages * few_microbatches(schedule, stages=plan.pp, microbatches=plan.microbatches)


_worker: TrainingThings | None = None


def _start_worker(scenario: Scenario) -> None:
    global _worker
    _worker = assemble_training(scenario)


def _in_worker(plan: TrainingPlan) -> Outcome:
    assert _worker is not None
    return evaluate_training(_worker, plan)


def run_plans(
    plans: Sequence[TrainingPlan],
    scenario: Scenario,
    things: TrainingThings,
    *,
    workers: int,
    report: Callable[[int], None] | None = None,
) -> Iterator[Outcome]:
    """Outcomes of the plans, in their order.

    Args:
        plans: Plans to simulate.
        scenario: What other processes assemble.
        things: The same, assembled.
        workers: Processes, at most; few passes are not worth the start of any.
        report: Called with the number of plans done.
    """
    here = partial(evaluate_training, things)
    if sum(map(_passes, plans)) < _WORTH_A_PROCESS:
        workers = 1
    return spread(
        plans, here, there=_in_worker, start=_start_worker, arguments=(scenario,), workers=workers, report=report
    )
