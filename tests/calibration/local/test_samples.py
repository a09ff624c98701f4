"""The CSV file of measurements: what is written is read back, and what is wrong is named with its line."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.calibration.local.samples import COLUMNS, KINDS, Case, Sample, Timing, read_samples, write_samples
from sim.core import InputError
from sim.costs import CostModel, measured_kernels
from sim.hardware import load_device
from sim.models import Gemm

SAMPLE = Sample(
    case=Case(kind="gemm", dtype="fp32", m=4, n=512, k=256),
    timing=Timing(time_s=1.25e-4, spread_frac=0.0625, repeats=7),
    device='A CPU, "fast"',
    versions="PyTorch 2, 1 thread",
)


@given(
    st.sampled_from(KINDS),
    st.lists(st.integers(0, 10**12), min_size=10, max_size=10),
    st.floats(1e-9, 1e3),
    st.floats(0, 10),
)
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, kind: str, sizes: list[int], time_s: float, spread: float
):  # type: ignore[no-untyped-def]
    names = ("m", "n", "k", "batch", "query_tokens", "kv_tokens", "heads", "kv_heads", "head_dim", "bytes")
    case = Case(kind=kind, dtype="bf16", operation="x", **dict(zip(names, sizes, strict=True)))  # type: ignore[arg-type]
    timing = Timing(time_s=time_s, spread_frac=spread, repeats=3)
    written = [SAMPLE, replace(SAMPLE, case=case, timing=timing)]
    path = tmp_path_factory.mktemp("csv") / "samples.csv"
    write_samples(written, path)
    assert read_samples(path) == written


def test_sizes_that_a_kind_does_not_have_are_empty(tmp_path: Path) -> None:
    write_samples([SAMPLE], tmp_path / "a.csv")
    header, row = (tmp_path / "a.csv").read_text(encoding="utf-8").splitlines()
    assert header.split(",") == [*COLUMNS]
    assert row.startswith("gemm,fp32,,4,512,256,,,,,,,,,0.000125,0.0625,7,")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("time_s,", "seconds,", r"a\.csv:1: no column 'time_s'"),
        ("0.000125", "soon", r"a\.csv:2 time_s: expected a number; got 'soon'"),
        ("0.000125", "-1", r"a\.csv:2 time_s: a time is above zero"),
        ("gemm,", "convolution,", r"a\.csv:2 kind: unknown kind; got 'convolution'; allowed: copy, gemm"),
        ("512", "5.5", r"a\.csv:2 n: expected a number; got '5.5'"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "a.csv"
    write_samples([SAMPLE], path)
    path.write_text(path.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_samples(path)


def test_the_file_serves_as_measured_costs_whatever_kinds_it_has(tmp_path: Path) -> None:
    gemms = [replace(SAMPLE, case=replace(SAMPLE.case, m=m)) for m in (1, 4)]
    others = [replace(SAMPLE, case=Case(kind=kind, dtype="fp32")) for kind in KINDS if kind != "gemm"]  # type: ignore[arg-type]
    write_samples([*gemms, *others], tmp_path / "a.csv")
    device = load_device("h100-sxm")
    costs = CostModel(device, measured=measured_kernels("a.csv", device, engine="vllm", base=tmp_path))
    one = costs.cost(Gemm(name="g", cause="x", m=4.0, n=512, k=256, weights_dtype="fp32"))
    assert float(one.time_s) == pytest.approx(SAMPLE.timing.time_s)
    assert costs.uses["gemm fp32"].source == "measured"


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_samples(tmp_path / "none.csv")
