"""The result of a what-if: a base, its variants, and the difference of every metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Final, TypeAlias

from sim.results.files import SCHEMA_VERSION, json_ready, save_folder
from sim.results.run import RunResult
from sim.results.text import column_head, html_table, plain_table, show_bare, show_change
from sim.results.training import TRAINING_HEADLINES, TrainingResult

EXPOSED: Final = tuple(f"exposed_{dimension}_comm_frac" for dimension in ("tp", "cp", "ep", "pp", "dp"))
AnyRun: TypeAlias = RunResult | TrainingResult
"""A served workload, or a training step."""

COMPARED: Final = (
    "ttft_s.mean",
    "ttft_s.p99",
    "tpot_s.mean",
    "tpot_s.p99",
    "e2e_s.p99",
    "requests_per_s",
    "output_tokens_per_s_per_gpu",
    "goodput_requests_per_s",
    "slo_attainment_frac",
    "interactivity_tokens_per_s_per_user",
    "cost_usd_per_million_output_tokens",
    "energy_j_per_output_token",
    "mfu_frac",
    "mbu_frac",
    "n_gpus",
    "preemptions",
)
"""Metric paths that a comparison of serving shows; the JSON has all."""
COMPARED_STEPS: Final = tuple(
    path for name in TRAINING_HEADLINES for path in ((name, *EXPOSED) if name == "exposed_comm_frac" else (name,))
)
"""The same of training."""


@dataclass(frozen=True)
class Difference:
    """Variant minus base of one metric, mean over paired runs.

    Attributes:
        value: In the metric's unit.
        relative: Over the base's value; None if that is zero.
        interval: 90 % interval of `value`; None if it is not known.
    """

    value: float
    relative: float | None
    interval: tuple[float, float] | None

    @property
    def sure(self) -> bool | None:
        """Whether the interval leaves zero out; None without an interval."""
        return None if self.interval is None else not self.interval[0] <= 0.0 <= self.interval[1]


@dataclass(frozen=True, repr=False)
class Variant:
    """One what-if.

    Attributes:
        name: As in the scenario.
        run: Its run with the first seed.
        difference: By metric path, over all pairs.
    """

    name: str
    run: AnyRun
    difference: Mapping[str, Difference]

    def __repr__(self) -> str:
        return f"Variant({self.name!r}, {len(self.difference)} differences)"


@dataclass(frozen=True, repr=False)
class CompareResult:
    """A base and its variants on paired traffic.

    Attributes:
        base: The scenario as it is.
        variants: The scenario with changes.
    """

    base: AnyRun
    variants: list[Variant]

    @property
    def name(self) -> str:
        """Name of the scenario."""
        return self.base.name

    def runs(self) -> dict[str, AnyRun]:
        """Base and variants by name."""
        return {"base": self.base, **{variant.name: variant.run for variant in self.variants}}

    def to_json(self) -> dict[str, Any]:
        """The document that `plansim compare --json` prints: plain data, finite numbers, SI units."""
        return {
            "schema_version": SCHEMA_VERSION,
            "command": "compare",
            "base": self.base.body(),
            "variants": [
                {"name": variant.name, **variant.run.body(), "difference": _differences(variant)}
                for variant in self.variants
            ],
        }

    def save(self, folder: Path | str) -> Path:
        """Writes `result.json`, `scenario.yaml`, `manifest.json` and each run's tables in a folder of its own.

        Raises:
            InputError: if the folder cannot be written.
        """
        tables = {f"{place}/{name}": t for place, run in self._folders().items() for name, t in run.tables().items()}
        return save_folder(
            folder, command="compare", document=self.to_json(), scenario=self.base.scenario, tables=tables
        )

    def _folders(self) -> dict[str, AnyRun]:
        safe = {f"variant-{i}": variant.run for i, variant in enumerate(self.variants, start=1)}
        return {"base": self.base, **safe}

    @property
    def is_training(self) -> bool:
        """Whether training steps are compared."""
        return isinstance(self.base, TrainingResult)

    def shown_paths(self) -> list[str]:
        """Metric paths that are shown: those that some variant has a difference of, exposed times that are not zero."""
        paths = COMPARED_STEPS if self.is_training else COMPARED
        known = [path for path in paths if any(path in variant.difference for variant in self.variants)]
        return [path for path in known if path not in EXPOSED or any(run.metrics[path] for run in self.runs().values())]

    @property
    def legend(self) -> str:
        """What marks in `rows` mean; empty where there are none."""
        return "" if self.is_training else _LEGEND

    def rows(self) -> list[list[str]]:
        """One row per compared metric: title, the base's value, and each variant's value with its change."""
        return [
            [column_head(path), show_bare(self.base.metrics, path), *(_cell(each, path) for each in self.variants)]
            for path in self.shown_paths()
        ]

    def head(self) -> list[str]:
        """Column heads of `rows`."""
        return ["metric", "base", *(variant.name for variant in self.variants)]

    def __repr__(self) -> str:
        return f"CompareResult {self.name}\n\n{plain_table(self.rows(), head=self.head())}\n\n{self.legend}".rstrip()

    def _repr_html_(self) -> str:
        table = html_table(self.rows(), head=self.head())
        return f"<div><strong>{escape(self.name)}</strong>{table}<p>{self.legend}</p></div>"


_LEGEND: Final = "≈ marks a change whose 90 % interval over paired runs holds zero"


def _cell(variant: Variant, path: str) -> str:
    difference = variant.difference.get(path)
    value = show_bare(variant.run.metrics, path)
    if difference is None or difference.relative is None or difference.value == 0:
        return value
    unsure = " ≈" if difference.sure is False else ""
    return f"{value} ({show_change(difference.relative)}{unsure})"


def _differences(variant: Variant) -> dict[str, Any]:
    return {
        path: json_ready({"value": each.value, "relative": each.relative, "interval": each.interval})
        for path, each in variant.difference.items()
    }
