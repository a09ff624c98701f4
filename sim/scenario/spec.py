"""What a scenario file may say: model, cluster, engine, workload, plan, SLO, search and variants.

Data only. Names are resolved in `assemble`; whatever is absent from `plan` takes the engine's default.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from sim.core import Frac, RatePerS, Spec, TimeS
from sim.costs import ANALYTIC, CostsSpec
from sim.hardware import ClusterSpec
from sim.plans import PlanSpace, PlanSpec
from sim.results import SloSpec
from sim.workloads import TraceSpec, TrafficSpec


class ServingWorkload(Spec):
    """Requests to serve: a trace, or generated traffic in an open or a closed loop.

    Attributes:
        kind: `serving`.
        traffic: Name of a traffic spec, or one written inline.
        trace: A recorded trace; it takes the place of `traffic`, `rate` and `requests`.
        rate: Arrival rate of an open loop; absent, the traffic's own.
        requests: How many requests; absent, 2000 in an open loop and 10 times the concurrency in a closed one.
        concurrency: Requests in flight of a closed loop.
        truncated_sampling: Whether tokens are sampled with top-k or top-p: engines take these from the checkpoint's
            `generation_config.json` where a client says nothing. Benchmarks mostly ask for greedy decoding.
        expert_popularity: How evenly these requests together pick experts, in place of the model's `popularity`: the
            shape of the same gamma law, larger for texts that have less in common. How unequal ranks are stays,
            and so does even use of few experts.
        warmup: Leave requests out of the metrics that were sent before this time.
        duration: Stop the clock at this time; requests still running or queued are counted as such.
    """

    kind: Literal["serving"] = "serving"
    traffic: str | TrafficSpec | None = None
    trace: TraceSpec | None = None
    rate: RatePerS | None = None
    requests: int | None = Field(default=None, ge=1)
    concurrency: int | None = Field(default=None, ge=1)
    truncated_sampling: bool = False
    expert_popularity: float | None = Field(default=None, gt=0)
    warmup: TimeS = 0.0
    duration: TimeS | None = None

    @model_validator(mode="after")
    def _one_source(self) -> ServingWorkload:
        if self.traffic is None and self.trace is None:
            raise ValueError("give `traffic` (a name, see `plansim list traffic`) or `trace: {path: ...}`")
        if self.concurrency is not None and self.rate is not None:
            raise ValueError("`concurrency` (closed loop) and `rate` (open loop) exclude each other")
        if self.duration is not None and self.duration <= self.warmup:
            raise ValueError(f"`duration` ({self.duration:g} s) must be longer than `warmup` ({self.warmup:g} s)")
        return self


class GoodputSpec(Spec):
    """How the highest sustainable rate is searched.

    Attributes:
        tolerance: Relative width of the bracket at which bisection stops.
        requests: Requests per probe; absent, all of the workload.
    """

    tolerance: Frac = Field(default=0.03, gt=0, lt=1)
    requests: int | None = Field(default=None, ge=50)


class SearchSpec(Spec):
    """A plan search.

    Attributes:
        space: Values to try per plan field; absent fields take a default range.
        objectives: Metric paths or short names to optimise; a leading `-` or `+` flips or states the direction.
        algorithm: Name of the search algorithm.
        layers: Non-dominated layers of the analytic ranking that are promoted to simulation.
        max_simulated: Most plans simulated, taken layer by layer.
        goodput: How the highest sustainable rate is found.
    """

    space: PlanSpace = PlanSpace()
    objectives: tuple[str, ...] = Field(
        default=("goodput_max_per_gpu", "ttft_s.p99", "tpot_s.p99", "cost"), min_length=1
    )
    algorithm: str = "ladder"
    layers: int = Field(default=3, ge=1)
    max_simulated: int = Field(default=24, ge=1)
    goodput: GoodputSpec = GoodputSpec()


class VariantSpec(Spec):
    """A named what-if: the scenario with some values replaced.

    Attributes:
        name: Shown in the comparison.
        set: Values by dotted path, such as `cluster.node: dgx-h200`.
    """

    name: str
    set: dict[str, Any] = Field(default_factory=dict)


class ScenarioSpec(Spec):
    """The root of a scenario file.

    Attributes:
        name: Short name, used for output folders.
        description: What the scenario is for.
        model: A shipped model's name or Hugging Face id, or the path of a `config.json` or model YAML.
        cluster: Name of a cluster, or one written inline.
        engine: Name of an engine profile.
        costs: Source of kernel times: `analytic`, `measured`, a CSV of your own, or one of these by kind of kernel.
        workload: What is served.
        plan: The execution plan for `run`.
        slo: Limits a request must keep.
        search: The plan search.
        variants: What-ifs for `compare`.
        replications: Paired repetitions with different seeds for `compare` intervals.
        seed: Seed of all random streams.
    """

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9._-]+$")
    description: str = ""
    model: str
    cluster: str | ClusterSpec
    engine: str = "vllm"
    costs: str | CostsSpec = ANALYTIC
    workload: ServingWorkload
    plan: PlanSpec = PlanSpec()
    slo: SloSpec | None = None
    search: SearchSpec = SearchSpec()
    variants: tuple[VariantSpec, ...] = ()
    replications: int = Field(default=5, ge=1, le=100)
    seed: int = Field(default=0, ge=0)

    @field_validator("variants")
    @classmethod
    def _distinct_names(cls, variants: tuple[VariantSpec, ...]) -> tuple[VariantSpec, ...]:
        names = [variant.name for variant in variants]
        if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
            raise ValueError(f"two variants are called {twice[0]!r}")
        return variants
