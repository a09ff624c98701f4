"""What stands before the engine: HTTP, chat template, tokenizer and the hand-over between processes.

Part of it happens for all requests side by side (network, event loops), part one request after the other in the process
that tokenizes: requests that come together reach the engine one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heapreplace


@dataclass(frozen=True)
class FrontendTiming:
    """Times of a front end.

    Attributes:
        latency_s: Spent by every request, side by side [s].
        request_s: Serial work per request [s].
        token_s: Serial work per prompt token [s].
    """

    latency_s: float = 0.0
    request_s: float = 0.0
    token_s: float = 0.0


class Frontend:
    """First come, first served queues in front of the engines, one server per replica.

    Args:
        timing: Its times.
        servers: Processes that tokenize, one per replica.
    """

    def __init__(self, timing: FrontendTiming, servers: int) -> None:
        self._timing = timing
        self._free_s = [0.0] * servers

    def ready_s(self, sent_s: float, prompt_tokens: int) -> float:
        """When the engine gets a request sent at `sent_s` [s]; to be asked in the order of sending."""
        timing = self._timing
        work_s = timing.request_s + timing.token_s * prompt_tokens
        done_s = max(sent_s, self._free_s[0]) + work_s
        heapreplace(self._free_s, done_s)
        return done_s + timing.latency_s
