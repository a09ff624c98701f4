"""Results as text: numbers with three figures and a fitting unit, plain aligned tables, small HTML tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any, Final

from sim.core import format_quantity
from sim.results.metrics import METRICS, STATISTICS, get_metric, metric_title, metric_unit

NOTHING: Final = "–"
HEADLINES: Final = (
    "slo_attainment_frac",
    "goodput_max_requests_per_s_per_gpu",
    "goodput_requests_per_s",
    "requests_per_s",
    "output_tokens_per_s_per_gpu",
    "interactivity_tokens_per_s_per_user",
    "cost_usd_per_million_output_tokens",
    "energy_j_per_output_token",
    "mfu_frac",
    "mbu_frac",
    "n_gpus",
    "kv_cache_tokens",
    "preemptions",
)
"""Numbers that a summary of a run shows beside its latencies, in this order."""
LATENCIES: Final = ("ttft_s", "tpot_s", "itl_s", "e2e_s")
"""Latencies that a summary of a run shows, in this order."""

_DAY_S: Final = 86_400.0
_OWN_SCALE: Final = frozenset({"s", "s/tok", "1", "bytes", "J"})


def figures(value: float, *, pad: bool = False) -> str:
    """A number with three significant figures, no exponent where it can be avoided, thousands apart.

    Args:
        value: The number.
        pad: Keep zeros at the end, so that the numbers of a column look alike.
    """
    if value == 0:
        return "0"
    if abs(value) >= 999.5:
        return f"{value:,.0f}"
    if abs(value) < 1e-4:
        return f"{value:.2e}"
    decimals = max(0, 2 - math.floor(math.log10(abs(value) * (1 + 1e-9))))
    text = f"{value:.{decimals}f}"
    return text if pad or "." not in text else text.rstrip("0").rstrip(".")


def _seconds(value: float, pad: bool) -> str:
    if abs(value) >= 2.0 * _DAY_S:
        return f"{figures(value / _DAY_S, pad=pad)} d"
    if abs(value) >= 999.5:
        return f"{value:,.0f} s"
    for factor, unit in ((1.0, "s"), (1e-3, "ms")):
        if abs(value) >= factor * 0.9995:
            return f"{figures(value / factor, pad=pad)} {unit}"
    return f"{figures(value / 1e-6, pad=pad)} µs" if value else "0 s"


def _percent(share: float, pad: bool) -> str:
    """A share in percent; just below one it keeps enough figures not to look whole."""
    percent = 100.0 * share
    if 99.0 < percent < 100.0:
        for decimals in (1, 2, 3):
            if float(text := f"{percent:.{decimals}f}") < 100.0:
                return f"{text} %"
    return f"{figures(percent, pad=pad and percent < 99.95)} %"


def _count(value: float, pad: bool) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else figures(value, pad=pad)


_SHOWN: Final[dict[str, Callable[[float, bool], str]]] = {
    "s": _seconds,
    "s/tok": lambda value, pad: f"{_seconds(value, pad)}/tok",
    "1": _percent,
    "bytes": lambda value, _: format_quantity(value, "bytes", digits=3),
    "J": lambda value, _: format_quantity(value, "j", digits=3),
    "": _count,
    "USD/h": lambda value, _: f"{value:,.2f} USD/h",
}


def show(value: float | None, unit: str, *, pad: bool = False) -> str:
    """`value` [`unit`] for people: three figures, a fitting prefix, and the unit; a dash for what is undefined.

    Args:
        value: In the unit.
        unit: Unit of a metric; see `METRICS`.
        pad: Keep zeros at the end, so that the numbers of a column look alike.
    """
    if value is None or not math.isfinite(value):
        return NOTHING
    shown = _SHOWN.get(unit)
    return f"{figures(value, pad=pad)} {unit}" if shown is None else shown(value, pad)


def show_metric(metrics: Mapping[str, Any], path: str) -> str:
    """The number at `path` in `metrics` for people, such as `1.25 s`."""
    return show(get_metric(metrics, path), metric_unit(path))


def show_bare(metrics: Mapping[str, Any], path: str) -> str:
    """The number at `path` for a column whose head (`column_head`) names the unit."""
    value, unit = get_metric(metrics, path), metric_unit(path)
    if unit in _OWN_SCALE or value is None or not math.isfinite(value):
        return show(value, unit, pad=True)
    return _count(value, True) if not unit else figures(value, pad=True)


def column_head(path: str) -> str:
    """Column head for the number at `path`, with the unit where values do not carry one of their own."""
    unit = metric_unit(path)
    return metric_title(path) if unit in _OWN_SCALE or not unit else f"{metric_title(path)} [{unit}]"


def show_change(relative: float | None) -> str:
    """A relative change for people, such as `+12.5 %`; what is below 0.05 % shows as `±0 %`."""
    if relative is None or not math.isfinite(relative):
        return NOTHING
    percent = 100.0 * relative
    if abs(percent) < 0.05:
        return "±0 %"
    text = f"{abs(percent):.1f}" if abs(percent) < 99.95 else figures(abs(percent))
    return f"{'+' if percent > 0 else '−'}{text} %"


LATENCY_HEAD: Final = (*STATISTICS, "90 % interval of the mean")
"""Heads of the columns of `latency_rows` after the title."""


def latency_rows(metrics: Mapping[str, Any], intervals: Mapping[str, Any]) -> list[list[str]]:
    """One row per latency: its title, mean and percentiles, and the interval of the mean as text."""
    return [
        [
            METRICS[name].title,
            *(show_bare(metrics, f"{name}.{part}") for part in STATISTICS),
            _interval(intervals.get(name), METRICS[name].unit),
        ]
        for name in LATENCIES
    ]


def _interval(found: Any, unit: str) -> str:
    """`120 ms to 300 ms` of a latency's mean; `not known` where it is not."""
    ends = found.get("mean") if isinstance(found, Mapping) else None
    return "not known" if ends is None else f"{show(ends[0], unit)} to {show(ends[1], unit)}"


def headline_rows(metrics: Mapping[str, Any], paths: Sequence[str] = HEADLINES) -> list[list[str]]:
    """Title and value of the other numbers of a summary, those that are defined."""
    shown = [path for path in paths if get_metric(metrics, path) is not None]
    return [[metric_title(path), show_metric(metrics, path)] for path in shown]


def requests_sentence(metrics: Mapping[str, Any]) -> str:
    """What became of the requests, such as `2,000 in: 1,998 finished, 2 rejected`."""
    counts = metrics["requests"]
    ends = [f"{number:,} {name}" for name, number in counts.items() if name != "in" and number]
    return f"{counts['in']:,} in: {', '.join(ends) or 'none'}"


def breakdown_rows(breakdown: Mapping[str, Any], *, most: int | None = None) -> list[list[str]]:
    """Cause, seconds and share of a breakdown: largest first, idle last, causes beyond `most` summed up."""
    total = breakdown["explains_s"] or 1.0
    parts = sorted_parts(breakdown["parts"])
    if most is not None and len(parts) > most:
        busy = [part for part in parts if part[0] != "idle"]
        idle = [part for part in parts if part[0] == "idle"]
        shown = most - 1 - len(idle)
        rest = sum(seconds for _, seconds in busy[shown:])
        parts = [*busy[:shown], (f"{len(busy) - shown} others", rest), *idle]
    return [[cause, show(seconds, "s", pad=True), show(seconds / total, "1", pad=True)] for cause, seconds in parts]


def sorted_parts(parts: Mapping[str, float]) -> list[tuple[str, float]]:
    """Parts above zero, largest first, `idle` last; names with spaces for underscores."""
    ordered = sorted(parts.items(), key=lambda part: (part[0] == "idle", -part[1], part[0]))
    return [(name.replace("_", " "), seconds) for name, seconds in ordered if seconds > 0]


def plain_table(rows: Sequence[Sequence[str]], *, head: Sequence[str] | None = None, indent: str = "  ") -> str:
    """Rows as aligned text: the first column to the left, the others to the right."""
    table = [list(row) for row in ([head] if head else [])] + [list(row) for row in rows]
    if not table:
        return ""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = []
    for row in table:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append(indent + "  ".join(cells).rstrip())
    return "\n".join(lines)


def html_table(rows: Sequence[Sequence[str]], *, head: Sequence[str] | None = None, caption: str = "") -> str:
    """Rows as a small HTML table that takes its colours from the notebook."""
    first = 'style="text-align:left"'
    other = 'style="text-align:right"'

    def line(cells: Sequence[str], tag: str) -> str:
        inner = "".join(f"<{tag} {first if i == 0 else other}>{escape(cell)}</{tag}>" for i, cell in enumerate(cells))
        return f"<tr>{inner}</tr>"

    title = f'<caption style="text-align:left;font-weight:600">{escape(caption)}</caption>' if caption else ""
    top = f"<thead>{line(head, 'th')}</thead>" if head else ""
    body = "".join(line(row, "td") for row in rows)
    return f"<table>{title}{top}<tbody>{body}</tbody></table>"


def axis_title(path: str) -> str:
    """Title with unit, for the axis of a figure, such as `TTFT p99 [s]`."""
    unit = {"1": "share"}.get(metric_unit(path), metric_unit(path))
    return f"{metric_title(path)} [{unit}]" if unit else metric_title(path)
