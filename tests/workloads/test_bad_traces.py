"""Unusable traces: each is refused with the file, the line, what was found and what to do."""

from pathlib import Path

import pytest

from sim.core import InputError, YamlDocument, build_spec
from sim.testing import trace_samples as samples
from sim.testing.workloads import check_refused
from sim.workloads import TraceSpec, read_trace


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "bad.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def swap(name: str, old: str, new: str) -> str:
    text = samples.TEXTS[name]
    assert old in text
    return text.replace(old, new, 1)


CORRUPT = [
    ("azure", "396", "many", 3, "ContextTokens is not a number"),
    ("azure", "396", "", 3, "ContextTokens is missing"),
    ("azure", "396", "39.5", 3, "not a whole number"),
    ("azure", "396", "nan", 3, "ContextTokens is not a number"),
    ("azure", "396,109", "396,109,7", 3, "the row has 4 fields, the header 3"),
    ("azure", "374,44", "374,44,1,2,3", 2, "the row has 6 fields, the header 3"),
    ("azure", "396,109", '"396,109', 4, "not valid CSV"),
    ("azure", ",109", "", 3, "the row has 2 fields, the header 3"),
    ("azure", "2023-11-16 18:15:50.9951690", "yesterday", 3, "TIMESTAMP is not a time"),
    ("azure", "396", "-396", 3, "negative input tokens"),
    ("azure", "18:15:50", "18:15:40", 3, "before the row above"),
    ("burstgpt", "1087", "x", 3, "Request tokens is not a number"),
    ("burstgpt", "1087", "-1", 3, "negative input tokens"),
    ("burstgpt", "118", "18", 4, "before the row above"),
    ("vidur", "2514", "", 3, "num_prefill_tokens is missing"),
    ("vidur", "126", "-126", 3, "negative output tokens"),
    ("vidur", "2.25", "0.25", 3, "before the row above"),
    ("vidur", "2.25", "inf", 3, "arrived_at is not a number"),
    ("mooncake", "1100", '"1100"', 2, "input_length is not a number"),
    ("mooncake", "1100", "true", 2, "input_length is not a number"),
    ("mooncake", '"input_length": 1100, ', "", 2, "input_length is missing"),
    ("mooncake", "1100", "-1100", 2, "negative input tokens"),
    ("mooncake", "3052", "9000", 3, "before the row above"),
    ("mooncake", "[0, 1, 2]", "[0, 1.5]", 2, "hash_ids is not a list of whole numbers"),
    ("mooncake", "[0, 1, 2]", "null", 2, "hash_ids is not a list of whole numbers"),
    ("mooncake", "[7]}", "[7", 3, "not valid JSON"),
    ("bailian", "40,", "null,", 2, "input_length is not a number"),
    ("bailian", "61.5", "0.1", 2, "before the row above"),
    ("bailian", '"output_length": 8', '"output_length": -8', 2, "negative output tokens"),
    ("apex", "497", "[497]", 2, "ContextTokens is not a number"),
    ("apex", "497", "-497", 2, "negative input tokens"),
    ("apex", "1236439963", "1", 2, "before the row above"),
    ("apex", '{"StartTimeOffset": 1236439963', '[1, {"StartTimeOffset": 1236439963', 2, "not valid JSON"),
    ("plansim-jsonl", '"arrival_s": 1.5', '"arrival_s": -1.5', 3, "before the row above"),
    ("plansim-jsonl", '"input_tokens": 10', '"input_tokens": -10', 3, "negative input tokens"),
    ("plansim-jsonl", '"input_tokens": 10', '"input_tokens": 1e30', 3, "not a whole number"),
    ("plansim-jsonl", '"session_id": 2', '"session_id": "b"', 3, "session_id is not a number"),
    ("plansim-jsonl", '"version": 1', '"version": 9', 1, "unknown version"),
    ("plansim-jsonl", '"block_size": 16', '"block_size": 0', 1, "block_size"),
]


@pytest.mark.parametrize(("name", "old", "new", "line", "about"), CORRUPT)
def test_corrupt_row(tmp_path: Path, name: str, old: str, new: str, line: int, about: str) -> None:
    error = check_refused(write(tmp_path, swap(name, old, new)), line=line, about=about)
    if about == "before the row above":
        assert error.hint is not None
        assert "sort: true" in error.hint


@pytest.mark.parametrize("name", samples.TEXTS)
def test_only_a_header(tmp_path: Path, name: str) -> None:
    head = samples.TEXTS[name].partition("\n")[0] + "\n"
    if name in {"mooncake", "bailian", "apex"}:
        assert len(read_trace(TraceSpec(path=str(write(tmp_path, head))))) == 1
    else:
        check_refused(write(tmp_path, head), line=None, about="no requests")


@pytest.mark.parametrize("content", ["", "\n \n", b"\x1f\x8b"])
def test_empty_or_broken_file(tmp_path: Path, content: str | bytes) -> None:
    check_refused(write(tmp_path, content), line=None, about="trace")


def test_missing_file_and_folder(tmp_path: Path) -> None:
    check_refused(tmp_path / "none.csv", line=None, about="no such trace file")
    check_refused(tmp_path, line=None, about="cannot read")


@pytest.mark.parametrize("content", ["a,b,c\n1,2,3\n", "hello", "[1, 2]", "{", '{"a": 1}'])
def test_unknown_format(tmp_path: Path, content: str) -> None:
    error = check_refused(write(tmp_path, content), line=1, about="unknown trace format")
    assert error.allowed
    assert "azure" in error.allowed


def test_unknown_format_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'azure'"):
        read_trace(TraceSpec(path=str(write(tmp_path, samples.AZURE)), format="azur"))


def test_wrong_format_name(tmp_path: Path) -> None:
    check_refused(write(tmp_path, samples.AZURE), line=1, about="column 'Timestamp' is missing", format="burstgpt")
    check_refused(write(tmp_path, samples.AZURE), line=1, about="not valid JSON", format="apex")
    check_refused(write(tmp_path, samples.AZURE), line=None, about="Parquet", format="plansim-parquet")


def test_not_text(tmp_path: Path) -> None:
    check_refused(write(tmp_path, samples.AZURE.encode() + b"\n\xff\xfe"), line=5, about="UTF-8")


def test_damaged_parquet(tmp_path: Path) -> None:
    check_refused(write(tmp_path, b"PAR1 and then nothing"), line=None, about="not a readable Parquet file")


def test_window_without_requests(tmp_path: Path) -> None:
    error = check_refused(write(tmp_path, samples.AZURE), line=None, about="no request is left", window=(100, 200))
    assert "the trace spans 4.542 s" in str(error)


def test_all_rows_dropped(tmp_path: Path) -> None:
    path = write(tmp_path, "num_prefill_tokens,num_decode_tokens\n5,0\n0,5\n")
    check_refused(path, line=None, about="1 dropped (no output tokens)")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rate_scale": 0}, "rate_scale: input should be greater than 0"),
        ({"rate_scale": -1}, "rate_scale: input should be greater than 0"),
        ({"rate_scale": float("inf")}, "rate_scale: input should be a finite number"),
        ({"window": ["60 s", "60 s"]}, "window"),
        ({"window": [0, 60]}, "unit is missing"),
        ({"limit": 0}, "limit: input should be greater than or equal to 1"),
        ({"dequantize": "even"}, "dequantize: unknown value 'even'"),
        ({"scale": 2}, "unknown key 'scale'"),
    ],
    ids=str,
)
def test_bad_options(options: dict[str, object], said: str) -> None:
    with pytest.raises(InputError) as caught:
        build_spec(TraceSpec, YamlDocument({"path": "x.csv", **options}, "s.yaml", {}))
    assert said in str(caught.value)
