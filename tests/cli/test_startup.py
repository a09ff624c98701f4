"""The command starts fast: `plansim --help` imports nothing heavy. Its time is measured in benchmarks."""

import subprocess
import sys

import pytest

HEAVY = {"numpy", "pandas", "plotly", "scipy", "networkx", "pyarrow", "simpy"}


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
