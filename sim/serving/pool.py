"""A pool: equal replicas behind a router. A deployment has one, or one for prompts and one for decoding."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sim.core import stream
from sim.kernel import Kernel
from sim.serving.frontend import TokenStream
from sim.serving.iteration import IterationCost
from sim.serving.limits import EngineLimits
from sim.serving.prefix import PromptUnits
from sim.serving.replica import Replica
from sim.serving.requests import RequestLog
from sim.serving.routers import ROUTERS
from sim.serving.schedulers import SCHEDULERS


@dataclass(frozen=True)
class PoolConfig:
    """What a pool consists of.

    Attributes:
        costs: Iteration cost of each replica; replicas may share one.
        limits: Engine limits of each replica.
        scheduler: Name of the scheduling policy.
        router: Name of the routing policy.
    """

    costs: Sequence[IterationCost]
    limits: EngineLimits
    scheduler: str = "vllm-v1"
    router: str = "round_robin"


class Pool:
    """Replicas behind a router; implements `routers.Fleet`.

    Args:
        config: What it consists of.
        kernel: The clock.
        log: Columns of all requests.
        first: Number of its first replica.
        stream_name: Name of its router's random stream.
        seed: Seed of that stream.
        leap: Whether engines leap.
        stream_token_s: Work per token on its way from an engine to the client [s].
        on_end: Called with a request that finishes here.
        hand_over: Called with a request and the replica that has computed its prompt, if others decode it.
        fetch: Asked by a replica to bring a request's KV and to call back; None where prompts are computed here. What
            comes is stored in blocks of the request's own: prefixes are shared where they are computed.

    Attributes:
        outstanding: Requests sent to each replica and not finished there.
    """

    def __init__(
        self,
        config: PoolConfig,
        *,
        kernel: Kernel,
        log: RequestLog,
        first: int,
        stream_name: str,
        seed: int,
        leap: bool,
        stream_token_s: float = 0.0,
        on_end: Callable[[int], None],
        hand_over: Callable[[int, int], None] | None = None,
        fetch: Callable[[int, int, Callable[[], None]], None] | None = None,
    ) -> None:
        count = len(config.costs)
        self.outstanding = [0] * count
        self._log = log
        self._first = first
        self._held: deque[int] = deque()
        self._slots = [config.limits.max_sequences] * count
        self._slots_read = False
        self._peak_outstanding = 0
        self._on_end = on_end
        self._hand_over = hand_over
        self._elsewhere = fetch is not None
        policy = SCHEDULERS.get(config.scheduler)
        blocks = log.blocks if config.limits.prefix_caching and fetch is None else None
        prompts = None if blocks is None else PromptUnits(blocks, log.prompt, config.limits.block_tokens)
        self.replicas = [
            Replica(
                first + index,
                kernel=kernel,
                cost=cost,
                limits=config.limits,
                scheduler=policy(),
                log=log,
                on_finish=self._finished,
                hand_over=None if hand_over is None else self._handed,
                fetch=None if fetch is None else _bound(fetch, index),
                leap=leap,
                prompts=prompts,
                stream=TokenStream(stream_token_s) if stream_token_s else None,
            )
            for index, cost in enumerate(config.costs)
        ]
        self._choose = ROUTERS.get(config.router)(self, stream(seed, stream_name)).choose

    @property
    def slots(self) -> list[int]:
        """Most requests each replica runs at once; that the router asked is remembered."""
        self._slots_read = True
        return self._slots

    @property
    def slots_used(self) -> int:
        """The most slots in use at once in a replica; see `Headroom`."""
        running = max(replica.peak_running for replica in self.replicas)
        return max(running, self._peak_outstanding) if self._slots_read else running

    def route(self, request: int) -> None:
        """Sends a request to a replica, or holds it back until the router has one for it."""
        target = None if self._held else self._choose(request)
        if target is None:
            self._held.append(request)
        else:
            self._dispatch(request, target)

    def close(self) -> None:
        """Lets go of the replicas' callbacks, so that no cycle keeps a finished run alive."""
        for replica in self.replicas:
            replica.on_finish = replica.hand_over = replica.fetch_kv = None

    def _dispatch(self, request: int, target: int) -> None:
        self.outstanding[target] = outstanding = self.outstanding[target] + 1
        if outstanding > self._peak_outstanding:
            self._peak_outstanding = outstanding
        self.replicas[target].submit(request, elsewhere=self._elsewhere)

    def _finished(self, request: int) -> None:
        self._left(request)
        self._on_end(request)

    def _handed(self, request: int) -> None:
        assert self._hand_over is not None
        replica = self._log.replica[request] - self._first
        self._left(request)
        self._hand_over(request, replica)

    def _left(self, request: int) -> None:
        """A request has left its replica: one that was held back may take its place."""
        self.outstanding[self._log.replica[request] - self._first] -= 1
        if self._held:
            target = self._choose(self._held[0])
            if target is not None:
                self._dispatch(self._held.popleft(), target)


def _bound(
    fetch: Callable[[int, int, Callable[[], None]], None], replica: int
) -> Callable[[int, Callable[[], None]], None]:
    return lambda request, done: fetch(request, replica, done)
