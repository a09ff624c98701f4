"""Training: pipeline schedules, their replay, and operations that overlap on one device.

Start in `schedules` (who runs what in which order), then `replay` (when). `overlap` has the streams of one device, and
`overlap_patterns` the usual ways to hide communication behind them.
"""

from sim.training.overlap import Operation, OverlapTimes, overlap
from sim.training.overlap_patterns import Load, chunked, gradient_buckets, sent_behind, sharded_layers
from sim.training.passgraph import PassGraph, pass_graph
from sim.training.replay import PipelineTimes, StageTimes, replay
from sim.training.schedules import SCHEDULES, Pass, PassKind, Schedule

__all__ = [
    "SCHEDULES",
    "Load",
    "Operation",
    "OverlapTimes",
    "Pass",
    "PassGraph",
    "PassKind",
    "PipelineTimes",
    "Schedule",
    "StageTimes",
    "chunked",
    "gradient_buckets",
    "overlap",
    "pass_graph",
    "replay",
    "sent_behind",
    "sharded_layers",
]
