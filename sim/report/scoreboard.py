"""The scoreboard as rich tables for the terminal: coverage, errors by metric and group, peers, reasons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from sim.results import metric_title

_MOST_REASONS: Final = 8
_SHOWN_METRICS: Final = 3
"""Metrics side by side in the table of groups."""
_SHOWN_GROUPS: Final = (
    "half, device",
    "half, source",
    "system",
    "model",
    "engine",
    "precision",
    "mode",
    "load",
    "plan",
)


def scoreboard_tables(summary: Mapping[str, Any]) -> list[RenderableType]:
    """Tables of every dataset of a scoreboard's summary."""
    return [table for name, found in summary.items() for table in _dataset(name, found)]


def _dataset(name: str, found: Mapping[str, Any]) -> Iterator[RenderableType]:
    yield _errors(f"{name}: {found['answered']} of {found['rows']} rows answered", found)
    yield from (Text(f"doubtful: {one}\n", style="bold") for one in found.get("doubts", ()))
    yield from _other_costs(found.get("other_costs", {}))
    yield _groups(found)
    if found.get("requests"):
        yield _requests(found["requests"])
    if found["reasons"]:
        yield _counted("not answered", "reason", found["reasons"])
    if found.get("notes"):
        yield _counted("to be known", "what", found["notes"])


def _table(title: str, *heads: str) -> Table:
    table = Table(title=Text(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for i, head in enumerate(heads):
        table.add_column(head, justify="right" if i else "left", overflow="fold")
    return table


def _errors(title: str, found: Mapping[str, Any]) -> Table:
    """Errors by metric, with the published figures of peers below each."""
    table = _table(title, "metric", "values", "answered", "median |error|", "P90 |error|", "bias")
    for metric, errors in found["metrics"].items():
        table.add_row(metric_title(metric), str(errors["n"]), str(errors["answered"]), *_figures(errors))
        for peer in found["peers"]:
            if peer["metric"] == metric:
                answered = _percent(peer["answered_frac"])
                table.add_row(f"  {peer['peer']}", "", answered, *_figures(peer)[:2], "", style="dim")
    return table


def _other_costs(sources: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Errors with kernel times of other sources, one table each."""
    for name, found in sources.items():
        if "reason" in found:
            yield Text(f"costs: {name} not scored, {found['reason']}\n")
            continue
        share = _percent(found["from_tables_frac"])
        title = f"costs: {name}, {share} of operators from tables, {found['answered']} of {found['rows']} rows answered"
        table = _table(title, "metric", "values", "answered", "median |error|", "P90 |error|", "bias")
        for metric, errors in found["metrics"].items():
            table.add_row(metric_title(metric), str(errors["n"]), str(errors["answered"]), *_figures(errors))
        yield table
        yield from (Text(f"doubtful: {one}\n", style="bold") for one in found.get("doubts", ()))


def _groups(found: Mapping[str, Any]) -> Table:
    """Median error and bias of the first means by group; groups that do not split the rows are left out."""
    metrics = [name for name in found["metrics"] if "." not in name][:_SHOWN_METRICS]
    heads = [head for metric in metrics for head in (metric_title(metric), "bias")]
    table = _table("by group: median |error| and bias", "group", "", "rows", "answered", *heads)
    table.columns[1].justify = "left"
    for group, parts in found["by"].items():
        if len(parts) < 2 or group not in _SHOWN_GROUPS:
            continue
        table.add_section()
        for label, part in parts.items():
            cells = [cell for metric in metrics for cell in _pair(part["metrics"].get(metric, {}))]
            table.add_row(group, label or "-", str(part["rows"]), str(part["answered"]), *cells)
    return table


def _pair(errors: Mapping[str, Any]) -> tuple[str, str]:
    return _percent(errors.get("median_abs_error_frac")), _percent(errors.get("bias_frac"), signed=True)


def _figures(errors: Mapping[str, Any]) -> Sequence[str]:
    absolute = (_percent(errors[f"{name}_abs_error_frac"]) for name in ("median", "p90"))
    return (*absolute, _percent(errors.get("bias_frac"), signed=True))


def _percent(value: float | None, *, signed: bool = False) -> str:
    if value is None:
        return "-"
    return f"{100 * value:+.1f} %" if signed else f"{100 * value:.1f} %"


def _requests(found: Mapping[str, Any]) -> Table:
    table = _table("request by request", "run", "requests", "E2E median |error|", "P90 |error|")
    for name, errors in found.items():
        table.add_row(name, str(errors["n"]), *_figures(errors)[:2])
    return table


def _counted(title: str, what: str, reasons: Mapping[str, int]) -> Table:
    table = _table(title, what, "rows")
    for reason, count in [*reasons.items()][:_MOST_REASONS]:
        table.add_row(reason, str(count))
    others = [*reasons.values()][_MOST_REASONS:]
    if others:
        table.add_row(f"{len(others)} others; --json has all", str(sum(others)))
    return table
