"""Finds and reads the YAML data that plansim ships: hardware profiles, models, traffic, scenarios, schemas.

The same names work from a checkout, where the folders stand at its top, and from an installed wheel, where they
are inside the package. A user adds data by adding a file, or by giving a path instead of a name.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

from sim.core.errors import InputError, did_you_mean
from sim.core.specs import Spec
from sim.core.yamlio import build_spec, load_yaml

SpecT = TypeVar("SpecT", bound=Spec)


@lru_cache(maxsize=1)
def data_root() -> Path:
    """The folder that holds `hardware_profiles`, `workloads`, `scenarios` and `schemas`.

    Raises:
        InputError: if the installation is incomplete.
    """
    package = Path(__file__).resolve().parents[1]
    for root in (package.parent, package / "_data"):
        if (root / "hardware_profiles").is_dir() and (root / "workloads").is_dir():
            return root
    raise InputError("the data files of plansim are missing", hint="reinstall the package")


@lru_cache(maxsize=64)
def data_names(folder: str) -> tuple[str, ...]:
    """Names of the data files in `folder` (such as `hardware_profiles/devices`), sorted."""
    return tuple(sorted(path.stem for path in (data_root() / folder).glob("*.yaml")))


def data_path(folder: str, name: str, *, kind: str) -> Path:
    """The file of `name` in `folder`; a name that ends in `.yaml` is a path of the user's own.

    Raises:
        InputError: if there is no such name; suggests the nearest and the command that lists them.
    """
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    if name not in data_names(folder):
        raise InputError(
            f"unknown {kind} {name!r}{did_you_mean(name, data_names(folder))}",
            hint=f"plansim list {kind if kind == 'traffic' else f'{kind}s'}",
        )
    return data_root() / folder / f"{name}.yaml"


def load_data(folder: str, name: str, spec: type[SpecT], *, kind: str) -> SpecT:
    """The data file `name` of `folder` as `spec`, read once per process.

    Raises:
        InputError: if the name is unknown or the file does not fit the spec.
    """
    return cast(SpecT, _load(str(data_path(folder, name, kind=kind)), spec))


@lru_cache(maxsize=1024)
def _load(path: str, spec: type[Spec]) -> Spec:
    return build_spec(spec, load_yaml(path))


def resolve_refs(value: Any, refs: Mapping[str, str]) -> str:
    """The full citation of a `Sourced` value: its `ref` looked up in the file's `refs`, else the text itself."""
    ref = str(value.ref)
    return refs.get(ref, ref)
