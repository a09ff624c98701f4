"""The result of a plan search: the front, the recommended plan and why, and everything that was looked at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any, Final

import pandas as pd

from sim.results.files import SCHEMA_VERSION, json_ready, save_folder, text_column
from sim.results.metrics import Objective, metric_paths
from sim.results.run import RunResult
from sim.results.text import column_head, html_table, plain_table, show_bare
from sim.results.training import TrainingResult

REJECTED_COLUMNS: Final = ("label", "code", "message")
"""Columns of the table of rejected plans: plan, reason, and the reason with its numbers; one row per reason."""
_SHOWN_PLANS = 12


@dataclass
class Evaluation:
    """One plan that was evaluated.

    Attributes:
        plan: Every field of the plan.
        label: Short text, such as `2x tp4`.
        metrics: Like those of a run; an analytic estimate has only some.
        intervals: The same keys.
        launch: Command line of the plan.
        stage: `analytic` or `simulated`.
        layer: Non-dominated layer of the analytic ranking, from 0; None if it was not ranked.
        infeasible: Reasons why it cannot serve the traffic.
    """

    plan: dict[str, Any]
    label: str
    metrics: dict[str, Any]
    intervals: dict[str, Any] = field(default_factory=dict)
    launch: str = ""
    stage: str = "simulated"
    layer: int | None = None
    infeasible: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, run: RunResult, *, layer: int | None = None) -> Evaluation:
        """The evaluation of a simulated run."""
        return cls(run.plan, run.label, run.metrics, run.intervals, run.launch, "simulated", layer, run.infeasible)

    def body(self) -> dict[str, Any]:
        """The evaluation as plain data."""
        names = ("label", "plan", "metrics", "intervals", "launch", "stage", "layer")
        return {name: json_ready(getattr(self, name)) for name in names}


def evaluations_frame(evaluations: Iterable[Evaluation], *, front: Iterable[Evaluation] = ()) -> pd.DataFrame:
    """One row each: `label`, `stage`, `layer`, `on_front`, `launch`, plan fields (`plan.tp`), metrics by path."""
    on_front = {id(evaluation) for evaluation in front}
    rows = [
        {
            "label": each.label,
            "stage": each.stage,
            "layer": each.layer,
            "on_front": id(each) in on_front,
            "launch": each.launch,
            **{f"plan.{name}": value for name, value in each.plan.items()},
            **metric_paths(each.metrics),
        }
        for each in evaluations
    ]
    columns = None if rows else ["label", "stage", "layer", "on_front", "launch"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.astype({"layer": "Int64", "on_front": bool})


def rejected_frame(rejected: Iterable[tuple[str, str, str]]) -> pd.DataFrame:
    """The table of rejected plans from `(label, code, message)`, one per reason."""
    rows = list(rejected)
    return pd.DataFrame({name: text_column([row[i] for row in rows]) for i, name in enumerate(REJECTED_COLUMNS)})


@dataclass(repr=False)
class SearchResult:
    """What a search found.

    Attributes:
        front: Plans that no evaluated plan beats in all objectives.
        recommended: One of them; None if no plan can run.
        why: The reason, in one sentence.
        space: How many plans were `generated`, `infeasible` (by first reason), `screened` and `simulated`.
        rejected: One row per plan and reason; columns `REJECTED_COLUMNS`.
        evaluations: One row per screened or simulated plan; see `evaluations_frame`.
        objectives: What was optimised.
        provenance: Versions, seed, hashes of inputs, sources and assumptions.
        scenario: The resolved scenario.
        recommended_run: The run of the recommended plan, with its tables.
        interrupted: Whether the search was stopped before its end.
    """

    front: list[Evaluation]
    recommended: Evaluation | None
    why: str
    space: dict[str, Any]
    rejected: pd.DataFrame
    evaluations: pd.DataFrame
    objectives: Sequence[Objective]
    provenance: dict[str, Any]
    scenario: dict[str, Any] = field(default_factory=dict)
    recommended_run: RunResult | TrainingResult | None = None
    interrupted: bool = False

    @property
    def name(self) -> str:
        """Name of the scenario."""
        return str(self.scenario.get("name", "search"))

    @property
    def simulated(self) -> pd.DataFrame:
        """The rows of `evaluations` that were simulated."""
        return self.evaluations[self.evaluations["stage"] == "simulated"].reset_index(drop=True)

    def simulated_rows(self) -> list[dict[str, Any]]:
        """One dict per simulated plan: label, stage, plan fields and metrics by path, in the order of `evaluations`."""
        return [{str(name): value for name, value in row.items()} for row in self.simulated.to_dict("records")]

    def to_json(self) -> dict[str, Any]:
        """The document that `plansim search --json` prints: plain data, finite numbers, SI units."""
        best = self.recommended
        return {
            "schema_version": SCHEMA_VERSION,
            "command": "search",
            "recommended": None if best is None else {**best.body(), "why": self.why},
            "why": self.why,
            "front": [evaluation.body() for evaluation in self.front],
            "objectives": [
                {"name": each.name, "path": each.path, "direction": each.direction} for each in self.objectives
            ],
            "space": json_ready(self.space),
            "infeasible": self._examples(),
            "interrupted": self.interrupted,
            "provenance": json_ready(self.provenance),
            "scenario": json_ready(self.scenario),
        }

    def _examples(self) -> list[dict[str, Any]]:
        """The first rejected plan of each reason, with the reason in numbers."""
        return [{str(k): v for k, v in row.items()} for row in self.rejected.drop_duplicates("code").to_dict("records")]

    def save(self, folder: Path | str) -> Path:
        """Writes `result.json`, `scenario.yaml`, `evaluations.parquet`, `rejected.parquet` and `manifest.json`.

        The tables of the recommended plan's run go into the folder `recommended`.

        Raises:
            InputError: if the folder cannot be written.
        """
        tables = {"evaluations": self.evaluations, "rejected": self.rejected}
        if self.recommended_run is not None:
            tables |= {f"recommended/{name}": table for name, table in self.recommended_run.tables().items()}
        return save_folder(folder, command="search", document=self.to_json(), scenario=self.scenario, tables=tables)

    def front_head(self) -> list[str]:
        """Column heads of the front: plan, then the objectives, GPUs and attainment."""
        return ["plan", *(column_head(path) for path in self.shown_paths())]

    def shown_paths(self) -> list[str]:
        """Metric paths worth a column: the objectives, then GPUs and, where requests are served, SLO attainment."""
        training = any("step_time_s" in each.metrics for each in self.front)
        last = ["n_gpus"] if training else ["n_gpus", "slo_attainment_frac"]
        return list(dict.fromkeys([*(each.path for each in self.objectives), *last]))

    def front_rows(self, *, most: int | None = None) -> list[list[str]]:
        """One row per plan of the front, the recommended one first and marked, best first by the first objective."""
        return [
            [_marked(each, self.recommended), *(show_bare(each.metrics, path) for path in self.shown_paths())]
            for each in self.sorted_front()[:most]
        ]

    def sorted_front(self) -> list[Evaluation]:
        """The front: the recommended plan, then the others by the first objective."""
        paths = [(each.path, each.maximise) for each in self.objectives]

        def order(evaluation: Evaluation) -> tuple[Any, ...]:
            flat = metric_paths(evaluation.metrics)
            values = [(flat.get(path), maximise) for path, maximise in paths]
            signed = [float("inf") if v is None else -float(v) if maximise else float(v) for v, maximise in values]
            return (evaluation is not self.recommended, *signed, evaluation.label)

        return sorted(self.front, key=order)

    def __repr__(self) -> str:
        head = f"SearchResult {self.name}: {space_sentence(self.space)}"
        if self.interrupted:
            head += "; interrupted"
        if self.recommended is None:
            return f"{head}\n\nno plan recommended: {self.why}"
        table = plain_table(self.front_rows(most=_SHOWN_PLANS), head=self.front_head())
        more = f"\n  and {len(self.front) - _SHOWN_PLANS} more" if len(self.front) > _SHOWN_PLANS else ""
        return (
            f"{head}\n\n{table}{more}\n\nrecommended: {self.recommended.label}, {self.why}\n{self.recommended.launch}"
        )

    def _repr_html_(self) -> str:
        head = f"<strong>{escape(self.name)}</strong>: {escape(space_sentence(self.space))}"
        if self.recommended is None:
            return f"<div>{head}<p>No plan recommended: {escape(self.why)}.</p></div>"
        table = html_table(self.front_rows(most=_SHOWN_PLANS), head=self.front_head())
        best = f"<p>Recommended: <strong>{escape(self.recommended.label)}</strong>, {escape(self.why)}.</p>"
        return f"<div>{head}{best}{table}</div>"


def _marked(evaluation: Evaluation, recommended: Evaluation | None) -> str:
    return f"{evaluation.label} ★" if evaluation is recommended else evaluation.label


def space_sentence(space: Mapping[str, Any]) -> str:
    """How many plans were looked at, such as `120 plans generated, 80 infeasible (memory 80), 40 simulated`."""
    parts = []
    for name, number in space.items():
        if isinstance(number, Mapping):
            total = sum(number.values())
            codes = ", ".join(
                f"{code} {count:,}" for code, count in sorted(number.items(), key=lambda c: (-c[1], c[0]))
            )
            parts.append(f"{total:,} {name} ({codes})" if total else f"none {name}")
        elif isinstance(number, (int, float)):
            parts.append(f"{number:,} {name}")
    if parts:
        number, _, rest = parts[0].partition(" ")
        parts[0] = f"{number} plans {rest}"
    return ", ".join(parts)
