"""Benchmarks measure CPU time of one process; figures that have a budget are printed beside it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture


@pytest.fixture
def cpu(benchmark: BenchmarkFixture) -> BenchmarkFixture:
    """The benchmark with a clock that counts this process's CPU time."""
    benchmark._timer = time.process_time
    return benchmark


@pytest.fixture(scope="session")
def azure_trace() -> str:
    """Path of the recorded Azure 2023 conversation trace; skips where the public data are not at hand."""
    folder = os.environ.get("PLANSIM_DATA")
    path = Path(folder or ".") / "traces" / "azure_llm_2023_conv.csv.gz"
    if folder is None or not path.is_file():
        pytest.skip("set PLANSIM_DATA to the folder with traces/azure_llm_2023_conv.csv.gz")
    return str(path)
