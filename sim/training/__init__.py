"""Training: the work and time of a step, its memory, pipeline schedules and their replay.

Start in `spec` and `plan` (what is trained and how it is laid out), then `ranks` (where its ranks stand), `layer`,
`attention` and `vocabulary` (work of one rank), `costing` and `stages` (seconds of a micro-batch per virtual stage),
`step` (the whole step) and `job` (metrics). `memory` says what fits, `reserved` what `allocator` takes for it. `space`
lists the plans of a search as `columns`, `analytic` estimates all of them at once. `schedules` hold who runs what in
which order, `replay` when, `folding` the same for very many micro-batches; `overlap` has the streams of one device, and
`overlap_patterns` the usual ways to hide communication behind them.
"""

from sim.training.analytic import Estimates, Screen
from sim.training.columns import PlanTable
from sim.training.folding import PipelineTotals, few_microbatches, folded
from sim.training.job import goodput_frac, job_metrics
from sim.training.launch import megatron_command
from sim.training.memory import RankMemory, available_bytes, layer_activation_bytes
from sim.training.overlap import Operation, OverlapTimes, overlap
from sim.training.overlap_patterns import Load, chunked, gradient_buckets, sent_behind, sharded_layers
from sim.training.passgraph import PassGraph, pass_graph
from sim.training.plan import TrainingPlan, even_layers, resolve_training
from sim.training.replay import PipelineTimes, StageTimes, replay
from sim.training.reserved import peak_reserved_bytes
from sim.training.schedules import SCHEDULES, Pass, PassKind, Schedule
from sim.training.space import Rejected, TrainingPlans
from sim.training.spec import CheckpointSpec, TrainingWorkload
from sim.training.step import CAUSES, COMM_CAUSES, StepTimes, TrainingStep
from sim.training.sustained import Sustained, SustainedSpec, sustained_of
from sim.training.timeline import memory_by_stage, memory_over_time, replayed_or_none

__all__ = [
    "CAUSES",
    "COMM_CAUSES",
    "SCHEDULES",
    "CheckpointSpec",
    "Estimates",
    "Load",
    "Operation",
    "OverlapTimes",
    "Pass",
    "PassGraph",
    "PassKind",
    "PipelineTimes",
    "PipelineTotals",
    "PlanTable",
    "RankMemory",
    "Rejected",
    "Schedule",
    "Screen",
    "StageTimes",
    "StepTimes",
    "Sustained",
    "SustainedSpec",
    "TrainingPlan",
    "TrainingPlans",
    "TrainingStep",
    "TrainingWorkload",
    "available_bytes",
    "chunked",
    "even_layers",
    "few_microbatches",
    "folded",
    "goodput_frac",
    "gradient_buckets",
    "job_metrics",
    "layer_activation_bytes",
    "megatron_command",
    "memory_by_stage",
    "memory_over_time",
    "overlap",
    "pass_graph",
    "peak_reserved_bytes",
    "replay",
    "replayed_or_none",
    "resolve_training",
    "sent_behind",
    "sharded_layers",
    "sustained_of",
]
