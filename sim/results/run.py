"""The result of one simulated run: metrics, where the time went, tables, and where all of it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sim.core import PlansimError
from sim.results.compute import REQUEST_COLUMNS, GapRuns, RunFacts, compute_metrics
from sim.results.files import SCHEMA_VERSION, json_ready, save_folder
from sim.results.metrics import METRICS
from sim.results.slo import SloSpec
from sim.results.text import (
    LATENCY_HEAD,
    breakdown_rows,
    headline_rows,
    html_table,
    latency_rows,
    plain_table,
    requests_sentence,
)

_LATENCY_HEAD = ("latency", *LATENCY_HEAD)
_BREAKDOWN_HEAD = ("time goes to", "seconds", "share")


@dataclass(repr=False)
class RunResult:
    """One plan on one traffic.

    Attributes:
        metrics: Every metric by the names of `METRICS`; latencies are dicts of mean and percentiles.
        intervals: The same keys; `[low, high]` of the 90 % interval, None where it is not known.
        breakdown: `explains_s`, exposed seconds by cause in `parts` that sum to it, and overlapped ones in `hidden`.
        infeasible: Reasons why the plan cannot run; empty for a result.
        provenance: Versions, seed, hashes of inputs, sources and assumptions.
        requests: One row per request, columns `REQUEST_COLUMNS`.
        iterations: One row per leap of iterations.
        plan: Every field of the plan.
        memory: Bytes of the fullest GPU by class.
        prefill_memory: The same of the engines that only compute prompts; empty without such.
        launch: Command line that starts the plan on the real engine.
        scenario: The resolved scenario.
        label: Short text for the plan, such as `2x tp4`.
    """

    metrics: dict[str, Any]
    intervals: dict[str, Any]
    breakdown: dict[str, Any]
    provenance: dict[str, Any]
    requests: pd.DataFrame
    iterations: pd.DataFrame
    plan: dict[str, Any]
    memory: dict[str, float] = field(default_factory=dict)
    prefill_memory: dict[str, float] = field(default_factory=dict)
    launch: str = ""
    scenario: dict[str, Any] = field(default_factory=dict)
    label: str = ""
    infeasible: list[dict[str, Any]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Name of the scenario."""
        return str(self.scenario.get("name", "run"))

    def body(self) -> dict[str, Any]:
        """The result as plain data, without the version and command of a document."""
        body = {
            "label": self.label,
            "metrics": self.metrics,
            "intervals": self.intervals,
            "breakdown": self.breakdown,
            "infeasible": self.infeasible,
            "provenance": self.provenance,
            "plan": self.plan,
            "memory": self.memory,
            **({"prefill_memory": self.prefill_memory} if self.prefill_memory else {}),
            "launch": self.launch,
            "scenario": self.scenario,
        }
        return {key: json_ready(value) for key, value in body.items()}

    def to_json(self) -> dict[str, Any]:
        """The document that `plansim run --json` prints: plain data, finite numbers, SI units."""
        return {"schema_version": SCHEMA_VERSION, "command": "run", **self.body()}

    def tables(self) -> dict[str, pd.DataFrame]:
        """Its tables by file name."""
        return {"requests": self.requests, "iterations": self.iterations}

    def save(self, folder: Path | str) -> Path:
        """Writes `result.json`, `scenario.yaml`, `requests.parquet`, `iterations.parquet` and `manifest.json`.

        Raises:
            InputError: if the folder cannot be written.
        """
        return save_folder(folder, command="run", document=self.to_json(), scenario=self.scenario, tables=self.tables())

    def _title(self) -> str:
        return f"{self.name}: {self.label}" if self.label else self.name

    def __repr__(self) -> str:
        parts = [
            f"RunResult {self._title()}  ({requests_sentence(self.metrics)})",
            plain_table(latency_rows(self.metrics, self.intervals), head=_LATENCY_HEAD),
            plain_table(headline_rows(self.metrics)),
            plain_table(breakdown_rows(self.breakdown, most=7), head=_BREAKDOWN_HEAD),
        ]
        return "\n\n".join(part for part in parts if part)

    def _repr_html_(self) -> str:
        tables = [
            html_table(latency_rows(self.metrics, self.intervals), head=_LATENCY_HEAD),
            html_table(headline_rows(self.metrics)),
            html_table(breakdown_rows(self.breakdown, most=9), head=_BREAKDOWN_HEAD),
        ]
        side = '<div style="display:flex;flex-wrap:wrap;gap:1.5em;align-items:flex-start">'
        head = f"<strong>{escape(self._title())}</strong> ({escape(requests_sentence(self.metrics))})"
        return f"<div>{head}{side}{''.join(tables)}</div></div>"


def no_intervals(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Intervals of the shape of `metrics`, all unknown."""
    return {name: dict.fromkeys(value) if isinstance(value, Mapping) else None for name, value in metrics.items()}


def build_result(
    *,
    requests: pd.DataFrame,
    gaps: GapRuns,
    facts: RunFacts,
    slo: SloSpec | None,
    iterations: pd.DataFrame,
    plan: Mapping[str, Any],
    memory: Mapping[str, float],
    launch: str,
    scenario: Mapping[str, Any],
    provenance: Mapping[str, Any],
    prefill_memory: Mapping[str, float] | None = None,
    extra: Mapping[str, float | None] | None = None,
    label: str = "",
) -> RunResult:
    """The result of a run from what happened in it.

    Args:
        requests: One row per request that arrived, without `slo_ok`.
        gaps: Gaps between their tokens.
        facts: What the run was and did beside its requests.
        slo: Limits; None if there are none.
        iterations: One row per leap; `attrs["units"]` may name the units of its columns.
        plan: Every field of the plan.
        memory: Bytes of the fullest GPU by class, `free_bytes` among them; they sum to its memory.
        launch: Command line of the plan.
        scenario: The resolved scenario.
        provenance: Where everything comes from.
        prefill_memory: `memory` of the engines that only compute prompts, if there are such.
        extra: More metrics, by names of `METRICS`.
        label: Short text for the plan.

    Raises:
        PlansimError: if requests, tokens or seconds were lost or invented, or an extra metric is not defined.
    """
    if unknown := [name for name in extra or {} if name not in METRICS]:
        raise PlansimError(f"metrics without a definition: {', '.join(unknown)}")
    metrics = compute_metrics(requests, gaps, facts, slo)
    pools = [sizes for sizes in (memory, prefill_memory) if sizes]
    used = [sum(size for name, size in sizes.items() if name != "free_bytes") for sizes in pools]
    metrics |= {"peak_memory_bytes": max(used, default=None), **(extra or {})}
    ordered = {name: metrics[name] for name in METRICS if name in metrics}
    judged = requests.assign(slo_ok=_verdicts(requests, slo))[list(REQUEST_COLUMNS)]
    judged.attrs["units"] = dict(REQUEST_COLUMNS)
    return RunResult(
        metrics=ordered,
        intervals=no_intervals(ordered),
        breakdown={"explains_s": facts.replica_s, "parts": dict(facts.busy), "hidden": dict(facts.hidden)},
        provenance=dict(provenance),
        requests=judged,
        iterations=iterations,
        plan=dict(plan),
        memory=dict(memory),
        prefill_memory=dict(prefill_memory or {}),
        launch=launch,
        scenario=dict(scenario),
        label=label,
    )


def _verdicts(requests: pd.DataFrame, slo: SloSpec | None) -> pd.Series:
    verdicts = np.full(len(requests), pd.NA, dtype=object) if slo is None else slo.satisfied(requests)
    return pd.Series(verdicts, index=requests.index, dtype="boolean")
