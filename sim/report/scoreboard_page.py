"""The scoreboard as a page of the documentation, in Markdown: a function of its digest alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from sim.results import METRICS, metric_title

_INTRODUCTION: Final = """\
# Scoreboard

How far predictions are from public measurements. Written by `make scoreboard` from the measured tables in the folder
that `PLANSIM_DATA` names, together with [scoreboard.json](scoreboard.json), which tests hold later versions against;
nothing here is written by hand. One table alone: `plansim validate --dataset NAME`. What the numbers mean, and what is
assumed about rows that do not record it: [validation.md](validation.md).

An error is predicted / measured - 1. Where two numbers stand together they are the median and the 90th percentile of
its absolute value, in percent; bias is the median signed error.
"""

_SHIPPED: Final = """\
*As shipped* means the profiles of this version. Kernel times are fitted to kernel tables alone; where a time of host or
front end says `source: fitted` in its profile, its reference names the rows, and for those this column is in the
sample. For the other columns all of these times ({parameters})
were fitted to rows of all models and systems (*fitted*), or of all but one, whose rows were then simulated with
them.
"""

_SCHEMES: Final = (("in_sample", "fitted"), ("model", "model left out"), ("system", "system left out"))
_SHOWN_METRICS: Final = 3
_MOST_REASONS: Final = 12
_DASH: Final = "–"
Row = Sequence[str]


def scoreboard_page(data: Mapping[str, Any]) -> str:
    """The page of a scoreboard's digest (`sim.validation.digest`)."""
    parts = [_INTRODUCTION, _sets(data["datasets"])]
    for name, found in data["datasets"].items():
        parts += [f"## {name}\n", *_dataset(found)]
    return "\n".join(parts)


def _sets(datasets: Mapping[str, Any]) -> str:
    rows = [
        (
            f"[{name}](#{name})",
            str(one["rows"]),
            str(one["answered"]),
            one["source"] or "own rows",
            f"`{one['sha256'][:12]}`",
        )
        for name, one in datasets.items()
    ]
    return _table(("set", "rows", "answered", "from", "sha256"), rows)


def _dataset(found: Mapping[str, Any]) -> Iterator[str]:
    yield f"{found['answered']} of {found['rows']} rows are answered.\n"
    yield _errors(found)
    if found["cross_validation"]:
        yield _SHIPPED.format(parameters=", ".join(f"`{name}`" for name in found["cross_validation"]["parameters"]))
    yield from _other_costs(found)
    if found["requests"]:
        yield "### Request by request\n"
        yield _requests(found["requests"])
    if found["bands"]:
        yield from _intervals(found)
    if found["repeats"]:
        yield "### Noise floor\n"
        yield (
            "Configurations measured more than once that are equal in all that is simulated (the checkpoint's name\n"
            "and the day may differ): largest over smallest value.\n"
        )
        yield _repeats(found["repeats"])
    if found["by"]:
        yield "### By group\n"
        yield _groups(found)
    if found["reasons"]:
        yield "### Not answered\n"
        yield _reasons(found["reasons"])
    yield "### Largest errors\n"
    yield _worst(found["worst"])
    yield "### Assumed\n"
    yield "".join(f"- {one}\n" for one in found["assumptions"])


def _other_costs(found: Mapping[str, Any]) -> Iterator[str]:
    """Errors with kernel times of other sources beside those of the curves, in all and by group."""
    for source, other in (found.get("other_costs") or {}).items():
        yield f"### Kernel times: analytic and {source}\n"
        if "reason" in other:
            yield f"Not scored: {other['reason']}.\n"
            continue
        yield (
            "The same rows with the curves that are shipped and with `costs` of that source. *From tables*: of the\n"
            "operators that a source is chosen for (products, experts, attention, collectives), the share that its\n"
            "tables answered; curves stand in for the others.\n"
        )
        if other.get("cross_validation"):
            yield _errors({**other, "peers": ()})
        parts = [("all", found, other)]
        parts += [
            (name, found["by"][group][name], part) for group, own in other["by"].items() for name, part in own.items()
        ]
        metrics = [*other["metrics"]][:_SHOWN_METRICS]
        heads = [head for metric in metrics for head in (metric_title(metric), source, "bias")]
        rows = [
            (
                name,
                f"{new['answered']} of {new['rows']}",
                _percent(new["from_tables_frac"]),
                *_beside(old, new, metrics),
            )
            for name, old, new in parts
        ]
        yield _table(("rows", "answered", "from tables", *heads), rows)


def _beside(old: Mapping[str, Any], new: Mapping[str, Any], metrics: Iterable[str]) -> Iterator[str]:
    for metric in metrics:
        errors = new["metrics"].get(metric, {})
        yield from (_pair(old["metrics"].get(metric, {})), _pair(errors), _percent(errors.get("bias_frac")))


def _errors(found: Mapping[str, Any]) -> str:
    """Errors by metric, as shipped and in every scheme of the cross-validation, with peers below each metric."""
    schemes = [(name, title) for name, title in _SCHEMES if name in (found["cross_validation"] or {})]
    rows: list[Row] = []
    for metric, errors in found["metrics"].items():
        others = [_pair(found["cross_validation"][name]["metrics"].get(metric, {})) for name, _ in schemes]
        answered = f"{errors['answered']} of {errors['n']}"
        rows.append((metric_title(metric), answered, _pair(errors), _percent(errors["bias_frac"]), *others))
        rows += [
            (f"*{peer['peer']}*", _percent(peer["answered_frac"]), _pair(peer), "", *("" for _ in schemes))
            for peer in found["peers"]
            if peer["metric"] == metric
        ]
    heads = ("metric", "answered", "as shipped", "bias", *(title for _, title in schemes))
    notes = dict.fromkeys(f"*{peer['peer']}*: {peer['note']}." for peer in found["peers"])
    return _table(heads, rows) + "".join(f"\n{note}\n" for note in notes)


def _intervals(found: Mapping[str, Any]) -> Iterator[str]:
    yield "### Intervals\n"
    yield (
        "Factors on a prediction between which 90 % of measured values fall, how much wider they are in the logarithm\n"
        "for a new model, device or load, and the share of values inside: in the sample, and where band and stretch\n"
        "were fitted without the row's own model, system or class of load.\n"
    )
    rows = [
        (
            engine,
            metric_title(metric),
            f"{band['low']:.2f} to {band['high']:.2f}",
            *(_number(band["stretch"][kind]) for kind in ("model", "device", "load")),
            _percent(band["in_sample_frac"]),
            *(_percent(band["left_out_frac"][kind]) for kind in ("model", "device", "load")),
        )
        for engine, bands in found["bands"].items()
        for metric, band in bands["metrics"].items()
    ]
    rows += [("**all**", metric_title(metric), "", "", "", "", *shares) for metric, shares in _pooled(found["bands"])]
    left_out = ("model left out", "system left out", "load left out")
    yield _table(("engine", "metric", "band", "new model", "new device", "new load", "in sample", *left_out), rows)
    cross = found["cross_validation"]
    if cross:
        yield "The same with host and front-end times fitted to the same other rows:\n"
        schemes = [(name, title) for name, title in _SCHEMES if name in cross]
        yield _table(
            ("metric", *(title for _, title in schemes)),
            [
                (metric_title(metric), *(_percent(cross[name]["inside_frac"].get(metric)) for name, _ in schemes))
                for metric in found["metrics"]
            ],
        )


def _pooled(bands: Mapping[str, Any]) -> Iterator[tuple[str, Row]]:
    """Shares inside over the rows of all engines, by metric."""
    metrics = dict.fromkeys(metric for one in bands.values() for metric in one["metrics"])
    for metric in metrics:
        own = [one["metrics"][metric] for one in bands.values() if metric in one["metrics"]]
        shares = [[(band["in_sample_frac"], band["rows"]) for band in own]]
        shares += [
            [(band["left_out_frac"][kind], band["rows"]) for band in own] for kind in ("model", "device", "load")
        ]
        yield metric, [_percent(_mean(one)) for one in shares]


def _mean(shares: Iterable[tuple[float | None, int]]) -> float | None:
    known = [(share, rows) for share, rows in shares if share is not None]
    return sum(share * rows for share, rows in known) / sum(rows for _, rows in known) if known else None


def _repeats(found: Mapping[str, Any]) -> str:
    rows = [
        (metric_title(metric), str(one["configurations"]), *(f"{one[level]:.2f}" for level in ("p50", "p75", "p90")))
        for metric, one in found.items()
    ]
    return _table(("metric", "configurations", "median", "P75", "P90"), rows)


def _groups(found: Mapping[str, Any]) -> str:
    metrics = [*found["metrics"]][:_SHOWN_METRICS]
    rows = []
    for group, parts in found["by"].items():
        for label, part in parts.items():
            cells = [
                cell
                for metric in metrics
                for errors in [part["metrics"].get(metric, {})]
                for cell in (_pair(errors), _percent(errors.get("bias_frac")))
            ]
            rows.append((group, label or _DASH, f"{part['answered']} of {part['rows']}", *cells))
    heads = [head for metric in metrics for head in (metric_title(metric), "bias")]
    return _table(("group", "", "answered", *heads), rows)


def _reasons(reasons: Mapping[str, int]) -> str:
    shown = [*reasons.items()]
    rows = [(reason, str(count)) for reason, count in shown[:_MOST_REASONS]]
    if others := shown[_MOST_REASONS:]:
        rows.append((f"{len(others)} other reasons", str(sum(count for _, count in others))))
    return _table(("reason", "rows"), rows)


def _worst(entries: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            metric_title(one["metric"]),
            f"`{one['id']}`",
            ", ".join(one[key] for key in ("engine", "system", "model", "precision", "load") if one.get(key)),
            _value(one["metric"], one["measured"]),
            _value(one["metric"], one["predicted"]),
            _percent(one["error_frac"]),
        )
        for one in entries
    ]
    return _table(("metric", "row", "what", "measured", "predicted", "error"), rows)


def _requests(found: Mapping[str, Any]) -> str:
    rows = [(name, str(one["n"]), _pair(one)) for name, one in found.items()]
    return _table(("run", "requests", "E2E of each request"), rows)


def _value(metric: str, value: float) -> str:
    unit = METRICS[metric].unit
    return f"{1e3 * value:.4g} ms" if unit == "s" else f"{value:.4g}"


def _pair(errors: Mapping[str, Any]) -> str:
    """Median and P90 of |error|."""
    median, p90 = errors.get("median_abs_error_frac"), errors.get("p90_abs_error_frac")
    if median is None:
        return _DASH
    return _points(median) if p90 is None else f"{_points(median)} / {_points(p90)}"


def _points(share: float) -> str:
    return f"{100 * share:.1f}"


def _percent(share: float | None) -> str:
    return _DASH if share is None else f"{100 * share:.1f} %"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"


def _table(heads: Row, rows: Iterable[Row]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines)
