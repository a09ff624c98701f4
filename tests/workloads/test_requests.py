"""The request table: what it refuses, and how it is cut and scaled."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sim.core import InputError
from sim.workloads import PromptBlocks, RequestTable, TraceSpec, read_trace

GOOD: dict[str, Any] = {
    "arrival_s": np.array([0.0, 1.0, 4.0]),
    "input_tokens": np.array([10, 20, 30]),
    "output_tokens": np.array([1, 2, 3]),
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"arrival_s": np.array([1.0, 2, 3])}, "start at 0 s"),
        ({"arrival_s": np.array([0.0, 2, 1])}, "never go back"),
        ({"arrival_s": np.array([0.0, 1, np.nan])}, "finite"),
        ({"arrival_s": np.array([])}, "no requests"),
        ({"input_tokens": np.array([10, 0, 30])}, "input_tokens: every request has at least one token; got 0"),
        ({"output_tokens": np.array([1, 2, -3])}, "output_tokens: every request has at least one token; got -3"),
        ({"output_tokens": np.array([1, 2])}, "output_tokens: expected 3 values"),
        ({"input_tokens": np.array([1, 2.5, 3])}, "input_tokens: expected whole numbers; got 2.5"),
        ({"input_tokens": np.array(["a", "b", "c"])}, "input_tokens: expected whole numbers"),
        ({"priority": np.array([1])}, "priority: expected 3 values"),
        ({"blocks": PromptBlocks.from_lists(16, [[1]])}, "blocks of 3 requests"),
    ],
)
def test_bad_tables_are_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        RequestTable(**(GOOD | change))
    assert said in str(caught.value)


def test_head_take_and_scaled() -> None:
    table = RequestTable(**GOOD, session_id=np.array([7, 8, 9]), blocks=PromptBlocks.from_lists(16, [[1], [2], [3]]))
    assert len(table) == 3
    assert table.span_s == 4
    assert table.head(9) is table
    assert table.head(2).arrival_s.tolist() == [0, 1]
    late = table.take(np.array([1, 2]))
    assert late.arrival_s.tolist() == [0, 3]
    assert late.session_id is not None
    assert late.session_id.tolist() == [8, 9]
    assert late.blocks is not None
    assert late.blocks.to_lists() == [[2], [3]]
    assert table.scaled(4).arrival_s.tolist() == [0, 0.25, 1]
    for wrong in (0, -1, float("nan"), float("inf")):
        with pytest.raises(InputError, match="positive"):
            table.scaled(wrong)
    with pytest.raises(InputError, match="at least one"):
        table.head(0)


def test_frame_without_a_column_is_refused() -> None:
    frame = RequestTable(**GOOD, blocks=PromptBlocks.from_lists(16, [[1], [2], [3]])).to_frame()
    with pytest.raises(InputError, match="'output_tokens' is missing"):
        RequestTable.from_frame(frame.drop(columns="output_tokens"))
    frame.attrs = {}
    with pytest.raises(InputError, match="block size"):
        RequestTable.from_frame(frame)


def test_report_is_json_and_text(tmp_path: Any) -> None:
    path = tmp_path / "one.csv"
    path.write_text("num_prefill_tokens,num_decode_tokens\n7,3\n7,0\n")
    report = read_trace(TraceSpec(path=str(path))).report
    assert report is not None
    data = json.loads(json.dumps(report.to_dict()))
    assert (data["path"], data["format"], data["rows_read"], data["rows_kept"]) == ("one.csv", "vidur", 2, 1)
    assert data["dropped"] == {"no output tokens": 1}
    assert data["rate_per_s"] is None
    assert data["gap_cv"] is None
    assert data["input_tokens"]["p99"] == 7
    assert "one.csv (vidur): 1 of 2 rows kept" in str(report)
    assert "dropped 1: no output tokens" in str(report)


def test_repeated_requests_keep_their_rate_and_visit_every_arrival() -> None:
    """Each round has all requests, shifted by one, so that turns of any number of replicas do not repeat with it."""
    once = RequestTable(
        arrival_s=np.array([0.0, 1.0, 5.0]), input_tokens=np.arange(1, 4), output_tokens=np.arange(4, 7)
    )
    twice = once.repeated(8)
    assert twice.arrival_s.tolist() == [0.0, 1.0, 5.0, 7.5, 8.5, 12.5, 15.0, 16.0]
    assert twice.input_tokens.tolist() == [1, 2, 3, 2, 3, 1, 3, 1]
    assert (twice.output_tokens - twice.input_tokens == 3).all(), "prompt and output stay together"
    assert once.repeated(3) is once
    blocks = PromptBlocks.from_lists(1, [[7], [7, 8], [7, 8, 9]])
    lists = replace(once, blocks=blocks).repeated(8).blocks
    assert lists is not None
    first, second, third = (lists.to_lists()[at : at + 3] for at in (0, 3, 6))
    assert first == blocks.to_lists()
    assert [len(ids) for ids in second] == [2, 3, 1]
    assert second[0] == second[1][:2], "prompts of one round begin alike as they did"
    assert not {at for ids in first for at in ids} & {at for ids in second for at in ids}, "those of two rounds do not"
    assert len(third) == 2
    assert len(once.repeated(2)) == 2
