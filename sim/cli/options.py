"""The flags and arguments that verbs share, so that each means the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ScenarioArgument = Annotated[
    str,
    typer.Argument(metavar="SCENARIO", help="A scenario file, or the name of a shipped one (plansim list scenarios)."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout instead of tables.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Change one value of the scenario, e.g. plan.tp=4; repeatable."),
]
DeploymentOption = Annotated[
    str | None,
    typer.Option(
        "--scenario",
        metavar="FILE",
        help="What a benchmark tool's --rows measured: a scenario's model, cluster, engine and plan.",
    ),
]
SeedOption = Annotated[
    int | None, typer.Option("--seed", min=0, help="Seed of all random draws; default: the scenario's.")
]
OutOption = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Save results in this folder.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no remarks on stderr.")]
CheckOption = Annotated[bool, typer.Option("--check", help="Exit with 4 when the scenario's SLO is not attained.")]
ReportOption = Annotated[
    bool | None,
    typer.Option("--report/--no-report", help="Write report.html; default: yes where a folder is written."),
]
TraceOption = Annotated[
    bool, typer.Option("--trace", help="Write trace.json.gz, the run as a timeline for ui.perfetto.dev.")
]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", min=1, help="Processes to simulate in; default: one per CPU core.")
]
