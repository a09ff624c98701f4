"""Serving engines: replicas with continuous batching, routers, and the request and leap records of a run.

Start in `deployment.serve`, then `replica` (the engine loop and its leaps), `schedulers` (who gets which tokens),
`kv` (paged blocks) and `compiled` (operators and collectives compiled into piecewise affine iteration costs).
`steady` has the coarse times that the analytic screen of a search works with, `probe` ends hopeless runs early.
"""

from sim.serving.compiled import CompiledCost
from sim.serving.deployment import ClosedLoop, Headroom, OpenLoop, PrefillPool, ServingRun, serve
from sim.serving.drafts import Drafts, drafts_of
from sim.serving.frontend import FrontendTiming
from sim.serving.iteration import ConstantCost, DecodeRow, IterationCost
from sim.serving.limits import EngineLimits
from sim.serving.pool import PoolConfig
from sim.serving.probe import slo_breaker
from sim.serving.records import LEAP_COLUMNS, ReplicaRecord
from sim.serving.replica import Replica
from sim.serving.requests import RequestLog
from sim.serving.routers import ROUTERS, Fleet, Router
from sim.serving.schedulers import SCHEDULERS, Chunk, EngineState, Scheduler
from sim.serving.stages import EngineTiming, StageCosts
from sim.serving.steady import SteadyCurves
from sim.serving.transfer import KvTransfer

__all__ = [
    "LEAP_COLUMNS",
    "ROUTERS",
    "SCHEDULERS",
    "Chunk",
    "ClosedLoop",
    "CompiledCost",
    "ConstantCost",
    "DecodeRow",
    "Drafts",
    "EngineLimits",
    "EngineState",
    "EngineTiming",
    "Fleet",
    "FrontendTiming",
    "Headroom",
    "IterationCost",
    "KvTransfer",
    "OpenLoop",
    "PoolConfig",
    "PrefillPool",
    "Replica",
    "ReplicaRecord",
    "RequestLog",
    "Router",
    "Scheduler",
    "ServingRun",
    "StageCosts",
    "SteadyCurves",
    "drafts_of",
    "serve",
    "slo_breaker",
]
