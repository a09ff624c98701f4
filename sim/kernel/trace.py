"""Recording of spans, counters and markers in the Chrome trace format, readable by Perfetto and chrome://tracing.

Rows become `{"ph": "X"}` slices and `{"ph": "C"}` counters with times in microseconds; one `pid` per replica, one
`tid` per lane. Lanes for overlapping requests are assigned lowest-free-first, so slices of a lane never overlap.
"""

from __future__ import annotations

import gzip
import heapq
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_US = 1e6


class TraceRecorder:
    """Collects events of one run; `save` writes them gzipped."""

    def __init__(self) -> None:
        self._events: list[dict[str, Any]] = []
        self._names: dict[tuple[int, int | None], str] = {}

    def __len__(self) -> int:
        return len(self._events)

    def name_process(self, pid: int, name: str) -> None:
        """Labels process `pid`, for example a replica."""
        self._names[(pid, None)] = name

    def name_lane(self, pid: int, tid: int, name: str) -> None:
        """Labels lane `tid` of process `pid`."""
        self._names[(pid, tid)] = name

    def span(self, name: str, *, start_s: float, end_s: float, pid: int, tid: int, **args: float | str) -> None:
        """A slice from `start_s` to `end_s` [s].

        Raises:
            ValueError: if it ends before it starts.
        """
        if end_s < start_s:
            raise ValueError(f"span {name!r} ends at {end_s} s before it starts at {start_s} s")
        event = {"name": name, "ph": "X", "ts": start_s * _US, "dur": (end_s - start_s) * _US, "pid": pid, "tid": tid}
        self._events.append({**event, "args": args} if args else event)

    def counter(self, name: str, *, at_s: float, pid: int, **values: float) -> None:
        """Values of a counter from `at_s` [s] on."""
        self._events.append({"name": name, "ph": "C", "ts": at_s * _US, "pid": pid, "args": values})

    def lanes(self, spans: Iterable[tuple[float, float]]) -> list[int]:
        """Lane for each `(start_s, end_s)`, sorted by start, so that none of a lane overlap; fewest lanes."""
        free: list[int] = []
        busy: list[tuple[float, int]] = []
        result = []
        for start, end in spans:
            while busy and busy[0][0] <= start:
                heapq.heappush(free, heapq.heappop(busy)[1])
            lane = heapq.heappop(free) if free else len(busy)
            heapq.heappush(busy, (end, lane))
            result.append(lane)
        return result

    def to_json(self) -> dict[str, Any]:
        """The document as the Chrome trace format wants it."""
        names = [
            {
                "name": "process_name" if tid is None else "thread_name",
                "ph": "M",
                "pid": pid,
                **({} if tid is None else {"tid": tid}),
                "args": {"name": name},
            }
            for (pid, tid), name in sorted(self._names.items(), key=lambda item: (item[0][0], item[0][1] or -1))
        ]
        return {"displayTimeUnit": "ms", "traceEvents": names + self._events}

    def save(self, path: Path) -> None:
        """Writes the trace gzipped, with the same bytes for the same events."""
        text = json.dumps(self.to_json(), separators=(",", ":")).encode()
        path.write_bytes(gzip.compress(text, mtime=0))
