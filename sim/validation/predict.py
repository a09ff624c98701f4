"""One measured row through the simulator: the metrics that were measured, predicted, or why they cannot be.

Means and percentiles are taken straight from the log of requests; the tables of a full result are built only where a
row asks for a metric that needs them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from sim.core import Array, InfeasibleError, InputError, summarise
from sim.costs import Use
from sim.hardware import Device
from sim.plans import EngineSpec, Infeasible, ResolvedPlan, resolve
from sim.results import STEP, Band, get_metric
from sim.scenario import (
    IN_CODE,
    Assembled,
    PlanRunner,
    Setting,
    assemble,
    assemble_training,
    bands_for,
    load,
    setting_of,
    step_band,
    training_step,
    unpacked_weights,
)
from sim.serving import CompiledCost, ServingRun
from sim.training import job_metrics
from sim.validation.rows import THROUGHPUT, MeasuredRow

Compiled = dict[tuple[Any, ...], CompiledCost]


@dataclass(frozen=True)
class Prediction:
    """What the simulator says about a row.

    Attributes:
        values: Predicted value [SI] by metric path; None where it is undefined.
        bands: How far off predictions for the engine were, by metric.
        setting: What decides how wide they are; None where nothing was predicted.
        reason: Why nothing could be predicted; empty where it could.
        e2e_errors: |predicted / measured - 1| of the E2E latency of each request whose times are known.
        fits: Whether a training plan is judged to fit the memory of its devices.
        costs: Source of each kernel's times, by kernel and number format.
        notes: What a reader must know of how the plan runs, such as weights whose format the device does not multiply.
        operators: How many operators asked measured tables for their times, by the source that answered; empty where
            all costs are analytic.
    """

    values: Mapping[str, float | None] = field(default_factory=dict)
    bands: Mapping[str, Band] = field(default_factory=dict)
    setting: Setting | None = None
    reason: str = ""
    e2e_errors: Array | None = field(default=None, repr=False)
    fits: bool = True
    costs: Mapping[str, str] = field(default_factory=dict)
    operators: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def predict(
    row: MeasuredRow,
    *,
    seed: int = 0,
    compiled: dict[str, Compiled] | None = None,
    engine: EngineSpec | None = None,
    device: Device | None = None,
    overrides: Sequence[str] = (),
) -> Prediction:
    """Predicts the measured metrics of a row.

    Args:
        row: What was measured.
        seed: Seed of all random streams.
        compiled: Compiled costs by model, cluster and engine, shared between rows.
        engine: Takes the place of the row's engine profile; may differ from it in times of host and front end.
        device: Takes the place of the row's device; rows that share `compiled` must share it too.
        overrides: Changes of the row's scenario, `a.b=value`; rows that share `compiled` must share them too.

    Raises:
        InputError: if an override is wrong, or a profile or cost source cannot be read.
    """
    if row.scenario is None:
        return Prediction(reason=row.reason)
    try:
        if not row.is_serving:
            return _predict_training(row, overrides)
        return _predict(row, seed, {} if compiled is None else compiled, (engine, device), overrides)
    except InfeasibleError as error:
        return Prediction(reason=_joined([reason.message for reason in error.reasons]) or error.message)
    except InputError as error:
        if error.file is not None and error.file != IN_CODE:
            raise  # a broken profile is no property of the row
        return Prediction(reason=error.message)


def cost_group(row: MeasuredRow) -> str:
    """Equal for rows that may share compiled costs: same model, cluster, engine and sources of costs."""
    scenario = row.scenario or {}
    workload = scenario.get("workload", {})
    shared = [scenario.get(key) for key in ("model", "cluster", "engine", "costs")]
    shared += [workload.get(key) for key in ("truncated_sampling", "expert_popularity")]
    return "|".join(map(str, shared))


def _predict(
    row: MeasuredRow,
    seed: int,
    compiled: dict[str, Compiled],
    others: tuple[EngineSpec | None, Device | None],
    overrides: Sequence[str],
) -> Prediction:
    assert row.scenario is not None
    scenario = load(row.scenario, overrides=overrides)
    things = assemble(scenario, seed=seed)
    engine, device = others
    if engine is not None:
        things = replace(things, engine=engine)
    if device is not None:
        things = replace(things, cluster=things.cluster.with_device(device))
    plan = resolve(scenario.spec.plan, model=things.model, engine=things.engine, cluster=things.cluster)
    if isinstance(plan, Infeasible):
        return Prediction(reason=_joined([reason.message for reason in plan.reasons]))
    shared = compiled.setdefault(cost_group(row), {})
    played = [replace(things, requests=table) for table in row.requests] or [things]
    runners = [PlanRunner(one, seed=seed, compiled=shared) for one in played]
    if reasons := [reason.message for runner in runners for reason in runner.check(plan)]:
        return Prediction(reason=_joined(reasons[:1]))
    samples = _Samples([runner.simulate(plan) for runner in runners], plan, things)
    values: dict[str, float | None] = dict.fromkeys(row.measured)
    values |= {path: _value(path, row, samples) for path in values}
    if len(runners) == 1 and any(value is None for value in values.values()):
        metrics = runners[0].evaluate(plan).metrics
        values |= {path: get_metric(metrics, path) for path, value in values.items() if value is None}
    setting = setting_of(runners[0].things)
    uses = runners[0].compiled(plan).uses
    return Prediction(
        values,
        bands_for(things.engine, setting),
        setting,
        e2e_errors=_e2e_errors(row, samples),
        costs={label: use.source for label, use in uses.items()},
        operators=_asked(uses.values()),
        notes=unpacked_weights(things, plan),
    )


def _asked(uses: Iterable[Use]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for use in uses:
        counts[use.source] += use.operators
    return {source: count for source, count in counts.items() if count}


def _predict_training(row: MeasuredRow, overrides: Sequence[str]) -> Prediction:
    """A training step; whether its memory fits is judged apart, since the run is known to have fitted."""
    assert row.scenario is not None
    step = training_step(assemble_training(load(row.scenario, overrides=overrides)))
    if isinstance(step, tuple):
        return Prediction(reason=_joined([reason.message for reason in step]))
    metrics = job_metrics(step)
    values = {path: get_metric(metrics, path) for path in row.measured}
    return Prediction(values, {STEP: step_band(step)}, fits=not step.memory_reasons())


def _joined(reasons: Sequence[str]) -> str:
    return "; ".join(dict.fromkeys(reasons))


def _value(path: str, row: MeasuredRow, samples: _Samples) -> float | None:
    if path == THROUGHPUT and row.closed is not None:
        ttft_s, tpot_s = samples.value("ttft_s"), samples.value("tpot_s")
        one = row.closed.output_tokens <= 1
        if ttft_s is None or (tpot_s is None and not one):
            return None
        return row.closed.throughput(ttft_s, tpot_s or 0.0)
    return samples.value(path)


def _e2e_errors(row: MeasuredRow, samples: _Samples) -> Array | None:
    if not row.e2e_s:
        return None
    measured = np.concatenate(row.e2e_s)
    known = np.isfinite(samples.e2e_s) & (measured > 0)
    return np.asarray(np.abs(samples.e2e_s[known] / measured[known] - 1.0))


class _Samples:
    """Per-request times of one or several simulated replicas, pooled."""

    def __init__(self, runs: Sequence[ServingRun], plan: ResolvedPlan, things: Assembled) -> None:
        self._runs = runs
        self._n_gpus = plan.n_gpus * len(runs)

    def _pooled(self, name: str) -> Array:
        return np.concatenate([np.asarray(getattr(run.log, name), dtype=np.float64) for run in self._runs])

    @cached_property
    def _sent_s(self) -> Array:
        return self._pooled("arrival_s")

    @cached_property
    def _first_s(self) -> Array:
        return self._pooled("first_s")

    @cached_property
    def _finish_s(self) -> Array:
        return self._pooled("finish_s")

    @cached_property
    def _emitted(self) -> Array:
        return self._pooled("emitted")

    @cached_property
    def e2e_s(self) -> Array:
        """End-to-end latency of every request [s]; NaN where it did not finish."""
        return self._finish_s - self._sent_s

    def _tpot_s(self) -> Array:
        after = np.where(self._emitted > 1, self._emitted - 1, np.nan)
        return np.asarray((self._finish_s - self._first_s) / after)

    def _gaps(self) -> tuple[Array, Array]:
        gaps = [record.gap_runs(record.to_frame()) for run in self._runs for record in run.records]
        return np.concatenate([gap for gap, _ in gaps]), np.concatenate([count for _, count in gaps])

    def value(self, path: str) -> float | None:
        """The number at a metric path; None if it is undefined, or not taken from the log of requests."""
        head, _, part = path.partition(".")
        if head == "itl_s":
            return get_metric({"itl_s": summarise(*self._gaps())}, path) if part else self._mean_gap()
        latencies: dict[str, Callable[[], Array]] = {
            "ttft_s": lambda: self._first_s - self._sent_s,
            "engine_ttft_s": lambda: self._first_s - self._pooled("received_s"),
            "tpot_s": self._tpot_s,
            "e2e_s": lambda: self.e2e_s,
            "queueing_s": lambda: self._pooled("scheduled_s") - self._sent_s,
        }
        if head in latencies:
            values = latencies[head]()
            values = values[np.isfinite(values)]
            if not values.size:
                return None
            return get_metric({head: summarise(values)}, path) if part else float(values.mean())
        return self._rate(path)

    def _mean_gap(self) -> float | None:
        """Mean gap between tokens [s]: a request's gaps add up to the time from its first to its last token."""
        done = np.isfinite(self._finish_s)
        gaps = float((self._emitted[done] - 1).sum())
        return float((self._finish_s - self._first_s)[done].sum()) / gaps if gaps else None

    def _rate(self, path: str) -> float | None:
        seconds = max(run.duration_s for run in self._runs)
        tokens = float(self._emitted.sum())
        rates = {
            "requests_per_s": float(np.isfinite(self._finish_s).sum()) / seconds,
            "output_tokens_per_s": tokens / seconds,
            THROUGHPUT: tokens / seconds / self._n_gpus,
            "duration_s": seconds,
        }
        return rates.get(path)
