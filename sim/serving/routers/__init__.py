"""Routing policies, one file each: which replica serves an arriving request.

`base` has the contract. A policy is registered by name and chosen with `plan: {router: NAME}`.
"""

from sim.serving.routers.base import ROUTERS, Fleet, Router

__all__ = ["ROUTERS", "Fleet", "Router"]
