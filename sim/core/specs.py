"""Base classes of every spec: frozen data, no behaviour, unknown keys refused, quantities parsed at the edge.

A spec read from a file must write its quantities with units; code may pass SI floats. The difference is carried
in pydantic's validation context (`{"file": True}`), set by `sim.core.yamlio.build_spec`. The same context on the way
out (`Spec.to_file_data`) writes quantities as exact text with units, so that a file written is a file that loads.
"""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, ValidationInfo, WithJsonSchema
from pydantic_core.core_schema import SerializationInfo

from sim.core.units import DIMENSIONS, UnitError, parse_quantity

T = TypeVar("T")


class Spec(BaseModel):
    """Frozen, strict data: unknown keys are errors, fields cannot be assigned."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=False)

    def to_file_data(self) -> dict[str, Any]:
        """The spec as plain data for a YAML or JSON file: defaults filled in, quantities as text with units."""
        return self.model_dump(mode="json", exclude_none=True, context={"file": True})


def _quantity(dimension: str, *, positive: bool = False) -> Any:
    kind = DIMENSIONS[dimension]

    def parse(value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, (str, int, float)):
            raise ValueError(f"expected a quantity such as {kind.example!r}")
        from_file = bool(info.context and info.context.get("file"))
        try:
            number = parse_quantity(value, dimension, require_unit=from_file)
        except UnitError as error:
            raise ValueError(str(error)) from None
        if number < 0 or (positive and number == 0):
            raise ValueError(f"must be {'positive' if positive else 'zero or more'}, such as {kind.example!r}")
        return number

    unit = next(unit for unit, factor in kind.units.items() if factor == 1.0)

    def write(value: float, info: SerializationInfo) -> float | str:
        in_file = bool(info.context and info.context.get("file"))
        return f"{value!r} {unit}" if in_file and unit else value

    schema = {
        "anyOf": [{"type": "string"}, {"type": "number"}],
        "description": f"quantity in {dimension}, such as {kind.example}",
        "examples": [kind.example],
    }
    return [BeforeValidator(parse), PlainSerializer(write), WithJsonSchema(schema)]


TimeS = Annotated[float, *_quantity("s")]
DataBytes = Annotated[float, *_quantity("bytes")]
BandwidthBytesPerS = Annotated[float, *_quantity("bytes_per_s", positive=True)]
ComputeFlops = Annotated[float, *_quantity("flops", positive=True)]
MoneyUsd = Annotated[float, *_quantity("usd")]
PriceUsdPerH = Annotated[float, *_quantity("usd_per_h")]
PowerW = Annotated[float, *_quantity("w")]
EnergyJ = Annotated[float, *_quantity("j")]
FrequencyHz = Annotated[float, *_quantity("hz", positive=True)]
RatePerS = Annotated[float, *_quantity("per_s", positive=True)]
Frac = Annotated[float, *_quantity("frac")]


class Sourced(Spec, Generic[T]):
    """A number with its provenance.

    Attributes:
        value: The number; in a file, text with a unit.
        source: How it is known.
        ref: Where: a key of the file's `refs` table, or a citation.
        confidence: How far to trust it.
        note: What a reader must know before using it.
    """

    value: T
    source: Literal["datasheet", "measured", "fitted", "assumed"]
    ref: str
    confidence: Literal["high", "medium", "low"] = "medium"
    note: str = ""
