"""The command starts fast: `plansim --help` imports nothing heavy and stays within its CPU budget."""

import resource
import subprocess
import sys

import pytest

HEAVY = {"numpy", "pandas", "plotly", "scipy", "networkx", "pyarrow", "simpy"}
BUDGET_S = 0.4


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        (["--help"], HEAVY | {"pydantic"}),
        (["--version"], HEAVY | {"pydantic"}),
        (["search", "--help"], HEAVY),  # recent versions of typer use pydantic to read a verb's options
        (["list", "--help"], HEAVY),
    ],
)
def test_help_imports_nothing_heavy(arguments: list[str], heavy: set[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "sim", *arguments], capture_output=True, text=True, check=True
    )
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "typer" in imported
    assert imported & heavy == set()


def test_help_is_within_its_cpu_budget() -> None:
    best = float("inf")
    for _ in range(3):  # the first run may compile bytecode
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "sim", "--help"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert best < BUDGET_S
