"""plansim's own Parquet: the columns of a request table, with name and block size as metadata."""

from __future__ import annotations

import json
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from sim.workloads.blocks import PromptBlocks
from sim.workloads.requests import RequestTable
from sim.workloads.traces.base import TRACES, RawTrace, TraceFile, TraceFormat
from sim.workloads.traces.columns import floats, integers

KEY = b"plansim"
OPTIONAL = ("session_id", "parent_id", "priority")


def write_parquet(table: RequestTable, path: Path) -> None:
    """Write `table` to `path`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    frame = table.to_frame()
    columns = {name: frame[name].to_numpy() for name in frame.columns if name != "block_ids"}
    if table.blocks is not None:
        columns["block_ids"] = pa.ListArray.from_arrays(table.blocks.offsets.astype(np.int32), table.blocks.ids)
    about = json.dumps({"name": table.name, "block_size": None if table.blocks is None else table.blocks.size})
    pq.write_table(pa.table(columns).replace_schema_metadata({KEY: about.encode()}), path, compression="zstd")


@TRACES.register("plansim-parquet")
class PlansimParquet(TraceFormat):
    """plansim's own Parquet: arrival_s, input_tokens, output_tokens and optional columns."""

    @staticmethod
    def sniff(first_line: str, columns: Sequence[str]) -> bool:
        """Told by the first bytes of every Parquet file."""
        return first_line == "PAR1"

    @staticmethod
    def read(file: TraceFile) -> RawTrace:
        """Requests as written by `write_parquet`; rows stand in for lines."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            data = pq.read_table(BytesIO(file.content))
        except (pa.ArrowException, OSError) as error:
            raise file.error(f"not a readable Parquet file: {str(error).splitlines()[0]}") from None
        lines = np.arange(1, data.num_rows + 1, dtype=np.int64)
        if data.num_rows == 0:
            raise file.error("the trace has no requests")

        def values(name: str) -> Any:
            if name not in data.column_names:
                raise file.error(f"column {name!r} is missing", allowed=data.column_names)
            return data[name].to_pandas()

        optional: dict[str, Any] = {
            key: integers(file, values(key), lines, key) for key in OPTIONAL if key in data.column_names
        }
        return RawTrace(
            lines=lines,
            arrival_s=floats(file, values("arrival_s"), lines, "arrival_s"),
            input_tokens=integers(file, values("input_tokens"), lines, "input_tokens"),
            output_tokens=integers(file, values("output_tokens"), lines, "output_tokens"),
            blocks=_blocks(file, data),
            **optional,
        )


def _blocks(file: TraceFile, data: Any) -> PromptBlocks | None:
    if "block_ids" not in data.column_names:
        return None
    size = json.loads((data.schema.metadata or {}).get(KEY, b"{}")).get("block_size")
    if not isinstance(size, int) or size < 1:
        raise file.error("block_ids need a block_size in the metadata", value=size)
    lists = data["block_ids"].to_pandas()
    return PromptBlocks.from_lists(size, list(lists))
