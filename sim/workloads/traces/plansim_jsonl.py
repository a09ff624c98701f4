"""plansim's own JSON lines: a first line that says what follows, then one request a line."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sim.workloads.blocks import PromptBlocks
from sim.workloads.requests import RequestTable
from sim.workloads.traces.base import TRACES, Integers, RawTrace, TraceFile, TraceFormat
from sim.workloads.traces.columns import column, floats, id_lists, integers, read_jsonl

VERSION = 1
OPTIONAL = ("session_id", "parent_id", "priority")


def write_jsonl(table: RequestTable, path: Path) -> None:
    """Write `table` to `path`, compressed if that ends in `.gz`."""
    frame = table.to_frame()
    head = {"plansim": "requests", "version": VERSION, "name": table.name}
    if table.blocks is not None:
        head["block_size"] = table.blocks.size
    text = "\n".join([json.dumps(head), *(json.dumps(row) for row in frame.to_dict("records"))]) + "\n"
    content = text.encode()
    path.write_bytes(gzip.compress(content, mtime=0) if path.name.endswith(".gz") else content)


@TRACES.register("plansim-jsonl")
class PlansimJsonl(TraceFormat):
    """plansim's own JSON lines: a line with name and block size, then one request a line."""

    @staticmethod
    def sniff(first_line: str, columns: Sequence[str]) -> bool:
        """Told by the key `plansim` of its first line."""
        return "plansim" in columns

    @staticmethod
    def read(file: TraceFile) -> RawTrace:
        """Requests as written by `write_jsonl`."""
        objects, places = read_jsonl(file)
        head, rows, lines = objects[0], objects[1:], places[1:]
        if head.get("version") != VERSION:
            raise file.error("unknown version", line=1, value=head.get("version"), allowed=str(VERSION))
        if not rows:
            raise file.error("the trace has no requests")
        optional: dict[str, Any] = {
            key: integers(file, column(rows, key), lines, key) for key in OPTIONAL if key in rows[0]
        }
        return RawTrace(
            lines=lines,
            arrival_s=floats(file, column(rows, "arrival_s"), lines, "arrival_s"),
            input_tokens=integers(file, column(rows, "input_tokens"), lines, "input_tokens"),
            output_tokens=integers(file, column(rows, "output_tokens"), lines, "output_tokens"),
            blocks=_blocks(file, head.get("block_size"), rows, lines),
            **optional,
        )


def _blocks(file: TraceFile, size: object, rows: list[dict[str, Any]], lines: Integers) -> PromptBlocks | None:
    if not any("block_ids" in row for row in rows):
        return None
    if not isinstance(size, int) or size < 1:
        raise file.error("block_ids need a block_size", line=1, value=size, allowed="tokens per block, 1 or more")
    return PromptBlocks.from_lists(size, id_lists(file, rows, lines, "block_ids"))
