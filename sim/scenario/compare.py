"""What-if: named variants of one scenario on paired traffic, with the interval of each difference.

Base and variant see the same random streams (common random numbers), so the noise of the traffic cancels in their
difference. With generated traffic the pair is repeated with several seeds and the difference gets a 90 % Student t
interval over the pairs; a recorded trace has one realisation and no such interval, and a training step draws nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from sim.core import InfeasibleError, InputError, map_in_processes
from sim.results import CompareResult, Difference, RunResult, TrainingResult, Variant, metric_paths
from sim.scenario.load import Scenario
from sim.scenario.run import run, seed_of
from sim.scenario.training import run_training

_LEVEL = 0.90
Progress = Callable[[int, int, str], None]


def compare(
    scenario: Scenario, *, seed: int | None = None, progress: Progress | None = None, workers: int = 1
) -> CompareResult:
    """Runs the scenario and each of its variants, and the difference of every metric.

    Args:
        scenario: A scenario with `variants`.
        seed: First seed; None takes the scenario's.
        progress: Called with (done, total, what).
        workers: Processes to use; the result does not depend on it.

    Raises:
        InputError: if there are no variants, or a variant sets something unknown.
        InfeasibleError: if a plan cannot run.
    """
    spec = scenario.root
    if not spec.variants:
        raise InputError(
            "nothing to compare: the scenario has no variants",
            file=scenario.document.path,
            path="variants",
            hint="for example variants: [{name: h200, set: {cluster.node: dgx-h200}}]",
        )
    first = 0 if scenario.is_training else seed_of(scenario, seed)
    repeats = _repeats(scenario)
    cases = [scenario, *(scenario.variant(index) for index in range(len(spec.variants)))]
    names = ["base", *(variant.name for variant in spec.variants)]
    jobs = [_Job(name, case, first + i) for name, case in zip(names, cases, strict=True) for i in range(repeats)]
    results: list[RunResult | TrainingResult] = []
    for done, result in enumerate(_map(jobs, workers), start=1):
        results.append(result)
        if progress is not None:
            progress(done, len(jobs), names[(done - 1) // repeats])
    by_case = [results[i * repeats : (i + 1) * repeats] for i in range(len(cases))]
    base = by_case[0]
    variants = [
        Variant(name, runs[0], _differences(base, runs)) for name, runs in zip(names[1:], by_case[1:], strict=True)
    ]
    return CompareResult(base=base[0], variants=variants)


def _repeats(scenario: Scenario) -> int:
    """How many pairs: seeds of generated traffic, or one."""
    if scenario.is_training or scenario.spec.workload.trace is not None:
        return 1
    return scenario.spec.replications


class _Job(NamedTuple):
    name: str
    scenario: Scenario
    seed: int


def _map(jobs: Sequence[_Job], workers: int) -> Iterator[RunResult | TrainingResult]:
    return map(_one, jobs) if workers <= 1 or len(jobs) < 2 else map_in_processes(_one, jobs, workers=workers)


def _one(job: _Job) -> RunResult | TrainingResult:
    try:
        return run_training(job.scenario) if job.scenario.is_training else run(job.scenario, seed=job.seed)
    except InfeasibleError as error:
        place = job.name if job.name == "base" else f"variant {job.name!r}"
        raise InfeasibleError(f"{place}: {error.message}", error.reasons) from None


def _differences(
    base: Sequence[RunResult | TrainingResult], variant: Sequence[RunResult | TrainingResult]
) -> dict[str, Difference]:
    """Variant minus base of every metric that both have, mean over pairs, with its interval."""
    pairs = [(metric_paths(a.metrics), metric_paths(b.metrics)) for a, b in zip(base, variant, strict=True)]
    differences = {}
    for path in pairs[0][0]:
        values = [(a[path], b.get(path)) for a, b in pairs]
        if any(x is None or y is None for x, y in values):
            continue
        left = np.array([x for x, _ in values], dtype=np.float64)
        right = np.array([y for _, y in values], dtype=np.float64)
        delta = right - left
        mean = float(delta.mean())
        reference = float(left.mean())
        interval = None
        if len(delta) > 1:
            from scipy import stats

            half = float(stats.t.ppf(0.5 + _LEVEL / 2, len(delta) - 1) * delta.std(ddof=1) / np.sqrt(len(delta)))
            interval = (mean - half, mean + half)
        differences[path] = Difference(mean, mean / reference if reference else None, interval)
    return differences
