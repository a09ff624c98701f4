"""The one form in which traffic reaches a simulation: columns of requests, in order of arrival."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sim.core import Array, InputError
from sim.workloads.blocks import PromptBlocks
from sim.workloads.report import TraceReport

_OPTIONAL = ("session_id", "parent_id", "priority")


@dataclass(frozen=True, eq=False)
class RequestTable:
    """Requests sorted by arrival, the first at time 0.

    Attributes:
        arrival_s: When each is sent [s], shape `(n,)`.
        input_tokens: Prompt tokens, at least 1.
        output_tokens: Tokens to produce, at least 1.
        session_id: Conversation each belongs to; None if unknown.
        parent_id: Row or id of the request it follows, -1 for none; None if unknown.
        priority: Larger is more urgent; None if all are equal.
        blocks: Content ids of prompt blocks, for prefix caching; None if unknown.
        name: What to call this traffic.
        report: What the importer did; None for generated traffic.
    """

    arrival_s: Array
    input_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    session_id: NDArray[np.int64] | None = None
    parent_id: NDArray[np.int64] | None = None
    priority: NDArray[np.int64] | None = None
    blocks: PromptBlocks | None = None
    name: str = "requests"
    report: TraceReport | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "arrival_s", np.asarray(self.arrival_s, dtype=np.float64))
        for column in ("input_tokens", "output_tokens", *_OPTIONAL):
            value = getattr(self, column)
            if value is not None:
                object.__setattr__(self, column, _integers(value, column))
        self._check()

    def _check(self) -> None:
        count = self.arrival_s.size
        if count == 0:
            raise InputError("no requests", path="arrival_s")
        for column in ("arrival_s", "input_tokens", "output_tokens", *_OPTIONAL):
            value = getattr(self, column)
            if value is not None and value.shape != (count,):
                raise InputError(f"expected {count} values", path=column, value=value.shape)
        if self.blocks is not None and len(self.blocks) != count:
            raise InputError(f"expected blocks of {count} requests", path="blocks", value=len(self.blocks))
        if not np.all(np.isfinite(self.arrival_s)) or self.arrival_s[0] != 0 or np.any(np.diff(self.arrival_s) < 0):
            raise InputError("arrivals must be finite, start at 0 s and never go back", path="arrival_s")
        for column in ("input_tokens", "output_tokens"):
            smallest = int(getattr(self, column).min())
            if smallest < 1:
                raise InputError("every request has at least one token", path=column, value=smallest)

    def __len__(self) -> int:
        return int(self.arrival_s.size)

    @property
    def span_s(self) -> float:
        """Time from the first to the last arrival [s]."""
        return float(self.arrival_s[-1])

    def head(self, count: int) -> RequestTable:
        """The first `count` requests, or all if there are fewer."""
        if count < 1:
            raise InputError("expected at least one request", path="count", value=count)
        return self if count >= len(self) else self.take(np.arange(count, dtype=np.int64))

    def repeated(self, count: int) -> RequestTable:
        """The first `count` requests of this table played over and over, one mean gap between two rounds.

        Lengths move on by one arrival each round: a router that takes replicas in turn would else send the same
        requests to the same replica in every round. Sessions and the like are of one round and left out; prompts share
        their beginnings with those of the same round only.
        """
        if count <= len(self):
            return self.head(count)
        rounds, position = np.divmod(np.arange(count), len(self))
        gap_s = self.span_s / (len(self) - 1) if len(self) > 1 else 0.0
        lengths = (position + rounds) % len(self)
        return RequestTable(
            arrival_s=self.arrival_s[position] + rounds * (self.span_s + gap_s),
            input_tokens=self.input_tokens[lengths],
            output_tokens=self.output_tokens[lengths],
            blocks=None if self.blocks is None else self.blocks.take(lengths).renamed(rounds),
            name=self.name,
        )

    def take(self, rows: NDArray[np.int64]) -> RequestTable:
        """The requests `rows` (ascending), with arrivals moved so that the first is at 0; the report is kept."""
        optional: dict[str, Any] = {
            column: None if (v := getattr(self, column)) is None else v[rows] for column in _OPTIONAL
        }
        arrival = self.arrival_s[rows]
        return replace(
            self,
            arrival_s=arrival - arrival[0] if arrival.size else arrival,
            input_tokens=self.input_tokens[rows],
            output_tokens=self.output_tokens[rows],
            blocks=None if self.blocks is None else self.blocks.take(rows),
            **optional,
        )

    def scaled(self, factor: float) -> RequestTable:
        """The same requests arriving `factor` times as fast."""
        if not (np.isfinite(factor) and factor > 0):
            raise InputError("the factor must be positive", path="rate_scale", value=factor)
        return replace(self, arrival_s=self.arrival_s / factor)

    def to_frame(self) -> pd.DataFrame:
        """One row per request; `block_ids` holds lists, and `attrs` the name and block size [tokens]."""
        columns: dict[str, Any] = {
            "arrival_s": self.arrival_s,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
        }
        columns |= {column: v for column in _OPTIONAL if (v := getattr(self, column)) is not None}
        if self.blocks is not None:
            columns["block_ids"] = self.blocks.to_lists()
        frame = pd.DataFrame(columns)
        frame.attrs = {"name": self.name}
        if self.blocks is not None:
            frame.attrs["block_size"] = self.blocks.size
        return frame

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, *, name: str | None = None) -> RequestTable:
        """The table in `frame`, as written by `to_frame`.

        Raises:
            InputError: if a column is missing or a value unusable.
        """
        for column in ("arrival_s", "input_tokens", "output_tokens"):
            if column not in frame:
                raise InputError(f"column {column!r} is missing", allowed=[str(c) for c in frame.columns])
        blocks = None
        if "block_ids" in frame:
            if "block_size" not in frame.attrs:
                raise InputError("column 'block_ids' needs the block size", path="attrs.block_size")
            blocks = PromptBlocks.from_lists(int(frame.attrs["block_size"]), frame["block_ids"])
        optional: dict[str, Any] = {column: frame[column].to_numpy() for column in _OPTIONAL if column in frame}
        return cls(
            arrival_s=frame["arrival_s"].to_numpy(),
            input_tokens=frame["input_tokens"].to_numpy(),
            output_tokens=frame["output_tokens"].to_numpy(),
            blocks=blocks,
            name=name or str(frame.attrs.get("name", "requests")),
            **optional,
        )

    def save(self, path: Path | str) -> None:
        """Write the requests as plansim Parquet, or as JSON lines if `path` ends in `.jsonl` or `.jsonl.gz`."""
        from sim.workloads.traces.plansim_jsonl import write_jsonl
        from sim.workloads.traces.plansim_parquet import write_parquet

        target = Path(path)
        write = write_jsonl if target.name.endswith((".jsonl", ".jsonl.gz")) else write_parquet
        write(self, target)


def _integers(value: Any, column: str) -> NDArray[np.int64]:
    array = np.asarray(value)
    if array.dtype.kind in "iu":
        return array.astype(np.int64, copy=False)
    try:
        whole = array.astype(np.float64)
    except (TypeError, ValueError):
        raise InputError("expected whole numbers", path=column) from None
    bad = ~np.isfinite(whole) | (whole != np.floor(whole))
    if bad.any():
        raise InputError("expected whole numbers", path=column, value=whole[bad][0].item())
    return whole.astype(np.int64)
