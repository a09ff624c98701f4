"""Launch commands of plans, one engine a file.

`base` has the contract. A launcher is registered by name and named in an engine profile (`launcher: NAME`).
"""

from sim.plans.launch.base import LAUNCHERS, Launcher, launch_command

__all__ = ["LAUNCHERS", "Launcher", "launch_command"]
