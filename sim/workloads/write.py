"""Writes a traffic spec as YAML that `load_traffic` reads back."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from sim.core import DIMENSIONS
from sim.workloads.traffic import TrafficSpec

_WIDTH = 110


def traffic_yaml(spec: TrafficSpec) -> str:
    """`spec` as YAML: quantities with units, without what equals a default, one line for each list or small mapping."""
    text: str = yaml.safe_dump(_plain(spec), sort_keys=False, default_flow_style=None, allow_unicode=True, width=_WIDTH)
    return text


def save_traffic(spec: TrafficSpec, path: Path | str) -> None:
    """Write `spec` to the file `path`, whose name should end in `.yaml`."""
    Path(path).write_text(traffic_yaml(spec), encoding="utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        units = _units(type(value))
        fields = type(value).model_fields
        shown = {name: getattr(value, name) for name in fields}
        kept = {n: v for n, v in shown.items() if fields[n].is_required() or v != fields[n].get_default()}
        return {n: f"{v:.12g} {units[n]}" if n in units and v else _plain(v) for n, v in kept.items() if v != {}}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _units(model: type[BaseModel]) -> dict[str, str]:
    """Unit to write by name of field, for those that hold a quantity."""
    properties = model.model_json_schema()["properties"]
    found = {name: re.search(r"quantity in (\w+)", json.dumps(field)) for name, field in properties.items()}
    return {name: _si_unit(match[1]) for name, match in found.items() if match}


def _si_unit(dimension: str) -> str:
    return next(unit for factor, unit in DIMENSIONS[dimension].print_units if factor == 1)
