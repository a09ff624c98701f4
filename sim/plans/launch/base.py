"""The contract of a launcher."""

from __future__ import annotations

from typing import Literal, Protocol

from sim.core import Registry
from sim.models import ModelSpec
from sim.plans.engine import EngineSpec
from sim.plans.resolved import ResolvedPlan

Role = Literal["both", "prefill", "decode"]
"""What an engine does: all of a request, its prompt only, or all but its prompt."""


class Launcher(Protocol):
    """Writes the shell commands that start a plan."""

    def __call__(self, plan: ResolvedPlan, *, model: ModelSpec, engine: EngineSpec, role: Role = "both") -> str:
        """Shell text that starts every replica; what a command cannot say stands in comments."""
        ...


LAUNCHERS: Registry[Launcher] = Registry("launcher", package="sim.plans.launch")


def launch_command(plan: ResolvedPlan, model: ModelSpec, engine: EngineSpec) -> str:
    """Shell text that starts the plan with its engine, engines that only compute prompts first.

    Raises:
        InputError: if the engine profile names an unknown launcher.
    """
    launcher = LAUNCHERS.get(engine.launcher)
    if plan.prefill is None:
        return launcher(plan, model=model, engine=engine)
    first = launcher(plan.prefill, model=model, engine=engine, role="prefill")
    return f"{first}\n{launcher(plan, model=model, engine=engine, role='decode')}"
