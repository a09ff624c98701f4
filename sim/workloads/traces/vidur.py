"""Vidur traces: CSV of lengths, with or without arrival times."""

from __future__ import annotations

import csv
from collections.abc import Sequence

from sim.workloads.traces.base import TRACES, RawTrace, TraceFile, TraceFormat
from sim.workloads.traces.columns import floats, integers, read_csv

LENGTHS = ("num_prefill_tokens", "num_decode_tokens")
ARRIVAL = "arrived_at"


@TRACES.register("vidur")
class Vidur(TraceFormat):
    """Vidur traces (CSV): num_prefill_tokens, num_decode_tokens and, if recorded, arrived_at in s."""

    @staticmethod
    def sniff(first_line: str, columns: Sequence[str]) -> bool:
        """Told by its columns."""
        return set(LENGTHS) <= set(columns)

    @staticmethod
    def read(file: TraceFile) -> RawTrace:
        """Rows as recorded."""
        header = [name.strip() for name in next(csv.reader([file.text.partition("\n")[0]]))]
        timed = ARRIVAL in header
        frame, lines = read_csv(file, (*LENGTHS, ARRIVAL) if timed else LENGTHS)
        return RawTrace(
            lines=lines,
            arrival_s=floats(file, frame[ARRIVAL], lines, ARRIVAL) if timed else None,
            input_tokens=integers(file, frame[LENGTHS[0]], lines, LENGTHS[0]),
            output_tokens=integers(file, frame[LENGTHS[1]], lines, LENGTHS[1]),
        )
