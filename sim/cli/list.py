"""`plansim list`: everything that can be named in a scenario, with its key figures."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sim.cli.catalogue import KINDS, Column
from sim.cli.failures import SCHEMA_VERSION
from sim.cli.options import JsonOption
from sim.cli.output import console, print_json
from sim.core import InputError, did_you_mean


def list_(
    kind: Annotated[str, typer.Argument(metavar="KIND", help=f"One of: {', '.join(KINDS)}.")],
    as_json: JsonOption = False,
) -> int:
    """List what a scenario can name: devices, nodes, models, traffic, schedulers and more."""
    name = next((each for each in (kind, f"{kind}s", kind.removesuffix("s")) if each in KINDS), kind)
    if name not in KINDS:
        raise InputError(f"unknown kind {kind!r}{did_you_mean(kind, KINDS)}", allowed=", ".join(KINDS))
    catalogue = KINDS[name]
    items = catalogue.items()
    if as_json:
        print_json({"schema_version": SCHEMA_VERSION, "command": "list", "kind": name, "items": items})
    else:
        _show(f"{len(items)} {name}: {catalogue.summary}", catalogue.columns, items)
    return 0


def _show(title: str, columns: tuple[Column, ...], items: list[dict[str, Any]]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column.heading, justify="right" if column.numeric else "left")
    for item in items:
        table.add_row(*(escape(column.text(item[column.key])) for column in columns))
    console().print(table)
