"""Strict YAML 1.2 with line numbers: what the file says is what the program gets.

PyYAML follows YAML 1.1, where `1e9` is text, `on` is a boolean and `12:30:45` is a base-60 integer, and it keeps
the last of two equal keys. The loader here resolves scalars by the YAML 1.2 core schema, refuses duplicate keys
and remembers the line of every value, so that an error can point at it.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from sim.core.errors import MISSING, InputError, did_you_mean
from sim.core.specs import Spec

KeyPath = tuple[str | int, ...]
SpecT = TypeVar("SpecT", bound=Spec)
_CONTAINERS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")
_BASE = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_BASE):  # type: ignore[misc, valid-type]
    """PyYAML's safe loader with the scalar rules of YAML 1.2 and no duplicate keys."""

    yaml_implicit_resolvers: dict[str | None, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper that also quotes text which YAML 1.2 would read as something else, such as `0E0`."""

    yaml_implicit_resolvers = {first: list(found) for first, found in yaml.SafeDumper.yaml_implicit_resolvers.items()}  # noqa: RUF012


for _tag, _pattern, _first in (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("int", r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", "-+0123456789"),
    (
        "float",
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        "-+0123456789.",
    ),
):
    for _side in (_Loader, _Dumper):
        _side.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))


def _int(loader: Any, node: yaml.ScalarNode) -> int:
    text = str(node.value)
    return int(text, 8) if text.startswith("0o") else int(text, 16) if text.startswith("0x") else int(text)


_Loader.add_constructor("tag:yaml.org,2002:int", _int)


@dataclass(frozen=True)
class YamlDocument:
    """A parsed file: its data and where each value stands.

    Attributes:
        data: Plain dicts, lists and scalars.
        path: Where it came from, as shown in errors.
        lines: Line (from 1) by path of keys and indices.
    """

    data: Any
    path: str
    lines: Mapping[KeyPath, int]

    def line_of(self, path: KeyPath) -> int | None:
        """Line of the value at `path`, or of its nearest parent; None for an empty document."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path)


def load_yaml(path: Path | str) -> YamlDocument:
    """The document in the file `path`.

    Raises:
        InputError: if the file cannot be read, is no YAML or repeats a key.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError("no such file", file=str(path)) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError("cannot read the file: it is not UTF-8 text", file=str(path), line=line) from None
    except OSError as error:
        raise InputError(f"cannot read the file: {error.strerror or error}", file=str(path)) from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, path: str = "<text>") -> YamlDocument:
    """The document in `text`; `path` is only for messages.

    Raises:
        InputError: if the text is no YAML or repeats a key.
    """
    loader = _Loader(text)
    lines: dict[KeyPath, int] = {}
    try:
        node = loader.get_single_node()
        data = None if node is None else _build(loader, node, (), lines, path)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        raise InputError(
            f"not valid YAML: {problem}", file=path, line=mark.line + 1 if mark is not None else None
        ) from None
    except RecursionError:
        raise InputError("not valid YAML: nested too deeply, or an alias contains itself", file=path) from None
    finally:
        loader.dispose()
    return YamlDocument(data, path, lines)


def _build(loader: Any, node: yaml.Node, at: KeyPath, lines: dict[KeyPath, int], path: str) -> Any:
    lines.setdefault(at, node.start_mark.line + 1)  # a value in a mapping keeps the line of its key
    if not isinstance(node, yaml.ScalarNode) and node.tag not in _CONTAINERS:
        raise InputError(f"tag {node.tag!r} is not allowed", file=path, line=lines[at])
    if isinstance(node, yaml.MappingNode):
        result: dict[Hashable, Any] = {}
        for key_node, value_node in node.value:
            key = _key(loader, key_node, path)
            if key in result:
                raise InputError(
                    f"duplicate key {key!r}",
                    file=path,
                    line=key_node.start_mark.line + 1,
                    path=".".join(map(str, at)) or None,
                    hint=f"first at line {lines[(*at, key)]}",
                )
            lines[(*at, key)] = key_node.start_mark.line + 1
            result[key] = _build(loader, value_node, (*at, key), lines, path)
        return result
    if isinstance(node, yaml.SequenceNode):
        return [_build(loader, item, (*at, i), lines, path) for i, item in enumerate(node.value)]
    return loader.construct_object(node, deep=True)


def _key(loader: Any, node: yaml.Node, path: str) -> str | int:
    key = loader.construct_object(node, deep=True) if isinstance(node, yaml.ScalarNode) else None
    if key is None or isinstance(key, (bool, float)):
        key = str(node.value) if isinstance(node, yaml.ScalarNode) else None
    if not isinstance(key, (str, int)):
        raise InputError("keys must be plain text", file=path, line=node.start_mark.line + 1)
    return key


def build_spec(spec: type[SpecT], doc: YamlDocument, *, at: KeyPath = (), units: bool = True) -> SpecT:
    """`spec` filled from the part of `doc` at the path `at`.

    Args:
        spec: What to build.
        doc: The data and its lines.
        at: Where in the document.
        units: Whether quantities must carry units; without, bare numbers are SI (data made by code).

    Raises:
        InputError: for the first wrong value, with file, line, path, value, what is allowed and a suggestion.
    """
    data = doc.data
    for key in at:
        data = data[key]
    if not isinstance(data, dict):
        raise InputError(
            "expected a mapping of keys to values" if data is not None else "the file is empty",
            file=doc.path,
            line=doc.line_of(at),
        )
    try:
        return spec.model_validate(data, context={"file": units})
    except ValidationError as error:
        raise _input_error(spec, _most_telling(error.errors()), doc, at) from None


def _most_telling(errors: list[ErrorDetails]) -> ErrorDetails:
    """The first error; where that is only the wrong branch of a union, the first one deeper inside another branch."""
    first = errors[0]
    if not first["type"].endswith("_type"):
        return first
    before = first["loc"][:-1]
    deeper = (each for each in errors if each["loc"][: len(before)] == before and len(each["loc"]) > len(first["loc"]))
    return next(deeper, first)


def _input_error(spec: type[Spec], detail: ErrorDetails, doc: YamlDocument, at: KeyPath) -> InputError:
    where = (*at, *_real_path(doc.data, at, detail["loc"]))
    shown = ".".join(map(str, where)) or None
    kind = detail["type"]
    value: object = detail.get("input", MISSING)
    message, allowed = _plain(detail), None
    if kind == "extra_forbidden":
        key = str(detail["loc"][-1])
        allowed = _fields_near(spec, detail["loc"])
        message, value = f"unknown key {key!r}{did_you_mean(key, allowed)}", MISSING
    elif kind == "missing":
        message, value = "this key is required", MISSING
    elif kind in {"literal_error", "enum"}:
        expected = str(detail.get("ctx", {}).get("expected", ""))
        allowed = [choice.strip(" '") for choice in re.split(r",| or ", expected)]
        message = f"unknown value {value!r}{did_you_mean(str(value), allowed)}"
    elif kind == "union_tag_invalid":
        context = detail.get("ctx", {})
        allowed = [choice.strip(" '") for choice in str(context.get("expected_tags", "")).split(",")]
        tag, chooser = str(context.get("tag", "")), str(context.get("discriminator", "kind")).strip("'")
        message, value = f"unknown {chooser} {tag!r}{did_you_mean(tag, allowed)}", MISSING
    if isinstance(value, (dict, list)):
        value = MISSING
    return InputError(
        message[:1].lower() + message[1:],
        file=doc.path,
        line=doc.line_of(where),
        path=shown,
        value=value,
        allowed=allowed,
    )


def _plain(detail: ErrorDetails) -> str:
    """The message of pydantic, in the words of a file where its own are those of Python."""
    context = detail.get("ctx", {})
    words = {
        "model_type": "expected a mapping of keys to values",
        "dict_type": "expected a mapping of keys to values",
        "list_type": "expected a list",
        "tuple_type": "expected a list",
        "string_type": "expected text",
        "too_short": f"expected at least {context.get('min_length')} in the list, not {context.get('actual_length')}",
        "too_long": f"expected at most {context.get('max_length')} in the list, not {context.get('actual_length')}",
    }
    return words.get(detail["type"], detail["msg"].removeprefix("Value error, "))


def _real_path(data: Any, at: KeyPath, loc: tuple[str | int, ...]) -> KeyPath:
    """`loc` without the union tags that pydantic puts between real keys."""
    for key in at:
        data = data[key]
    real: list[str | int] = []
    for i, key in enumerate(loc):
        inside = (isinstance(data, dict) and key in data) or (
            isinstance(data, list) and isinstance(key, int) and key < len(data)
        )
        if inside:
            real.append(key)
            data = data[key]
        elif i == len(loc) - 1 and isinstance(data, dict) and not _is_type_name(key):
            real.append(key)
    return tuple(real)


def _is_type_name(key: str | int) -> bool:
    """Whether a location part is pydantic's name of a type (`float`, `function-before[...]`), not a key of the file."""
    return isinstance(key, str) and (
        key in {"float", "int", "str", "bool"} or "[" in key or ("-" in key[:9] and "(" in key)
    )


def _fields_near(spec: type[Spec], loc: tuple[str | int, ...]) -> list[str]:
    """Names allowed beside the last part of `loc`, found by walking the JSON Schema; empty if it cannot be told."""
    schema = spec.model_json_schema()
    definitions = schema.get("$defs", {})

    def resolve(node: dict[str, Any]) -> list[dict[str, Any]]:
        if "$ref" in node:
            return resolve(definitions[node["$ref"].rsplit("/", 1)[-1]])
        options = [*node.get("anyOf", ()), *node.get("oneOf", ()), *node.get("allOf", ())]
        return [found for option in options for found in resolve(option)] if options else [node]

    nodes = resolve(schema)
    for key in loc[:-1]:
        following: list[dict[str, Any]] = []
        for node in nodes:
            if isinstance(key, int) and "items" in node:
                following += resolve(node["items"])
            elif key in node.get("properties", {}):
                following += resolve(node["properties"][key])
            elif isinstance(node.get("additionalProperties"), dict):
                following += resolve(node["additionalProperties"])
        tagged = [node for node in nodes if node.get("properties", {}).get("kind", {}).get("const") == key]
        nodes = tagged or following or nodes
    return [name for node in nodes for name in node.get("properties", {})]


def to_yaml(data: Any) -> str:
    """`data` (plain dicts, lists, scalars) as block-style YAML in the given order of keys."""
    text: str = yaml.dump(
        data, Dumper=_Dumper, sort_keys=False, default_flow_style=False, allow_unicode=True, width=110
    )
    return text
