"""Writes fitted bands into engine profiles: the blocks `errors` and `errors_on`, and nothing else of the file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sim.core import InputError, load_yaml
from sim.validation.bands import EngineBands, FittedBand

_WIDEST: Final = 10.0
"""Upper over lower end of the widest band that is worth telling."""

_BLOCKS: Final = re.compile(r"^(?:errors|errors_on):.*\n(?:[ \t-].*\n)*", re.MULTILINE)
_BEFORE: Final = re.compile(r"^refs:", re.MULTILINE)


def write_bands(bands: Mapping[str, EngineBands], folder: Path, *, ref: str) -> list[Path]:
    """Replaces the bands in the profiles of `folder` that are called as the engines; returns the files.

    Args:
        bands: Fitted bands by engine.
        folder: Where the profiles are.
        ref: Key of their `refs` that says which rows the bands were fitted to.

    Raises:
        InputError: if an engine has no profile there, or the profile has no such reference.
    """
    if not bands:
        raise InputError(
            "no engine has enough measured closed loops for bands", allowed="20 rows and 3 models for each metric"
        )
    written = []
    for engine, found in bands.items():
        path = folder / f"{engine}.yaml"
        profile = load_yaml(path)
        if ref not in profile.data.get("refs", {}):
            raise InputError(f"the profile has no reference {ref!r} for its bands", file=str(path), path="refs")
        text = _BLOCKS.sub("", path.read_text(encoding="utf-8"))
        place = _BEFORE.search(text)
        assert place is not None
        path.write_text(text[: place.start()] + _block(found, ref) + text[place.start() :], encoding="utf-8")
        written.append(path)
    return written


def _block(found: EngineBands, ref: str) -> str:
    """The YAML text of an engine's bands; those that say nothing are left out."""
    told = {metric: band for metric, band in found.metrics.items() if band.high / band.low <= _WIDEST}
    if not told:
        return ""
    lines = [
        *(f"  - {_flow(_band(metric, band, ref))}" for metric, band in told.items()),
        "errors_on:",
        f"  models: [{', '.join(found.models)}]",
        f"  devices: [{', '.join(found.devices)}]",
        *(f"  {name}: {[*getattr(found, name)]}" for name in ("concurrency", "input_tokens", "output_tokens")),
    ]
    return "\n".join(["errors:", *lines, ""])


def _band(metric: str, band: FittedBand, ref: str) -> dict[str, str]:
    stretches = {f"new_{kind}": "null" if one is None else f"{one:.2f}" for kind, one in band.stretch.items()}
    ends = {"low": f"{band.low:.3f}", "high": f"{band.high:.3f}"}
    counts = {"rows": str(band.rows), "groups": str(band.groups)}
    return {"metric": metric, **ends, **stretches, **counts, "source": "fitted", "ref": ref}


def _flow(data: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{key}: {value}" for key, value in data.items()) + "}"
