"""JSON of benchmark tools: a document or one object a line, plain or gzip, with typed access and the line in errors."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sim.core import InputError


@dataclass(frozen=True)
class Record:
    """An object of a result file; keys may be paths such as `metrics.ttft.mean`.

    Attributes:
        data: Its content.
        file: Path, for messages.
        line: Line it begins in, from 1; None inside a longer document.
        at: Path of the object in its document.
    """

    data: Mapping[str, Any]
    file: str
    line: int | None = None
    at: str = ""

    def get(self, path: str) -> Any:
        """The value at `path`; None if it or a parent is absent or null."""
        found: Any = self.data
        for key in path.split("."):
            found = found.get(key) if isinstance(found, Mapping) else None
        return found

    def text(self, path: str) -> str:
        """The value as text without blanks around it; empty if it is absent or no text."""
        found = self.get(path)
        return found.strip() if isinstance(found, str) else ""

    def number(self, path: str) -> float | None:
        """The value as a finite number; None if it is absent.

        Raises:
            InputError: if it is something else.
        """
        found = self.get(path)
        if found is None:
            return None
        if isinstance(found, bool) or not isinstance(found, (int, float)) or not math.isfinite(found):
            raise self.error("expected a finite number", path, value=found)
        return float(found)

    def count(self, path: str) -> int | None:
        """The value as a whole number above zero, also if it is written as text; None if it is absent.

        Raises:
            InputError: if it is something else.
        """
        found = self.get(path)
        if found is None or found == "":
            return None
        try:
            value = float(found)
        except (TypeError, ValueError):
            value = math.nan
        if isinstance(found, bool) or not value.is_integer() or value < 1:
            raise self.error("expected a whole number above zero", path, value=found)
        return int(value)

    def numbers(self, path: str) -> list[float] | None:
        """The value as a list of finite numbers; None if it is absent or empty.

        Raises:
            InputError: if it is something else.
        """
        found = self.get(path)
        if found is None or found == []:
            return None
        good = isinstance(found, list) and all(type(x) in (int, float) and math.isfinite(x) for x in found)
        if not good:
            raise self.error("expected a list of finite numbers", path)
        return [float(x) for x in found]

    def inside(self, path: str) -> Record:
        """The object at `path`.

        Raises:
            InputError: if there is none.
        """
        found = self.get(path)
        if not isinstance(found, Mapping):
            raise self.error("expected an object", path)
        return Record(found, self.file, self.line, self._path(path))

    def inside_all(self, path: str) -> list[Record]:
        """The objects of the list at `path`; none if it is absent.

        Raises:
            InputError: if it is no list of objects.
        """
        found = self.get(path)
        if found is None:
            return []
        if not isinstance(found, list) or not all(isinstance(one, Mapping) for one in found):
            raise self.error("expected a list of objects", path)
        return [Record(one, self.file, self.line, f"{self._path(path)}.{i}") for i, one in enumerate(found)]

    def error(self, message: str, path: str, **details: Any) -> InputError:
        """An error about the value at `path`; `details` are those of `InputError`."""
        return InputError(message, file=self.file, line=self.line, path=self._path(path), **details)

    def _path(self, path: str) -> str:
        return f"{self.at}.{path}" if self.at else path


@dataclass(frozen=True)
class BenchmarkFile:
    """A result file on disk.

    Attributes:
        path: Where it is.
    """

    path: Path

    @cached_property
    def text(self) -> str:
        """All of it, decompressed if need be.

        Raises:
            InputError: if it cannot be read or is no text.
        """
        try:
            content = self.path.read_bytes()
            if content.startswith(b"\x1f\x8b"):
                content = gzip.decompress(content)
            return content.decode("utf-8-sig")
        except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
            raise InputError(f"cannot read the file: {error}", file=str(self.path)) from None

    @property
    def is_json(self) -> bool:
        """Whether it looks like JSON."""
        return self.text.lstrip()[:1] in ("{", "[")

    @cached_property
    def records(self) -> Sequence[Record]:
        """Its objects: the document's own, those of a list, or one of each line.

        Raises:
            InputError: for text that is no JSON, with its line.
        """
        try:
            whole = json.loads(self.text)
        except (ValueError, RecursionError):
            return self._lines()
        objects = whole if isinstance(whole, list) else [whole]
        many = len(objects) > 1
        found = [Record(one, str(self.path), None, str(i) if many else "") for i, one in enumerate(objects)]
        return self._checked(found)

    def _lines(self) -> Sequence[Record]:
        found = []
        for number, line in enumerate(self.text.split("\n"), start=1):
            if not line.strip():
                continue
            try:
                found.append(Record(json.loads(line), str(self.path), number))
            except (ValueError, RecursionError) as error:
                raise InputError(
                    f"not valid JSON: {error}", file=str(self.path), line=number, hint="is the file cut off?"
                ) from None
        return self._checked(found)

    def _checked(self, found: list[Record]) -> list[Record]:
        if not found:
            raise InputError("the file has no results", file=str(self.path))
        for record in found:
            if not isinstance(record.data, Mapping):
                raise InputError("expected JSON objects", file=str(self.path), line=record.line)
        return found
