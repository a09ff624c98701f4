"""Results in words: why each plan that was not recommended lost, and what a variant changes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sim.explore import COST_TIE_FRAC, STEP_TIE_FRAC
from sim.results import (
    CompareResult,
    Objective,
    SearchResult,
    Variant,
    metric_paths,
    metric_title,
    show,
    show_change,
    slo_of,
)

_COST = "cost_usd_per_million_output_tokens"
_EQUAL = 1e-9
_RULE = (
    (_COST, "costs more", COST_TIE_FRAC),
    ("n_gpus", "needs more GPUs", _EQUAL),
    ("ttft_s.mean", "has a longer mean TTFT", _EQUAL),
)
_TRAINING_RULE = (
    ("step_time_s", "has a longer step", STEP_TIE_FRAC),
    ("peak_memory_bytes", "leaves less memory", _EQUAL),
)
_TELLING = ("ttft_s.p99", "tpot_s.p99", "output_tokens_per_s_per_gpu", _COST, "energy_j_per_output_token")
_TELLING_STEPS = ("step_time_s", "peak_memory_bytes", "energy_j_per_token", "cost_usd_per_million_tokens")
_SMALLEST_CHANGE = 0.005


@dataclass(frozen=True)
class Loss:
    """A simulated plan that was not recommended.

    Attributes:
        label: The plan.
        on_front: Whether no plan beats it in all objectives.
        why: One sentence.
        numbers: Its metrics by path.
    """

    label: str
    on_front: bool
    why: str
    numbers: Mapping[str, Any]


def why_lost(result: SearchResult) -> list[Loss]:
    """Every simulated plan but the recommended one, those on the front first, each group by the first objective."""
    if result.recommended is None:
        return []
    best = metric_paths(result.recommended.metrics)
    slo = slo_of(result.scenario)
    target = slo.attainment if slo is not None else None
    front = [(each.label, metric_paths(each.metrics)) for each in result.sorted_front()]
    losses = []
    for row in result.simulated_rows():
        if row["label"] == result.recommended.label and row["on_front"]:
            continue
        missed = _missed(row, target)
        if row["on_front"]:
            why = missed or _by_the_rule(row, best)
            gains = _changes(row, best, result.objectives, better=True)
            why += f"; better in {gains}" if gains else ""
        else:
            beaten = _beaten(row, front, result.objectives)
            why = f"{missed}; {beaten}" if missed else beaten
        losses.append(Loss(str(row["label"]), bool(row["on_front"]), why, row))
    first = result.objectives[0] if result.objectives else None
    return sorted(losses, key=lambda loss: (not loss.on_front, _oriented(loss.numbers, first), loss.label))


def _number(row: Mapping[str, Any], path: str) -> float | None:
    value = row.get(path)
    return None if value is None or not math.isfinite(value) else float(value)


def _oriented(row: Mapping[str, Any], objective: Objective | None) -> float:
    """The objective's value, smaller is better; infinity where it is undefined."""
    value = _number(row, objective.path) if objective is not None else None
    return math.inf if objective is None or value is None else -value if objective.maximise else value


def _missed(row: Mapping[str, Any], target: float | None) -> str:
    attained = _number(row, "slo_attainment_frac")
    if target is None or (attained is not None and attained >= target):
        return ""
    return f"keeps the SLO for {show(attained, '1')} of the requests, {show(target, '1')} are wanted"


def _by_the_rule(row: Mapping[str, Any], best: Mapping[str, Any]) -> str:
    """The first criterion of the recommendation in which the plan is behind."""
    for path, words, tie in _TRAINING_RULE if "step_time_s" in best else _RULE:
        mine, theirs = _number(row, path), _number(best, path)
        if mine is None or theirs is None:
            continue
        if mine > theirs * (1 + tie):
            return f"{words} ({show_change(mine / theirs - 1)})" if theirs else words
        if mine < theirs * (1 - tie):
            break
    return "comes later by the rule of the recommendation"


def _changes(row: Mapping[str, Any], other: Mapping[str, Any], objectives: Sequence[Objective], *, better: bool) -> str:
    """Objectives in which `row` is better (or worse) than `other`, with the relative change."""
    found = []
    for objective in objectives:
        mine, theirs = _number(row, objective.path), _number(other, objective.path)
        if mine is None or not theirs:
            continue
        ahead = (mine > theirs) == objective.maximise
        if abs(mine / theirs - 1) >= 5e-4 and ahead == better:
            found.append(f"{metric_title(objective.path)} {show_change(mine / theirs - 1)}")
    return ", ".join(found)


def _beaten(
    row: Mapping[str, Any], front: Sequence[tuple[str, Mapping[str, Any]]], objectives: Sequence[Objective]
) -> str:
    """Which plan of the front is at least as good in everything, and by how much."""
    for label, numbers in front:
        if all(_oriented(numbers, each) <= _oriented(row, each) for each in objectives):
            worse = _changes(row, numbers, objectives, better=False)
            return f"beaten by {label}: {worse}" if worse else f"just as good as {label}, never better"
    return "not on the front"


def what_changed(result: CompareResult) -> list[str]:
    """One sentence each: sure changes in latency, throughput, cost and energy, and whether it attains the SLO.

    Of training steps: changes in time, memory, energy and cost.
    """
    if result.is_training:
        nothing = "no change in time, memory, energy or cost"
        return [f"{each.name}: {_changes_of(each, _TELLING_STEPS) or nothing}." for each in result.variants]
    return [f"{variant.name}: {_changed(variant)}." for variant in result.variants]


def _changes_of(variant: Variant, paths: Sequence[str]) -> str:
    """Sure changes, the smallest left out; empty if there are none."""
    found = []
    for path in paths:
        change = variant.difference.get(path)
        if change is None or change.relative is None or change.sure is False:
            continue
        if abs(change.relative) >= _SMALLEST_CHANGE:
            found.append(f"{metric_title(path)} {show_change(change.relative)}")
    return ", ".join(found)


def _changed(variant: Variant) -> str:
    text = _changes_of(variant, _TELLING) or "no sure change in latency, throughput, cost or energy"
    slo, attained = slo_of(variant.run.scenario), variant.run.metrics["slo_attainment_frac"]
    if slo is None or attained is None:
        return text
    verb = "attains" if attained >= slo.attainment else "misses"
    return f"{text}; {verb} the SLO ({show(attained, '1')} of the requests)"
