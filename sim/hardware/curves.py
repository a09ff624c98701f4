"""Kernel-efficiency curves of a device: parameters by kernel, dtype and engine, with explicit fall-backs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

from sim.core import InputError, UnitError, load_data, parse_quantity
from sim.hardware.scales import Scales
from sim.hardware.spec import CurveSpec, KernelsSpec

_CAPPED: Final = frozenset({"e", "f", "f_1", "e_128"})
_DTYPES: Final = {
    "fp16": "bf16",
    "fp4": "nvfp4",
    "mxfp8": "fp8_block",
    "tf32": "fp32",
}
_NEAREST: Final = {
    "fp8": ("fp8_block", "int8", "bf16"),
    "fp8_block": ("fp8", "bf16"),
    "fp8_rowwise": ("fp8", "fp8_block", "bf16"),
    "mxfp4": ("nvfp4", "fp8_block", "fp8", "bf16"),
    "nvfp4": ("fp8_block", "fp8", "bf16"),
    "int8": ("fp8", "bf16"),
    "w8a16": ("bf16",),
    "int4": ("w4a16", "w8a16", "bf16"),
    "w4a16": ("int4", "w8a16", "bf16"),
    "bf16": ("fp32",),
    "fp32": ("bf16",),
}


@dataclass(frozen=True)
class KernelCurves:
    """Curves of one device family, and the generic ones for what it lacks.

    Looked up in this order: the engine's own curve, one for any engine, another engine's; then the nearest dtype of
    the family; then the same in the generic file. A curve of the library that is asked for comes before those of the
    engines' own choice, unless the engine chooses that library by itself; one of another library is never taken.

    Attributes:
        name: Name of the family's file.
        scales: Factors on its parameters, of one device.
    """

    name: str
    scales: Scales = field(default_factory=Scales, kw_only=True)

    def get(self, kernel: str, dtype: str, engine: str, library: str = "") -> Mapping[str, float]:
        """Parameters in SI units; fractions of a peak are capped at 1, so that no cost beats the roofline.

        Raises:
            InputError: if neither the family nor the generic file has such a kernel.
        """
        params = _find(self.name, kernel, dtype, engine, library).params
        return params if self.scales.trivial else self.scales.on(_DTYPES.get(dtype, dtype), params)

    def provenance(self, kernel: str, dtype: str, engine: str, library: str = "") -> str:
        """Which curve `get` takes, what it stands in for (family, dtype, engine or library), where it comes from."""
        text = _find(self.name, kernel, dtype, engine, library).label
        return text if self.scales.trivial else f"{text}; calibrated: {self.scales}"

    def error(self, kernel: str, dtype: str, engine: str) -> tuple[float, float] | None:
        """Median and 90th percentile of the curve's absolute relative error on held-out shapes, where known."""
        return _find(self.name, kernel, dtype, engine, "").error

    def has_library(self, kernel: str, dtype: str, engine: str, library: str) -> bool:
        """Whether the curve that `get` takes is known to be of the library asked for, not just the engine's choice."""
        return _find(self.name, kernel, dtype, engine, library).of_library

    def library(self, kernel: str, dtype: str, engine: str) -> str:
        """Library that the engine takes by itself, empty where that is not known."""
        return _find(self.name, kernel, dtype, engine, "").default_library


class _Found(NamedTuple):
    label: str
    params: Mapping[str, float]
    error: tuple[float, float] | None
    of_library: bool
    default_library: str


@lru_cache(maxsize=4096)
def _find(family: str, kernel: str, dtype: str, engine: str, library: str) -> _Found:
    wanted = _DTYPES.get(dtype, dtype)
    for file in dict.fromkeys((family, "generic")):
        spec = load_data("hardware_profiles/kernels", file, KernelsSpec, kind="kernel")
        for candidate in (wanted, *_NEAREST.get(wanted, ("bf16",))):
            alike = [c for c in spec.curves if (c.kernel, c.dtype) == (kernel, candidate)]
            matches = [c for c in alike if c.library in ("", library)]
            if matches:
                curve = min(matches, key=lambda c: _distance(c, engine, library))
                label = _label(family, file, curve, dtype, engine, library, spec)
                return _Found(
                    label, _numbers(curve, file), _error(curve), _is_of(curve, library), curve.default_library
                )
    raise InputError(
        f"no efficiency curve for {kernel} in {dtype}",
        hint=f"add one to {family.removesuffix('.yaml')}.yaml or generic.yaml",
    )


def _is_of(curve: CurveSpec, library: str) -> bool:
    return library in (curve.library, curve.default_library) if library else not curve.library


def _distance(curve: CurveSpec, engine: str, library: str) -> tuple[bool, bool, bool]:
    """How far off a curve is, to be compared: of another library, of another engine, of a named one."""
    own = curve.library == library or (curve.engine == engine and _is_of(curve, library))
    return not own, curve.engine != engine, curve.engine != "any"


def _label(family: str, file: str, curve: CurveSpec, dtype: str, engine: str, library: str, spec: KernelsSpec) -> str:
    """Which curve it is, what it stands in for (a family, dtype, engine or library without one), and its source."""
    lacking = [Path(family).stem] if file != family else []
    lacking += [] if curve.dtype == _DTYPES.get(dtype, dtype) else [dtype]
    lacking += [] if curve.engine in (engine, "any") else [engine]
    lacking += [] if _is_of(curve, library) else [library]
    stand_in = f" (stands in for {' '.join(lacking)})" if lacking else ""
    ref = spec.refs.get(curve.ref, curve.ref)
    of = f" {library}" if library and _is_of(curve, library) else ""
    return f"{spec.name}: {curve.kernel} {curve.dtype} {curve.engine}{of}{stand_in}, {curve.source}: {ref}"


def _error(curve: CurveSpec) -> tuple[float, float] | None:
    if curve.median_error is None or curve.p90_error is None:
        return None
    return curve.median_error, curve.p90_error


def _numbers(curve: CurveSpec, file: str) -> Mapping[str, float]:
    numbers = {}
    for name, raw in curve.params.items():
        try:
            value = float("inf") if raw == "inf" else parse_quantity(raw, "s", require_unit=False)
        except UnitError as error:
            raise InputError(
                str(error), file=f"{file.removesuffix('.yaml')}.yaml", path=f"{curve.kernel} {curve.dtype} {name}"
            ) from None
        numbers[name] = min(value, 1.0) if name in _CAPPED else value
    return numbers
