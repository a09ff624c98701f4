"""Curves fitted at the layers of models: a table that is a form gives its parameters back."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from sim.costs import CostModel
from sim.costs.tables import KernelRows
from sim.hardware import Device
from sim.models import Gemm
from sim.validation import kernel_fits
from sim.validation.kernel_fits import fit_headwise, fit_products, fits_markdown, heads_of, products_of
from sim.validation.kernels import Refitted

PAGE = Path(__file__).resolve().parents[2] / "docs" / "kernel_costs.md"
MODELS = ("llama-3.1-8b", "llama-3.1-70b", "qwen3-32b", "mistral-7b-v0.1")
OTHER = {"t0_s": 4e-6, "e": 0.6, "f": 0.7}
MEASURED = pytest.mark.skipif(find_spec("aiconfigurator_core") is None, reason="aiconfigurator-core is not installed")


class OtherTimes:
    """A source of products at model shapes whose times are those of the form with other parameters."""

    def __init__(self, *, device: Device, engine: str, path: str) -> None:
        shapes = sorted(frozenset[tuple[float, ...]]().union(*products_of(MODELS).values()))
        rows = kernel_fits.ROWS
        m, (n, k) = np.tile(rows, len(shapes)), (np.repeat([one[i] for one in shapes], len(rows)) for i in (0, 1))
        other = replace(device, kernels=Refitted(device.kernels.name, OTHER))
        operator = Gemm(name="x", cause="x", m=m, n=n, k=k, weights_dtype="bf16")
        times_s = CostModel(other, engine=engine).cost(operator).time_s
        self._rows = KernelRows({"m": m, "n": n, "k": k}, times_s, "other")

    def rows(self, kernel: str, dtype: str) -> KernelRows | str:
        return self._rows if (kernel, dtype) == ("gemm", "bf16") else "none"


class Registered:
    def get(self, name: str) -> type[OtherTimes]:
        return OtherTimes


def test_parameters_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_fits, "TABLES", Registered())
    found = fit_products("h100-sxm", "vllm", "bf16", models=MODELS)
    assert not isinstance(found, str)
    assert {name: found.params[name] for name in OTHER} == pytest.approx(OTHER, rel=0.05)
    assert found.left_out[0] < 0.01 < found.shipped[0]
    assert fit_products("h100-sxm", "vllm", "fp8", models=MODELS) == "none"


def test_layers_are_those_of_ranks_and_heads_that_a_curve_is_for() -> None:
    assert (57344.0 / 8, 8192.0) in products_of(["llama-3.1-70b"])["llama-3.1-70b"]
    assert (8.0, 1.0, 128.0) in heads_of(["llama-3.1-70b"])["llama-3.1-70b"]
    assert not heads_of(["deepseek-v3"])["deepseek-v3"], "latent attention has a curve of its own"


@MEASURED
@pytest.mark.parametrize(
    ("device", "engine", "dtype"), [("h200-sxm", "trtllm", "fp8_block"), ("b200-sxm", "vllm", "bf16")]
)
def test_absorbed_projections_fit_their_table(device: str, engine: str, dtype: str) -> None:
    found = fit_headwise(device, engine, dtype)
    assert not isinstance(found, str)
    assert found.left_out[0] < 0.1
    assert found.shipped == pytest.approx(found.in_sample, rel=0.1), "the profile has what the fit says"


@MEASURED
def test_the_page_is_fresh() -> None:
    row = fits_markdown(["h100-sxm"], ["trtllm"]).splitlines()[-1]
    assert row in PAGE.read_text(encoding="utf-8").splitlines(), "run the command that docs/kernel_costs.md names"
