"""Finds a model by short name, Hugging Face id or alias, or reads one from a path."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from sim.core import InputError, build_spec, data_names, did_you_mean, load_data, load_yaml
from sim.models.hf import read_config
from sim.models.spec import ModelSpec

_FOLDER = "workloads/models"


def load_model(name_or_path: str) -> ModelSpec:
    """The model with this short name, Hugging Face id or alias, or in this `config.json`, YAML file or model folder.

    Raises:
        InputError: if there is none; suggests the nearest name.
    """
    path = Path(name_or_path)
    if path.suffix == ".json" or (path / "config.json").is_file():
        return read_config(path if path.suffix == ".json" else path / "config.json")
    if path.suffix in {".yaml", ".yml"}:
        return build_spec(ModelSpec, load_yaml(path))
    name = _names().get(name_or_path.lower())
    if name is None:
        raise InputError(
            f"unknown model {name_or_path!r}{did_you_mean(name_or_path, _names())}",
            hint="plansim list models, or give the path of a config.json",
        )
    return load_data(_FOLDER, name, ModelSpec, kind="model")


@lru_cache(maxsize=1)
def _names() -> dict[str, str]:
    """File name by every lower-case name a model is found by."""
    found: dict[str, str] = {}
    for name in data_names(_FOLDER):
        spec = load_data(_FOLDER, name, ModelSpec, kind="model")
        for alias in (name, spec.name, spec.hf_id, *spec.aliases):
            if alias and found.setdefault(alias.lower(), name) != name:
                raise InputError(f"the model name {alias!r} belongs to both {found[alias.lower()]!r} and {name!r}")
    return found
