"""A deployment: pools of replicas behind a front end, fed by an open or closed loop of requests, run to the end.

`serve` is the one entry point of the package for whoever wants request times: give it requests, a cost, limits and
policies, get the log of all requests and the record of every replica.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np

from sim.core import Array
from sim.kernel import Kernel, Priority
from sim.serving.frontend import Frontend, FrontendTiming
from sim.serving.iteration import IterationCost
from sim.serving.limits import EngineLimits
from sim.serving.pool import Pool, PoolConfig
from sim.serving.records import ReplicaRecord
from sim.serving.replica import Replica
from sim.serving.requests import FINISHED, REJECTED, RequestLog
from sim.serving.transfer import KvNetwork, KvTransfer

_NO_FRONTEND = FrontendTiming()


@dataclass(frozen=True)
class PrefillPool:
    """Engines that compute prompts for others to decode.

    Attributes:
        pool: The engines.
        transfer: How the KV gets to those that decode.
        handover_s: From a computed prompt to the queue of the engine that decodes it [s]: the answer to the front end,
            the choice of that engine, the way there.
    """

    pool: PoolConfig
    transfer: KvTransfer
    handover_s: float = 0.0


@dataclass(frozen=True)
class OpenLoop:
    """Requests arrive at given times, whatever the system does.

    Attributes:
        arrival_s: Client send times [s], ascending, one per request.
    """

    arrival_s: Array


@dataclass(frozen=True)
class ClosedLoop:
    """A fixed number of requests in flight: all at time zero, each replaced at once when it ends.

    Attributes:
        concurrency: Requests in flight.
    """

    concurrency: int


@dataclass(frozen=True)
class ServingRun:
    """What happened.

    Attributes:
        log: Every request.
        records: Every replica's leaps; those of engines that only compute prompts come first.
        replicas: The replicas as the run left them, in the same order.
        duration_s: From time zero to the last event [s].
        stopped: Whether `stop_when` ended it before all requests were served.
        slots_used: The most slots in use at once in a replica; see `Headroom`.
    """

    log: RequestLog
    records: list[ReplicaRecord]
    replicas: list[Replica] = field(repr=False)
    duration_s: float
    stopped: bool
    slots_used: int

    def headroom(self) -> Headroom:
        """What the run left unused."""
        return Headroom(
            self.slots_used,
            max(replica.peak_blocks for replica in self.replicas),
            any(record.preemptions for record in self.records),
        )


@dataclass(frozen=True)
class Headroom:
    """The most that any replica of a run had in use: tells which other limits give the very same run.

    Attributes:
        slots: Requests running at once in a replica; where the router looks at slots, requests sent to a replica and
            not finished, for they decide whether it holds others back.
        blocks: KV blocks in use or cached in a replica; where the scheduler looks ahead, those of its running requests
            at their ends, for they decide whom it admits.
        preempted: Whether any request was preempted.
    """

    slots: int
    blocks: int
    preempted: bool

    def within(self, limits: EngineLimits, *, largest_blocks: int) -> bool:
        """Whether no slot or block limit could matter: one slot and the largest request's blocks were always free.

        If it holds for the limits of the run and for others that differ only in slots and blocks, then no check that a
        scheduler or router can make of either comes out differently, and both runs are the same.
        """
        free = limits.kv_blocks - limits.watermark_blocks - self.blocks
        return not self.preempted and self.slots < limits.max_sequences and free >= largest_blocks


class Deployment:
    """One pool of engines, or one for prompts and one for decoding, behind a front end."""

    def __init__(
        self,
        kernel: Kernel,
        log: RequestLog,
        config: PoolConfig,
        *,
        prefill: PrefillPool | None,
        frontend: Frontend,
        max_model_len: int | None,
        seed: int,
        leap: bool,
    ) -> None:
        self._kernel = kernel
        self._log = log
        self._frontend = frontend
        self._max_model_len = max_model_len
        self._listeners: list[Callable[[int], None]] = []
        pool = partial(Pool, kernel=kernel, log=log, seed=seed, leap=leap, on_end=self._ended)
        self.pools: tuple[Pool, ...]
        if prefill is None:
            out_s = frontend.timing.stream_token_s
            self._main = self._entry = pool(config, first=0, stream_name="router", stream_token_s=out_s)
            self.pools = (self._main,)
            return
        senders, receivers = len(prefill.pool.costs), len(config.costs)
        self._handover_s = prefill.handover_s
        self._network = KvNetwork(prefill.transfer, kernel, senders=senders, receivers=receivers)
        self._computed_by: dict[int, int] = {}
        self._entry = pool(prefill.pool, first=0, stream_name="prefill router", hand_over=self._hand_over)
        self._main = pool(config, first=senders, stream_name="router", fetch=self._fetch)
        self.pools = (self._entry, self._main)

    @property
    def replicas(self) -> list[Replica]:
        """All replicas by their number, those for prompts first."""
        return [replica for pool in self.pools for replica in pool.replicas]

    @property
    def slots_used(self) -> int:
        """The most slots in use at once in a replica; see `Headroom`."""
        return max(pool.slots_used for pool in self.pools)

    def listen(self, listener: Callable[[int], None]) -> None:
        """Calls `listener` with every request that ends, finished or rejected."""
        self._listeners.append(listener)

    def send(self, request: int) -> None:
        """The client sends `request` now; the engine gets it when the front end is done with it."""
        now = self._kernel.now
        self._log.arrival_s[request] = now
        ready_s = self._frontend.ready_s(now, self._log.prompt[request])
        if ready_s > now:
            self._kernel.at(ready_s, lambda: self.receive(request), priority=Priority.ARRIVAL)
        else:
            self.receive(request)

    def receive(self, request: int) -> None:
        """Routes a request that has reached the engine; rejects a prompt beyond the context limit as engines do."""
        log, limit = self._log, self._max_model_len
        log.received_s[request] = self._kernel.now
        if limit is not None:
            room = limit - log.prompt[request]
            if room < 1:
                log.status[request] = REJECTED
                log.output[request] = 0
                self._ended(request)
                return
            if log.output[request] > room:
                log.output[request] = room
        self._entry.route(request)

    def close(self) -> None:
        """Lets go of listeners and replicas: a finished run is freed when its result is, not when cycles are sought."""
        self._listeners.clear()
        for pool in self.pools:
            pool.close()

    def _ended(self, request: int) -> None:
        for listener in self._listeners:
            listener(request)

    def _hand_over(self, request: int, replica: int) -> None:
        """A prompt is computed: its engine keeps the KV until the decode engine that the router chooses has it."""
        self._computed_by[request] = replica
        if self._handover_s:
            ready_s = self._kernel.now + self._handover_s
            self._kernel.at(ready_s, lambda: self._main.route(request), priority=Priority.ARRIVAL)
        else:
            self._main.route(request)

    def _fetch(self, request: int, replica: int, done: Callable[[], None]) -> None:
        sender = self._computed_by.pop(request)

        def arrived() -> None:
            self._entry.replicas[sender].release(request)
            done()

        self._network.send(self._log.prompt[request], sender=sender, receiver=replica, done=arrived)


class _Source(Protocol):
    def start(self) -> None: ...


class _OpenSource:
    """Feeds arrivals one alarm at a time, when the front end is done with each: it does not depend on the engines."""

    def __init__(
        self, kernel: Kernel, deployment: Deployment, log: RequestLog, load: OpenLoop, frontend: Frontend
    ) -> None:
        self._kernel = kernel
        self._deployment = deployment
        self._log = log
        self._sent_s: list[float] = load.arrival_s.tolist()
        ready_s = [frontend.ready_s(sent, tokens) for sent, tokens in zip(self._sent_s, log.prompt, strict=True)]
        self._order: list[int] = np.argsort(ready_s, kind="stable").tolist()
        self._ready_s = ready_s
        self._next = 0

    def start(self) -> None:
        if self._order:
            self._kernel.at(self._ready_s[self._order[0]], self._arrive, priority=Priority.ARRIVAL)

    def _arrive(self) -> None:
        request = self._order[self._next]
        self._next += 1
        self._log.arrival_s[request] = self._sent_s[request]
        self._deployment.receive(request)
        if self._next < len(self._order):
            self._kernel.at(self._ready_s[self._order[self._next]], self._arrive, priority=Priority.ARRIVAL)


class _ClosedSource:
    """Keeps `concurrency` requests in flight until all have been sent."""

    def __init__(self, deployment: Deployment, count: int, load: ClosedLoop) -> None:
        self._deployment = deployment
        self._count = count
        self._sent = 0
        self._concurrency = load.concurrency
        deployment.listen(self._ended)

    def start(self) -> None:
        for _ in range(min(self._concurrency, self._count)):
            self._send()

    def _send(self) -> None:
        self._sent += 1
        self._deployment.send(self._sent - 1)

    def _ended(self, _: int) -> None:
        if self._sent < self._count:
            self._send()


def _all_served(log: RequestLog) -> None:
    """Refuses a run in which requests wait for ever: for a slot, for blocks, or for an engine that never wakes."""
    left = [request for request, status in enumerate(log.status) if status not in (FINISHED, REJECTED)]
    if left:
        first = left[0]
        raise RuntimeError(
            f"{len(left)} of {len(log)} requests wait for ever, the first of them, {first} with {log.prompt[first]} "
            f"prompt and {log.output[first]} output tokens, in engine {log.replica[first]}"
        )


def serve(
    log: RequestLog,
    load: OpenLoop | ClosedLoop,
    *,
    costs: Sequence[IterationCost],
    limits: EngineLimits,
    scheduler: str = "vllm-v1",
    router: str = "round_robin",
    prefill: PrefillPool | None = None,
    frontend: FrontendTiming = _NO_FRONTEND,
    max_model_len: int | None = None,
    seed: int = 0,
    leap: bool = True,
    until_s: float | None = None,
    stop_when: Callable[[int], bool] | None = None,
) -> ServingRun:
    """Serves all requests of `log` on one replica per entry of `costs`.

    Args:
        log: The requests; filled in place.
        load: How they arrive.
        costs: Iteration cost of each replica; replicas may share one.
        limits: Engine limits of each replica.
        scheduler: Name of the scheduling policy.
        router: Name of the routing policy.
        prefill: Engines that compute the prompts, so that the replicas only decode; None for replicas that do both.
        frontend: What stands between the clients and the engines.
        max_model_len: Context limit [tokens]; prompts that fill it are rejected, outputs are cut at it.
        seed: Seed of the router's random stream.
        leap: Whether engines leap over unchanged iterations.
        until_s: Stop at this time [s] even if requests are left; None runs to the end.
        stop_when: Asked with every request that ends; True stops the run there.

    Raises:
        InputError: if a policy's name is unknown.
        ValueError: if engines that only decode are to hold prompts back.
        RuntimeError: if the run ends with requests that nothing was to serve any more.
    """
    if prefill is not None and (limits.balance_wait or limits.batch_wait):
        raise ValueError(
            "engines that only decode have no prompts to hold back: balance_wait must be 0, batch_wait too"
        )
    kernel = Kernel()
    queue = Frontend(frontend, len(costs if prefill is None else prefill.pool.costs))
    deployment = Deployment(
        kernel,
        log,
        PoolConfig(costs, limits, scheduler, router),
        prefill=prefill,
        frontend=queue,
        max_model_len=max_model_len,
        seed=seed,
        leap=leap,
    )
    source: _Source
    if isinstance(load, OpenLoop):
        source = _OpenSource(kernel, deployment, log, load, queue)
    else:
        source = _ClosedSource(deployment, len(log), load)
    if stop_when is not None:
        deployment.listen(lambda request: kernel.stop() if stop_when(request) else None)
    source.start()
    stopped = kernel.run_all(until_s=until_s)
    if until_s is None and not stopped:
        _all_served(log)
    replicas = deployment.replicas
    for replica in replicas:
        replica.stop()
    log.forget_unsent(kernel.now)
    kernel.close()
    deployment.close()
    records = [replica.record for replica in replicas]
    return ServingRun(log, records, replicas, kernel.now, stopped, deployment.slots_used)
