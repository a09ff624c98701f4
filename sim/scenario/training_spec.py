"""The root of a training scenario: what a file whose workload is `kind: training` may say. Data only."""

from __future__ import annotations

from pydantic import Field

from sim.core import Spec
from sim.hardware import ClusterSpec
from sim.models import ModelSpec
from sim.plans import TrainingPlanSpec, TrainingSpace
from sim.scenario.spec import VariantSpec
from sim.training.spec import TrainingWorkload


class TrainingSearchSpec(Spec):
    """A search over training plans.

    Attributes:
        space: Values to try per plan field; absent fields take a default range.
        objectives: Metric paths or short names to optimise; a leading `-` or `+` flips or states the direction. Absent:
            step time, tokens per GPU, memory left, and cost and energy of the job, or of a token where the job does not
            say how many.
        algorithm: Name of the search algorithm.
        layers: Non-dominated layers of the analytic ranking that are promoted to simulation.
        max_simulated: Most plans simulated, taken layer by layer.
    """

    space: TrainingSpace = TrainingSpace()
    objectives: tuple[str, ...] | None = Field(default=None, min_length=1)
    algorithm: str = "ladder"
    layers: int = Field(default=3, ge=1)
    max_simulated: int = Field(default=24, ge=1)


class TrainingScenarioSpec(Spec):
    """The root of a training scenario file.

    Attributes:
        name: Short name, used for output folders.
        description: What the scenario is for.
        model: A shipped model's name or Hugging Face id, a path, or the shape written inline.
        cluster: Name of a cluster, or one written inline; the job uses all of it.
        engine: Name of a training engine's profile.
        workload: What is trained.
        plan: The training plan for `run`.
        search: The plan search.
        variants: Named what-ifs for `plansim compare`.
        seed: Seed of all random streams.
    """

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9._-]+$")
    description: str = ""
    model: str | ModelSpec
    cluster: str | ClusterSpec
    engine: str = "megatron-lm"
    workload: TrainingWorkload
    plan: TrainingPlanSpec = TrainingPlanSpec()
    search: TrainingSearchSpec = TrainingSearchSpec()
    variants: tuple[VariantSpec, ...] = ()
    seed: int = Field(default=0, ge=0)
