"""Execution plans: how a model is laid onto a cluster, whether it fits, and how it is started.

Start in `spec` (what a user may say: `PlanSpec`, and `PlanSpace` for a search) and `engine` (what an engine profile
says), then `resolver` (every field filled in, or reasons with numbers), which calls `validity` (divisibility and
formats), `placement` (ranks to devices), `memory` (weights, activations, KV blocks) and `reserve` (the share of memory
that SGLang takes by itself). `enumeration` lists the plans
of a space, `launch` writes the commands that start one. `training` and `training_engine` are the same two specs for
training, whose plans `sim.training` fills in.
"""

from sim.plans.engine import (
    ActivationRule,
    EngineSpec,
    ErrorBand,
    ErrorDomain,
    LimitDefaults,
    SupportSpec,
    load_engine,
    with_values,
)
from sim.plans.enumeration import enumerate_plans
from sim.plans.kv_layout import KvLayout, WindowGroup, kv_pool
from sim.plans.launch import LAUNCHERS, Launcher, launch_command
from sim.plans.memory import MemoryFootprint, MemoryModel, StageMemory
from sim.plans.placement import Placement
from sim.plans.reductions import fused_bytes
from sim.plans.resolved import Infeasible, PlanShape, ResolvedPlan
from sim.plans.resolver import Resolver, default_limits, require, resolve
from sim.plans.spec import PlanSpace, PlanSpec
from sim.plans.speculation import SpeculationSpec, with_draft_layers
from sim.plans.training import TrainingPlanSpec
from sim.plans.training_engine import TrainingEngineSpec, load_training_engine
from sim.plans.training_space import TrainingSpace

__all__ = [
    "LAUNCHERS",
    "ActivationRule",
    "EngineSpec",
    "ErrorBand",
    "ErrorDomain",
    "Infeasible",
    "KvLayout",
    "Launcher",
    "LimitDefaults",
    "MemoryFootprint",
    "MemoryModel",
    "Placement",
    "PlanShape",
    "PlanSpace",
    "PlanSpec",
    "ResolvedPlan",
    "Resolver",
    "SpeculationSpec",
    "StageMemory",
    "SupportSpec",
    "TrainingEngineSpec",
    "TrainingPlanSpec",
    "TrainingSpace",
    "WindowGroup",
    "default_limits",
    "enumerate_plans",
    "fused_bytes",
    "kv_pool",
    "launch_command",
    "load_engine",
    "load_training_engine",
    "require",
    "resolve",
    "with_draft_layers",
    "with_values",
]
