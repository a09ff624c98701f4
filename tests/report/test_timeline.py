"""The Perfetto timeline of a run holds what the tables hold."""

import gzip
import json
from pathlib import Path

import pytest

import sim
from sim.core import InputError
from sim.report import save_timeline, timeline
from sim.results import RunResult


@pytest.fixture(scope="module")
def run() -> RunResult:
    overrides = ["workload.requests=40", "plan.tp=4", "plan.replicas=2"]
    return sim.run(sim.load("llama3-70b-azure-conv", overrides=overrides))


def test_every_leap_and_every_finished_request_is_a_span(run: RunResult) -> None:
    events = timeline(run).to_json()["traceEvents"]
    spans = [event for event in events if event["ph"] == "X"]
    requests = [event for event in spans if event["name"].startswith("request ")]
    leaps = [event for event in spans if event["tid"] == 0]
    assert len(requests) == (run.requests["status"] == "finished").sum()
    assert len(leaps) == len(run.iterations)
    assert {event["pid"] for event in spans} == {0, 1}
    total = sum(event["dur"] for event in leaps) / 1e6
    assert total + run.breakdown["parts"]["idle"] == pytest.approx(run.breakdown["explains_s"])


def test_parts_of_a_request_fill_it_and_spans_of_a_lane_do_not_overlap(run: RunResult) -> None:
    spans = [event for event in timeline(run).to_json()["traceEvents"] if event["ph"] == "X" and event["tid"] > 0]
    whole = sum(event["dur"] for event in spans if event["name"].startswith("request "))
    parts = sum(event["dur"] for event in spans if event["name"] in ("queued", "prompt", "answer"))
    assert parts == pytest.approx(whole)
    outer = [event for event in spans if event["name"].startswith("request ")]
    for lane in {(event["pid"], event["tid"]) for event in outer}:
        ends = 0.0
        for event in sorted((e for e in outer if (e["pid"], e["tid"]) == lane), key=lambda e: e["ts"]):
            assert event["ts"] >= ends - 1e-6
            ends = event["ts"] + event["dur"]


def test_the_file_is_the_same_each_time_and_says_where_it_cannot_be(run: RunResult, tmp_path: Path) -> None:
    first = save_timeline(run, tmp_path / "a.json.gz").read_bytes()
    assert first == save_timeline(run, tmp_path / "b.json.gz").read_bytes()
    assert json.loads(gzip.decompress(first))["traceEvents"]
    with pytest.raises(InputError, match="cannot write the timeline"):
        save_timeline(run, tmp_path / "missing" / "a.json.gz")
