"""A built wheel carries its data and works away from the checkout."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The contents of the wheel, as pip would lay them out."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("plansim-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def plansim(installed: Path, *arguments: str) -> str:
    """Stdout of the command, run from an empty folder with the unpacked wheel before everything else."""
    empty = installed.parent / "elsewhere"
    empty.mkdir(exist_ok=True)
    environment = os.environ | {"PYTHONPATH": str(installed)}
    command = [sys.executable, "-m", "sim", *arguments]
    return subprocess.run(command, cwd=empty, env=environment, check=True, capture_output=True, text=True).stdout


def test_data_is_inside(installed: Path) -> None:
    found = json.loads(plansim(installed, "doctor", "--json"))
    assert found["data_root"] == str(installed / "sim" / "_data")
    assert all(found["data_files"].values())
    for folder, count in found["data_files"].items():
        assert count == len(list((ROOT / folder).glob("*.yaml"))), folder


def test_lists_and_schema_work(installed: Path) -> None:
    assert json.loads(plansim(installed, "list", "devices", "--json"))["items"]
    assert json.loads(plansim(installed, "list", "scenarios", "--json"))["items"]
    assert json.loads(plansim(installed, "schema"))["properties"]


def test_nothing_else_is_inside(installed: Path) -> None:
    top = {path.name for path in installed.iterdir()}
    assert top == {"sim", next(name for name in top if name.endswith(".dist-info"))}
    assert (next(installed.glob("*.dist-info")) / "licenses" / "LICENSE").is_file()
