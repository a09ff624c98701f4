"""Contract suites for schedulers and routers, and the invariants every serving run must keep."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np

from sim.plans import KvLayout, WindowGroup
from sim.serving import (
    ClosedLoop,
    DecodeRow,
    EngineLimits,
    IterationCost,
    KvTransfer,
    OpenLoop,
    PoolConfig,
    PrefillPool,
    RequestLog,
    ServingRun,
    serve,
)
from sim.serving.prefix import PrefixKvBlocks
from sim.serving.replica import Replica
from sim.serving.requests import FINISHED
from sim.serving.schedulers import Chunk
from sim.workloads import PromptBlocks

_HYBRID = KvLayout(16, full=1, windows=(WindowGroup(most_blocks=4, groups=2),), fixed=3)
"""Layers with a window and with states beside full ones."""


class AffineCost:
    """A small but complete iteration cost: affine pieces with real break points, prefill quadratic in length.

    Args:
        windows: Attention windows per class.
        pieces: Break points per row; more make shorter leaps.
        least_s: Least time of an iteration [s], as a host beside the device sets it.
        gap_s: Time between two iterations [s].
    """

    def __init__(
        self,
        windows: tuple[int | None, ...] = (None,),
        pieces: int = 24,
        *,
        least_s: float = 0.0,
        gap_s: float = 0.0,
    ) -> None:
        self.windows = windows
        self.weights = (1 / len(windows),) * len(windows)
        self._pieces = pieces
        self._host = gap_s, least_s
        self._rows: dict[tuple[int, int], DecodeRow] = {}

    def base(self, sequences: int, chunks: Sequence[Chunk]) -> tuple[float, int]:
        """Weights plus work per token and per logits row [s]."""
        tokens = sequences + sum(chunk.tokens for chunk in chunks)
        return 5e-3 + 2e-5 * tokens + 1e-6 * (sequences + len(chunks)), 0

    def host(self, requests: int, prompts: int = 0) -> tuple[float, float]:
        """The gap and the least time [s]."""
        return self._host

    def decode_row(self, attention_class: int, sequences: int, *, prompts: bool = False) -> DecodeRow:
        """A convex piecewise affine row that depends on the batch."""
        key = (attention_class, sequences)
        if key not in self._rows:
            breaks = np.geomspace(1.0, 2e6, self._pieces)
            values = 1e-4 * (1 + attention_class) + 3e-8 * breaks + 1e-6 * np.sqrt(breaks * sequences)
            self._rows[key] = DecodeRow(breaks.tolist(), values.tolist())
        return self._rows[key]

    def prefill(self, sequences: int, chunks: Sequence[Chunk]) -> tuple[float, float]:
        """Attended tokens times a constant [s], and those tokens."""
        attended = sum(chunk.tokens * (chunk.prefix + 0.5 * (chunk.tokens + 1)) for chunk in chunks)
        return attended * 2e-9, attended


def check_run(run: ServingRun) -> None:
    """Asserts laws 1 to 3 on a finished run: nothing lost, blocks balanced, causes before effects.

    Raises:
        AssertionError: naming the broken law.
    """
    log = run.log
    frame = log.to_frame()
    status = frame["status"].value_counts().to_dict()
    assert sum(status.values()) == len(frame), "law 1: every request that arrived has one state"
    finished = frame[frame["status"] == "finished"]
    outputs = np.asarray(log.output)[finished["request"]]
    assert (finished["emitted_tokens"].to_numpy() == outputs).all(), "law 1: finished requests emitted their tokens"
    gaps = [record.gap_runs(record.to_frame()) for record in run.records]
    emitted_after_first = sum(float(counts.sum()) for _, counts in gaps)
    tokens = frame["emitted_tokens"]
    assert emitted_after_first == float((tokens - 1)[tokens > 0].sum()), "law 1: one gap per token after the first"
    for replica in run.replicas:
        assert 0 <= replica.kv.used <= replica.kv.peak <= replica.kv.total, "law 2: blocks within bounds"
        assert replica.kv.cached >= 0 <= replica.kv.free, "law 2: used, cached and free blocks are all there are"
        if not replica.running() and not replica.handed:
            assert replica.kv.used == 0, "law 2: an empty engine holds no block"
    assert (finished["first_scheduled_s"] >= finished["arrival_s"] - 1e-12).all(), "law 3: scheduled after arrival"
    assert (finished["first_token_s"] > finished["first_scheduled_s"]).all(), "law 3: first token after scheduling"
    assert (finished["finish_s"] >= finished["first_token_s"]).all(), "law 3: finish after first token"
    for record in run.records:
        leaps = record.to_frame()
        k, first, growth = leaps["iterations"], leaps["first_s"], leaps["growth_s"]
        ends = leaps["start_s"] + k * first + growth * (0.5 * k * (k - 1))
        assert (leaps["start_s"].to_numpy()[1:] >= ends.to_numpy()[:-1] - 1e-9).all(), (
            "law 3: iterations do not overlap"
        )


def random_traffic(seed: int, count: int, *, rate: float, longest: int) -> tuple[RequestLog, OpenLoop]:
    """Poisson arrivals at `rate` [1/s] with uniform lengths up to `longest` tokens, prompt and output each."""
    rng = np.random.default_rng(seed)
    prompts = rng.integers(1, longest + 1, count)
    outputs = rng.integers(1, longest + 1, count)
    return RequestLog(prompts, outputs), OpenLoop(np.cumsum(rng.exponential(1 / rate, count)))


def shared_traffic(
    seed: int, count: int, *, rate: float, longest: int, grain: int, groups: int = 3
) -> tuple[RequestLog, OpenLoop]:
    """Like `random_traffic`, with prompts that begin alike: each goes on from a group's text, or repeats another whole.

    Args:
        seed: Seed of all draws.
        count: Requests.
        rate: Mean arrivals per second.
        longest: Most prompt tokens, and most output tokens.
        grain: Tokens per block id.
        groups: Different texts.
    """
    rng = np.random.default_rng(seed)
    prompts: list[int] = []
    ids: list[list[int]] = []
    for request in range(count):
        if request and rng.random() < 0.3:
            again = int(rng.integers(request))
            prompts.append(prompts[again])
            ids.append(ids[again])
            continue
        tokens = int(rng.integers(1, longest + 1))
        common = int(rng.integers(0, tokens + 1)) // grain
        group = int(rng.integers(groups))
        own = [(request + groups) * longest + at for at in range(common, -(-tokens // grain))]
        prompts.append(tokens)
        ids.append([group * longest + at for at in range(common)] + own)
    log = RequestLog(prompts, rng.integers(1, longest + 1, count), blocks=PromptBlocks.from_lists(grain, ids))
    return log, OpenLoop(np.cumsum(rng.exponential(1 / rate, count)))


def check_blocks(replica: Replica) -> None:
    """Asserts law 2 on a replica between two iterations, with its blocks counted again from its requests.

    Raises:
        AssertionError: if the count differs, or a block is shared otherwise than by reference count.
    """
    kv = replica.kv
    pending = {chunk.request: chunk.tokens for chunk in replica._chunks}
    stored = {request: offset + replica._iteration for request, offset in replica._offset.items()}
    stored |= {request: done + pending.get(request, 0) for request, done in replica.partial.items()}
    blocks = {request: kv.blocks_for(tokens) for request, tokens in stored.items()}
    assert kv.used == sum(blocks.values()) - kv.shared, "law 2: used blocks are those of the sequences"
    assert min(kv.used, kv.cached, kv.free) >= 0, "law 2: no count is negative"
    assert kv.used + kv.cached + kv.free == kv.total, "law 2: nothing else is allocated"
    if isinstance(kv, PrefixKvBlocks):
        holders: dict[int, int] = {}
        sizes: dict[int, int] = {}
        assert set(kv._running) == set(stored)
        for request, holding in kv._running.items():
            assert sum(holding.size(unit) for unit in holding.held) == holding.blocks <= blocks[request]
            for unit in holding.held:
                key = holding.keys[unit]
                holders[key] = holders.get(key, 0) + 1
                assert sizes.setdefault(key, holding.size(unit)) == holding.size(unit)
        assert kv._holders == holders, "law 2: shared by reference count"
        assert kv.shared == sum((count - 1) * sizes[key] for key, count in holders.items())
        assert not set(holders) & set(kv._cached), "law 2: a cached block has no holder"
        assert kv.cached == sum(kv._cached.values())
        assert all(kv._cached.values())


@contextmanager
def blocks_counted() -> Iterator[list[int]]:
    """Checks the blocks of every replica, and that none idles with work, whenever it has planned; lists the events."""
    plan = Replica._plan
    events: list[int] = []

    def counted(replica: Replica) -> None:
        plan(replica)
        check_blocks(replica)
        assert replica._alarm is not None or not (replica.waiting or replica.running()), "law 3: idle with work"
        events.append(replica.index)

    with patch.object(Replica, "_plan", counted):
        yield events


def check_scheduler(name: str, *, seeds: Sequence[int] = range(6)) -> None:
    """Asserts that the scheduler `name` keeps laws 1 to 3 and 5 under ample and scarce KV blocks, open and closed.

    Raises:
        AssertionError: if a law breaks.
    """
    cost: IterationCost = AffineCost((None, 96))
    for seed in seeds:
        for blocks, layout in ((40, None), (60, None), (4000, None), (60, _HYBRID), (130, _HYBRID)):
            limits = EngineLimits(
                max_sequences=12,
                token_budget=256,
                chunk_limit=256,
                kv_blocks=blocks,
                block_tokens=16,
                kv_layout=layout,
            )
            runs = []
            for leap in (True, False):
                log, load = random_traffic(seed, 60, rate=4.0, longest=240)
                runs.append(serve(log, load, costs=[cost], limits=limits, scheduler=name, seed=seed, leap=leap))
                check_run(runs[-1])
            a, b = (np.asarray(run.log.finish_s) for run in runs)
            assert np.allclose(a, b, rtol=1e-9), "law 5: leaps and single steps give the same times"
            log, _ = random_traffic(seed, 40, rate=1.0, longest=240)
            check_run(serve(log, ClosedLoop(9), costs=[cost], limits=limits, scheduler=name, seed=seed))
            check_pools(name, limits, cost, seed=seed)


def check_pools(name: str, limits: EngineLimits, cost: IterationCost, *, seed: int) -> None:
    """Asserts laws 1 to 3 and 5 where engines of their own compute the prompts, both kinds with the scheduler `name`.

    Raises:
        AssertionError: if a law breaks.
    """
    transfer = KvTransfer(1e5, 50e6, 80e6, send_groups=2, latency_s=1e-3)
    runs = []
    for leap in (True, False):
        log, load = random_traffic(seed, 60, rate=6.0, longest=240)
        prompts = PrefillPool(PoolConfig([cost], limits, name), transfer)
        run = serve(log, load, costs=[cost] * 2, limits=limits, scheduler=name, prefill=prompts, seed=seed, leap=leap)
        check_run(run)
        assert all(status == FINISHED for status in log.status), "law 1: every request finishes"
        least_s = [transfer.alone_s(tokens) for tokens in log.prompt]
        handed = [tokens > 1 for tokens in log.output]
        waits = np.asarray(log.first_s) - np.asarray(log.received_s)
        assert (waits >= np.where(handed, least_s, 0.0) - 1e-9).all(), "law 3: no token before its KV has come"
        assert all((replica > 0) == far for replica, far in zip(log.replica, handed, strict=True)), (
            "prompts are computed by the first engine, everything else by the others"
        )
        runs.append(run)
    a, b = (np.asarray(run.log.finish_s) for run in runs)
    assert np.allclose(a, b, rtol=1e-9), "law 5: leaps and single steps give the same times"


def check_router(name: str, *, replicas: int = 3) -> None:
    """Asserts that the router `name` sends every request to an existing replica and the run keeps laws 1 to 3.

    Raises:
        AssertionError: if it does not.
    """
    limits = EngineLimits(max_sequences=4, token_budget=256, chunk_limit=256, kv_blocks=400, block_tokens=16)
    log, load = random_traffic(1, 120, rate=6.0, longest=200)
    run = serve(log, load, costs=[AffineCost()] * replicas, limits=limits, router=name, seed=3)
    check_run(run)
    assert set(log.replica) <= set(range(replicas)), "a request went to a replica that does not exist"
    assert all(status == 2 for status in log.status), "every request finishes"
