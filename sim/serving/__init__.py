"""Serving engines: replicas with continuous batching, routers, and the request and leap records of a run.

Start in `deployment.serve`, then `replica` (the engine loop and its leaps), `schedulers` (who gets which tokens),
`kv` (paged blocks) and `compiled` (operators and collectives compiled into piecewise affine iteration costs).
"""

from sim.serving.deployment import ClosedLoop, OpenLoop, ServingRun, serve
from sim.serving.iteration import ConstantCost, DecodeRow, IterationCost
from sim.serving.records import ReplicaRecord
from sim.serving.replica import EngineLimits, Replica
from sim.serving.requests import RequestLog
from sim.serving.routers import ROUTERS, Fleet, Router
from sim.serving.schedulers import SCHEDULERS, Chunk, EngineState, Scheduler

__all__ = [
    "ROUTERS",
    "SCHEDULERS",
    "Chunk",
    "ClosedLoop",
    "ConstantCost",
    "DecodeRow",
    "EngineLimits",
    "EngineState",
    "Fleet",
    "IterationCost",
    "OpenLoop",
    "Replica",
    "ReplicaRecord",
    "RequestLog",
    "Router",
    "Scheduler",
    "ServingRun",
    "serve",
]
