"""The search: every plan checked, all that can run screened, the promising ones simulated, the best kept.

The ladder of ADR 3. `search` is the one entry point; `_Search` holds what its steps share.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sim.core import InputError, Reason
from sim.explore.algorithms import ALGORITHMS
from sim.explore.executor import Task, run_tasks
from sim.explore.objectives import GOODPUT, needs_goodput, objectives_of
from sim.explore.pareto import ParetoArchive, oriented
from sim.explore.recommend import recommend
from sim.explore.screen import SPREAD, proxy, screen
from sim.explore.training import search_training
from sim.plans import Infeasible, ResolvedPlan, Resolver, enumerate_plans
from sim.results import (
    Evaluation,
    Objective,
    RunResult,
    SearchResult,
    evaluations_frame,
    get_metric,
    rejected_frame,
)
from sim.scenario import PlanRunner, Scenario, assemble, provenance, require_slo, seed_of

Progress = Callable[[int, int, str], None]


def search(
    scenario: Scenario, *, seed: int | None = None, progress: Progress | None = None, workers: int = 1
) -> SearchResult:
    """The Pareto front of execution plans for `scenario`, and one recommended plan; of training plans, if it trains.

    Ctrl-C ends the search early; what was simulated by then is the result, marked as interrupted.

    Args:
        scenario: A loaded scenario.
        seed: Seed of all random streams; None takes the scenario's.
        progress: Called with (done, total, what).
        workers: Processes to simulate in; the result does not depend on it.

    Raises:
        InputError: if a name is unknown, a trace is unusable, or an objective cannot be measured in this scenario.
    """
    if scenario.is_training:
        return search_training(scenario, progress=progress, workers=workers)
    chosen = seed_of(scenario, seed)
    with scenario.errors_at("plan.prefill"):
        if scenario.spec.plan.prefill is not None:
            raise InputError(
                "a search looks at engines that compute prompts and decode",
                hint="leave plan.prefill out, or try such plans with plansim run and compare",
            )
    with scenario.errors_at("search.objectives"):
        objectives = objectives_of(scenario.spec, priced=True)
        if needs_goodput(objectives):
            require_slo(scenario.spec.slo, scenario.spec.workload.concurrency)
    with scenario.errors_at("search.algorithm"):
        ALGORITHMS.get(scenario.spec.search.algorithm)
    runner = PlanRunner(assemble(scenario, seed=chosen), seed=chosen)
    if runner.things.cluster.usd_per_device_hour is None:
        objectives = objectives_of(scenario.spec, priced=False)
    return _Search(scenario, runner, objectives, progress).run(workers)


@dataclass(frozen=True)
class _Space:
    """Plans by whether they can run."""

    generated: int
    feasible: list[ResolvedPlan]
    rejected: list[tuple[str, Sequence[Reason]]]

    def counts(self) -> dict[str, int]:
        """Plans that cannot run by their first reason, most frequent first."""
        counted = Counter(reasons[0].code for _, reasons in self.rejected)
        return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0])))


class _Search:
    def __init__(
        self, scenario: Scenario, runner: PlanRunner, objectives: Sequence[Objective], progress: Progress | None
    ) -> None:
        self.scenario = scenario
        self.spec = scenario.spec.search
        self.runner = runner
        self.objectives = objectives
        self.progress = progress or (lambda done, total, what: None)
        self.archive: ParetoArchive[Evaluation] = ParetoArchive([each.maximise for each in objectives])
        self.simulated: list[Evaluation] = []
        self.best_run: RunResult | None = None

    def run(self, workers: int) -> SearchResult:
        self.progress(0, 1, "checking plans")
        space = self.space()
        self.progress(0, 1, f"screening {len(space.feasible)} plans")
        estimates = self.estimates(space.feasible)
        groups = self.promoted(estimates)
        interrupted = self.simulate(space, estimates, groups, workers)
        return self.result(space, estimates, interrupted=interrupted)

    # ---- the three rungs ----

    def space(self) -> _Space:
        """All plans of the space, resolved."""
        things = self.runner.things
        resolver = Resolver(model=things.model, engine=things.engine, cluster=things.cluster)
        feasible: list[ResolvedPlan] = []
        rejected: list[tuple[str, Sequence[Reason]]] = []
        for plan in enumerate_plans(things.model, things.engine, things.cluster, self.spec.space):
            found = resolver.resolve(plan)
            reasons = found.reasons if isinstance(found, Infeasible) else self.runner.check(found)
            if isinstance(found, ResolvedPlan) and not reasons:
                feasible.append(found)
            else:
                rejected.append((found.label, reasons))
        return _Space(len(feasible) + len(rejected), feasible, rejected)

    def estimates(self, plans: Sequence[ResolvedPlan]) -> pd.DataFrame:
        """The analytic screen of the plans; empty if there are none."""
        if not plans:
            return pd.DataFrame()
        return screen(plans, self.runner.things, runner=self.runner, slo=self.scenario.spec.slo)

    def promoted(self, estimates: pd.DataFrame) -> list[list[int]]:
        """Plans worth simulating, in groups by promise.

        An objective without an estimate could be best anywhere, so plans that differ at all are told apart for it.
        """
        if estimates.empty:
            return []
        columns = [(proxy(each.path, estimates), each.maximise) for each in self.objectives]
        known = [(values, maximise) for values, maximise in columns if values is not None]
        if len(known) < len(columns):
            known += [(estimates[name].to_numpy(), maximise) for name, maximise in SPREAD]
        costs = oriented(np.column_stack([values for values, _ in known]), [maximise for _, maximise in known])
        algorithm = ALGORITHMS.get(self.spec.algorithm)()
        return algorithm.promote(costs, layers=self.spec.layers, most=self.spec.max_simulated)

    def simulate(self, space: _Space, estimates: pd.DataFrame, groups: list[list[int]], workers: int) -> bool:
        """Simulates the promoted plans into the archive; True if Ctrl-C ended it early."""
        chosen = [(layer, index) for layer, group in enumerate(groups) for index in group]
        goodput = needs_goodput(self.objectives)
        guesses = estimates["sustained_requests_per_s"] if chosen else None
        tasks = [
            Task(space.feasible[i], goodput, None if guesses is None else float(guesses[i]) or None) for _, i in chosen
        ]
        self.progress(0, len(tasks), f"simulating {len(tasks)} of {len(space.feasible)} plans")

        def report(done: int) -> None:
            self.progress(done, len(tasks), f"simulating {len(tasks)} of {len(space.feasible)} plans")

        try:
            for (layer, index), outcome in zip(
                chosen, run_tasks(tasks, self.runner, workers=workers, report=report), strict=True
            ):
                if isinstance(outcome, RunResult):
                    self.keep(outcome, layer)
                else:
                    space.rejected.append((space.feasible[index].label, outcome))
        except KeyboardInterrupt:
            return True
        return False

    def keep(self, run: RunResult, layer: int) -> None:
        """Offers a simulated plan to the archive; its tables are kept only while it is the one to recommend."""
        evaluation = Evaluation.of(run, layer=layer)
        self.simulated.append(evaluation)
        values = [get_metric(evaluation.metrics, each.path) for each in self.objectives]
        self.archive.add(evaluation, [float("nan") if value is None else float(value) for value in values])
        best, _ = recommend(self.archive.items, self.scenario.spec.slo)
        if best is evaluation:
            self.best_run = run

    # ---- the answer ----

    def result(self, space: _Space, estimates: pd.DataFrame, *, interrupted: bool) -> SearchResult:
        front = self.archive.items
        best, why = recommend(front, self.scenario.spec.slo)
        screened = _analytic_frame(space.feasible, estimates)
        simulated = evaluations_frame(self.simulated, front=front)
        return SearchResult(
            front=front,
            recommended=best,
            why=why,
            space={
                "generated": space.generated,
                "infeasible": space.counts(),
                "screened": len(estimates),
                "simulated": len(self.simulated),
            },
            rejected=rejected_frame(_reason_rows(space.rejected)),
            evaluations=pd.concat([frame for frame in (simulated, screened) if len(frame)] or [simulated]).reset_index(
                drop=True
            ),
            objectives=self.objectives,
            provenance=self._provenance(),
            scenario=self.scenario.resolved(),
            recommended_run=self._run_of(best, space),
            interrupted=interrupted,
        )

    def _provenance(self) -> dict[str, Any]:
        """Provenance of the search, with the cost sources and assumptions of the recommended plan's run."""
        whole = provenance(self.runner.things, None, seed=self.runner.seed)
        run = {} if self.best_run is None else self.best_run.provenance
        return {**whole, **{key: run[key] for key in ("costs", "cost_sources", "assumptions") if key in run}}

    def _run_of(self, best: Evaluation | None, space: _Space) -> RunResult | None:
        """The run of the recommended plan; simulated again in the rare case that a later plan cleared its way."""
        if best is None or (self.best_run is not None and self.best_run.label == best.label):
            return self.best_run if best is not None else None
        plan = next(plan for plan in space.feasible if plan.label == best.label)
        rate = best.metrics.get(GOODPUT)
        guess_per_s = None if rate is None else rate * plan.n_gpus
        return self.runner.evaluate(plan, goodput=needs_goodput(self.objectives), guess_per_s=guess_per_s or None)


def _reason_rows(rejected: Sequence[tuple[str, Sequence[Reason]]]) -> Iterator[tuple[str, str, str]]:
    for label, reasons in rejected:
        for reason in reasons:
            yield label, reason.code, reason.message


def _analytic_frame(plans: Sequence[ResolvedPlan], estimates: pd.DataFrame) -> pd.DataFrame:
    """One row per screened plan, in the columns of `evaluations_frame`; latencies are estimates of the mean."""
    if not plans:
        return pd.DataFrame()
    head = {
        "label": [plan.label for plan in plans],
        "stage": "analytic",
        "layer": pd.array([pd.NA] * len(plans), dtype="Int64"),
        "on_front": False,
        "launch": "",
    }
    fields = pd.DataFrame([plan.to_dict() for plan in plans]).add_prefix("plan.")
    latencies = {name: f"{name}.mean" for name in ("ttft_s", "tpot_s", "itl_s", "e2e_s")}
    return pd.concat([pd.DataFrame(head), fields, estimates.rename(columns=latencies)], axis=1)
