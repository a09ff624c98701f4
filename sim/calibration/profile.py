"""A calibrated engine profile as a YAML file that extends the profile it was fitted from."""

from __future__ import annotations

from typing import Any

from sim.calibration.fit import Calibration, Fitted
from sim.core import to_yaml

_REF = "calibration"


def profile_yaml(found: Calibration, *, name: str, sources: str) -> str:
    """The text of the profile: what was identified, each number with its 90 % interval; the rest stays the base's.

    Args:
        found: The fit.
        name: Name of the new profile.
        sources: Where the measured rows come from, for the reference.
    """
    known = [each for each in found.parameters if each.identified]
    lost = [each.name for each in found.parameters if not each.identified]
    errors = "; ".join(
        f"{metric} {found.before[metric]:.1%} before, {after:.1%} after, largest {_largest(found, metric):+.1%}"
        for metric, after in found.after.items()
    )
    data: dict[str, Any] = {
        "name": name,
        "extends": found.engine.name,
        "title": f"{found.engine.title}, calibrated",
        **{each.name: _sourced(each) for each in known},
        "errors": [],
        "refs": {_REF: f"plansim calibrate, {len(found.rows)} rows of {sources}; median errors: {errors}"},
        "note": f"Not identified by these rows: {', '.join(lost)}." if lost else "All parameters were identified.",
    }
    return to_yaml(data)


def _largest(found: Calibration, metric: str) -> float:
    """The largest error that remains."""
    return next((one.after_frac for one in found.residuals if one.metric == metric), 0.0)


def _sourced(each: Fitted) -> dict[str, Any]:
    return {
        "value": f"{each.value!r} s",
        "source": "fitted",
        "ref": _REF,
        "note": f"90 % between {each.low:.3g} and {each.high:.3g} s",
    }
