"""Prompts that wait until every attention-data-parallel rank has one, so that ranks compute prompts together.

Ranks advance in lock step: a prompt on one holds up the decoding of all. An engine that lets prompts wait for each
other pays for that once instead of once per rank (TensorRT-LLM's `attention_dp_config`, tech blog 10 "ADP Balance
Strategy"; `_balance_adp_requests` in its `py_executor.py`). Not a policy itself; `trtllm` uses it.
"""

from __future__ import annotations

from collections.abc import Callable

from sim.serving.schedulers.base import Chunk, EngineState


class RankBalance:
    """Which rank each request belongs to, and when prompts run.

    A new request goes to the rank with the fewest requests, the lowest number among equals, and stays there; ranks take
    no more requests than may run at once. Prompts run when every rank has one or some rank decodes nothing, and else
    once in `balance_wait` iterations, counted from the last time that was so, whether prompts wait or not; then every
    rank computes prompts in their order within its own budget of tokens. The blocks are the engine's, not a rank's.
    """

    def __init__(self) -> None:
        self._rank: dict[int, int] = {}
        self._load: list[int] = []
        self._since = 0
        self._restart = True

    def update(self, engine: EngineState) -> None:
        """Takes note of requests that have ended or come."""
        if not self._load:
            self._load = [0] * engine.ranks
        waiting = set(engine.waiting)
        for request in [one for one in self._rank if one not in waiting and not engine.is_running(one)]:
            self._load[self._rank.pop(request)] -= 1
        for request in engine.waiting:
            if len(self._rank) == engine.max_sequences:
                break
            if request not in self._rank:
                rank = self._load.index(min(self._load))
                self._rank[request] = rank
                self._load[rank] += 1

    def holds_back(self, engine: EngineState) -> bool:
        """Whether prompts go on waiting in the iteration to be scheduled."""
        if self._restart:
            self._since, self._restart = engine.iteration, False
        prompts = [0] * engine.ranks
        for request in self._prompts(engine):
            prompts[self._rank[request]] += 1
        everywhere = all(prompts)
        idle_rank = any(load == waiting for load, waiting in zip(self._load, prompts, strict=True))
        self._restart = everywhere or idle_rank
        if self._restart or not any(prompts):
            return False
        return self.steps_left(engine) > 0

    def steps_left(self, engine: EngineState) -> int:
        """Iterations until prompts run even if no other comes; 0 if they run in this one."""
        return -(engine.iteration - self._since + 1) % engine.balance_wait

    def chunks(self, engine: EngineState, fits: Callable[[EngineState, int, int], bool]) -> list[Chunk]:
        """Chunks of all ranks: prompts that were begun, then waiting ones, each rank within its share of the budget."""
        left = [engine.token_budget // engine.ranks - load * engine.step_tokens for load in self._load]
        for request in self._prompts(engine):
            left[self._rank[request]] += engine.step_tokens  # it does not decode
        found = []
        for request in list(engine.partial):
            rank = self._rank[request]
            tokens = min(engine.to_compute(request) - engine.partial[request], left[rank], engine.chunk_limit)
            if tokens > 0:
                found.append(engine.extend(request, tokens))
                left[rank] -= tokens
        for request in [one for one in engine.waiting if one in self._rank]:
            rank = self._rank[request]
            wanted = engine.to_compute(request) - engine.cached_tokens(request)
            tokens = min(wanted, left[rank], engine.chunk_limit)
            whole = not engine.chunked_prefill or engine.to_compute(request) <= engine.chunk_limit
            if tokens <= 0 or (tokens < wanted and whole):
                continue
            if not fits(engine, request, tokens):
                break
            found.append(engine.admit(tokens, request))
            left[rank] -= tokens
        return found

    def _prompts(self, engine: EngineState) -> list[int]:
        """Requests with a rank whose prompts are not done."""
        return [*engine.partial, *(request for request in engine.waiting if request in self._rank)]
