"""A run as a timeline for Perfetto (ui.perfetto.dev): requests and leaps of every replica, drawn to scale."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from sim.core import InputError
from sim.kernel import TraceRecorder
from sim.results import RunResult

_ENGINE_LANE = 0
_FIRST_REQUEST_LANE = 1


def timeline(run: RunResult) -> TraceRecorder:
    """Spans and counters of a run: one process per replica, its leaps in the first lane, its requests in the others.

    A request is a span from arrival to finish with three inside it: queued, prompt, answer. Those that did not finish
    are left out. Counters show the sequences that decode and the keys they attend to.
    """
    recorder = TraceRecorder()
    leaps = run.iterations if "replica" in run.iterations else run.iterations.assign(replica=0)
    for replica, rows in leaps.groupby("replica", sort=True):
        number = int(str(replica))
        recorder.name_process(number, f"replica {number}")
        recorder.name_lane(number, _ENGINE_LANE, "iterations")
        _leaps(recorder, number, rows)
    finished = run.requests[run.requests["status"] == "finished"]
    for replica, rows in finished.groupby("replica", sort=True):
        _requests(recorder, int(str(replica)), rows.sort_values(["arrival_s", "request"], kind="stable"))
    return recorder


def save_timeline(run: RunResult, path: Path | str) -> Path:
    """Writes the timeline of `run` as gzipped JSON in the Chrome trace format.

    Raises:
        InputError: if the file cannot be written.
    """
    target = Path(path)
    try:
        timeline(run).save(target)
    except OSError as error:
        raise InputError(f"cannot write the timeline to {str(target)!r}: {error.strerror or error}") from None
    return target


def _leaps(recorder: TraceRecorder, replica: int, rows: pd.DataFrame) -> None:
    for row in rows.to_dict("records"):
        steps, start = float(row["iterations"]), float(row["start_s"])
        end = start + steps * float(row["first_s"]) + float(row["growth_s"]) * steps * (steps - 1.0) / 2.0
        decoding, prompts = int(row.get("decoding", 0)), int(row.get("prompts", 0))
        name = f"{prompts} prompts + {decoding} decode" if prompts else f"{steps:.0f} x {decoding} decode"
        recorder.span(
            name,
            start_s=start,
            end_s=end,
            pid=replica,
            tid=_ENGINE_LANE,
            iterations=steps,
            prompt_tokens=float(row.get("prompt_tokens", 0)),
        )
        recorder.counter("sequences", at_s=start, pid=replica, decoding=float(decoding), prompts=float(prompts))
        recorder.counter("attended keys", at_s=start, pid=replica, keys=float(row.get("attended", 0.0)))


def _requests(recorder: TraceRecorder, replica: int, rows: pd.DataFrame) -> None:
    spans = list(zip(rows["arrival_s"], rows["finish_s"], strict=True))
    lanes = recorder.lanes(spans)
    for lane in sorted(set(lanes)):
        recorder.name_lane(replica, lane + _FIRST_REQUEST_LANE, f"requests {lane}")
    for lane, row in zip(lanes, rows.to_dict("records"), strict=True):
        tid = lane + _FIRST_REQUEST_LANE
        times = [float(row[name]) for name in ("arrival_s", "first_scheduled_s", "first_token_s", "finish_s")]
        recorder.span(
            f"request {row['request']}",
            start_s=times[0],
            end_s=times[3],
            pid=replica,
            tid=tid,
            input_tokens=float(row["input_tokens"]),
            output_tokens=float(row["emitted_tokens"]),
        )
        for name, start, end in zip(("queued", "prompt", "answer"), times, times[1:], strict=False):
            if end > start:
                recorder.span(name, start_s=start, end_s=end, pid=replica, tid=tid)
