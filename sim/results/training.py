"""The result of one simulated training step: metrics, where its time and memory go, and where all of it comes from."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any, Final

import pandas as pd

from sim.core import PlansimError
from sim.results.files import SCHEMA_VERSION, json_ready, save_folder
from sim.results.metrics import METRICS, get_metric, metric_title
from sim.results.text import breakdown_rows, html_table, plain_table, show, show_metric

TRAINING_HEADLINES: Final = (
    "step_time_s",
    "tokens_per_s_per_gpu",
    "model_tflops_per_gpu",
    "mfu_frac",
    "hfu_frac",
    "bubble_frac",
    "exposed_comm_frac",
    "peak_memory_bytes",
    "peak_reserved_bytes",
    "memory_headroom_bytes",
    "goodput_frac",
    "energy_j_per_token",
    "cost_usd_per_million_tokens",
    "training_time_s",
    "training_cost_usd",
    "training_energy_j",
    "n_gpus",
)
"""Numbers that a summary shows, in this order."""
_HEAD = ("time goes to", "seconds", "share")
_SUM_TOLERANCE = 1e-9


@dataclass(repr=False)
class TrainingResult:
    """One training plan.

    Attributes:
        metrics: Every metric by the names of `METRICS`.
        intervals: The same keys; `[low, high]` of the 90 % interval, None where it is not known.
        breakdown: `explains_s` (the step), exposed seconds by cause in `parts` that sum to it, overlapped ones in
            `hidden`.
        provenance: Versions, hashes of inputs, sources and assumptions.
        plan: Every field of the plan.
        memory: Bytes of the fullest GPU by class.
        stages: One row per virtual stage: layers, seconds of each pass of a micro-batch.
        stage_memory: One row per pipeline stage: bytes by class at its peak.
        passes: One row per pass of the step, as `PipelineTimes.frame()` gives; empty where there are too many.
        memory_over_time: What each pipeline stage holds from each change on; empty likewise.
        launch: Command that starts the plan.
        scenario: The resolved scenario.
        label: Short text for the plan.
    """

    metrics: dict[str, Any]
    intervals: dict[str, Any]
    breakdown: dict[str, Any]
    provenance: dict[str, Any]
    plan: dict[str, Any]
    memory: dict[str, float]
    stages: pd.DataFrame
    stage_memory: pd.DataFrame = field(default_factory=pd.DataFrame)
    passes: pd.DataFrame = field(default_factory=pd.DataFrame)
    memory_over_time: pd.DataFrame = field(default_factory=pd.DataFrame)
    launch: str = ""
    scenario: dict[str, Any] = field(default_factory=dict)
    label: str = ""

    def __post_init__(self) -> None:
        total = math.fsum(self.breakdown["parts"].values())
        if abs(total - self.breakdown["explains_s"]) > _SUM_TOLERANCE * max(total, 1e-9):
            raise PlansimError(f"the breakdown sums to {total:.9g} s of a step of {self.breakdown['explains_s']:.9g} s")
        self.metrics = {name: self.metrics[name] for name in METRICS if name in self.metrics}

    @property
    def name(self) -> str:
        """Name of the scenario."""
        return str(self.scenario.get("name", "training"))

    def body(self) -> dict[str, Any]:
        """The result as plain data, without the version and command of a document."""
        body = {
            "label": self.label,
            "metrics": self.metrics,
            "intervals": self.intervals,
            "breakdown": self.breakdown,
            "infeasible": [],
            "provenance": self.provenance,
            "plan": self.plan,
            "memory": self.memory,
            "stages": self.stages.to_dict(orient="records"),
            "stage_memory": self.stage_memory.to_dict(orient="records"),
            "launch": self.launch,
            "scenario": self.scenario,
        }
        return {key: json_ready(value) for key, value in body.items()}

    def to_json(self) -> dict[str, Any]:
        """The document that `plansim run --json` prints: plain data, finite numbers, SI units."""
        return {"schema_version": SCHEMA_VERSION, "command": "run", **self.body()}

    def save(self, folder: Path | str) -> Path:
        """Writes `result.json`, `scenario.yaml`, a Parquet file per table and `manifest.json`.

        Raises:
            InputError: if the folder cannot be written.
        """
        document = self.to_json()
        return save_folder(folder, command="run", document=document, scenario=self.scenario, tables=self.tables())

    def tables(self) -> dict[str, pd.DataFrame]:
        """Its tables by name, those that are not empty."""
        own = {
            "stages": self.stages,
            "stage_memory": self.stage_memory,
            "passes": self.passes,
            "memory_over_time": self.memory_over_time,
        }
        return {name: table for name, table in own.items() if len(table)}

    @property
    def title(self) -> str:
        """Scenario and plan."""
        return f"{self.name}: {self.label}" if self.label else self.name

    def headline_rows(self) -> list[list[str]]:
        """Title and value of the numbers of a summary that are defined."""
        shown = [path for path in TRAINING_HEADLINES if get_metric(self.metrics, path) is not None]
        return [[metric_title(path), show_metric(self.metrics, path)] for path in shown]

    def memory_rows(self) -> list[list[str]]:
        """Class and size of the memory of the fullest GPU."""
        return [[_class(name), show(size, "bytes")] for name, size in self.memory.items() if size]

    def __repr__(self) -> str:
        parts = [
            f"TrainingResult {self.title}",
            plain_table(self.headline_rows()),
            plain_table(breakdown_rows(self.breakdown, most=9), head=_HEAD),
            plain_table(self.memory_rows()),
        ]
        return "\n\n".join(parts)

    def _repr_html_(self) -> str:
        tables = [
            html_table(self.headline_rows()),
            html_table(breakdown_rows(self.breakdown, most=9), head=_HEAD),
            html_table(self.memory_rows(), head=("memory of a GPU", "")),
        ]
        side = '<div style="display:flex;flex-wrap:wrap;gap:1.5em;align-items:flex-start">'
        return f"<div><strong>{escape(self.title)}</strong>{side}{''.join(tables)}</div></div>"


def _class(name: str) -> str:
    return name.removesuffix("_bytes").replace("_", " ")
