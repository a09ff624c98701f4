"""Training: pipeline schedules, their replay, and operations that overlap on one device.

Start in `schedules` (who runs what in which order), then `replay` (when). `overlap` has the streams of one device.
"""

from sim.training.passgraph import PassGraph, pass_graph
from sim.training.replay import PipelineTimes, StageTimes, replay
from sim.training.schedules import SCHEDULES, Pass, PassKind, Schedule

__all__ = [
    "SCHEDULES",
    "Pass",
    "PassGraph",
    "PassKind",
    "PipelineTimes",
    "Schedule",
    "StageTimes",
    "pass_graph",
    "replay",
]
