"""Public traces as recorded, from the folder that PLANSIM_DATA names: all are read, and one is searched for plans."""

import os
from pathlib import Path

import pytest

from tests.conftest import Command

CONVERSATION = "azure_llm_2023_conv.csv.gz"
PATTERNS = {
    "azure_*.csv.gz": "azure",
    "mooncake_*.jsonl.gz": "mooncake",
    "llmservingsim_*.jsonl.gz": "mooncake",
    "apex_*.jsonl.gz": "apex",
    "vidur_*.csv.gz": "vidur",
}
"""Format by file name; other files of the folder are not traces but laws fitted to some."""


@pytest.fixture(scope="module")
def traces() -> Path:
    root = os.environ.get("PLANSIM_DATA")
    if root is None:
        pytest.skip("PLANSIM_DATA is not set: no public traces to read")
    folder = Path(root) / "traces"
    if not (folder / CONVERSATION).is_file():
        pytest.skip(f"PLANSIM_DATA has no traces/{CONVERSATION}")
    return folder


@pytest.mark.parametrize("pattern", PATTERNS)
def test_public_traces_are_read_and_accounted_for(pattern: str, traces: Path, plansim: Command) -> None:
    found = sorted(traces.glob(pattern))
    if not found:
        pytest.skip(f"PLANSIM_DATA has no traces/{pattern}")
    for path in found:
        done = plansim("import", path, "--json")
        assert (done.code, done.err) == (0, "")
        report = done.document["report"]
        assert report["format"] == PATTERNS[pattern]
        assert report["rows_kept"] > 100
        assert report["rows_read"] == report["rows_kept"] + sum(report["dropped"].values())
        assert 0 < report["input_tokens"]["mean"] < 1e6


def test_the_conversation_trace_has_its_published_size(traces: Path, plansim: Command) -> None:
    report = plansim("import", traces / CONVERSATION, "--json").document["report"]
    assert (report["rows_read"], report["dropped"]) == (19366, {})
    assert report["rate_per_s"] == pytest.approx(5.53, abs=0.01)


def test_a_window_of_the_conversation_trace_is_searched(traces: Path, plansim: Command, tmp_path: Path) -> None:
    path = traces / CONVERSATION
    trace = f"workload.trace={{path: {path}, window: [600 s, 660 s]}}"
    space = "search.space={tp: [2, 4, 8], replicas: [1, 2], max_num_seqs: 256, max_num_batched_tokens: 8192}"
    options = ["--set", trace, "--set", space, "--set", "search.max_simulated=3", "--workers", 1]
    done = plansim("search", "llama3-70b-azure-conv", *options, "--json", "--out", tmp_path, "--quiet")
    assert (done.code, done.err) == (0, "")
    document = done.document
    report = document["provenance"]["trace_report"]
    assert (report["format"], report["rows_read"]) == ("azure", 19366)
    assert 200 < report["rows_kept"] < 600
    best = document["recommended"]
    assert best["metrics"]["requests"]["finished"] == report["rows_kept"]
    assert best["metrics"]["slo_attainment_frac"] >= 0.95
    assert best["metrics"]["goodput_max_requests_per_s_per_gpu"] > 0
    assert (tmp_path / "report.html").stat().st_size > 10_000
