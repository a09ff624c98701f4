"""Importers: good files of every format, how they are replayed, and round trips of plansim's own formats."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.testing import trace_samples as samples
from sim.testing.workloads import check_importer
from sim.workloads import TRACES, PromptBlocks, RequestTable, TraceSpec, read_trace


def write(folder: Path, text: str, name: str = "trace.txt") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def read(path: Path, **options: object) -> RequestTable:
    return read_trace(TraceSpec.model_validate({"path": str(path), **options}))


def test_every_format_is_covered() -> None:
    assert TRACES.names() == sorted([*samples.TEXTS, "plansim-parquet"])


@pytest.mark.parametrize("name", samples.TEXTS)
def test_contract(tmp_path: Path, name: str) -> None:
    table = check_importer(TRACES.get(name), write(tmp_path, samples.TEXTS[name]), name=name)
    packed = tmp_path / "trace.gz"
    packed.write_bytes(gzip.compress(samples.TEXTS[name].encode()))
    again = check_importer(TRACES.get(name), packed, name=name)
    windows = write(tmp_path, samples.TEXTS[name].replace("\n", "\r\n"), "windows.txt")
    for other in (again, check_importer(TRACES.get(name), windows, name=name)):
        assert np.array_equal(table.arrival_s, other.arrival_s)
        assert np.array_equal(table.output_tokens, other.output_tokens)


def test_azure_keeps_seven_digits_and_the_last_row(tmp_path: Path) -> None:
    table = read(write(tmp_path, samples.AZURE))
    assert table.arrival_s == pytest.approx([0, 4.314579, 4.541977], abs=1e-9)
    assert table.input_tokens.tolist() == [374, 396, 879]
    assert table.output_tokens.tolist() == [44, 109, 55]
    assert read(write(tmp_path, samples.AZURE_2024)).arrival_s == pytest.approx([0, 0.99007])


def test_burstgpt_by_name_with_failures_dropped(tmp_path: Path) -> None:
    table = read(write(tmp_path, samples.BURSTGPT))
    assert table.input_tokens.tolist() == [472, 1087, 417]
    assert table.session_id is not None
    assert table.session_id.tolist() == [1, 2, -1]
    assert table.report is not None
    assert table.report.dropped == {"no output tokens": 1}
    old = read(write(tmp_path, samples.BURSTGPT_OLD))
    assert old.session_id is None
    assert old.arrival_s.tolist() == [0, 40]


def test_vidur_without_arrivals_says_so(tmp_path: Path) -> None:
    table = read(write(tmp_path, samples.VIDUR))
    assert table.arrival_s.tolist() == [0, 0]
    assert "no arrival times" in str(table.report)


def test_units_of_time_differ_by_format(tmp_path: Path) -> None:
    assert read(write(tmp_path, samples.MOONCAKE)).arrival_s.tolist() == pytest.approx([0, 3.052, 6.104])
    assert read(write(tmp_path, samples.BAILIAN)).arrival_s.tolist() == [0, 61]
    assert read(write(tmp_path, samples.APEX)).arrival_s == pytest.approx([0, 0.617921679])


def test_blocks_and_prefix_share(tmp_path: Path) -> None:
    mooncake, bailian = (read(write(tmp_path, text)) for text in (samples.MOONCAKE, samples.BAILIAN))
    assert mooncake.blocks is not None
    assert bailian.blocks is not None
    assert (mooncake.blocks.size, bailian.blocks.size) == (512, 16)
    assert mooncake.report is not None
    assert mooncake.report.prefix_share == pytest.approx(2 / 6)
    unknown = read(write(tmp_path, samples.MOONCAKE.replace("[7]", "[7, 8, 9]")))
    assert unknown.blocks is None
    assert "hash_ids fit no block size" in str(unknown.report)


def test_only_an_unbroken_prefix_counts() -> None:
    assert PromptBlocks.from_lists(16, [[1, 2, 3], [1, 9, 3]]).prefix_share() == pytest.approx(1 / 6)


def test_window_limit_and_scale(tmp_path: Path) -> None:
    rows = "".join(f"{10 + at},100,{at}\n" for at in range(20))
    path = write(tmp_path, "arrived_at,num_prefill_tokens,num_decode_tokens\n" + rows)
    table = read(path, window=(5, 15), limit=4, rate_scale=2)
    assert table.output_tokens.tolist() == [5, 6, 7, 8]
    assert table.arrival_s.tolist() == [0, 0.5, 1, 1.5]
    assert table.report is not None
    assert table.report.dropped == {"no output tokens": 1, "outside the window": 9, "beyond the limit": 6}
    assert table.report.rate_per_s == pytest.approx(2)
    assert table.report.to_dict()["notes"] == ["arrivals are 2 times as fast as recorded"]


def test_sort_puts_rows_in_order(tmp_path: Path) -> None:
    text = "arrived_at,num_prefill_tokens,num_decode_tokens\n3,1,30\n1,1,10\n2,1,20\n1,1,11\n"
    table = read(write(tmp_path, text), sort=True)
    assert table.output_tokens.tolist() == [10, 11, 20, 30]
    assert table.arrival_s.tolist() == [0, 0, 1, 2]


def test_dequantize_spreads_within_the_tick(tmp_path: Path) -> None:
    rows = "".join(
        f'{{"timestamp": {3000 * (at // 10)}, "input_length": 5, "output_length": {at + 1}}}\n' for at in range(100)
    )
    path = write(tmp_path, rows)
    raw, fine, again = read(path), read(path, dequantize="uniform"), read(path, dequantize="uniform")
    assert "`dequantize: uniform`" in str(raw.report)
    assert np.array_equal(fine.arrival_s, again.arrival_s)
    assert np.array_equal(fine.output_tokens, raw.output_tokens)
    assert np.unique(fine.arrival_s).size == 100
    shift = fine.arrival_s - raw.arrival_s
    assert np.ptp(shift) < 3
    assert np.array_equal(
        read(write(tmp_path, samples.APEX, "apex"), dequantize="uniform").arrival_s * 1e9 // 1, [0, 617921679]
    )


def test_format_can_be_named(tmp_path: Path) -> None:
    both = "arrived_at,num_prefill_tokens,num_decode_tokens,Timestamp,Request tokens,Response tokens\n0,1,2,0,3,4\n"
    assert read(write(tmp_path, both), format="vidur").input_tokens.tolist() == [1]
    assert read(write(tmp_path, both), format="burstgpt").input_tokens.tolist() == [3]


def test_relative_path_starts_at_base(tmp_path: Path) -> None:
    write(tmp_path, samples.AZURE, "a.csv")
    assert len(read_trace(TraceSpec(path="a.csv"), base=tmp_path)) == 3


@st.composite
def tables(draw: st.DrawFn) -> RequestTable:
    count = draw(st.integers(1, 20))
    gaps = draw(st.lists(st.floats(0, 1e4), min_size=count - 1, max_size=count - 1))
    whole = st.lists(st.integers(1, 2**40), min_size=count, max_size=count)
    some = st.one_of(st.none(), st.lists(st.integers(-1, 2**40), min_size=count, max_size=count))
    lists = draw(
        st.one_of(st.none(), st.lists(st.lists(st.integers(0, 2**62), max_size=4), min_size=count, max_size=count))
    )
    optional = {key: draw(some) for key in ("session_id", "parent_id", "priority")}
    return RequestTable(
        arrival_s=np.concatenate(([0.0], np.cumsum(gaps))),
        input_tokens=np.array(draw(whole)),
        output_tokens=np.array(draw(whole)),
        blocks=None if lists is None else PromptBlocks.from_lists(draw(st.integers(1, 512)), lists),
        **{key: None if values is None else np.array(values) for key, values in optional.items()},
    )


@pytest.mark.parametrize("name", ["t.parquet", "t.jsonl", "t.jsonl.gz"])
@given(table=tables())
def test_own_formats_keep_everything(tmp_path_factory: pytest.TempPathFactory, name: str, table: RequestTable) -> None:
    path = tmp_path_factory.getbasetemp() / name
    table.save(path)
    same(table, read(path))


@given(table=tables())
def test_frames_keep_everything(table: RequestTable) -> None:
    same(table, RequestTable.from_frame(table.to_frame()))


def same(one: RequestTable, other: RequestTable) -> None:
    for column in ("arrival_s", "input_tokens", "output_tokens", "session_id", "parent_id", "priority"):
        left, right = getattr(one, column), getattr(other, column)
        assert (left is None) == (right is None), column
        assert left is None or np.array_equal(left, right), column
    assert (one.blocks is None) == (other.blocks is None)
    if one.blocks is not None and other.blocks is not None:
        assert one.blocks.size == other.blocks.size
        assert one.blocks.to_lists() == other.blocks.to_lists()
