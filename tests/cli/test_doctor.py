"""`plansim doctor`: what it finds, what it misses, and its exit code."""

from pathlib import Path

import pytest

import sim
from sim.cli import doctor
from sim.core import data_root
from tests.conftest import Command


def test_a_whole_installation_is_fine(plansim: Command) -> None:
    done = plansim("doctor", "--json")
    assert (done.code, done.err) == (0, "")
    found = done.document
    assert (found["schema_version"], found["command"], found["ok"]) == (1, "doctor", True)
    assert found["plansim"] == sim.__version__
    assert {"numpy", "pandas", "pydantic", "simpy", "typer"} <= found["packages"].keys()
    assert all(found["packages"].values())
    assert found["data_files"]["hardware_profiles/devices"] == len(
        [*(data_root() / "hardware_profiles" / "devices").glob("*.yaml")]
    )
    assert min(found["data_files"].values()) > 0


def test_the_table_shows_the_same(plansim: Command) -> None:
    done = plansim("doctor")
    assert done.code == 0
    for words in ("plansim", "numpy", "data folder", "PLANSIM_DATA"):
        assert words in done.out
    assert "missing" not in done.out


def test_a_missing_package_is_shown_and_makes_it_fail(plansim: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_required", lambda: ["numpy", "no-such-package"])
    done = plansim("doctor")
    assert done.code == 1
    assert "no-such-package" in done.out
    assert "missing" in done.out
    document = plansim("doctor", "--json").document
    assert document["ok"] is False
    assert document["packages"]["no-such-package"] is None


def test_external_data_is_looked_for_where_the_variable_says(
    plansim: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("PLANSIM_DATA", raising=False)
    assert plansim("doctor", "--json").document["plansim_data"] is None
    (tmp_path / "traces").mkdir()
    monkeypatch.setenv("PLANSIM_DATA", str(tmp_path))
    found = plansim("doctor", "--json").document
    assert (found["plansim_data"], found["plansim_data_parts"]) == (str(tmp_path), ["traces"])


def test_no_secret_of_the_environment_is_printed(plansim: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "very-secret-value")
    assert "very-secret-value" not in plansim("doctor").out + plansim("doctor", "--json").out
