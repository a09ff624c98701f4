"""Text with units to SI floats and back: `3.35 TB/s`, `80 GiB`, `400 Gb/s`, `989 TFLOP/s`, `50 ms`, `2.5 USD/h`.

Two rules prevent the field's classic mistakes: an upper-case `B` is bytes and a lower-case `b` is bits (`Gb/s`
is an eighth of `GB/s`), and `GB` is 1e9 bytes while `GiB` is 2**30. Prefixes are case-sensitive, so `mB` is
refused instead of being read as mega.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

_SI: Final = {"": 1.0, "n": 1e-9, "u": 1e-6, "µ": 1e-6, "m": 1e-3, "k": 1e3, "K": 1e3}
_BIG: Final = {"M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_BINARY: Final = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50}
_UP: Final = {"": 1.0, "k": 1e3, "K": 1e3, **_BIG}
_TIME: Final = {"s": 1.0, "min": 60.0, "h": 3600.0, "hr": 3600.0, "day": 86400.0, "d": 86400.0}
_NUMBER = re.compile(r"^\s*([+-]?(?:\d[\d_,]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(.*?)\s*$")


class UnitError(ValueError):
    """A quantity that cannot be read; the message says what is allowed."""


@dataclass(frozen=True)
class Dimension:
    """One physical dimension: its accepted unit texts with their factor to SI, and how to print it."""

    name: str
    units: dict[str, float]
    example: str
    print_units: tuple[tuple[float, str], ...]
    bare_ok: bool = False


def _scaled(prefixes: dict[str, float], *units: str) -> dict[str, float]:
    return {prefix + unit: factor for prefix, factor in prefixes.items() for unit in units}


def _per(units: dict[str, float], *denominators: str) -> dict[str, float]:
    return {f"{unit}/{d}": factor / _TIME[d] for unit, factor in units.items() for d in denominators}


_DATA: Final = {
    **_scaled({**_UP, **_BINARY}, "B"),
    **{unit: factor / 8 for unit, factor in _scaled({**_UP, **_BINARY}, "b", "bit").items()},
    **_scaled({"": 1.0}, "byte", "bytes"),
}
_FLOP: Final = _scaled(_UP, "FLOP", "OP", "FLOPs", "OPs")
_COUNT: Final = {**_scaled(_UP, "req", "requests", "request", "token", "tokens"), "": 1.0}
_ladder = tuple[tuple[float, str], ...]


def _ladder_of(unit: str, *prefixes: str) -> _ladder:
    table = {**_SI, **_BIG, **_BINARY}
    return tuple((table[prefix], prefix + unit) for prefix in prefixes)


DIMENSIONS: Final[dict[str, Dimension]] = {
    dimension.name: dimension
    for dimension in (
        Dimension(
            "s",
            {**_scaled(_SI, "s"), **_TIME, "sec": 1.0},
            "50 ms",
            ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns")),
        ),
        Dimension("bytes", _DATA, "80 GiB", _ladder_of("B", "Ti", "Gi", "Mi", "Ki", "")),
        Dimension("bytes_per_s", _per(_DATA, "s"), "3.35 TB/s", _ladder_of("B/s", "P", "T", "G", "M", "k", "")),
        Dimension(
            "flops",
            {**_per(_FLOP, "s"), **_scaled(_UP, "FLOPS", "OPS")},
            "989 TFLOP/s",
            _ladder_of("FLOP/s", "E", "P", "T", "G", "M", "k", ""),
        ),
        Dimension("flop", _FLOP, "4 TFLOP", _ladder_of("FLOP", "E", "P", "T", "G", "M", "k", "")),
        Dimension("usd", _scaled(_UP, "USD"), "30000 USD", ((1.0, "USD"),)),
        Dimension("usd_per_h", {"USD/h": 1.0, "USD/hr": 1.0, "USD/s": 3600.0}, "2.5 USD/h", ((1.0, "USD/h"),)),
        Dimension("w", _scaled({**_UP, "m": 1e-3}, "W"), "700 W", _ladder_of("W", "M", "k", "", "m")),
        Dimension(
            "j",
            {**_scaled({**_UP, "m": 1e-3}, "J"), **{f"{p}Wh": f * 3600.0 for p, f in _UP.items()}},
            "1.2 kWh",
            _ladder_of("J", "P", "T", "G", "M", "k", "", "m"),
        ),
        Dimension("hz", _scaled(_UP, "Hz"), "1830 MHz", _ladder_of("Hz", "G", "M", "k", "")),
        Dimension(
            "per_s",
            _per(_COUNT, "s", "min", "h", "day"),
            "4 req/s",
            ((1.0, "/s"),),
        ),
        Dimension("frac", {"": 1.0, "%": 0.01}, "0.9 or 90 %", ((1.0, ""),), bare_ok=True),
        Dimension(
            "tokens",
            {**_scaled(_UP, "tokens", "token", "tok"), **_UP, "Ki": 1024.0},
            "8192",
            ((1.0, ""),),
            True,
        ),
    )
}


def parse_quantity(text: str | float, dimension: str, *, require_unit: bool = True) -> float:
    """The value of `text` in the SI unit of `dimension`.

    Args:
        text: Number and unit, such as `"3.35 TB/s"`; a plain number is already SI.
        dimension: A key of `DIMENSIONS`, such as `bytes_per_s`.
        require_unit: Whether a bare number other than zero is refused (true for files).

    Raises:
        UnitError: if the text is no finite number, lacks its unit or has one of another dimension.
    """
    kind = DIMENSIONS[dimension]
    if isinstance(text, bool):
        raise UnitError(f"expected a quantity such as {kind.example!r}")
    if isinstance(text, (int, float)):
        if not math.isfinite(text):
            raise UnitError(f"expected a finite quantity such as {kind.example!r}")
        if require_unit and not kind.bare_ok and text != 0:
            raise UnitError(f"the unit is missing; write for example {kind.example!r}")
        return float(text)
    match = _NUMBER.match(text)
    if match is None:
        raise UnitError(f"expected a number with a unit, such as {kind.example!r}")
    number = float(match[1].replace("_", "").replace(",", ""))
    unit = match[2].replace(" ", "")
    if not unit:
        return parse_quantity(number, dimension, require_unit=require_unit)
    factor = kind.units.get(unit)
    if factor is None:
        raise UnitError(f"unit {unit!r} does not fit{_unit_hint(unit, kind)}; write for example {kind.example!r}")
    if not math.isfinite(number * factor):
        raise UnitError(f"expected a finite quantity such as {kind.example!r}")
    return number * factor


def _unit_hint(unit: str, kind: Dimension) -> str:
    for other in DIMENSIONS.values():
        if unit in other.units and other is not kind:
            return f" here: it measures {other.name}, wanted {kind.name}"
    same = [known for known in kind.units if known.lower() == unit.lower()]
    return f"; did you mean {same[0]!r}? (upper and lower case matter)" if same else ""


def format_quantity(value: float, dimension: str, *, digits: int = 4) -> str:
    """`value` [SI unit of `dimension`] as short text with a fitting prefix, such as `3.35 TB/s`."""
    kind = DIMENSIONS[dimension]
    if value == 0 or not math.isfinite(value):
        return f"{value:g} {kind.print_units[-1][1]}".strip()
    for factor, unit in kind.print_units:
        if abs(value) >= factor * 0.9995:
            return f"{value / factor:.{digits}g} {unit}".strip()
    factor, unit = kind.print_units[-1]
    return f"{value / factor:.{digits}g} {unit}".strip()
