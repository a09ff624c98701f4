"""A user's own kernel measurements: one CSV, a row per shape, as `plansim profile` writes it.

Columns: kind, dtype, m, n, k, batch, query_tokens, kv_tokens, heads, kv_heads, head_dim, bytes, ranks, time_s; those
that a kind does not need stay empty. Kinds: `gemm` (dtype of the weights), `attention_prefill` and `attention_decode`
(dtype of the cache, kv_tokens of one sequence), `all_reduce` (bytes of the whole buffer); rows of `copy` and of
kernels that stream their operands (`elementwise`, `embedding`, `sampling`) are for the device profile. Columns beyond
these are not read.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import numpy as np

from sim.core import InputError
from sim.costs.tables.base import TABLES, KernelRows, clean_rows
from sim.costs.tables.shapes import table_format
from sim.hardware import Device

Record = Mapping[str, str]
Reader = Callable[[Mapping[str, float]], Mapping[str, float] | None]


def _prompt(row: Mapping[str, float]) -> Mapping[str, float] | None:
    """A prompt alone and without prefix; None for others, which the form has to answer for."""
    if row["batch"] != 1 or row["kv_tokens"] != row["query_tokens"]:
        return None
    return {"chunk": row["query_tokens"], **_heads(row)}


def _heads(row: Mapping[str, float]) -> Mapping[str, float]:
    return {"q_heads": row["heads"], "kv_heads": row["kv_heads"], "head_dim": row["head_dim"], "window": 0.0}


_READERS: Final[Mapping[str, tuple[str, tuple[str, ...], Reader]]] = {
    "gemm": ("gemm", ("m", "n", "k"), lambda row: {"m": row["m"], "n": row["n"], "k": row["k"]}),
    "prefill_attention": (
        "attention_prefill",
        ("batch", "query_tokens", "kv_tokens", "heads", "kv_heads", "head_dim"),
        _prompt,
    ),
    "decode_attention": (
        "attention_decode",
        ("batch", "kv_tokens", "heads", "kv_heads", "head_dim"),
        lambda row: {"sequences": row["batch"], "context": row["kv_tokens"], **_heads(row)},
    ),
    "all_reduce": ("all_reduce", ("bytes", "ranks"), lambda row: {"buffer_bytes": row["bytes"], "ranks": row["ranks"]}),
}
_UNREAD: Final = ("copy", "elementwise", "embedding", "sampling")
_KINDS: Final = (*_UNREAD, *(kind for kind, _, _ in _READERS.values()))


@TABLES.register("profile")
class ProfileTables:
    """Kernel measurements of your own, from a CSV as `plansim profile` writes it."""

    def __init__(self, *, device: Device, engine: str, path: str, version: str = "") -> None:
        self._path = Path(path)
        self._records = _read(self._path)
        digest = hashlib.sha256(self._path.read_bytes()).hexdigest()
        self._table = f"{self._path.name} (sha256 {digest[:12]})"

    def rows(self, kernel: str, dtype: str) -> KernelRows | str:
        """Rows of the kernel in the file, or why there are none."""
        if kernel not in _READERS:
            return f"{self._path.name} cannot hold {kernel}"
        kind, columns, reader = _READERS[kernel]
        shapes, times = [], []
        for line, record in self._records:
            if record["kind"] == kind and _same_format(kernel, record.get("dtype") or "", dtype, self._path, line):
                numbers = {name: _number(record, name, self._path, line) for name in (*columns, "time_s")}
                shape = reader(numbers)
                if shape is not None:
                    shapes.append(shape)
                    times.append(numbers["time_s"])
        if not shapes:
            return f"{self._path.name} has no {kind} rows" + (f" in {dtype}" if dtype else "")
        found = {name: np.array([shape[name] for shape in shapes]) for name in shapes[0]}
        return clean_rows(found, np.array(times), self._table)


def _same_format(kernel: str, text: str, dtype: str, path: Path, line: int) -> bool:
    """Whether a row's dtype is the one asked for; both 16-bit formats are one, and collectives have none."""
    if kernel == "all_reduce":
        return True
    try:
        return table_format(text) == dtype
    except InputError as error:
        raise InputError(error.message, file=str(path), line=line, path="dtype", value=text) from None


def _number(record: Record, column: str, path: Path, line: int) -> float:
    text = (record.get(column) or "").strip()
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 < value < float("inf"):
        raise InputError(
            f"a row of kind {record['kind']!r} needs a positive number",
            file=str(path),
            line=line,
            path=column,
            value=text,
        )
    return value


def _read(path: Path) -> tuple[tuple[int, Record], ...]:
    """Rows of the file with their line numbers.

    Raises:
        InputError: if it cannot be read, lacks a column, or has a row of an unknown kind.
    """
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream, restval="")
            records = tuple((reader.line_num, row) for row in reader)
            header = reader.fieldnames or ()
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read the kernel measurements: {error}", file=str(path), path="costs") from None
    if missing := [name for name in ("kind", "dtype", "time_s") if name not in header]:
        raise InputError(
            f"a table of kernel measurements needs the columns {', '.join(missing)}",
            file=str(path),
            line=1,
            hint="`plansim profile` writes one; docs/kernel_costs.md describes it",
        )
    for line, record in records:
        if record["kind"] not in _KINDS:
            raise InputError(
                "unknown kind of kernel", file=str(path), line=line, path="kind", value=record["kind"], allowed=_KINDS
            )
    return records
