"""`plansim profile`: measures this machine with PyTorch, and writes a device that scenarios can name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sim.cli.failures import SCHEMA_VERSION
from sim.cli.options import JsonOption, OutOption, QuietOption
from sim.cli.output import console, print_json, progress, remark, result_folder
from sim.core import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from sim.calibration.local import CheckCase, LocalProfile


def profile(
    device: Annotated[str, typer.Option("--device", help="What to measure: auto, cpu, or cuda (also ROCm).")] = "auto",
    dtypes: Annotated[
        str | None, typer.Option("--dtypes", metavar="LIST", help="Formats, such as fp32,bf16; default: both.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the device; default: made from the processor's.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Threads of a CPU; default: PyTorch's own choice.")
    ] = None,
    peak_power: Annotated[
        str | None, typer.Option("--peak-power", metavar="POWER", help="Power limit, such as '360 W'; else assumed.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer shapes and readings: seconds, not minutes.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Then run a small transformer and compare it with its prediction.")
    ] = False,
    out: OutOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    r"""Measure this machine and write it as a device, with its kernels.

    Needs PyTorch: pip install 'plansim\[profile]'.
    Files go to out/profile, or to the folder of --out; with --json, nothing is written without --out.
    Ctrl-C stops early and keeps what was measured.
    """
    from sim.calibration.local import Backend
    from sim.calibration.local import profile as measure

    backend = Backend(device, threads=threads)
    name = None if name is None else _plain(name)
    formats = None if dtypes is None else [part.strip() for part in dtypes.split(",")]
    peak_w = None if peak_power is None else _watts(peak_power)
    folder = result_folder(out, name="profile", wanted=not as_json)
    with progress(quiet=quiet) as advance:
        found = measure(backend=backend, dtypes=formats, name=name, quick=quick, peak_w=peak_w, progress=advance)
        if not found.samples:
            raise KeyboardInterrupt  # nothing was measured yet: earlier results stay
        written = [] if folder is None else found.save(folder)
        cases, interrupted = _checked(found, backend, advance) if check else ([], found.interrupted)
    following = _next(written)
    if as_json:
        print_json(_document(found, cases, written, following))
    else:
        _show(found, cases)
    for path in written:
        remark(f"written to {path}", quiet=quiet)
    for line in following:
        remark(f"next: {line}", quiet=quiet)
    if interrupted:
        remark("error: interrupted; the results are of what was measured so far")
        return 130
    return 0


def _checked(found: LocalProfile, backend: Any, advance: Any) -> tuple[list[CheckCase], bool]:
    """Cases of the check, and whether it or the profile was cut short."""
    from sim.calibration.local import check

    if found.files is None or found.interrupted:
        return [], True
    try:
        return check(found.files, backend, dtypes=found.dtypes, progress=advance), False
    except KeyboardInterrupt:
        return [], True


def _plain(name: str) -> str:
    """`name`, fit for a file name.

    Raises:
        InputError: if it is not.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise InputError("not a name", path="--name", value=name, allowed="letters, digits, dots, dashes, underscores")
    return name


def _watts(text: str) -> float:
    """The power in `text` [W].

    Raises:
        InputError: if it is none above zero.
    """
    from sim.core import UnitError, parse_quantity

    try:
        power_w = parse_quantity(text, "w")
    except UnitError as error:
        raise InputError(str(error), path="--peak-power", value=text) from None
    if power_w <= 0:
        raise InputError("a power limit is above zero", path="--peak-power", value=text)
    return power_w


def _next(written: Sequence[Path]) -> list[str]:
    """How to use the files."""
    node = next((path for path in written if path.stem.endswith("-node")), None)
    scenario = next((path for path in written if path.stem.endswith("-scenario")), None)
    if node is None or scenario is None:
        return []
    return [f"plansim run {scenario}", f"in a scenario of your own, cluster: {{node: {node.resolve()}}}"]


def _document(
    found: LocalProfile, cases: Sequence[CheckCase], written: Sequence[Path], following: Sequence[str]
) -> dict[str, Any]:
    """The JSON document of the command."""
    from sim.calibration.local import median_error

    return {
        "schema_version": SCHEMA_VERSION,
        "command": "profile",
        **found.to_json(),
        "check": [case.to_json() for case in cases],
        "check_median_error_frac": median_error(cases) if cases else None,
        "written": [str(path) for path in written],
        "next": [*following],
    }


def _show(found: LocalProfile, cases: Sequence[CheckCase]) -> None:
    machine = found.machine
    console().print(f"{found.name}: {machine.title}, {machine.versions}")
    console().print(_rates_table(found), _curves_table(found), *([_check_table(cases)] if cases else []))


def _rates_table(found: LocalProfile) -> Table:
    from rich.table import Table

    from sim.core import format_quantity

    table = Table("rate", "measured")
    if found.files is not None:
        device = found.files.device
        for dtype, rate in device.flops.items():
            table.add_row(f"products {dtype}", format_quantity(rate.value, "flops"))
        table.add_row("memory", format_quantity(device.memory_bandwidth.value, "bytes_per_s"))
    else:
        table.add_row("not enough was measured", "-")
    return table


def _curves_table(found: LocalProfile) -> Table:
    from rich.table import Table

    title = "Curves, on shapes left out of the fit"
    table = Table("kernel", "dtype", "samples", "median |error|", "P90", title=title, title_justify="left")
    for curve in found.curves:
        errors = (f"{curve.median_error:.1%}", f"{curve.p90_error:.1%}")
        table.add_row(curve.kernel, curve.dtype, str(curve.samples), *errors)
    return table


def _check_table(cases: Sequence[CheckCase]) -> Table:
    from rich.table import Table

    from sim.calibration.local import median_error
    from sim.core import format_quantity

    title = f"Steps of a small transformer: median |error| {median_error(cases):.1%}"
    table = Table("step", "dtype", title=title, title_justify="left")
    for heading in ("batch", "new tokens", "context", "predicted", "measured", "spread", "error"):
        table.add_column(heading, justify="right")
    for case in cases:
        step = case.step
        times = (format_quantity(time_s, "s") for time_s in (case.predicted_s, case.measured_s))
        sizes = (str(size) for size in (step.batch, step.tokens, step.context))
        table.add_row(step.kind, case.dtype, *sizes, *times, f"{case.spread_frac:.0%}", f"{case.error_frac:+.1%}")
    return table
