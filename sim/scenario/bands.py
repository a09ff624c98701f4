"""Error bands of an engine for one scenario: wider where its model, device or load was not measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from sim.plans import EngineSpec, ErrorBand
from sim.results import Band
from sim.scenario.assemble import Assembled

_GENERIC_STRETCH: Final = 2.0
"""How much wider, in the logarithm, intervals are on a device that has only generic kernel curves (assumed)."""

_BEYOND: Final = 1.05
"""How far outside the measured range a load may lie and still count as inside: lengths are means of random draws."""


@dataclass(frozen=True)
class Setting:
    """What decides how much like the measured rows a scenario is.

    Attributes:
        model: Short name of the model.
        device: Name of the device.
        generic: Whether the device has only generic kernel curves.
        concurrency: Requests in flight of a closed loop; None for an open one.
        input_tokens: Mean prompt [tokens].
        output_tokens: Mean output [tokens].
    """

    model: str
    device: str
    generic: bool
    concurrency: int | None
    input_tokens: float
    output_tokens: float


def setting_of(things: Assembled) -> Setting:
    """The setting of an assembled scenario."""
    return Setting(
        model=things.model.name,
        device=things.cluster.device.name,
        generic=things.cluster.device.kernels.name == "generic",
        concurrency=things.concurrency,
        input_tokens=float(things.requests.input_tokens.mean()),
        output_tokens=float(things.requests.output_tokens.mean()),
    )


def strangeness(engine: EngineSpec, setting: Setting) -> tuple[str, ...]:
    """What of `model`, `device`, `load` and `kernels` is unlike everything that the bands were fitted to."""
    domain = engine.errors_on
    if domain is None:
        return ()
    ranges = (
        (setting.concurrency, domain.concurrency),
        (setting.input_tokens, domain.input_tokens),
        (setting.output_tokens, domain.output_tokens),
    )
    loads = [low / _BEYOND <= value <= high * _BEYOND for value, (low, high) in ranges if value is not None]
    new = {
        "model": setting.model not in domain.models,
        "device": setting.device not in domain.devices,
        "load": not all(loads),
        "kernels": setting.generic,
    }
    return tuple(name for name, is_new in new.items() if is_new)


def bands_for(engine: EngineSpec, setting: Setting) -> dict[str, Band]:
    """The engine's bands by metric, stretched for what is strange in the setting; left out where that is unknown."""
    strange = strangeness(engine, setting)
    stretches = {band: _stretch(band, strange) for band in engine.errors}
    return {
        band.metric: Band(band.low, band.high).widened(stretch)
        for band, stretch in stretches.items()
        if stretch is not None
    }


def _stretch(band: ErrorBand, strange: tuple[str, ...]) -> float | None:
    """Stretch for several reasons at once: the variances that they add to the band's own are summed."""
    known = {"model": band.new_model, "device": band.new_device, "load": band.new_load, "kernels": _GENERIC_STRETCH}
    added = [known[name] for name in strange]
    if None in added:
        return None
    return math.sqrt(1.0 + sum(one**2 - 1.0 for one in added if one is not None))
