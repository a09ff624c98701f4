"""Scheduling policies, one file each: which requests get how many tokens in the next iteration.

`base` has the contract. A policy is registered by name and chosen with `plan: {scheduler: NAME}`.
"""

from sim.serving.schedulers.base import SCHEDULERS, Chunk, EngineState, Scheduler

__all__ = ["SCHEDULERS", "Chunk", "EngineState", "Scheduler"]
