"""Azure LLM inference traces of 2023, 2024 and 2025: CSV with time stamps of seven fractional digits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from sim.workloads.traces.base import TRACES, RawTrace, TraceFile, TraceFormat
from sim.workloads.traces.columns import integers, read_csv

COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")


@TRACES.register("azure")
class Azure(TraceFormat):
    """Azure LLM inference traces (CSV): TIMESTAMP, ContextTokens, GeneratedTokens."""

    @staticmethod
    def sniff(first_line: str, columns: Sequence[str]) -> bool:
        """Told by its three columns."""
        return set(COLUMNS) <= set(columns)

    @staticmethod
    def read(file: TraceFile) -> RawTrace:
        """Rows as recorded; times count from the first row, to 100 ns."""
        frame, lines = read_csv(file, COLUMNS)
        stamps = pd.to_datetime(frame["TIMESTAMP"], format="ISO8601", utc=True, errors="coerce")
        bad = np.flatnonzero(stamps.isna())
        if bad.size:
            value = frame["TIMESTAMP"].iloc[bad[0]]
            raise file.error(
                "TIMESTAMP is not a time", line=int(lines[bad[0]]), value=value, allowed="2023-11-16 18:15:46.6805900"
            )
        return RawTrace(
            lines=lines,
            arrival_s=np.asarray((stamps - stamps.iloc[0]) / pd.Timedelta(seconds=1), dtype=np.float64),
            input_tokens=integers(file, frame["ContextTokens"], lines, "ContextTokens"),
            output_tokens=integers(file, frame["GeneratedTokens"], lines, "GeneratedTokens"),
        )
