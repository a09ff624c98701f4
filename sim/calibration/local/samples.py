"""Measurements of a machine as rows: what was run, how long it took, and the CSV file that holds them."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal, get_args

from sim.core import InputError

Kind = Literal[
    "copy", "gemm", "attention_prefill", "attention_decode", "elementwise", "embedding", "sampling", "all_reduce"
]
KINDS: Final[tuple[str, ...]] = get_args(Kind)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A kernel call; sizes that its kind does not have are 0.

    Attributes:
        kind: Which kernel.
        dtype: Format of its operands.
        operation: Variant: `copy`, `read` or `from_host` of copies; the block of an elementwise kernel.
        m: Rows of a GEMM (tokens), or rows of a look-up or of logits.
        n: Columns of the weights; width of a row.
        k: Inner size.
        batch: Sequences of an attention.
        query_tokens: New tokens per sequence.
        kv_tokens: Keys that the last new token attends to, per sequence; in prefill the new ones are among them.
        heads: Query heads.
        kv_heads: KV heads.
        head_dim: Head dimension.
        bytes: Least bytes moved [B] by streaming kernels; of copies and all-reduces the size of the buffer [B].
        ranks: Ranks of a collective.
    """

    kind: Kind
    dtype: str
    operation: str = ""
    m: int = 0
    n: int = 0
    k: int = 0
    batch: int = 0
    query_tokens: int = 0
    kv_tokens: int = 0
    heads: int = 0
    kv_heads: int = 0
    head_dim: int = 0
    bytes: int = 0
    ranks: int = 0


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How long something took.

    Attributes:
        time_s: Median of the readings [s].
        spread_frac: Interquartile range of the readings over their median.
        repeats: Readings.
    """

    time_s: float
    spread_frac: float
    repeats: int


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A timed case, and on what.

    Attributes:
        case: What was run.
        timing: How long it took.
        device: The device's title.
        versions: Software, and the threads it used.
    """

    case: Case
    timing: Timing
    device: str
    versions: str


COLUMNS: Final = (*(f.name for f in fields(Case)), *(f.name for f in fields(Timing)), "device", "versions")
"""Columns of the CSV file, in SI units; `docs/profile.md` describes them."""


def write_samples(samples: Iterable[Sample], path: Path) -> None:
    """Writes the samples as a CSV file with the columns `COLUMNS`; sizes that a kind does not have stay empty."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for sample in samples:
            sizes = {name: value or "" for name, value in asdict(sample.case).items()}
            where = {"device": sample.device, "versions": sample.versions}
            writer.writerow({**sizes, **asdict(sample.timing), **where})


def read_samples(path: Path) -> list[Sample]:
    """The samples of a CSV file that `write_samples` wrote.

    Raises:
        InputError: if the file is missing, lacks a column or holds a value of the wrong kind; names its line.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise InputError(f"no column {missing[0]!r}", file=str(path), line=1, allowed=COLUMNS)
            return [_sample(row, str(path), reader.line_num) for row in reader]
    except OSError as error:
        raise InputError(error.strerror or "cannot be read", file=str(path)) from None


def _sample(row: dict[str, str], file: str, line: int) -> Sample:
    def numbers(kind: type[Case] | type[Timing]) -> dict[str, Any]:
        return {f.name: _number(f.name, row[f.name], str(f.type), file, line) for f in fields(kind)}

    sizes = {name: value for name, value in numbers(Case).items() if value is not None}
    timing = Timing(**numbers(Timing))
    if sizes["kind"] not in KINDS:
        raise InputError("unknown kind", file=file, line=line, path="kind", value=sizes["kind"], allowed=KINDS)
    if timing.time_s <= 0:
        raise InputError("a time is above zero", file=file, line=line, path="time_s", value=timing.time_s)
    return Sample(case=Case(**sizes), timing=timing, device=row["device"], versions=row["versions"])


def _number(name: str, text: str, kind: str, file: str, line: int) -> Any:
    """`text` as the field's kind; None for an empty cell."""
    if kind not in ("int", "float"):
        return text
    if text == "" and kind == "int":
        return None
    try:
        return int(text) if kind == "int" else float(text)
    except ValueError:
        raise InputError("expected a number", file=file, line=line, path=name, value=text) from None
