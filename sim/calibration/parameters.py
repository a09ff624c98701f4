"""Which parameters of an engine or device profile can be fitted, and how sure the profile is of them beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Final

from sim.core import InputError, Sourced, did_you_mean
from sim.hardware import SCALED_RATES, Device
from sim.plans import EngineSpec

PARAMETERS: Final[Mapping[str, str]] = {
    "host_step_s": "host time per iteration",
    "host_per_sequence_s": "host time per sequence of an iteration",
    "step_gap_s": "time per iteration in which the device waits although host work is overlapped",
    "kernel_gap_s": "time from one kernel of a forward pass to the next beyond that of kernels repeated by themselves",
    "host_call_s": "host time per call of a forward pass with prompts, as far as no CUDA graph holds it",
    "frontend_s": "front-end time that requests spend side by side",
    "frontend_request_s": "serial front-end work per request",
    "frontend_token_s": "serial front-end work per prompt token",
    "stream_token_s": "serial front-end work per output token",
}
"""What is fitted by default, where the profile has it: overheads that no kernel table and no datasheet tells."""

_SPREAD: Final = {"low": log(4.0), "medium": log(1.5), "high": log(1.1)}
"""Standard deviation of the logarithm that a stated confidence stands for (assumed)."""


_FIRST_GUESSES: Final[Mapping[str, float]] = {
    "host_step_s": 1.5e-3,  # scheduling, inputs and outputs of a step in Python: 0.5 to 5 ms
    "host_per_sequence_s": 10e-6,  # some hundred lines of Python per sequence
    "step_gap_s": 0.3e-3,  # launch of a graph, input tensors, tokens gathered: 0.1 to 1 ms
    "kernel_gap_s": 0.5e-6,  # cold instructions and operands, launches that do not overlap: 0.2 to 2 us
    "host_call_s": 50e-6,  # two or three operators of PyTorch at 5 to 10 us, or kernels of Triton at 20 to 50 us
    "frontend_s": 12e-3,  # chat completion over HTTP and hand-over between processes: 5 to 30 ms
    "frontend_request_s": 2e-3,  # validation, template and queues of one request in Python
    "frontend_token_s": 1e-6,  # tokenizers do about a million tokens per second and thread
    "stream_token_s": 30e-6,  # an event, detokenizer and JSON of one token: 10 to 100 us
}
"""Orders of magnitude [s] (assumed), the same for all engines and taken from no measured row."""


_DEVICE_SPREAD: Final = {"memory": log(1.15), "compute": log(1.15), "link": log(1.3), "launch": log(1.5)}
"""Standard deviation of the logarithm of a device's factors: about the errors of its curves on kernels and between
devices (assumed; docs/kernel_costs.md)."""


@dataclass(frozen=True)
class Parameter:
    """A positive parameter with a lognormal prior.

    Attributes:
        name: Field of the engine profile, or factor of the device profile.
        value: The profile's value, the median of the prior, in SI units.
        log_sd: Standard deviation of its logarithm.
    """

    name: str
    value: float
    log_sd: float


def _given(engine: EngineSpec) -> list[str]:
    return [name for name in PARAMETERS if getattr(engine, name) is not None]


def parameters_of(engine: EngineSpec, names: Sequence[str] | None = None) -> tuple[Parameter, ...]:
    """The parameters called `names` with the profile's values as priors; None for all of `PARAMETERS` that it has.

    Raises:
        InputError: if a name is none of them, or the profile has no value for it, or zero, which no factor changes.
    """
    found = []
    for name in _given(engine) if names is None else names:
        if name not in PARAMETERS:
            raise InputError(f"unknown parameter {name!r}{did_you_mean(name, PARAMETERS)}", allowed=[*PARAMETERS])
        sourced: Sourced[float] | None = getattr(engine, name)
        if sourced is None:
            raise InputError(f"the profile {engine.name} has no {name}; give it a first guess", allowed=_given(engine))
        if sourced.value <= 0:
            raise InputError(f"{name} is zero in the profile {engine.name}; give it a first guess", value=sourced.value)
        found.append(Parameter(name, sourced.value, _SPREAD[sourced.confidence]))
    return tuple(found)


def first_guess(name: str) -> Parameter:
    """What is known of a time of a host or front end before any row or profile is read: an order of magnitude."""
    return Parameter(name, _FIRST_GUESSES[name], _SPREAD["low"])


def device_parameters(device: Device, names: Sequence[str] | None = None) -> tuple[Parameter, ...]:
    """The factors on a device's curves called `names`, with those that its file gives as priors; None for all.

    They are `memory`, `link`, `launch`, and `compute.<format>` for every format that the device multiplies.

    Raises:
        InputError: if a name is none of them.
    """
    scales = device.kernels.scales
    values = {"memory": scales.memory, "link": scales.link, "launch": scales.launch}
    values |= {f"compute.{rate}": scales.compute.get(rate, 1.0) for rate in SCALED_RATES if rate in device.flops}
    for name in names or ():
        if name not in values:
            raise InputError(
                f"{device.name} has no parameter {name!r}{did_you_mean(name, values)}", allowed=sorted(values)
            )
    return tuple(
        Parameter(name, values[name], _DEVICE_SPREAD[name.partition(".")[0]])
        for name in (values if names is None else names)
    )
