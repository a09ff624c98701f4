"""Published claims and what became of them, as rich tables for the terminal and as a Markdown page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Final

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from sim.results import METRICS, show

if TYPE_CHECKING:
    from sim.validation import ClaimRow, Reproduction

_HEAD: Final = ("claim", "published", "simulated", "band", "verdict")
_STYLES: Final = {"reproduced": "green", "direction only": "yellow", "missed": "red", "cannot be evaluated": "dim"}
_FITTED: Final = "* efficiency factors were fitted to measured runs that include this number"
_BOUNDS: Final = {"about": "", "at_least": ">= ", "at_most": "<= "}


def claims_tables(result: Reproduction) -> list[RenderableType]:
    """One table per system, and how many claims have each verdict."""
    parts: list[RenderableType] = []
    for system, rows in _by_system(result.rows):
        table = Table(title=Text(result.titles[system]), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
        for i, head in enumerate((*_HEAD, "why")):
            table.add_column(head, justify="right" if 0 < i < len(_HEAD) - 1 else "left", overflow="fold")
        for row in rows:
            table.add_row(*map(Text, _cells(row)), Text(row.verdict, style=_STYLES[row.verdict]), Text(row.reason))
        parts.append(table)
    if any(row.fitted for row in result.rows):
        parts.append(Text(_FITTED, style="dim"))
    return [*parts, Text(_sentence(result), style="bold")]


def claims_page(result: Reproduction) -> str:
    """The same as Markdown, with the assumptions and notes of each system."""
    lines = [
        "# Published claims, reproduced or not",
        "",
        "`plansim reproduce` writes this page (`make reproduce`). Each file in `scenarios/published` holds what one",
        "publication says of its system; the rules that judge it are in `sim.validation.claims.judge`, the same for",
        "all. Misses stay here.",
        "",
        f"{_sentence(result)}.",
        "",
        f"{_FITTED.replace('*', chr(92) + '*', 1)}, so that agreement is no independent prediction.",
    ]
    for system, group in _by_system(result.rows):
        rows = list(group)
        lines += ["", f"## {result.titles[system]}", "", f"`scenarios/published/{system}.yaml`", ""]
        lines += [f"| {' | '.join((*_HEAD, 'evidence', 'why'))} |", f"|{'---|' * (len(_HEAD) + 2)}"]
        for row in rows:
            evidence = f"{row.evidence['where']}, {row.evidence['grade']}, confidence {row.evidence['confidence']}"
            cells = [*_cells(row), row.verdict, evidence, _why(row)]
            lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
        lines += _listed("Assumed", (note for row in rows for note in row.assumptions))
        lines += _listed("Notes", (note for row in rows for note in row.notes))
    return "\n".join(lines) + "\n"


def _by_system(rows: Sequence[ClaimRow]) -> Iterable[tuple[str, Iterable[ClaimRow]]]:
    return groupby(rows, key=lambda row: row.name.partition("/")[0])


def _sentence(result: Reproduction) -> str:
    return (
        ", ".join(f"{count} {verdict}" for verdict, count in result.counts.items()) + f" of {len(result.rows)} claims"
    )


def _cells(row: ClaimRow) -> list[str]:
    """Claim, published, simulated and band as text."""
    name = row.name.partition("/")[2]
    if "order" in row.claim:
        found = "-" if not isinstance(row.simulated, tuple) else " ".join(f"{value:.4g}" for value in row.simulated)
        return [name, row.claim["order"], found, ""]
    published = _BOUNDS[row.claim["bound"]] + _number(row, row.claim["value"]) + (" *" if row.fitted else "")
    found = "-" if not isinstance(row.simulated, float) else _number(row, row.simulated)
    low, high = ("" if end is None else _number(row, end) for end in row.band)
    band = f"{low.partition(' ')[0]}..{high}" if low or high else ""
    return [name, published, found, band]


def _number(row: ClaimRow, value: float) -> str:
    """A ratio as such, a metric in its unit, a FLOP rate in TFLOP/s."""
    metric = str(row.claim["metric"] or "")
    if row.claim["over"] is not None or not metric:
        return f"{value:.3f}"
    if metric.startswith("memory."):
        return show(value, "bytes")
    known = METRICS.get(metric.partition(".")[0])
    return f"{value:.1f} TFLOP/s" if known is None else show(value, known.unit)


def _why(row: ClaimRow) -> str:
    if row.without is None or not isinstance(row.without["left"], float):
        return row.reason
    lost = f"{row.without['left']:.3f} without its cause ({row.without['cause']})"
    return f"{row.reason}; {lost}" if row.reason else lost


def _listed(title: str, notes: Iterable[str]) -> list[str]:
    found = list(dict.fromkeys(notes))
    return ["", f"{title}:", "", *(f"- {note}" for note in found)] if found else []
