"""Generated traffic: a law of arrivals, a law of lengths, and where both come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, SerializeAsAny

from sim.core import InputError, Spec, load_data, stream
from sim.workloads.arrivals import ARRIVALS, ArrivalProcess
from sim.workloads.joint import JointLengths
from sim.workloads.prefixes import SharedPrefix
from sim.workloads.requests import RequestTable
from sim.workloads.unions import tagged_union

if TYPE_CHECKING:
    AnyArrivals = ArrivalProcess
else:
    AnyArrivals = tagged_union(ARRIVALS)


class TrafficSpec(Spec):
    """Synthetic traffic, made up or fitted to a trace.

    Attributes:
        name: Short name.
        description: What it stands for.
        arrivals: When requests are sent.
        lengths: How long prompts and outputs are.
        shared_prefix: How prompts begin alike; absent, nothing is known of it.
        source: How the numbers are known.
        ref: Where they come from: a key of `refs`, or a citation.
        licence: Licence of the data they were fitted to.
        notes: What a reader must know before using it.
        refs: Full citations by key.
    """

    name: str
    description: str = ""
    arrivals: SerializeAsAny[AnyArrivals]
    lengths: JointLengths
    shared_prefix: SharedPrefix | None = None
    source: Literal["measured", "fitted", "assumed"] = "assumed"
    ref: str = ""
    licence: str = ""
    notes: tuple[str, ...] = ()
    refs: dict[str, str] = Field(default_factory=dict)


def load_traffic(name: str) -> TrafficSpec:
    """The shipped traffic called `name`, or the one in the file `name` if that ends in `.yaml`.

    Raises:
        InputError: if there is no such traffic or its file is wrong.
    """
    return load_data("workloads/traffic", name, TrafficSpec, kind="traffic")


def generate(spec: TrafficSpec, *, requests: int, rate: float | None = None, seed: int = 0) -> RequestTable:
    """`requests` requests of `spec`.

    Arrivals and lengths come from separate streams of `seed`: lengths do not depend on the rate, gaps at two rates
    are the same but for scale, and fewer requests are the first of more.

    Args:
        spec: The traffic.
        requests: How many.
        rate: Long-run arrivals per second; None for the traffic's own.
        seed: Seed of the run.

    Raises:
        InputError: if the number or the rate is not positive.
    """
    if requests < 1:
        raise InputError("expected at least one request", path="requests", value=requests)
    if rate is not None and not 0 < rate < float("inf"):
        raise InputError("the rate must be positive", path="rate", value=rate)
    shared = spec.shared_prefix
    if shared is None:
        input_tokens, output_tokens = spec.lengths.sample(requests, stream(seed, "lengths"))
        blocks = None
    else:
        group, prompt = shared.assign(requests, stream(seed, "prefixes"))
        distinct = int(prompt.max()) + 1
        input_tokens, output_tokens = (
            tokens[prompt] for tokens in spec.lengths.sample(distinct, stream(seed, "lengths"))
        )
        blocks = shared.blocks(group, prompt, input_tokens)
    return RequestTable(
        arrival_s=spec.arrivals.at_rate(requests, rate, stream(seed, "arrivals")),
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        blocks=blocks,
        name=spec.name,
    )
