"""BurstGPT traces: CSV read by column name, because early releases lack two columns."""

from __future__ import annotations

import csv
from collections.abc import Sequence

import numpy as np

from sim.workloads.traces.base import TRACES, RawTrace, TraceFile, TraceFormat
from sim.workloads.traces.columns import floats, integers, read_csv

COLUMNS = ("Timestamp", "Request tokens", "Response tokens")
SESSION = "Session ID"


@TRACES.register("burstgpt")
class BurstGpt(TraceFormat):
    """BurstGPT traces (CSV): Timestamp in s, Request tokens, Response tokens (0 for a failure), maybe Session ID."""

    @staticmethod
    def sniff(first_line: str, columns: Sequence[str]) -> bool:
        """Told by its columns."""
        return set(COLUMNS) <= set(columns)

    @staticmethod
    def read(file: TraceFile) -> RawTrace:
        """Rows as recorded; session names become numbers, -1 where there is none."""
        header = [name.strip() for name in next(csv.reader([file.text.partition("\n")[0]]))]
        frame, lines = read_csv(file, (*COLUMNS, SESSION) if SESSION in header else COLUMNS)
        session = None
        if SESSION in header:
            names, codes = np.unique(np.asarray(frame[SESSION], dtype=str), return_inverse=True)
            session = np.where(names == "", -1, np.arange(names.size))[codes].astype(np.int64)
        return RawTrace(
            lines=lines,
            arrival_s=floats(file, frame["Timestamp"], lines, "Timestamp"),
            input_tokens=integers(file, frame["Request tokens"], lines, "Request tokens"),
            output_tokens=integers(file, frame["Response tokens"], lines, "Response tokens"),
            session_id=session,
        )
