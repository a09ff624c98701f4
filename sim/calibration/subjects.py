"""What a calibration can fit: an engine profile, or a device profile. Each predicts rows with other parameters.

Start at `subject_of`, which says whose profile a name is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, Literal, Protocol, TypeVar

from sim.calibration.parameters import Parameter, device_parameters, parameters_of
from sim.core import InputError, data_names, did_you_mean
from sim.hardware import Device, Scales, load_device, load_node
from sim.plans import EngineSpec, load_engine, with_values
from sim.validation import Compiled, MeasuredRow, Prediction, predict

ENGINES: Final = "hardware_profiles/engines"
DEVICES: Final = "hardware_profiles/devices"


class Subject(Protocol):
    """A profile under calibration."""

    @property
    def kind(self) -> Literal["engine", "device"]:
        """What it is a profile of."""
        ...

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def title(self) -> str:
        """Its name for people."""
        ...

    @property
    def unit(self) -> str:
        """Unit of its parameters; empty for factors."""
        ...

    @property
    def keeps_costs(self) -> bool:
        """Whether compiled costs hold for all values of its parameters."""
        ...

    @property
    def step(self) -> float:
        """Step of a difference in the logarithm: large enough to see through the jumps of a discrete simulation."""
        ...

    def parameters(self, names: Sequence[str] | None) -> tuple[Parameter, ...]:
        """Its parameters of these names with their priors; None for all."""
        ...

    def ran(self, row: MeasuredRow) -> str:
        """Name of the engine or device that a row ran on; empty where that is unknown."""
        ...

    def predict(
        self, row: MeasuredRow, values: Mapping[str, float] | None, *, seed: int, compiled: dict[str, Compiled]
    ) -> Prediction:
        """The row with these values of the parameters; None for the profile's own."""
        ...


Profile = TypeVar("Profile", EngineSpec, Device)


@dataclass(frozen=True)
class _Named(Generic[Profile]):
    profile: Profile

    @property
    def name(self) -> str:
        """Its name."""
        return self.profile.name

    @property
    def title(self) -> str:
        """Its name for people."""
        return self.profile.title


@dataclass(frozen=True)
class EngineSubject(_Named[EngineSpec]):
    """An engine profile: times of its host and front end [s]."""

    kind: Literal["engine", "device"] = "engine"
    unit: str = "s"
    keeps_costs: bool = True
    step: float = 0.2

    def parameters(self, names: Sequence[str] | None) -> tuple[Parameter, ...]:
        """Its parameters of these names with their priors; None for all."""
        return parameters_of(self.profile, names)

    def ran(self, row: MeasuredRow) -> str:
        """Name of the engine that a row ran on."""
        return str((row.scenario or {}).get("engine", ""))

    def predict(
        self, row: MeasuredRow, values: Mapping[str, float] | None, *, seed: int, compiled: dict[str, Compiled]
    ) -> Prediction:
        """The row with these times; compiled costs hold for all of them."""
        return predict(row, seed=seed, compiled=compiled, engine=with_values(self.profile, values or {}))


@dataclass(frozen=True)
class DeviceSubject(_Named[Device]):
    """A device profile: factors on what its kernel curves say (`sim.hardware.Scales`)."""

    kind: Literal["engine", "device"] = "device"
    unit: str = ""
    keeps_costs: bool = False
    step: float = 0.1

    def parameters(self, names: Sequence[str] | None) -> tuple[Parameter, ...]:
        """Its parameters of these names with their priors; None for all."""
        return device_parameters(self.profile, names)

    def ran(self, row: MeasuredRow) -> str:
        """Name of the device that a row ran on; rows of training belong to `fit_training`."""
        cluster = (row.scenario or {}).get("cluster", "")
        training = not row.is_serving
        if not isinstance(cluster, Mapping) or training:
            return "training runs" if training else ""
        try:
            return load_node(str(cluster.get("node", ""))).device.name
        except InputError:
            return ""

    def predict(
        self, row: MeasuredRow, values: Mapping[str, float] | None, *, seed: int, compiled: dict[str, Compiled]
    ) -> Prediction:
        """The row on the device with these factors; `compiled` must hold costs of the same ones."""
        device = self.profile if values is None else self.profile.scaled(scales_of(values))
        return predict(row, seed=seed, compiled=compiled, device=device)


def scales_of(values: Mapping[str, float]) -> Scales:
    """The factors as the device takes them: `compute.<format>` are those on arithmetic."""
    compute = {name.removeprefix("compute."): x for name, x in values.items() if name.startswith("compute.")}
    memory, link, launch = (values.get(name, 1.0) for name in ("memory", "link", "launch"))
    return Scales(memory, link, launch, compute)


def subject_of(name: str) -> Subject:
    """The engine or device profile with this name, or in this YAML file.

    Raises:
        InputError: if there is neither.
    """
    if name in data_names(ENGINES):
        return EngineSubject(load_engine(name))
    if name in data_names(DEVICES):
        return DeviceSubject(load_device(name))
    if name.endswith((".yaml", ".yml")) and Path(name).is_file():
        try:
            return DeviceSubject(load_device(name))
        except InputError as no_device:
            try:
                return EngineSubject(load_engine(name))
            except InputError:
                raise no_device from None
    known = (*data_names(ENGINES), *data_names(DEVICES))
    raise InputError(
        f"unknown engine or device {name!r}{did_you_mean(name, known)}",
        hint="plansim list engines, plansim list devices, or the path of a profile",
    )
