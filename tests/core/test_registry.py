"""Plug-ins are found by name; a name is given once; other distributions can add theirs."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sim.core import InputError, PlansimError, Registry

PLUGIN = '''
from {package}.base import THINGS

@THINGS.register("{name}")
class Thing:
    """{name} in one line.

    More about it.
    """
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    name = f"plugins_{tmp_path.name.replace('-', '_')}"
    folder = tmp_path / name
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "base.py").write_text(f"from sim.core import Registry\nTHINGS = Registry('thing', package='{name}')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name, folder
    for module in [module for module in sys.modules if module.startswith(name)]:
        del sys.modules[module]


def add(package: tuple[str, Path], file: str, name: str) -> None:
    (package[1] / f"{file}.py").write_text(PLUGIN.format(package=package[0], name=name))


def load(package: tuple[str, Path]) -> Registry[type]:
    registry: Registry[type] = __import__(f"{package[0]}.base", fromlist=["THINGS"]).THINGS
    return registry


def test_one_file_is_one_plugin(package: tuple[str, Path]) -> None:
    add(package, "second", "beta")
    add(package, "first", "alpha")
    registry = load(package)
    assert registry.names() == ["alpha", "beta"]
    assert registry.get("alpha").__name__ == "Thing"
    assert registry.describe() == {"alpha": "alpha in one line.", "beta": "beta in one line."}


def test_unknown_name_suggests(package: tuple[str, Path]) -> None:
    add(package, "first", "alpha")
    with pytest.raises(
        InputError, match=r"unknown thing 'alhpa'; did you mean 'alpha'\?; allowed: alpha \(plansim list"
    ):
        load(package).get("alhpa")


def test_a_name_is_given_once(package: tuple[str, Path]) -> None:
    add(package, "first", "alpha")
    add(package, "second", "alpha")
    with pytest.raises(PlansimError, match=r"'alpha' at .*second.py:\d is already registered at .*first.py:\d"):
        load(package).names()


def test_a_broken_plugin_fails_every_time(package: tuple[str, Path]) -> None:
    (package[1] / "broken.py").write_text("import a_module_nobody_has\n")
    registry = load(package)
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError):
            registry.names()


def test_reloading_a_module_is_allowed() -> None:
    registry: Registry[object] = Registry("thing", package="json")

    def again() -> None:
        @registry.register("alpha")
        def thing() -> None:
            """A thing."""

    again()
    again()
    assert registry.names() == ["alpha"]


def test_functions_and_instances_can_be_registered() -> None:
    registry: Registry[object] = Registry("thing", package="json")

    class Thing:
        """An instance of this is a thing."""

    registry.register("instance")(Thing())
    registry.register("function")(test_functions_and_instances_can_be_registered)
    assert registry.describe()["instance"] == "An instance of this is a thing."
    with pytest.raises(PlansimError, match="already registered"):
        registry.register("instance")(print)


def test_entry_points_add_plugins(package: tuple[str, Path], tmp_path: Path) -> None:
    add(package, "first", "alpha")
    (tmp_path / f"{package[0]}_extra.py").write_text("class Extra:\n    '''From elsewhere.'''\n")
    info = tmp_path / "other-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[plansim.thing]\ngamma = {package[0]}_extra:Extra\n")
    assert load(package).describe() == {"alpha": "alpha in one line.", "gamma": "From elsewhere."}


def test_an_entry_point_cannot_replace_a_plugin(package: tuple[str, Path], tmp_path: Path) -> None:
    add(package, "first", "alpha")
    (tmp_path / f"{package[0]}_extra.py").write_text("class Extra:\n    '''From elsewhere.'''\n")
    info = tmp_path / "other-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[plansim.thing]\nalpha = {package[0]}_extra:Extra\n")
    with pytest.raises(PlansimError, match="already registered"):
        load(package).names()
