"""Reads scenario files and applies `--set a.b=value` overrides before validation.

An override is validated like any other value; a mistake in it is reported as `--set a.b=value`, one in the file with
its line. Paths in a file are relative to the file, paths in an override to the working directory.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sim.core import (
    InputError,
    YamlDocument,
    build_spec,
    data_names,
    data_path,
    data_root,
    did_you_mean,
    load_yaml,
    parse_yaml,
)
from sim.scenario.spec import ScenarioSpec
from sim.scenario.training_spec import TrainingScenarioSpec

_CLUSTERS = "hardware_profiles/clusters"
IN_CODE = "<scenario>"
"""What stands for the file of a scenario that code has made."""

_NAME_OR_FILE = ("model", "cluster", "cluster.node", "engine", "workload.traffic")
_DATA_FILES = {".csv", ".json", ".yaml", ".yml"}


class Origin(NamedTuple):
    """Where a value that was set over the file's comes from, as errors show it.

    Attributes:
        file: The text of the override, or the file of the variant.
        line: Line in that file.
        path: Path in that file.
    """

    file: str
    line: int | None = None
    path: str | None = None

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return place if self.path is None else f"{place} {self.path}"


class _Change(NamedTuple):
    path: str
    value: Any
    origin: Origin


@dataclass(frozen=True)
class Scenario:
    """A validated scenario and where it came from.

    Attributes:
        root: The data.
        base: Folder that relative paths in the file start from.
        document: The data as written, with overrides applied; variants are made from it.
        origins: Where values come from that are not the file's own, by dotted path.
    """

    root: ScenarioSpec | TrainingScenarioSpec
    base: Path
    document: YamlDocument
    origins: Mapping[str, Origin]

    @property
    def spec(self) -> ScenarioSpec:
        """The data of a serving scenario.

        Raises:
            InputError: if it is a training scenario.
        """
        if isinstance(self.root, ScenarioSpec):
            return self.root
        raise self._kind_error("a training scenario", "`plansim run`, `search` and `validate` take those")

    @property
    def training(self) -> TrainingScenarioSpec:
        """The data of a training scenario.

        Raises:
            InputError: if it is a serving scenario.
        """
        if isinstance(self.root, TrainingScenarioSpec):
            return self.root
        raise self._kind_error("a serving scenario", "workload.kind must be training")

    @property
    def is_training(self) -> bool:
        """Whether its workload is a training job."""
        return isinstance(self.root, TrainingScenarioSpec)

    def _kind_error(self, what: str, hint: str) -> InputError:
        line = self.document.line_of(("workload",))
        return InputError(f"this is {what}", file=self.document.path, line=line, path="workload.kind", hint=hint)

    def variant(self, index: int) -> Scenario:
        """The scenario with the values of one of its variants.

        Raises:
            InputError: if a path or value is not allowed.
        """
        changes = []
        for path, value in self.root.variants[index].set.items():
            at = ("variants", index, "set", path)
            origin = Origin(self.document.path, self.document.line_of(at), ".".join(map(str, at)))
            changes.append(_Change(path, value, self.origins.get("variants", origin)))
        return _build(self.document, self.base, changes, self.origins)

    @contextmanager
    def errors_at(self, path: str) -> Iterator[None]:
        """An `InputError` raised inside says where the scenario has the value it is about.

        That is the value at the dotted `path`, or at the error's own path: its line in the file, or the override it
        came from. Where the error is about the content of another file, it says instead who names that file.
        """
        try:
            yield
        except InputError as error:
            raise self._placed(error, path) from None

    def _placed(self, error: InputError, path: str) -> InputError:
        where = error.path or path
        if where.partition(".")[0] not in ScenarioSpec.model_fields:
            where = f"{path}.{where}"
        if error.file is not None:
            error.hint = error.hint or f"named by {self._origin(path)}"
            return error
        return _about(error, self._origin(where))

    def _origin(self, path: str) -> Origin:
        """Where the value at `path` comes from: the last override that set it, a part or the whole of it, or a line."""
        for changed, origin in reversed([*self.origins.items()]):
            if f"{path}.".startswith(f"{changed}.") or f"{changed}.".startswith(f"{path}."):
                return origin
        keys = tuple(int(key) if key.isdigit() else key for key in path.split("."))
        return Origin(self.document.path, self.document.line_of(keys), path)

    def resolved(self) -> dict[str, Any]:
        """The scenario as plain data, defaults filled in, quantities as text with units; it loads to the same again."""
        return self.root.to_file_data()

    def __repr__(self) -> str:
        spec = self.root
        model = spec.model if isinstance(spec.model, str) else spec.model.name
        cluster = spec.cluster if isinstance(spec.cluster, str) else f"{spec.cluster.nodes} x {spec.cluster.node}"
        return f"Scenario({spec.name!r}: {model} on {cluster} with {spec.engine})"


def load(source: str | Path | Mapping[str, Any], *, overrides: Sequence[str] = ()) -> Scenario:
    """The scenario in a file, a shipped scenario's name, or a mapping.

    Args:
        source: Path of a YAML file, name of a shipped scenario, or the data itself, where bare quantities are SI.
        overrides: Texts `a.b=value`; the value is read as YAML.

    Raises:
        InputError: for anything unreadable or unknown, with file, line, value and what is allowed.
    """
    if isinstance(source, Mapping):
        document, base = YamlDocument(copy.deepcopy(dict(source)), IN_CODE, {(): None}), Path.cwd()  # type: ignore[dict-item]
    else:
        path = _find(source)
        document, base = load_yaml(path), path.resolve().parent
    return _build(document, base, [_override(text) for text in overrides], {})


def _override(text: str) -> _Change:
    """The change that the text `a.b=value` asks for."""
    path, equals, value = text.partition("=")
    path = path.strip()
    if not equals or not all(key.strip() for key in path.split(".")):
        raise InputError("an override needs the form a.b=value", value=text, hint="for example --set plan.tp=4")
    origin = Origin(f"--set {text}")
    try:
        data = parse_yaml(value, origin.file).data
    except InputError as error:
        raise InputError(error.message, file=origin.file) from None
    return _Change(path, _absolute(path, data), origin)


def _find(source: str | Path) -> Path:
    path = Path(source)
    if path.is_file():
        return path
    shipped = data_root() / "scenarios" / (path.name if path.suffix else f"{path.name}.yaml")
    if shipped.is_file() and (not path.suffix or path.parent.name == "scenarios"):
        return shipped
    if path.is_dir():
        raise InputError("this is a folder, not a scenario file", file=str(source), hint="plansim list scenarios")
    names = data_names("scenarios")
    raise InputError(
        f"no such scenario file{did_you_mean(path.stem, names)}", file=str(source), hint="plansim list scenarios"
    )


def _build(document: YamlDocument, base: Path, changes: Sequence[_Change], origins: Mapping[str, Origin]) -> Scenario:
    if not isinstance(document.data, dict):
        raise InputError("a scenario is a mapping of keys to values", file=document.path, line=1)
    changed = _changed(document, base, changes)
    try:
        spec = _spec(changed)
    except InputError as error:
        guilty = _guilty(document, base, changes, error)
        if guilty is None:
            raise
        inside = error.path if error.path != guilty.path and guilty.origin.path is None else guilty.origin.path
        raise _about(error, guilty.origin._replace(path=inside)) from None
    return Scenario(spec, base, changed, {**origins, **{change.path: change.origin for change in changes}})


def _spec(document: YamlDocument) -> ScenarioSpec | TrainingScenarioSpec:
    workload = document.data.get("workload") if isinstance(document.data, dict) else None
    training = isinstance(workload, dict) and workload.get("kind") == "training"
    root: type[ScenarioSpec] | type[TrainingScenarioSpec] = TrainingScenarioSpec if training else ScenarioSpec
    return build_spec(root, document, units=document.path != IN_CODE)


def _changed(document: YamlDocument, base: Path, changes: Sequence[_Change]) -> YamlDocument:
    data = copy.deepcopy(document.data)
    for change in changes:
        _set(data, change, document, base)
    return YamlDocument(data, document.path, document.lines)


def _guilty(document: YamlDocument, base: Path, changes: Sequence[_Change], error: InputError) -> _Change | None:
    """The first change that brings in `error`; None if it is the document's own."""
    for count in range(len(changes)):
        try:
            _spec(_changed(document, base, changes[:count]))
        except InputError as other:
            if other.message == error.message:
                return changes[count - 1] if count else None
    return changes[-1] if changes else None


def _about(error: InputError, origin: Origin) -> InputError:
    """The error, moved to where its value comes from."""
    return InputError(
        error.message,
        file=origin.file,
        line=origin.line,
        path=origin.path,
        value=error.value,
        allowed=error.allowed,
        hint=error.hint,
    )


def located(text: str, base: Path) -> str:
    """A name as it is; a file's path, told by its ending or by a `config.json` inside, from the folder `base`."""
    path = base / Path(text).expanduser()
    return str(path) if path.suffix in _DATA_FILES or (path / "config.json").is_file() else text


def _absolute(path: str, value: Any) -> Any:
    """Paths given in an override start from the working directory, not from the file's folder."""
    if isinstance(value, str) and path.endswith(".path"):
        return str(Path(value).expanduser().resolve())
    named = path in _NAME_OR_FILE or path.partition(".")[0] == "costs"
    return located(value, Path.cwd()) if isinstance(value, str) and named else value


def _set(data: dict[str, Any], change: _Change, document: YamlDocument, base: Path) -> None:
    """Sets a nested value; a named cluster or one source of all costs on the way is replaced by what it stands for."""
    *parents, last = change.path.split(".")
    here: dict[str, Any] = data
    for depth, key in enumerate(parents):
        following = here.get(key)
        if isinstance(following, str) and depth == 0 and key == "cluster":
            following = _cluster_data(following, document, base)
        if isinstance(following, str) and depth == 0 and key == "costs":
            following = {"default": following}
        if following is None:
            following = {}
        if not isinstance(following, dict):
            shown = ".".join(parents[: depth + 1])
            raise _about(InputError(f"{shown!r} is a {_kind(following)}, not a mapping of keys"), change.origin)
        here[key] = following
        here = following
    here[last] = change.value


def _kind(value: Any) -> str:
    return "list" if isinstance(value, list) else "value"


def _cluster_data(name: str, document: YamlDocument, base: Path) -> dict[str, Any]:
    try:
        data: dict[str, Any] = load_yaml(data_path(_CLUSTERS, located(name, base), kind="cluster")).data
    except InputError as error:
        if error.file is not None:
            raise
        raise _about(error, Origin(document.path, document.line_of(("cluster",)), "cluster")) from None
    return data


def scenario_schema() -> dict[str, Any]:
    """JSON Schema of a scenario file, usable by editors that support drafts up to 7."""
    serving, training = ScenarioSpec.model_json_schema(), TrainingScenarioSpec.model_json_schema()
    shared = {**serving.pop("$defs"), **training.pop("$defs")}
    kind = {"properties": {"kind": {"const": "training"}}, "required": ["kind"]}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "plansim scenario",
        "$defs": {**shared, "ServingScenario": serving, "TrainingScenario": training},
        "type": "object",
        "properties": {"workload": {"properties": {"kind": {"enum": ["serving", "training"]}}}},
        "if": {"properties": {"workload": kind}, "required": ["workload"]},
        "then": {"$ref": "#/$defs/TrainingScenario"},
        "else": {"$ref": "#/$defs/ServingScenario"},
    }
