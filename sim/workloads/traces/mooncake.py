"""Mooncake traces: JSON lines with millisecond time stamps and chained ids of prompt blocks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sim.workloads.blocks import PromptBlocks
from sim.workloads.traces.base import TRACES, Integers, RawTrace, TraceFile, TraceFormat
from sim.workloads.traces.columns import column, floats, id_lists, integers, read_jsonl

KEYS = ("timestamp", "input_length", "output_length")
_SIZES = (512, 16, 32, 64, 128, 256, 1024)  # tokens; the recorders' own first


def block_size(counts: Integers, input_tokens: Integers) -> int | None:
    """Tokens per block such that each prompt has `counts` blocks, with or without a partial last one."""
    for size in _SIZES:
        if np.array_equal(counts, -(-input_tokens // size)) or np.array_equal(counts, input_tokens // size):
            return size
    return None


@TRACES.register("mooncake")
class Mooncake(TraceFormat):
    """Mooncake traces (JSON lines): timestamp in ms, input_length, output_length, hash_ids."""

    @staticmethod
    def sniff(first_line: str, columns: Sequence[str]) -> bool:
        """Told by its keys; those of Qwen-Bailian, which counts in seconds, have `chat_id` too."""
        return set(KEYS) <= set(columns) and "chat_id" not in columns

    @staticmethod
    def read(file: TraceFile) -> RawTrace:
        """Rows as recorded; `hash_ids` are kept if they fit a block size."""
        return read_hashed(file, tick_s=1e-3)


def read_hashed(file: TraceFile, *, tick_s: float) -> RawTrace:
    """JSON lines with the keys of Mooncake and time stamps in units of `tick_s` [s]."""
    rows, lines = read_jsonl(file)
    input_tokens = integers(file, column(rows, "input_length"), lines, "input_length")
    blocks: PromptBlocks | None = None
    notes: tuple[str, ...] = ()
    if any("hash_ids" in row for row in rows):
        ids = id_lists(file, rows, lines, "hash_ids")
        size = block_size(np.array([len(row) for row in ids], dtype=np.int64), input_tokens)
        if size is None:
            notes = ("hash_ids fit no block size and were left out",)
        else:
            blocks = PromptBlocks.from_lists(size, ids)
    return RawTrace(
        lines=lines,
        arrival_s=floats(file, column(rows, "timestamp"), lines, "timestamp") * tick_s,
        input_tokens=input_tokens,
        output_tokens=integers(file, column(rows, "output_length"), lines, "output_length"),
        session_id=_ids(file, rows, lines, "chat_id"),
        parent_id=_ids(file, rows, lines, "parent_chat_id"),
        blocks=blocks,
        notes=notes,
    )


def _ids(file: TraceFile, rows: list[dict[str, object]], lines: Integers, key: str) -> Integers | None:
    return integers(file, column(rows, key), lines, key) if key in rows[0] else None
