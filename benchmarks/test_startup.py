"""Start-up time of the command, as CPU time of a subprocess. Budget: `plansim --help` under 0.4 s."""

import resource
import subprocess
import sys

import pytest
from pytest_benchmark.fixture import BenchmarkFixture


def children_cpu_s() -> float:
    """CPU time [s] of all finished subprocesses, user and system."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@pytest.fixture
def benchmark_cpu(benchmark: BenchmarkFixture) -> BenchmarkFixture:
    """The benchmark with a clock that counts the CPU time of subprocesses."""
    benchmark._timer = children_cpu_s
    return benchmark


@pytest.mark.parametrize("arguments", ["--help", "--version", "search --help", "list devices"])
def test_command(benchmark_cpu: BenchmarkFixture, arguments: str) -> None:
    command = [sys.executable, "-m", "sim", *arguments.split()]
    benchmark_cpu.pedantic(
        subprocess.run, args=(command,), kwargs={"capture_output": True, "check": True}, rounds=5, warmup_rounds=1
    )


def test_bare_interpreter(benchmark_cpu: BenchmarkFixture) -> None:
    """The floor under the figures above: Python itself."""
    command = [sys.executable, "-c", "pass"]
    benchmark_cpu.pedantic(subprocess.run, args=(command,), kwargs={"check": True}, rounds=5, warmup_rounds=1)
