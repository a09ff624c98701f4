"""Where results go: JSON or tables on stdout, progress on stderr, files in the folder of `--out`."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.core import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from sim.results import CompareResult, RunResult, SearchResult, TrainingResult

ProgressCallback = Callable[[int, int, str], None]


def print_json(document: Mapping[str, Any]) -> None:
    """Prints `document` on stdout; numbers must be finite."""
    print(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))


def console() -> Console:
    """A rich console on stdout; as wide as the terminal, or 120 columns where there is none."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 120, highlight=False)


def remark(text: str, *, quiet: bool = False) -> None:
    """Prints `text` on stderr unless `quiet`."""
    if not quiet:
        print(text, file=sys.stderr)


def workers_or_cores(workers: int | None) -> int:
    """`workers`, or the number of CPU cores this process may use."""
    if workers is not None:
        return workers
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def result_folder(out: Path | None, *, name: str, wanted: bool) -> Path | None:
    """The folder to save results in, proven writable: `out`, else `out/NAME` where a file is `wanted`, else None."""
    if out is None and not wanted:
        return None
    return writable_folder(out or Path("out") / name)


def writable_folder(folder: Path) -> Path:
    """`folder`, made if absent and proven writable before any work is done.

    Raises:
        InputError: if it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".plansim-"):
            pass
    except OSError as error:
        raise InputError(
            f"cannot write results to {str(folder)!r}: {error.strerror or error}",
            path="--out",
            hint="name a folder you may write to",
        ) from None
    return folder


def save_result(
    result: RunResult | TrainingResult | SearchResult | CompareResult, folder: Path, *, report: bool, quiet: bool
) -> list[Path]:
    """Files of `result` in `folder`, sorted: its tables and, with `report`, `report.html`; says so on stderr.

    All files are written aside first and then moved in, so that an error or Ctrl-C leaves earlier results whole.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix=".plansim-") as scratch:
        aside = Path(scratch)
        result.save(aside)
        if report:
            from sim.report import html_report

            html_report(result, aside / "report.html")
        written = [path.relative_to(aside) for path in sorted(aside.rglob("*")) if path.is_file()]
        for name in written:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(aside / name, folder / name)
    remark(f"saved in {folder}" + (f"; open {folder / 'report.html'} in a browser" if report else ""), quiet=quiet)
    return [folder / name for name in written]


@contextmanager
def progress(*, quiet: bool) -> Iterator[ProgressCallback | None]:
    """A callback `(done, total, what)` that draws a bar on stderr; None where nobody would see it."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def advance(done: int, total: int, what: str) -> None:
            bar.update(task, completed=done, total=total, description=what)

        yield advance
