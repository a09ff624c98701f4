"""`plansim doctor`: what is installed and found, for a bug report or a first look. It prints no secrets."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from sim.cli.failures import SCHEMA_VERSION
from sim.cli.options import JsonOption
from sim.cli.output import console, print_json

DATA_FOLDERS = (
    "hardware_profiles/devices",
    "hardware_profiles/links",
    "hardware_profiles/nodes",
    "hardware_profiles/clusters",
    "hardware_profiles/prices",
    "hardware_profiles/kernels",
    "hardware_profiles/engines",
    "hardware_profiles/training_engines",
    "hardware_profiles/sustained",
    "workloads/models",
    "workloads/traffic",
    "scenarios",
)
OPTIONAL = {
    "aiconfigurator-core": "measured kernel times, the extra `measured`",
    "torch": "profiles this machine",
    "playwright": "looks at reports in tests",
    "jupyterlab": "opens the notebooks",
    "nbmake": "tests them",
}
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "firefox")
PARTS = ("traces", "measured", "kernels")


def doctor(as_json: JsonOption = False) -> int:
    """Show versions, data files, optional parts and settings of this installation."""
    document = {"schema_version": SCHEMA_VERSION, "command": "doctor", **examine()}
    if as_json:
        print_json(document)
    else:
        _show(document)
    return 0 if document["ok"] else 1


def examine() -> dict[str, Any]:
    """Everything `doctor` reports, as plain data; `ok` tells whether plansim can run."""
    import sim
    from sim.core import data_names, data_root

    files = {folder: len(data_names(folder)) for folder in DATA_FOLDERS}
    packages = {name: _version(name) for name in _required()}
    external = os.environ.get("PLANSIM_DATA")
    return {
        "plansim": sim.__version__,
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "cpu_cores": os.cpu_count(),
        "packages": packages,
        "optional": {name: _version(name) for name in OPTIONAL},
        "browser": next((path for name in BROWSERS if (path := shutil.which(name))), None),
        "data_root": str(data_root()),
        "data_files": files,
        "plansim_data": external,
        "plansim_data_parts": [part for part in PARTS if external and (Path(external) / part).is_dir()],
        "no_color": "NO_COLOR" in os.environ,
        "ok": all(packages.values()) and all(files.values()),
    }


def _required() -> list[str]:
    """Names of the packages plansim needs, as its own metadata says."""
    import re

    try:
        wanted = metadata.requires("plansim") or []
    except metadata.PackageNotFoundError:
        return []
    return [re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in wanted if "extra ==" not in line]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _show(found: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table("", "found", "", title="plansim doctor", title_justify="left", show_header=False)
    good, missing, plain = "[green]ok[/]", "[red]missing[/]", ""

    def row(name: str, value: object, mark: str) -> None:
        table.add_row(name, "not found" if value is None else str(value), mark)

    for key in ("plansim", "python", "executable", "platform", "cpu_cores"):
        row(key, found[key], plain)
    for name, version in found["packages"].items():
        row(name, version, good if version else missing)
    for name, version in found["optional"].items():
        row(f"{name} (optional: {OPTIONAL[name]})", version, good if version else plain)
    row("browser (optional: looks at reports in tests)", found["browser"], plain)
    row("data folder", found["data_root"], plain)
    for folder, count in found["data_files"].items():
        row(folder, f"{count} files", good if count else missing)
    parts = ", ".join(found["plansim_data_parts"]) or "none of traces, measured, kernels"
    external = found["plansim_data"]
    row("PLANSIM_DATA (optional: public measurements)", f"{external} ({parts})" if external else "not set", plain)
    console().print(table)
