"""Published claims: what papers said of their systems, simulated and judged by rules that are the same for all.

Start in `spec` (what a file of claims may say) and `judge` (when a claim counts as reproduced), then `load` (names are
checked), `runs` (each run simulated once) and `reproduce` (rows with verdicts). Nothing here is tuned to a claim.
"""

from sim.validation.claims.judge import (
    RANKS,
    Judged,
    band_of,
    effect_lost,
    in_order,
    judge_ratio,
    judge_value,
    right_direction,
)
from sim.validation.claims.load import Claims, claim_names, load_claims
from sim.validation.claims.reproduce import ClaimRow, Reproduction, reproduce
from sim.validation.claims.spec import ClaimsSpec, Verdict

__all__ = [
    "RANKS",
    "ClaimRow",
    "Claims",
    "ClaimsSpec",
    "Judged",
    "Reproduction",
    "Verdict",
    "band_of",
    "claim_names",
    "effect_lost",
    "in_order",
    "judge_ratio",
    "judge_value",
    "load_claims",
    "reproduce",
    "right_direction",
]
