"""The contract of a launcher."""

from __future__ import annotations

from typing import Protocol

from sim.core import Registry
from sim.models import ModelSpec
from sim.plans.engine import EngineSpec
from sim.plans.resolved import ResolvedPlan


class Launcher(Protocol):
    """Writes the shell commands that start a plan."""

    def __call__(self, plan: ResolvedPlan, *, model: ModelSpec, engine: EngineSpec) -> str:
        """Shell text that starts every replica; what a command cannot say stands in comments."""
        ...


LAUNCHERS: Registry[Launcher] = Registry("launcher", package="sim.plans.launch")


def launch_command(plan: ResolvedPlan, model: ModelSpec, engine: EngineSpec) -> str:
    """Shell text that starts the plan with its engine.

    Raises:
        InputError: if the engine profile names an unknown launcher.
    """
    return LAUNCHERS.get(engine.launcher)(plan, model=model, engine=engine)
