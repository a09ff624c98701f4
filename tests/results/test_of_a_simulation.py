"""Results of real simulated runs: what the serving engine records is what the metrics need, stopped early or not."""

import numpy as np
import pandas as pd
import pytest

from sim.results import REQUEST_COLUMNS, GapRuns, RunResult, SloSpec, build_result
from sim.serving import EngineLimits, FrontendTiming, serve
from sim.testing.results import synthetic_facts
from sim.testing.serving import AffineCost, random_traffic


def simulated(seed: int, *, blocks: int, until_s: float | None) -> RunResult:
    log, load = random_traffic(seed, 80, rate=5.0, longest=240)
    limits = EngineLimits(max_sequences=12, token_budget=256, chunk_limit=256, kv_blocks=blocks, block_tokens=16)
    run = serve(log, load, costs=[AffineCost()] * 2, limits=limits, frontend=FrontendTiming(0.01), until_s=until_s)
    leaps = [record.to_frame() for record in run.records]
    gaps = [record.gap_runs(frame) for record, frame in zip(run.records, leaps, strict=True)]
    return build_result(
        requests=log.to_frame(),
        gaps=GapRuns(np.concatenate([each[0] for each in gaps]), np.concatenate([each[1] for each in gaps])),
        facts=synthetic_facts(run.duration_s),
        slo=SloSpec(ttft=1.0, tpot=0.05),
        iterations=pd.concat(leaps, ignore_index=True),
        plan={},
        memory={},
        launch="",
        scenario={},
        provenance={},
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("blocks", [40, 4000])
@pytest.mark.parametrize("until_s", [None, 3.0])
def test_nothing_is_lost_on_the_way(seed: int, blocks: int, until_s: float | None) -> None:
    run = simulated(seed, blocks=blocks, until_s=until_s)
    counts = run.metrics["requests"]
    assert counts["in"] == sum(number for name, number in counts.items() if name != "in")
    assert (counts["finished"] == 80) == (until_s is None)
    assert list(run.requests) == list(REQUEST_COLUMNS)
    assert run.metrics["ttft_s"]["mean"] - run.metrics["engine_ttft_s"]["mean"] == pytest.approx(0.01)


def test_mean_gap_is_the_mean_tpot_weighted_by_gaps() -> None:
    run = simulated(0, blocks=4000, until_s=None)
    several = run.requests[run.requests["emitted_tokens"] > 1]
    weighted = np.average(several["tpot_s"], weights=several["emitted_tokens"] - 1)
    assert run.metrics["itl_s"]["mean"] == pytest.approx(weighted, rel=1e-9)
