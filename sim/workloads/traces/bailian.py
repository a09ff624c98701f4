"""Qwen-Bailian traces: the keys of Mooncake with seconds, 16-token blocks and conversations."""

from __future__ import annotations

from collections.abc import Sequence

from sim.workloads.traces.base import TRACES, RawTrace, TraceFile, TraceFormat
from sim.workloads.traces.mooncake import KEYS, read_hashed


@TRACES.register("bailian")
class Bailian(TraceFormat):
    """Qwen-Bailian traces (JSON lines): timestamp in s, lengths, hash_ids, chat_id, parent_chat_id."""

    @staticmethod
    def sniff(first_line: str, columns: Sequence[str]) -> bool:
        """Told by its keys."""
        return {*KEYS, "chat_id"} <= set(columns)

    @staticmethod
    def read(file: TraceFile) -> RawTrace:
        """Rows as recorded; each chat id is a turn, its parent the turn before."""
        return read_hashed(file, tick_s=1.0)
