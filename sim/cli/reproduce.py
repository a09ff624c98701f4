"""`plansim reproduce`: what papers claim of their systems, simulated, with a verdict on each claim."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from sim.cli.options import JsonOption, OutOption, QuietOption, SetOption
from sim.cli.output import console, print_json, progress, remark, writable_folder

if TYPE_CHECKING:
    from sim.validation import Reproduction

NamesArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NAME]...", help="Files of claims, or shipped ones (plansim list claims); default: all."),
]
CheckOption = Annotated[
    bool, typer.Option("--check", help="Exit with 5 when a verdict is worse than the one recorded in its file.")
]
_WORSE: Final = 5


def reproduce(
    names: NamesArgument = None,
    set_: SetOption = None,
    check: CheckOption = False,
    out: OutOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Simulate published claims and print which are reproduced, in direction only, missed, or cannot be evaluated."""
    from sim.validation import claim_names, load_claims
    from sim.validation import reproduce as judge_all

    folder = None if out is None else writable_folder(out)
    files = [load_claims(name, overrides=set_ or ()) for name in names or claim_names()]
    with progress(quiet=quiet) as advance:
        result = judge_all(files, progress=advance)
    if folder is not None:
        _save(result, folder)
        remark(f"saved in {folder}", quiet=quiet)
    if as_json:
        print_json(result.to_json())
    else:
        from sim.report import claims_tables

        console().print(*claims_tables(result), sep="\n")
    worse = [row for row in result.rows if row.worse] if check else []
    for row in worse:
        remark(f"error: {row.name}: {row.verdict}, was {row.recorded}; {row.reason}")
    return _WORSE if worse else 0


def _save(result: Reproduction, folder: Path) -> None:
    """Writes `result.json` and `reproduce.md`."""
    from sim.report import claims_page
    from sim.results import json_text

    (folder / "result.json").write_text(json_text(result.to_json()), encoding="utf-8")
    (folder / "reproduce.md").write_text(claims_page(result), encoding="utf-8")
