"""Finds and reads the YAML data that plansim ships: hardware profiles, models, traffic, scenarios, schemas.

The same names work from a checkout, where the folders stand at its top, and from an installed wheel, where they
are inside the package. A user adds data by adding a file, or by giving a path instead of a name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

from sim.core.errors import InputError, did_you_mean
from sim.core.specs import Spec
from sim.core.yamlio import YamlDocument, build_spec, load_yaml

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


def named_in(file: str, name: str) -> str:
    """`name` as the data file `file` gives it: a path of the user's own starts from the folder of that file.

    Args:
        file: Name or path of the data file that refers to `name`.
        name: Name of another data file, or a path that ends in `.yaml`.
    """
    is_path = name.endswith((".yaml", ".yml")) and file.endswith((".yaml", ".yml"))
    return str(Path(file).parent / name) if is_path else name


def load_data(folder: str, name: str, spec: type[SpecT], *, kind: str) -> SpecT:
    """The data file `name` of `folder` as `spec`, read once per process.

    A file may say `extends: NAME`: it then has all keys of that file of the same folder but those that it gives itself;
    `refs` are joined.

    Raises:
        InputError: if the name is unknown or the file does not fit the spec.
    """
    return cast(SpecT, _load(str(data_path(folder, name, kind=kind)), folder, kind, spec))


@lru_cache(maxsize=1024)
def _load(path: str, folder: str, kind: str, spec: type[Spec]) -> Spec:
    return build_spec(spec, _extended(load_yaml(path), folder, kind, seen=(path,)))


def _extended(document: YamlDocument, folder: str, kind: str, *, seen: tuple[str, ...]) -> YamlDocument:
    """The document with the keys of the file that it extends, if it does."""
    data = document.data
    if not isinstance(data, dict) or "extends" not in data:
        return document
    line = document.line_of(("extends",))
    path = str(data_path(folder, named_in(document.path, str(data["extends"])), kind=kind))
    if path in seen:
        raise InputError("files extend each other in a circle", file=document.path, line=line, path="extends")
    base = _extended(load_yaml(path), folder, kind, seen=(*seen, path)).data
    refs = {**base.get("refs", {}), **data.get("refs", {})}
    own = {key: value for key, value in data.items() if key != "extends"}
    return replace(document, data={**base, **own, **({"refs": refs} if refs else {})})


def resolve_refs(value: Any, refs: Mapping[str, str]) -> str:
    """The full citation of a `Sourced` value: its `ref` looked up in the file's `refs`, else the text itself."""
    ref = str(value.ref)
    return refs.get(ref, ref)
