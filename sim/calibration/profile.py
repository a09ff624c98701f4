"""A calibrated engine or device profile as a YAML file that extends the profile it was fitted from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sim.calibration.fit import Calibration, Fitted
from sim.core import to_yaml

_REF = "calibration"


def profile_yaml(found: Calibration, *, name: str, sources: str, base: str = "") -> str:
    """The text of the profile: what was identified, each number with its 90 % interval; the rest stays the base's.

    Args:
        found: The fit.
        name: Name of the new profile.
        sources: Where the measured rows come from, for the reference.
        base: Name or path of the profile that it extends, if other than the fitted one's name.
    """
    known = [each for each in found.parameters if each.identified]
    lost = [each.name for each in found.parameters if not each.identified]
    errors = "; ".join(
        f"{metric} {found.before[metric]:.1%} before, {after:.1%} after, largest {_largest(found, metric):+.1%}"
        for metric, after in found.after.items()
    )
    data: dict[str, Any] = {
        "name": name,
        "extends": base or found.subject.name,
        "title": f"{found.subject.title}, calibrated",
        **(_times(known) if found.subject.kind == "engine" else {"scales": _factors(known)}),
        "refs": {_REF: f"plansim calibrate, {len(found.rows)} rows of {sources}; median errors: {errors}"},
        "note": f"Not identified by these rows: {', '.join(lost)}." if lost else "All parameters were identified.",
    }
    return to_yaml(data)


def _largest(found: Calibration, metric: str) -> float:
    """The largest error that remains."""
    return next((one.after_frac for one in found.residuals if one.metric == metric), 0.0)


def _times(known: Sequence[Fitted]) -> dict[str, Any]:
    """Times of an engine; error bands belong to the old ones."""
    return {**{each.name: _sourced(each, "s") for each in known}, "errors": []}


def _factors(known: Sequence[Fitted]) -> dict[str, Any]:
    """Factors of a device; those on arithmetic by number format."""
    found: dict[str, Any] = {}
    for each in known:
        name, _, rate = each.name.partition(".")
        if rate:
            found.setdefault(name, {})[rate] = _sourced(each, "")
        else:
            found[name] = _sourced(each, "")
    return found


def _sourced(each: Fitted, unit: str) -> dict[str, Any]:
    suffix = f" {unit}" if unit else ""
    return {
        "value": f"{each.value!r}{suffix}" if unit else each.value,
        "source": "fitted",
        "ref": _REF,
        "note": f"90 % between {each.low:.3g} and {each.high:.3g}{suffix}",
    }
