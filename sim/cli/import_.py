"""`plansim import`: turns a recorded trace of any known format into plansim's own Parquet, and says what it dropped."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sim.cli.failures import SCHEMA_VERSION
from sim.cli.options import JsonOption, OutOption, QuietOption, SeedOption
from sim.cli.output import console, print_json, remark, writable_folder

if TYPE_CHECKING:
    from sim.workloads import TraceReport

SUFFIXES = (".gz", ".csv", ".jsonl", ".json", ".parquet")


def import_(
    trace: Annotated[str, typer.Argument(metavar="TRACE", help="The trace file; .gz is accepted.")],
    format_: Annotated[
        str, typer.Option("--format", help="Its format (plansim list traces); default: told by its header.")
    ] = "auto",
    rate_scale: Annotated[float, typer.Option("--rate-scale", help="Arrive this many times as fast.")] = 1.0,
    window: Annotated[
        tuple[str, str] | None, typer.Option("--window", metavar="FROM TO", help="Keep this part, e.g. '0 s' '600 s'.")
    ] = None,
    seed: SeedOption = None,
    out: OutOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Read TRACE, say what was kept and dropped, and with --out write it as Parquet.

    Scenarios read TRACE itself just as well (workload.trace.path);
    the Parquet file is smaller and faster to read.
    """
    from sim.core import YamlDocument, build_spec
    from sim.workloads import TraceSpec, read_trace

    folder = writable_folder(out) if out is not None else None
    options: dict[str, Any] = {"path": str(Path(trace).expanduser().resolve()), "format": format_}
    options |= {"rate_scale": rate_scale} | ({"window": list(window)} if window else {})
    spec = build_spec(TraceSpec, YamlDocument(options, "plansim import", {}))
    table = read_trace(spec, seed=seed or 0)
    written = None
    if folder is not None:
        written = folder / f"{stem(trace)}.parquet"
        table.save(written)
        remark(f"written to {written}", quiet=quiet)
    if as_json:
        report = table.report.to_dict() if table.report else {}
        saved = None if written is None else str(written)
        print_json({"schema_version": SCHEMA_VERSION, "command": "import", "report": report, "written": saved})
    elif table.report is not None:
        _show(table.report)
    return 0


def stem(trace: str) -> str:
    """File name of `trace` without the endings of its format."""
    name = Path(trace).name
    while name.endswith(SUFFIXES):
        name = name.rpartition(".")[0]
    return name


def _show(report: TraceReport) -> None:
    from rich.table import Table

    table = Table(title="import report", title_justify="left", show_header=False)
    for key, value in report.to_dict().items():
        if isinstance(value, dict):
            value = ", ".join(f"{name}: {_text(item)}" for name, item in value.items()) or "none"
        table.add_row(key, "; ".join(value) if isinstance(value, list) else _text(value))
    console().print(table)


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
