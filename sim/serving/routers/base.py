"""The contract between a deployment and its routing policy."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from sim.core import Registry


class Fleet(Protocol):
    """What a router may see.

    Attributes:
        outstanding: Requests sent to each replica and not finished.
    """

    outstanding: list[int]

    @property
    def slots(self) -> list[int]:
        """Most requests each replica runs at once."""
        ...


class Router(Protocol):
    """A routing policy. Built once per run with the fleet and a random stream of its own."""

    def __init__(self, fleet: Fleet, rng: np.random.Generator) -> None: ...

    def choose(self, request: int) -> int | None:
        """The replica for `request`, or None to hold it in the router's queue until one finishes a request."""
        ...


ROUTERS: Registry[type[Router]] = Registry("router", package="sim.serving.routers")
