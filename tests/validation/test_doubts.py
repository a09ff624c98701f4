"""What cannot be right is said: units that do not fit, measured values below zero, formats a device lacks, no rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from sim.core import InputError
from sim.validation import read_rows, score, with_other_costs
from tests.conftest import Command
from tests.validation.samples import OPEN_RUN, OWN, POINT, write


def summary(path: Path) -> dict[str, object]:
    (found,) = score([read_rows(path)]).summary.values()
    return found


def test_times_in_another_unit_are_doubted(tmp_path: Path, plansim: Command) -> None:
    plain = summary(write(tmp_path / "own.csv", OWN))
    assert "doubts" not in plain
    times = [name for name in OWN if name in ("ttft_s", "tpot_s", "itl_s", "e2e_s")]
    wrong = write(tmp_path / "ms.csv", {**OWN, **{name: str(1e3 * float(OWN[name])) for name in times}})
    doubts = summary(wrong)["doubts"]
    assert isinstance(doubts, list)
    assert len(doubts) == len(times)
    assert all("times above what is predicted" in one and "unit" in one for one in doubts)
    assert "doubtful: measured" in plansim("validate", "--rows", wrong, "--workers", 1).out


def test_kernel_times_in_another_unit_are_doubted_with_their_rows(tmp_path: Path) -> None:
    source = tmp_path / "slow.csv"
    source.write_text("kind,dtype,m,n,k,time_s\ngemm,bf16,16,4096,4096,9\n", encoding="utf-8")
    board = with_other_costs(score([read_rows(write(tmp_path / "own.csv", OWN))]), [str(source)])
    (found,) = board.summary.values()
    assert "doubts" not in found
    assert "times below what is predicted" in found["other_costs"][str(source)]["doubts"][0]


@pytest.mark.parametrize(
    ("row", "column", "value"),
    [
        (OWN, "ttft_s", "-0.05"),
        (OWN, "ttft_s", "0"),
        (POINT, "silicon_tpot_ms", "-5"),
        (OPEN_RUN, "ttft_mean_ms", "-1"),
    ],
)
def test_measured_values_are_above_zero(row: dict[str, str], column: str, value: str, tmp_path: Path) -> None:
    name = "lab_runs.csv" if row is OPEN_RUN else "rows.csv"
    assert column in row
    with pytest.raises(InputError, match="above zero") as caught:
        read_rows(write(tmp_path / name, {**row, column: value}))
    assert (caught.value.line, caught.value.path) == (2, column)


def test_a_table_without_rows_is_no_table(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text(",".join(OWN) + "\n", encoding="utf-8")
    with pytest.raises(InputError, match="the table has no rows"):
        read_rows(path)


@pytest.mark.parametrize(
    ("node", "dtype", "note"),
    [
        ("dgx-h100", "nvfp4", "h100-sxm does not multiply nvfp4 weights as they are stored"),
        ("dgx-a100", "fp8", "multiplied in bf16"),
        ("dgx-h100", "fp8", ""),
        ("dgx-h100", "bf16", ""),
    ],
)
def test_formats_that_a_device_does_not_multiply_are_noted(node: str, dtype: str, note: str, tmp_path: Path) -> None:
    row = {**OWN, "model": "llama-3.1-8b", "node": node, "tp": "1", "weights_dtype": dtype}
    notes = summary(write(tmp_path / "own.csv", row)).get("notes", {})
    assert isinstance(notes, dict)
    assert [*notes.values()] == ([1] if note else [])
    assert all(note in one for one in notes)
