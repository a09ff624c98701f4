"""APEX traces: JSON lines with nanosecond offsets."""

from __future__ import annotations

from collections.abc import Sequence

from sim.workloads.traces.base import TRACES, RawTrace, TraceFile, TraceFormat
from sim.workloads.traces.columns import column, floats, integers, read_jsonl

KEYS = ("StartTimeOffset", "ContextTokens", "GeneratedTokens")


@TRACES.register("apex")
class Apex(TraceFormat):
    """APEX traces (JSON lines): StartTimeOffset in ns, ContextTokens, GeneratedTokens."""

    @staticmethod
    def sniff(first_line: str, columns: Sequence[str]) -> bool:
        """Told by its keys."""
        return set(KEYS) <= set(columns)

    @staticmethod
    def read(file: TraceFile) -> RawTrace:
        """Rows as recorded."""
        rows, lines = read_jsonl(file)
        return RawTrace(
            lines=lines,
            arrival_s=floats(file, column(rows, "StartTimeOffset"), lines, "StartTimeOffset") * 1e-9,
            input_tokens=integers(file, column(rows, "ContextTokens"), lines, "ContextTokens"),
            output_tokens=integers(file, column(rows, "GeneratedTokens"), lines, "GeneratedTokens"),
        )
