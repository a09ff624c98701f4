"""From a recorded trace to requests: which format, which rows, on which clock, and a report of what was done."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from sim.core import Array, Spec, TimeS, format_quantity, stream
from sim.workloads.report import make_report
from sim.workloads.requests import RequestTable
from sim.workloads.traces.base import TRACES, Integers, RawTrace, TraceFile

_QUANTISED = 0.5  # fewer distinct time stamps than this share of the rows: a coarse clock


class TraceSpec(Spec):
    """A recorded trace and how to replay it.

    Attributes:
        path: The file; relative to the scenario's folder.
        format: Name of the importer; `auto` tells it by the first line.
        rate_scale: Arrive this many times as fast.
        window: Keep requests from the first to before the second time, counted from the trace's first row.
        limit: Keep at most this many requests.
        sort: Put unsorted rows in order of arrival instead of refusing them.
        dequantize: `uniform` spreads requests of one coarse time stamp at random until the next.
    """

    path: str = Field(min_length=1)
    format: str = "auto"
    rate_scale: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    window: tuple[TimeS, TimeS] | None = None
    limit: int | None = Field(default=None, ge=1)
    sort: bool = False
    dequantize: Literal["none", "uniform"] = "none"

    @model_validator(mode="after")
    def _window_is_open(self) -> TraceSpec:
        if self.window is not None and self.window[0] >= self.window[1]:
            raise ValueError("`window` must end after it starts, such as [0 s, 600 s]")
        return self


def read_trace(spec: TraceSpec, *, base: Path | None = None, seed: int = 0) -> RequestTable:
    """The requests of the trace in `spec`, with a report.

    Args:
        spec: Which file and how to replay it.
        base: Folder that a relative path starts from; None for the current one.
        seed: Seed of the stream `dequantize`, used only for that.

    Raises:
        InputError: if the file is missing, empty, of no known format, has an unusable row or is not in order, or if
            no request is left.
    """
    file = TraceFile((base or Path()) / Path(spec.path).expanduser())
    name = detect(file) if spec.format == "auto" else spec.format
    raw = TRACES.get(name).read(file)
    return _finish(spec, file, name, raw, seed)


def detect(file: TraceFile) -> str:
    """Name of the importer for `file`.

    Raises:
        InputError: if none knows it.
    """
    first_line, columns = _head(file)
    for name in TRACES.names():
        if TRACES.get(name).sniff(first_line, columns):
            return name
    raise file.error(
        "unknown trace format",
        line=1,
        value=first_line[:80],
        allowed=TRACES.names(),
        hint="name it with `format`, see `plansim list traces`",
    )


def _head(file: TraceFile) -> tuple[str, tuple[str, ...]]:
    if file.content.startswith(b"PAR1"):
        return "PAR1", ()
    first_line = file.text.lstrip().partition("\n")[0].rstrip("\r")
    if first_line.startswith("{"):
        try:
            return first_line, tuple(json.loads(first_line))
        except (ValueError, RecursionError):
            return first_line, ()
    return first_line, tuple(name.strip() for name in next(csv.reader([first_line])))


def _finish(spec: TraceSpec, file: TraceFile, name: str, raw: RawTrace, seed: int) -> RequestTable:
    count = raw.lines.size
    _check_tokens(file, raw)
    notes = list(raw.notes)
    if raw.arrival_s is None:
        clock = np.zeros(count)
        notes.append("the trace has no arrival times: all requests arrive at 0 s (use a closed loop, or fit traffic)")
        order = np.arange(count, dtype=np.int64)
    else:
        order = _order(spec, file, raw, raw.arrival_s, notes)
        clock = raw.arrival_s[order] - raw.arrival_s[order[0]]
        clock = _on_fine_clock(spec, clock, notes, seed)
    keep, dropped = _select(spec, raw, order, clock)
    if keep.size == 0:
        where = f"; the trace spans {format_quantity(float(clock[-1]), 's')}" if spec.window else ""
        raise file.error(f"no request is left: {_listed(dropped)}{where}")
    rows, arrival = order[keep], (clock[keep] - clock[keep[0]]) / spec.rate_scale
    optional = {key: None if (v := getattr(raw, key)) is None else v[rows] for key in ("session_id", "priority")}
    blocks = None if raw.blocks is None else raw.blocks.take(rows)
    table = RequestTable(
        arrival_s=arrival,
        input_tokens=raw.input_tokens[rows],
        output_tokens=raw.output_tokens[rows],
        session_id=optional["session_id"],
        parent_id=None if raw.parent_id is None else raw.parent_id[rows],
        priority=optional["priority"],
        blocks=blocks,
        name=file.path.name,
    )
    if spec.rate_scale != 1:
        notes.append(f"arrivals are {spec.rate_scale:g} times as fast as recorded")
    report = make_report(
        path=file.path.name,
        format=name,
        rows_read=count,
        dropped=dropped,
        notes=tuple(notes),
        arrival_s=table.arrival_s,
        input_tokens=table.input_tokens,
        output_tokens=table.output_tokens,
        prefix_share=None if blocks is None else blocks.prefix_share(),
    )
    return replace(table, report=report)


def _listed(dropped: dict[str, int]) -> str:
    return ", ".join(f"{count} dropped ({reason})" for reason, count in dropped.items() if count) or "the file has none"


def _check_tokens(file: TraceFile, raw: RawTrace) -> None:
    if raw.lines.size == 0:
        raise file.error("the trace has no requests")
    for name, tokens in (("input tokens", raw.input_tokens), ("output tokens", raw.output_tokens)):
        bad = np.flatnonzero(tokens < 0)
        if bad.size:
            raise file.error(
                f"negative {name}", line=int(raw.lines[bad[0]]), value=int(tokens[bad[0]]), allowed="0 or more"
            )


def _order(spec: TraceSpec, file: TraceFile, raw: RawTrace, arrival_s: Array, notes: list[str]) -> Integers:
    back = np.flatnonzero(np.diff(arrival_s) < 0)
    if not back.size:
        return np.arange(arrival_s.size, dtype=np.int64)
    if not spec.sort:
        first = int(back[0])
        raise file.error(
            f"arrives {arrival_s[first] - arrival_s[first + 1]:.6g} s before the row above it",
            line=int(raw.lines[first + 1]),
            allowed="rows in order of arrival",
            hint="`sort: true` puts them in order",
        )
    notes.append(f"{back.size} rows were earlier than the one before: sorted by arrival")
    return np.argsort(arrival_s, kind="stable").astype(np.int64)


def _on_fine_clock(spec: TraceSpec, clock: Array, notes: list[str], seed: int) -> Array:
    stamps, counts = np.unique(clock, return_counts=True)
    if stamps.size < 2 or stamps.size >= _QUANTISED * clock.size:
        return clock
    tick = float(np.median(np.diff(stamps)))
    coarse = f"only {stamps.size} distinct time stamps, typically {format_quantity(tick, 's')} apart"
    if spec.dequantize == "none":
        notes.append(f"{coarse}: bursts of equal stamps are an artefact; `dequantize: uniform` spreads them")
        return clock
    notes.append(f"{coarse}: requests of one stamp were spread at random until the next (seed {seed})")
    width = np.minimum(np.append(np.diff(stamps), tick), tick)
    spread = clock + np.repeat(width, counts) * stream(seed, "dequantize").random(clock.size)
    return np.sort(spread)  # within one stamp rows keep their order, as widths do not overlap


def _select(spec: TraceSpec, raw: RawTrace, order: Integers, clock: Array) -> tuple[Integers, dict[str, int]]:
    """Positions in `order` that are kept, and how many were dropped for which reason."""
    keep = np.ones(order.size, dtype=bool)
    dropped: dict[str, int] = {}

    def drop(reason: str, mask: Any) -> None:
        dropped[reason] = int(np.count_nonzero(keep & mask))
        keep[mask] = False

    drop("no input tokens", raw.input_tokens[order] == 0)
    drop("no output tokens", raw.output_tokens[order] == 0)
    if spec.window is not None:
        drop("outside the window", (clock < spec.window[0]) | (clock >= spec.window[1]))
    if spec.limit is not None:
        drop("beyond the limit", np.cumsum(keep) > spec.limit)
    return np.flatnonzero(keep).astype(np.int64), dropped
