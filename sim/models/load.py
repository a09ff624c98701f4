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

    The id of a quantised copy gives the model with that copy's number format.

    Raises:
        InputError: if there is none; suggests the nearest name.
    """
    path = Path(name_or_path)
    if path.suffix == ".json" or (path / "config.json").is_file():
        return read_config(path if path.suffix == ".json" else path / "config.json")
    if path.suffix in {".yaml", ".yml"}:
        return build_spec(ModelSpec, load_yaml(path))
    found = _names().get(name_or_path.lower())
    if found is None:
        raise InputError(
            f"unknown model {name_or_path!r}{did_you_mean(name_or_path, _names())}",
            hint="plansim list models, or give the path of a config.json",
        )
    name, copy = found
    model = load_data(_FOLDER, name, ModelSpec, kind="model")
    if copy is None:
        return model
    checkpoint = model.checkpoints[copy]
    update = {"hf_id": copy, "weights_dtype": checkpoint.weights_dtype, "quantized": checkpoint.quantized}
    return model.model_copy(update=update)


@lru_cache(maxsize=1)
def _names() -> dict[str, tuple[str, str | None]]:
    """File name, and id of the quantised copy, by every lower-case name a model is found by."""
    found: dict[str, tuple[str, str | None]] = {}
    for name in data_names(_FOLDER):
        spec = load_data(_FOLDER, name, ModelSpec, kind="model")
        own = [(alias, None) for alias in (name, spec.name, spec.hf_id, *spec.aliases) if alias]
        for alias, copy in [*own, *((copy, copy) for copy in spec.checkpoints)]:
            known = found.setdefault(alias.lower(), (name, copy))
            if known != (name, copy):
                raise InputError(f"the model name {alias!r} belongs to both {known[0]!r} and {name!r}")
    return found
