"""What a request must keep to count as good: limits on its latencies, and how many requests must keep them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import AfterValidator, ConfigDict, Field, model_validator

from sim.core import Array, Frac, Spec, TimeS

_SHORT: Final = re.compile(r"^(ttft|tpot|e2e)_p([0-9]{1,2}(?:\.[0-9]+)?)$")
_PATTERN: Final = r"^(ttft|tpot|e2e)_p[0-9]{1,2}(\.[0-9]+)?$"
Limit = Annotated[TimeS, Field(gt=0)]
Attainment = Annotated[Frac, Field(gt=0, le=1), AfterValidator(lambda share: round(share, 12))]


class SloSpec(Spec):
    """Service-level objective: a request satisfies it if all its limits hold.

    `ttft_p99: 2 s` is short for `ttft: 2 s` with `attainment: 0.99`; likewise for every limit and every percentile.
    There is no limit on single token gaps (ITL): gaps are kept pooled, not per request; `tpot` limits their mean.

    Attributes:
        ttft: Longest time to first token, as the client sees it [s].
        tpot: Longest mean time per output token after the first [s]; a request of one token keeps it.
        e2e: Longest time from arrival to the last token [s].
        attainment: Share of the requests that must keep all limits.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "patternProperties": {
                _PATTERN: {
                    "anyOf": [{"type": "string"}, {"type": "number"}],
                    "description": "limit [s] that this percentage of the requests must keep",
                    "examples": ["2 s"],
                }
            },
            "examples": [{"ttft": "2 s", "tpot": "50 ms", "attainment": 0.99}, {"ttft_p99": "2 s"}],
        }
    )

    ttft: Limit | None = None
    tpot: Limit | None = None
    e2e: Limit | None = None
    attainment: Attainment = 0.9

    @model_validator(mode="before")
    @classmethod
    def _expand_short_keys(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        given = {str(key): value for key, value in data.items()}
        if gaps := [key for key in given if key.partition("_")[0] == "itl"]:
            raise ValueError(f"{gaps[0]!r}: token gaps are not kept per request; limit their mean with `tpot`")
        short = {key: match for key in given if (match := _SHORT.match(key))}
        shares = {float(match[2]) / 100.0 for match in short.values()}
        if len(shares) > 1:
            raise ValueError(f"{', '.join(short)} name different percentiles; one attainment holds for all limits")
        if shares and "attainment" in given:
            raise ValueError(f"`attainment` and {next(iter(short))!r} both say how many requests must keep the limit")
        for key, match in short.items():
            if match[1] in given:
                raise ValueError(f"{match[1]!r} and {key!r} both limit the same latency")
            given[match[1]] = given.pop(key)
        return {**given, "attainment": shares.pop()} if shares else given

    @model_validator(mode="after")
    def _some_limit(self) -> SloSpec:
        if not self.limits_s:
            raise ValueError("an SLO needs a limit: `ttft`, `tpot` or `e2e`")
        return self

    @property
    def limits_s(self) -> dict[str, float]:
        """Limits [s] by request column: `ttft_s`, `tpot_s`, `e2e_s`."""
        limits = {"ttft_s": self.ttft, "tpot_s": self.tpot, "e2e_s": self.e2e}
        return {column: limit for column, limit in limits.items() if limit is not None}

    def satisfied(self, requests: pd.DataFrame | Mapping[str, Any]) -> npt.NDArray[np.bool_]:
        """Which requests keep all limits, shape `(n,)`; those that did not finish do not.

        Args:
            requests: Columns `status` and one per limit (`ttft_s`, ...); a table of `REQUEST_COLUMNS` will do.
        """
        kept = np.asarray(requests["status"] == "finished", dtype=bool)
        for column, limit in self.limits_s.items():
            latency: Array = np.asarray(requests[column], dtype=np.float64)
            kept = kept & ~(latency > limit)  # NaN: no second token, so nothing to be late
        return kept


def slo_of(scenario: Mapping[str, Any]) -> SloSpec | None:
    """The SLO of a resolved scenario (plain data), or None if it has none."""
    return None if scenario.get("slo") is None else SloSpec.model_validate(scenario["slo"])
