"""Early verdicts on a run: has the SLO already been missed by too many requests to be attained?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import floor

from sim.serving.requests import FINISHED, RequestLog

Verdict = Callable[[int], bool]


def slo_breaker(log: RequestLog, limits_s: Mapping[str, float], *, attainment: float, count: int) -> Verdict:
    """A listener that returns True once more requests have missed a limit than `attainment` allows.

    Args:
        log: The run's requests.
        limits_s: Limits by metric, of `ttft_s`, `tpot_s` and `e2e_s` [s].
        attainment: Fraction of requests that must keep all limits.
        count: Requests of the whole run.
    """
    ttft = limits_s.get("ttft_s", float("inf"))
    tpot = limits_s.get("tpot_s", float("inf"))
    e2e = limits_s.get("e2e_s", float("inf"))
    allowed = floor(count * (1.0 - attainment) + 1e-9)
    missed = 0

    def ended(request: int) -> bool:
        nonlocal missed
        first, finish, sent = log.first_s[request], log.finish_s[request], log.arrival_s[request]
        emitted = log.emitted[request]
        kept = (
            log.status[request] == FINISHED
            and first - sent <= ttft
            and finish - sent <= e2e
            and (emitted < 2 or finish - first <= tpot * (emitted - 1))
        )
        missed += not kept
        return missed > allowed

    return ended
