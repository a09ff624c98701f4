"""YAML 1.2 scalars, line numbers, duplicate keys, and errors that point at the line."""

import contextlib
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from sim.core import Frac, InputError, Spec, TimeS, build_spec, load_yaml, parse_yaml, to_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e9", 1e9),
        ("1.5e-3", 1.5e-3),
        (".5", 0.5),
        ("5.", 5.0),
        ("017", 17),
        ("0o17", 15),
        ("0x1F", 31),
        ("-3", -3),
        ("+4", 4),
        ("true", True),
        ("False", False),
        ("on", "on"),
        ("yes", "yes"),
        ("No", "No"),
        ("y", "y"),
        ("12:30:45", "12:30:45"),
        ("190:20", "190:20"),
        ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"),
        ("null", None),
        ("~", None),
        ("", None),
        ("'1e9'", "1e9"),
        ("80 GiB", "80 GiB"),
        ("0b11", "0b11"),
        ("=", "="),
        ("<<", "<<"),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    data = parse_yaml(f"key: {text}\n").data
    assert data == {"key": value}
    assert type(data["key"]) is type(value)


@pytest.mark.parametrize("text", [".inf", "-.inf", ".nan"])
def test_special_floats_are_floats(text: str) -> None:
    assert isinstance(parse_yaml(text).data, float)


def test_lines_of_values() -> None:
    document = parse_yaml("a: 1\nb:\n  c: [x, y]\n  d:\n    - e: 2\n")
    assert document.line_of(("a",)) == 1
    assert document.line_of(("b", "c")) == 3
    assert document.line_of(("b", "d", 0, "e")) == 5
    assert document.line_of(("b", "missing", "deeper")) == 2
    assert parse_yaml("").line_of(("a",)) is None


def test_duplicate_keys_name_both_lines() -> None:
    with pytest.raises(InputError, match=r"t.yaml:3 a: duplicate key 'b' \(first at line 2\)"):
        parse_yaml("a:\n  b: 1\n  b: 2\n", "t.yaml")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [1, 2", "t.yaml:[12]: not valid YAML"),
        ("a: b: c", "t.yaml:1: not valid YAML"),
        ("a: *nowhere", "undefined alias"),
        ("a: &x [*x]", "an alias contains itself"),
        ("[" * 5000, "not valid YAML"),
        ("? [1, 2]\n: 3", "keys must be plain text"),
        (
            "a: !!python/object/apply:os.getcwd []",
            "t.yaml:1: tag 'tag:yaml.org,2002:python/object/apply:os.getcwd' is not allowed",
        ),
        ("a: 1\n---\nb: 2", "not valid YAML"),
        ("\ta: 1", "not valid YAML"),
    ],
)
def test_bad_yaml_is_one_message(text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        parse_yaml(text, "t.yaml")


def test_keys_stay_text() -> None:
    assert parse_yaml("true: 1\nnull: 2\n1.5: 3\n4: 5\n").data == {"true": 1, "null": 2, "1.5": 3, 4: 5}


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_yaml(tmp_path / "absent.yaml")
    with pytest.raises(InputError, match="cannot read"):
        load_yaml(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot read"):
        load_yaml(tmp_path / "binary.yaml")


# Line separators other than "\n" are folded by YAML itself; no name or path of a scenario has them.
words = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=12)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(words, plain, max_size=5))
def test_what_is_written_reads_back(data: dict[str, Any]) -> None:
    assert parse_yaml(to_yaml(data)).data == data


@given(st.text(max_size=60))
def test_any_text_is_data_or_an_input_error(text: str) -> None:
    with contextlib.suppress(InputError):
        parse_yaml(text)


class Gamma(Spec):
    kind: Literal["gamma"]
    cv: float


class Constant(Spec):
    kind: Literal["constant"]


class Inner(Spec):
    wait: TimeS = 0.0
    share: Frac = 1.0
    mode: Literal["fast", "slow"] = "fast"


class Outer(Spec):
    name: str
    inner: Inner = Inner()
    many: tuple[Inner, ...] = ()
    by_name: dict[str, Inner] = {}  # noqa: RUF012
    arrivals: Annotated[Gamma | Constant, Field(discriminator="kind")] = Constant(kind="constant")
    ref: str | Inner | None = None


def build(text: str) -> Outer:
    return build_spec(Outer, parse_yaml(text, "s.yaml"))


def test_builds_a_spec() -> None:
    built = build("name: x\ninner: {wait: 50 ms, share: 90 %}\narrivals: {kind: gamma, cv: 2}\n")
    assert (built.inner.wait, built.inner.share, built.arrivals) == (0.05, 0.9, Gamma(kind="gamma", cv=2))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nmae: x\nname: y", r"s.yaml:1 nmae: unknown key 'nmae'; did you mean 'name'\?; allowed: name, inner"),
        ("inner: {}", r"s.yaml:1 name: this key is required"),
        ("name: x\ninner:\n  wait: 50", r"s.yaml:3 inner.wait: the unit is missing; .*; got 50"),
        ("name: x\ninner:\n  wait: 5 GB", r"s.yaml:3 inner.wait: unit 'GB' does not fit here: it measures bytes"),
        ("name: x\ninner:\n  wait: -5 s", r"s.yaml:3 inner.wait: must be zero or more"),
        ("name: x\ninner:\n  wait: [1]", r"s.yaml:3 inner.wait: expected a quantity such as '50 ms'"),
        ("name: x\ninner:\n  wiat: 5 s", r"s.yaml:3 inner.wiat: unknown key 'wiat'; did you mean 'wait'\?"),
        ("name: x\ninner:\n  mode: fats", r"s.yaml:3 inner.mode: unknown value 'fats'; did you mean 'fast'\?"),
        ("name: x\nmany:\n  - wait: 1 s\n  - wiat: 1 s", r"s.yaml:4 many.1.wiat: unknown key"),
        ("name: x\nby_name:\n  a: {wiat: 1 s}", r"s.yaml:3 by_name.a.wiat: unknown key 'wiat'; did you mean 'wait'\?"),
        ("name: x\narrivals: {kind: gama, cv: 1}", r"s.yaml:2 arrivals: unknown kind 'gama'; did you mean 'gamma'\?"),
        ("name: x\narrivals: {kind: gamma}", r"s.yaml:2 arrivals.cv: this key is required"),
        ("name: x\narrivals:\n  kind: gamma\n  cv: 1\n  cw: 1", r"s.yaml:5 arrivals.cw: unknown key 'cw'"),
        ("name: x\narrivals: {}", r"s.yaml:2 arrivals: "),
        ("name: [1]", r"s.yaml:1 name: "),
        ("- 1", r"s.yaml:1: expected a mapping"),
        ("", r"s.yaml: the file is empty"),
    ],
)
def test_errors_point_at_the_value(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(text)


def test_specs_are_frozen_and_code_may_pass_si() -> None:
    spec = Inner(wait=0.05)
    with pytest.raises(ValueError, match="frozen"):
        spec.wait = 1.0  # type: ignore[misc]
    assert spec.wait == 0.05


def test_part_of_a_document() -> None:
    document = parse_yaml("top:\n  - {wait: 1 s}\n  - {wait: 2}\n", "s.yaml")
    assert build_spec(Inner, document, at=("top", 0)).wait == 1.0
    with pytest.raises(InputError, match=r"s.yaml:3 top.1.wait: the unit is missing"):
        build_spec(Inner, document, at=("top", 1))
