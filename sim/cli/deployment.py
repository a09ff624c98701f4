"""The deployment behind a benchmark tool's results, from the options of `validate` and `calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sim.core import InputError

if TYPE_CHECKING:
    from sim.scenario import Scenario


def deployment(scenario: str | None, changes: list[str] | None, *, rows: Path | None) -> Scenario | None:
    """The scenario that says what was measured; None without `--scenario`.

    Raises:
        InputError: if `--scenario` or `--set` is given without what it is about, or the scenario is wrong.
    """
    if scenario is None:
        if changes:
            raise InputError("--set changes the deployment, which is not given", hint="add --scenario FILE")
        return None
    if rows is None:
        raise InputError("--scenario says what a benchmark tool measured", hint="add --rows FILE, its results")
    from sim.scenario import load

    return load(scenario, overrides=changes or ())
