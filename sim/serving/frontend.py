"""What stands between clients and engine: HTTP, chat template, tokenizer and the hand-over between processes.

On the way in, part of it happens for all requests side by side (network, event loops), part one request after the other
in the process that tokenizes: requests that come together reach the engine one by one. On the way out, every token of
every sequence is a message that one process decodes and writes: an engine that makes more of them than that process can
send runs ahead of what clients see (`TokenStream`).
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heapreplace

from sim.kernel import leap_end_s


@dataclass(frozen=True)
class FrontendTiming:
    """Times of a front end.

    Attributes:
        latency_s: Spent by every request, side by side [s].
        request_s: Serial work per request [s].
        token_s: Serial work per prompt token [s].
        stream_token_s: Serial work per output token on its way to the client [s].
    """

    latency_s: float = 0.0
    request_s: float = 0.0
    token_s: float = 0.0
    stream_token_s: float = 0.0


class Frontend:
    """First come, first served queues in front of the engines, one server per replica.

    Args:
        timing: Its times.
        servers: Processes that tokenize, one per replica.
    """

    def __init__(self, timing: FrontendTiming, servers: int) -> None:
        self.timing = timing
        self._free_s = [0.0] * servers

    def ready_s(self, sent_s: float, prompt_tokens: int) -> float:
        """When the engine gets a request sent at `sent_s` [s]; to be asked in the order of sending."""
        timing = self.timing
        work_s = timing.request_s + timing.token_s * prompt_tokens
        done_s = max(sent_s, self._free_s[0]) + work_s
        heapreplace(self._free_s, done_s)
        return done_s + timing.latency_s


class TokenStream:
    """The way out of one engine: tokens are sent first come, first served, those of an iteration as one batch.

    Args:
        token_s: Work per token [s].
    """

    def __init__(self, token_s: float) -> None:
        self._token_s = token_s
        self._free_s = 0.0

    def send(self, start_s: float, first_s: float, growth_s: float, *, steps: int, tokens: int) -> float:
        """When the last of the tokens of `steps` iterations is sent [s]; to be told in the order of time.

        With batches of work w that come at t_1 .. t_k, the last is sent at max(free + k w, max_j (t_j + (k-j+1) w)):
        Lindley's recursion written out. t_j - j w is convex in j, since iterations get longer and not shorter, so the
        inner maximum is at one of the ends.

        Args:
            start_s: When the first of the iterations began [s].
            first_s: How long it took [s].
            growth_s: By how much each takes longer than the one before it [s], not below zero.
            steps: How many there are.
            tokens: Tokens that each of them made.
        """
        batch_s = tokens * self._token_s
        last_s = leap_end_s(start_s, first_s, growth_s, steps)
        if batch_s:
            busy_s = max(self._free_s, start_s + first_s) + steps * batch_s
            self._free_s = max(busy_s, last_s + batch_s)
        return max(self._free_s, last_s)
