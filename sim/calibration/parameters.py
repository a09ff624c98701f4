"""Which parameters of an engine profile can be fitted, and how sure the profile is of them beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Final

from sim.core import InputError, Sourced, did_you_mean
from sim.plans import EngineSpec

PARAMETERS: Final[Mapping[str, str]] = {
    "host_step_s": "host time per iteration",
    "host_per_sequence_s": "host time per sequence of an iteration",
    "eager_launch_s": "host time per kernel launched in an iteration with prompts",
    "frontend_s": "front-end time that requests spend side by side",
    "frontend_request_s": "serial front-end work per request",
    "frontend_token_s": "serial front-end work per prompt token",
    "stream_token_s": "serial front-end work per output token",
}
"""What is fitted by default: overheads that no kernel table and no datasheet tells."""

_SPREAD: Final = {"low": log(4.0), "medium": log(1.5), "high": log(1.1)}
"""Standard deviation of the logarithm that a stated confidence stands for (assumed)."""


@dataclass(frozen=True)
class Parameter:
    """A positive parameter with a lognormal prior.

    Attributes:
        name: Field of the engine profile.
        value: The profile's value, the median of the prior, in SI units.
        log_sd: Standard deviation of its logarithm.
    """

    name: str
    value: float
    log_sd: float


def parameters_of(engine: EngineSpec, names: Sequence[str] | None = None) -> tuple[Parameter, ...]:
    """The parameters called `names` with the profile's values as priors; None for all of `PARAMETERS` that it has.

    Raises:
        InputError: if a name is none of them, or the profile's value is absent or zero, which no factor changes.
    """
    found = []
    has = [name for name in PARAMETERS if getattr(engine, name) is not None]
    for name in has if names is None else names:
        if name not in PARAMETERS:
            raise InputError(f"unknown parameter {name!r}{did_you_mean(name, PARAMETERS)}", allowed=[*PARAMETERS])
        sourced: Sourced[float] | None = getattr(engine, name)
        if sourced is None:
            raise InputError(f"{name} is not in the profile {engine.name}; give it a first guess", allowed=has)
        if sourced.value <= 0:
            raise InputError(f"{name} is zero in the profile {engine.name}; give it a first guess", value=sourced.value)
        found.append(Parameter(name, sourced.value, _SPREAD[sourced.confidence]))
    return tuple(found)
