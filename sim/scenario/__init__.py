"""Scenarios: the YAML root, how one is run, and paired what-if comparison of its variants.

Start in `spec` (what a file may say), then `load` (files, `--set` overrides, errors with lines), `assemble` (names to
models, clusters, engines and traffic), `run` and `compare`. `training_spec` and `training` are the same for a training
job; `dispatch` picks one by the workload's kind.
"""

from sim.scenario.assemble import Assembled, assemble, cluster_spec
from sim.scenario.bands import Setting, bands_for, setting_of
from sim.scenario.compare import compare
from sim.scenario.dispatch import run
from sim.scenario.goodput import native_rate, require_slo
from sim.scenario.load import IN_CODE, Scenario, load, located, scenario_schema
from sim.scenario.provenance import provenance, unpacked_weights
from sim.scenario.run import GoodputProbe, PlanRunner, seed_of
from sim.scenario.spec import ScenarioSpec, SearchSpec, ServingWorkload, VariantSpec
from sim.scenario.training import (
    TrainingThings,
    assemble_training,
    launch_of,
    run_training,
    step_band,
    step_of,
    training_provenance,
    training_result,
    training_step,
)
from sim.scenario.training_spec import TrainingScenarioSpec, TrainingSearchSpec

__all__ = [
    "IN_CODE",
    "Assembled",
    "GoodputProbe",
    "PlanRunner",
    "Scenario",
    "ScenarioSpec",
    "SearchSpec",
    "ServingWorkload",
    "Setting",
    "TrainingScenarioSpec",
    "TrainingSearchSpec",
    "TrainingThings",
    "VariantSpec",
    "assemble",
    "assemble_training",
    "bands_for",
    "cluster_spec",
    "compare",
    "launch_of",
    "load",
    "located",
    "native_rate",
    "provenance",
    "require_slo",
    "run",
    "run_training",
    "scenario_schema",
    "seed_of",
    "setting_of",
    "step_band",
    "step_of",
    "training_provenance",
    "training_result",
    "training_step",
    "unpacked_weights",
]
