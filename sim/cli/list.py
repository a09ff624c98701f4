"""`plansim list`: everything that can be named in a scenario, with its key figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

import typer

from sim.cli.catalogue import KINDS, Column
from sim.cli.failures import SCHEMA_VERSION
from sim.cli.options import JsonOption
from sim.cli.output import console, print_json
from sim.core import InputError, did_you_mean

_FRAME: Final = 3
"""Characters around a cell: two of padding and a line."""


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

    screen = console()
    cells = [[column.text(item[column.key]) for item in items] for column in columns]
    shown = _fitting(screen.width, columns, cells)
    hidden = [column.heading for column in columns[shown:]]
    caption = f"not shown for lack of room: {', '.join(hidden)}; --json has all" if hidden else None
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    for column in columns[:shown]:
        justify: Literal["right", "left"] = "right" if column.numeric else "left"
        table.add_column(column.heading, justify=justify, no_wrap=column.whole, overflow="fold")
    for row in zip(*cells[:shown], strict=True):
        table.add_row(*map(escape, row))
    screen.print(table)


def _fitting(width: int, columns: Sequence[Column], cells: Sequence[Sequence[str]]) -> int:
    """How many columns, from the left, fit into `width` characters without cutting a name, a number or a word."""
    used = 1
    for count, (column, texts) in enumerate(zip(columns, cells, strict=True)):
        texts = [column.heading, *texts]
        parts = texts if column.whole else [word for text in texts for word in text.split()]
        used += max(map(len, parts)) + _FRAME
        if used > width and count > 0:
            return count
    return len(columns)
