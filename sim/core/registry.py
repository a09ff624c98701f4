"""Plug-ins by name: one decorator registers, any YAML file can then use the name.

A registry finds its plug-ins by itself: every module of its package is imported on first use, and other
distributions may add more through the entry-point group `plansim.<kind>`. So adding a plug-in is adding a file.
"""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from sim.core.errors import InputError, PlansimError, did_you_mean

T = TypeVar("T")
U = TypeVar("U")


class Registry(Generic[T]):
    """Named plug-ins of one kind.

    Args:
        kind: What they are, in the singular, such as `scheduler`; used in messages and for entry points.
        package: Dotted name of the package whose modules register themselves.
    """

    def __init__(self, kind: str, *, package: str) -> None:
        self.kind = kind
        self.package = package
        self._items: dict[str, T] = {}
        self._discovered = False

    def register(self, name: str) -> Callable[[U], U]:
        """A decorator that gives its class or function the name `name`.

        Raises:
            PlansimError: if the name is taken; says where the first one is.
        """

        def decorate(item: U) -> U:
            if name in self._items and _where(self._items[name]) != _where(item):
                raise PlansimError(
                    f"{self.kind} {name!r} at {_where(item)} is already registered at {_where(self._items[name])}"
                )
            self._items[name] = item  # type: ignore[assignment]
            return item

        return decorate

    def get(self, name: str) -> T:
        """The plug-in called `name`.

        Raises:
            InputError: if there is none; suggests the nearest name.
        """
        self._discover()
        if name not in self._items:
            raise InputError(
                f"unknown {self.kind} {name!r}{did_you_mean(name, self._items)}",
                allowed=self.names(),
                hint=f"plansim list {self.kind}s",
            )
        return self._items[name]

    def names(self) -> list[str]:
        """All names, sorted."""
        self._discover()
        return sorted(self._items)

    def describe(self) -> dict[str, str]:
        """First line of the docstring of each plug-in, by name."""
        return {name: _first_line(self.get(name)) for name in self.names()}

    def _discover(self) -> None:
        if self._discovered:
            return
        self._discovered = True  # before the imports, because a plug-in may look others up
        try:
            package = import_module(self.package)
            for module in pkgutil.iter_modules(package.__path__, prefix=f"{self.package}."):
                import_module(module.name)
            for entry in entry_points(group=f"plansim.{self.kind}"):
                self.register(entry.name)(entry.load())
        except BaseException:
            self._discovered = False
            raise


def _first_line(item: Any) -> str:
    return (inspect.getdoc(item) or "").partition("\n")[0]


def _where(item: Any) -> str:
    code = getattr(item, "__code__", None)
    if code is not None:
        return f"{code.co_filename}:{code.co_firstlineno}"
    if not inspect.isclass(item):
        item = type(item)
    try:
        return f"{inspect.getsourcefile(item)}:{inspect.getsourcelines(item)[1]}"
    except (OSError, TypeError):
        return f"{item.__module__}.{item.__qualname__}"
