"""`sim.core` and `sim` resolve names on first use and import nothing heavy before."""

import subprocess
import sys

import pytest

import sim
import sim.core

HEAVY = ("numpy", "pandas", "pydantic", "plotly", "scipy", "networkx", "pyarrow", "yaml")


@pytest.mark.parametrize("module", ["sim", "sim.core", "sim.core.errors", "sim.cli"])
def test_import_is_light(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"


@pytest.mark.parametrize("name", sim.core.__all__)
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(sim.core, name) is not None


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        _ = sim.core.nonsense
    with pytest.raises(AttributeError, match="nonsense"):
        _ = sim.nonsense
