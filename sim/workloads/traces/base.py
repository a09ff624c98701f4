"""What a trace importer must offer, the registry of them, and the errors they share.

An importer only turns its file into columns; everything all formats need (order, windows, dropped rows, the report)
happens once, in `sim.workloads.traces.read`.
"""

from __future__ import annotations

import gzip
import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sim.core import Array, InputError, Registry
from sim.workloads.blocks import PromptBlocks

Integers = NDArray[np.int64]
TRACES: Registry[type[TraceFormat]] = Registry("trace", package="sim.workloads.traces")


@dataclass(frozen=True)
class TraceFile:
    """A trace on disk, decompressed if need be.

    Attributes:
        path: Where it is, as shown in errors.
    """

    path: Path

    @cached_property
    def content(self) -> bytes:
        """All bytes of the file, without gzip.

        Raises:
            InputError: if it cannot be read or is empty.
        """
        try:
            content = self.path.read_bytes()
            if content.startswith(b"\x1f\x8b"):
                content = gzip.decompress(content)
        except FileNotFoundError:
            raise InputError("no such trace file", file=str(self.path)) from None
        except (OSError, EOFError, zlib.error) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"cannot read the trace: {reason}", file=str(self.path)) from None
        if not content.strip():
            raise InputError("the trace is empty", file=str(self.path), allowed="at least one request")
        return content

    @cached_property
    def text(self) -> str:
        """The content as text, without a byte order mark.

        Raises:
            InputError: if it is not UTF-8.
        """
        try:
            return self.content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = self.content[: error.start].count(b"\n") + 1
            raise InputError("the trace is not UTF-8 text", file=str(self.path), line=line) from None

    def error(self, message: str, *, line: int | None = None, **details: object) -> InputError:
        """An error about this file; `details` are those of `InputError`."""
        return InputError(message, file=str(self.path), line=line, **details)  # type: ignore[arg-type]


@dataclass(frozen=True)
class RawTrace:
    """The columns of a trace as recorded, one value per data row, in the order of the file.

    Attributes:
        lines: Line of each row in the file, from 1 (row number for formats without lines).
        arrival_s: Time stamps [s] from any origin; None if the format has none.
        input_tokens: Prompt tokens.
        output_tokens: Output tokens.
        session_id: Conversation of each row; None if unknown.
        parent_id: Request each row follows, -1 for none; None if unknown.
        priority: Larger is more urgent; None if unknown.
        blocks: Prompt blocks; None if unknown.
        notes: What the importer wants a reader to know.
    """

    lines: Integers
    arrival_s: Array | None
    input_tokens: Integers
    output_tokens: Integers
    session_id: Integers | None = None
    parent_id: Integers | None = None
    priority: Integers | None = None
    blocks: PromptBlocks | None = None
    notes: tuple[str, ...] = field(default=())


class TraceFormat(ABC):
    """An importer of one format."""

    @staticmethod
    @abstractmethod
    def sniff(first_line: str, columns: Sequence[str]) -> bool:
        """Whether a file is of this format.

        Args:
            first_line: Its first line.
            columns: Names of its CSV columns, or keys of its first JSON object.
        """

    @staticmethod
    @abstractmethod
    def read(file: TraceFile) -> RawTrace:
        """The columns of `file`.

        Raises:
            InputError: for a value that cannot be read, with its line.
        """
