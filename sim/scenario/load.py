"""Reads scenario files and applies `--set a.b=value` overrides before validation.

An override is validated like any other value; a mistake in it is reported as `--set a.b=value`, one in the file with
its line. Paths in a file are relative to the file, paths in an override to the working directory.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sim.core import (
    InputError,
    YamlDocument,
    build_spec,
    data_names,
    data_root,
    did_you_mean,
    load_yaml,
    parse_yaml,
)
from sim.scenario.spec import ScenarioSpec

_CLUSTERS = "hardware_profiles/clusters"
_IN_CODE = "<scenario>"


@dataclass(frozen=True)
class Scenario:
    """A validated scenario and where it came from.

    Attributes:
        spec: The data.
        base: Folder that relative paths in the file start from.
        document: The data as written, with overrides applied; variants are made from it.
        origins: Dotted paths that were overridden, with the text of the override.
    """

    spec: ScenarioSpec
    base: Path
    document: YamlDocument
    origins: Mapping[str, str]

    def with_values(self, values: Mapping[str, Any], *, label: str) -> Scenario:
        """The scenario with `values` set by dotted path; `label` names the source in errors.

        Raises:
            InputError: if a path or value is not allowed.
        """
        return _build(self.document, self.base, {**values}, self.origins, label)

    def resolved(self) -> dict[str, Any]:
        """The scenario as plain data, defaults filled in, quantities as text with units; it loads to the same again."""
        return self.spec.to_file_data()

    def __repr__(self) -> str:
        spec = self.spec
        cluster = spec.cluster if isinstance(spec.cluster, str) else f"{spec.cluster.nodes} x {spec.cluster.node}"
        return f"Scenario({spec.name!r}: {spec.model} on {cluster} with {spec.engine})"


def load(source: str | Path | Mapping[str, Any], *, overrides: Sequence[str] = ()) -> Scenario:
    """The scenario in a file, a shipped scenario's name, or a mapping.

    Args:
        source: Path of a YAML file, name of a shipped scenario, or the data itself, where bare quantities are SI.
        overrides: Texts `a.b=value`; the value is read as YAML.

    Raises:
        InputError: for anything unreadable or unknown, with file, line, value and what is allowed.
    """
    if isinstance(source, Mapping):
        document, base = YamlDocument(copy.deepcopy(dict(source)), _IN_CODE, {(): None}), Path.cwd()  # type: ignore[dict-item]
    else:
        path = _find(source)
        document, base = load_yaml(path), path.resolve().parent
    values: dict[str, Any] = {}
    for text in overrides:
        key, _, value = text.partition("=")
        if not key.strip() or "=" not in text:
            raise InputError("an override needs the form a.b=value", value=text, hint="for example --set plan.tp=4")
        values[key.strip()] = parse_yaml(value, f"--set {text}").data
    return _build(document, base, values, {}, "--set")


def _find(source: str | Path) -> Path:
    path = Path(source)
    if path.is_file():
        return path
    shipped = data_root() / "scenarios" / (path.name if path.suffix else f"{path.name}.yaml")
    if shipped.is_file() and (not path.suffix or path.parent.name == "scenarios"):
        return shipped
    names = data_names("scenarios")
    raise InputError(
        f"no such scenario file{did_you_mean(path.stem, names)}", file=str(source), hint="plansim list scenarios"
    )


def _build(
    document: YamlDocument, base: Path, values: Mapping[str, Any], origins: Mapping[str, str], label: str
) -> Scenario:
    if not isinstance(document.data, dict):
        raise InputError("a scenario is a mapping of keys to values", file=document.path, line=1)
    data = copy.deepcopy(document.data)
    origins = dict(origins)
    for path, value in values.items():
        origins[path] = f"{label} {path}={value}"
        _set(data, path.split("."), _absolute(path, value), origins[path])
    changed = YamlDocument(data, document.path, document.lines)
    try:
        spec = build_spec(ScenarioSpec, changed, units=document.path != _IN_CODE)
    except InputError as error:
        raise _blame(error, origins) from None
    return Scenario(spec, base, changed, origins)


def _absolute(path: str, value: Any) -> Any:
    """Paths given in an override start from the working directory, not from the file's folder."""
    if isinstance(value, str) and path.endswith(".path"):
        return str(Path(value).expanduser().resolve())
    if isinstance(value, str) and path == "model" and Path(value).suffix in {".json", ".yaml"}:
        return str(Path(value).expanduser().resolve())
    return value


def _set(data: dict[str, Any], keys: list[str], value: Any, origin: str) -> None:
    """Sets a nested value; a named cluster on the way is replaced by what the name stands for."""
    here: Any = data
    for depth, key in enumerate(keys[:-1]):
        following = here.get(key) if isinstance(here, dict) else None
        if isinstance(following, str) and depth == 0 and key == "cluster":
            following = copy.deepcopy(_cluster_data(following))
        if following is None:
            following = {}
        if not isinstance(following, dict):
            raise InputError(f"{'.'.join(keys[: depth + 1])!r} is a value, not a mapping", file=origin)
        here[key] = following
        here = following
    here[keys[-1]] = value


def _cluster_data(name: str) -> dict[str, Any]:
    if name not in data_names(_CLUSTERS):
        known = data_names(_CLUSTERS)
        raise InputError(f"unknown cluster {name!r}{did_you_mean(name, known)}", hint="plansim list clusters")
    data: dict[str, Any] = load_yaml(data_root() / _CLUSTERS / f"{name}.yaml").data
    return data


def _blame(error: InputError, origins: Mapping[str, str]) -> InputError:
    for path, origin in origins.items():
        if error.path and (error.path == path or error.path.startswith(f"{path}.") or path.startswith(error.path)):
            return InputError(
                error.message, file=origin, path=None, value=error.value, allowed=error.allowed, hint=error.hint
            )
    return error


def scenario_schema() -> dict[str, Any]:
    """JSON Schema of a scenario file, usable by editors that support drafts up to 7."""
    schema = ScenarioSpec.model_json_schema()
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": "plansim scenario", **schema}
