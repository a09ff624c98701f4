"""Errors of kernel costs: nothing where the table is the form, and what the page in docs says where it is measured."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from sim.costs import CostModel
from sim.costs.tables import KernelRows
from sim.hardware import Device
from sim.models import Gemm
from sim.validation import kernels
from sim.validation.kernels import kernel_errors, kernel_errors_markdown

PAGE = Path(__file__).resolve().parents[2] / "docs" / "kernel_costs.md"


class FormTimes:
    """A source whose GEMM times are those of the form, times a constant."""

    factor = 1.0

    def __init__(self, *, device: Device, engine: str, path: str) -> None:
        m, n, k = (axis.ravel() for axis in np.meshgrid(*[np.array([64.0, 512.0, 1024.0, 4096.0])] * 3, indexing="ij"))
        operator = Gemm(name="x", cause="x", m=m, n=n, k=k, weights_dtype="bf16")
        times_s = self.factor * CostModel(device, engine=engine).cost(operator).time_s
        self._rows = KernelRows({"m": m, "n": n, "k": k}, times_s, "form")

    def rows(self, kernel: str, dtype: str) -> KernelRows | str:
        return self._rows if (kernel, dtype) == ("gemm", "bf16") else "none"


class Registered:
    def get(self, name: str) -> type[FormTimes]:
        return FormTimes


@pytest.mark.parametrize(("factor", "off"), [(1.0, 0.0), (2.0, 0.5)])
def test_errors_of_a_table_that_is_the_form(monkeypatch: pytest.MonkeyPatch, factor: float, off: float) -> None:
    monkeypatch.setattr(FormTimes, "factor", factor)
    monkeypatch.setattr(kernels, "TABLES", Registered())
    (found,) = kernel_errors(["h100-sxm"], ["vllm"])
    assert found.rows == 64
    assert found.curve == pytest.approx((off, off))
    assert found.table == pytest.approx((0.0, 0.0), abs=1e-9), "a constant factor is interpolated exactly"
    assert found.shapes_out.median < 0.05, "a constant factor can be fitted"
    assert found.device_out.median > 0.01


@pytest.mark.skipif(find_spec("aiconfigurator_core") is None, reason="aiconfigurator-core is not installed")
def test_the_page_is_fresh() -> None:
    row = kernel_errors_markdown(kernel_errors(["l40s"], ["vllm"], [("prefill_attention", "bf16")])).splitlines()[-1]
    assert row in PAGE.read_text(encoding="utf-8").splitlines(), "run the command that docs/kernel_costs.md names"
