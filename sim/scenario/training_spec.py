"""The root of a training scenario: what a file whose workload is `kind: training` may say. Data only."""

from __future__ import annotations

from pydantic import Field

from sim.core import Spec
from sim.hardware import ClusterSpec
from sim.models import ModelSpec
from sim.plans import TrainingPlanSpec
from sim.training.spec import TrainingWorkload


class TrainingScenarioSpec(Spec):
    """The root of a training scenario file.

    Attributes:
        name: Short name, used for output folders.
        description: What the scenario is for.
        model: A shipped model's name or Hugging Face id, a path, or the shape written inline.
        cluster: Name of a cluster, or one written inline; the job uses all of it.
        engine: Name of a training engine's profile.
        workload: What is trained.
        plan: The training plan.
        seed: Seed of all random streams.
    """

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9._-]+$")
    description: str = ""
    model: str | ModelSpec
    cluster: str | ClusterSpec
    engine: str = "megatron-lm"
    workload: TrainingWorkload
    plan: TrainingPlanSpec = TrainingPlanSpec()
    seed: int = Field(default=0, ge=0)
