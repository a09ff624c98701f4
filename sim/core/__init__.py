"""Foundations shared by every other package: errors, units, YAML, specs, registry, random streams, processes.

Nothing here knows about hardware, models or serving. Start reading in `errors` (how every message to a user is
made), then `units` and `specs` (how text such as `3.35 TB/s` becomes a float in SI units), `yamlio` (strict YAML
with line numbers) and `registry` (how a plug-in gets its name).

Names are resolved lazily (PEP 562) so that the command line can import `sim.core.errors` without paying for
numpy or pydantic.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME = {
    "errors": (
        "InfeasibleError",
        "InputError",
        "MISSING",
        "PlansimError",
        "Reason",
        "SloNotMetError",
        "did_you_mean",
        "require_extra",
    ),
    "units": ("DIMENSIONS", "UnitError", "format_quantity", "parse_quantity"),
    "specs": (
        "BandwidthBytesPerS",
        "ComputeFlops",
        "DataBytes",
        "EnergyJ",
        "Frac",
        "FrequencyHz",
        "MoneyUsd",
        "PowerW",
        "PriceUsdPerH",
        "RatePerS",
        "Sourced",
        "Spec",
        "TimeS",
    ),
    "yamlio": ("YamlDocument", "build_spec", "load_yaml", "parse_yaml", "to_yaml"),
    "datafiles": ("data_names", "data_path", "data_root", "load_data", "named_in", "resolve_refs"),
    "registry": ("Registry",),
    "processes": ("map_in_processes",),
    "randomness": ("stream",),
    "statistics": (
        "QUANTILES",
        "WRONG_UNIT",
        "Array",
        "Summary",
        "out_of_proportion",
        "summarise",
        "weighted_quantile",
    ),
}
_WHERE = {name: module for module, names in _HOME.items() for name in names}
__all__ = sorted(_WHERE)

if TYPE_CHECKING:
    from sim.core.datafiles import data_names as data_names
    from sim.core.datafiles import data_path as data_path
    from sim.core.datafiles import data_root as data_root
    from sim.core.datafiles import load_data as load_data
    from sim.core.datafiles import named_in as named_in
    from sim.core.datafiles import resolve_refs as resolve_refs
    from sim.core.errors import MISSING as MISSING
    from sim.core.errors import InfeasibleError as InfeasibleError
    from sim.core.errors import InputError as InputError
    from sim.core.errors import PlansimError as PlansimError
    from sim.core.errors import Reason as Reason
    from sim.core.errors import SloNotMetError as SloNotMetError
    from sim.core.errors import did_you_mean as did_you_mean
    from sim.core.errors import require_extra as require_extra
    from sim.core.processes import map_in_processes as map_in_processes
    from sim.core.randomness import stream as stream
    from sim.core.registry import Registry as Registry
    from sim.core.specs import BandwidthBytesPerS as BandwidthBytesPerS
    from sim.core.specs import ComputeFlops as ComputeFlops
    from sim.core.specs import DataBytes as DataBytes
    from sim.core.specs import EnergyJ as EnergyJ
    from sim.core.specs import Frac as Frac
    from sim.core.specs import FrequencyHz as FrequencyHz
    from sim.core.specs import MoneyUsd as MoneyUsd
    from sim.core.specs import PowerW as PowerW
    from sim.core.specs import PriceUsdPerH as PriceUsdPerH
    from sim.core.specs import RatePerS as RatePerS
    from sim.core.specs import Sourced as Sourced
    from sim.core.specs import Spec as Spec
    from sim.core.specs import TimeS as TimeS
    from sim.core.statistics import QUANTILES as QUANTILES
    from sim.core.statistics import WRONG_UNIT as WRONG_UNIT
    from sim.core.statistics import Array as Array
    from sim.core.statistics import Summary as Summary
    from sim.core.statistics import out_of_proportion as out_of_proportion
    from sim.core.statistics import summarise as summarise
    from sim.core.statistics import weighted_quantile as weighted_quantile
    from sim.core.units import DIMENSIONS as DIMENSIONS
    from sim.core.units import UnitError as UnitError
    from sim.core.units import format_quantity as format_quantity
    from sim.core.units import parse_quantity as parse_quantity
    from sim.core.yamlio import YamlDocument as YamlDocument
    from sim.core.yamlio import build_spec as build_spec
    from sim.core.yamlio import load_yaml as load_yaml
    from sim.core.yamlio import parse_yaml as parse_yaml
    from sim.core.yamlio import to_yaml as to_yaml


def __getattr__(name: str) -> Any:
    """The public name `name`, imported on first use."""
    try:
        module = import_module(f"sim.core.{_WHERE[name]}")
    except KeyError:
        raise AttributeError(f"module 'sim.core' has no attribute {name!r}") from None
    return getattr(module, name)
