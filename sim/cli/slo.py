"""What `--check` means: the share of requests within the SLO must reach the attainment the scenario asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sim.core import InputError

if TYPE_CHECKING:
    from sim.scenario import Scenario


def require_slo(scenario: Scenario) -> None:
    """Refuses `--check` for a scenario without an SLO, before anything is simulated.

    Raises:
        InputError: if there is nothing to check.
    """
    if scenario.spec.slo is None:
        raise InputError("--check needs an SLO in the scenario", path="slo", hint="--set slo.ttft='2 s'")


def missed_slo(metrics: Mapping[str, Any], scenario: Scenario) -> str | None:
    """What is missed by how much, or None if `metrics` attain the SLO of `scenario`."""
    slo = scenario.spec.slo
    reached = metrics["slo_attainment_frac"]
    if slo is None or (reached is not None and reached >= slo.attainment):
        return None
    return f"SLO not met: {reached or 0.0:.2%} of requests are within it, wanted {slo.attainment:.2%}"
