"""Finds a model by short name, Hugging Face id or alias, or reads one from a path.

An id that no shipped file has is looked for among the configs inside the package `aiconfigurator-core`, where that is
installed (the extra `measured`).
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from sim.core import InputError, build_spec, data_names, did_you_mean, load_data, load_yaml
from sim.models.hf import read_config
from sim.models.spec import ModelSpec

_FOLDER: Final = "workloads/models"
_PACKAGE: Final = "aiconfigurator_core"
_ENDING: Final = "_config.json"
_QUANTISATION: Final = "_hf_quant_config.json"


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
        return _packaged_model(name_or_path)
    name, copy = found
    model = load_data(_FOLDER, name, ModelSpec, kind="model")
    if copy is None:
        return model
    checkpoint = model.checkpoints[copy]
    return model.model_copy(update={"hf_id": copy, **dict(checkpoint)})


def _packaged_model(name: str) -> ModelSpec:
    """The model with this id among the packaged configs.

    Raises:
        InputError: if there is none; suggests the nearest name.
    """
    configs = packaged_configs()
    ids = {known.lower(): known for known in configs}
    if name.lower() in ids:
        hf_id = ids[name.lower()]
        return read_config(configs[hf_id], hf_id=hf_id)
    hint = "plansim list models, or give the path of a config.json"
    if not configs:
        hint += f"; the configs inside {_PACKAGE.replace('_', '-')} come with the extra plansim[measured]"
    raise InputError(f"unknown model {name!r}{did_you_mean(name, [*_names(), *configs])}", hint=hint)


@lru_cache(maxsize=1)
def packaged_configs() -> dict[str, Path]:
    """Files of the configs inside `aiconfigurator-core` by Hugging Face id; none where it is not installed."""
    package = find_spec(_PACKAGE)
    folders = [Path(place) / "model_configs" for place in (package.submodule_search_locations or ())] if package else []
    files = [path for folder in folders for path in sorted(folder.glob(f"*{_ENDING}"))]
    return {
        path.name.removesuffix(_ENDING).replace("--", "/", 1): path
        for path in files
        if not path.name.endswith(_QUANTISATION)
    }


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
