"""Policies in which prompts run alone, and the one that never evicts: contracts, order of work, and token gaps."""

from __future__ import annotations

import numpy as np
import pytest

from sim.serving import SCHEDULERS, EngineLimits, RequestLog, ServingRun, serve
from sim.testing.serving import AffineCost, check_run, check_scheduler, random_traffic

ALONE = ("sglang", "vllm-v0")


def run(name: str, *, blocks: int, chunked: bool = True, leap: bool = True) -> ServingRun:
    limits = EngineLimits(
        max_sequences=12, token_budget=512, chunk_limit=512, kv_blocks=blocks, chunked_prefill=chunked
    )
    log, load = random_traffic(3, 60, rate=4.0, longest=240)
    return serve(log, load, costs=[AffineCost((None, 96))], limits=limits, scheduler=name, leap=leap)


@pytest.mark.parametrize("name", SCHEDULERS.names())
def test_contract(name: str) -> None:
    check_scheduler(name, seeds=range(3))


@pytest.mark.parametrize("name", [*ALONE, "trtllm"])
@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("blocks", [40, 60, 4000])
def test_gaps_add_up_to_the_time_between_first_and_last_token(name: str, chunked: bool, blocks: int) -> None:
    gaps = []
    for leap in (True, False):
        done = run(name, blocks=blocks, chunked=chunked, leap=leap)
        check_run(done)
        record = done.records[0]
        value_s, count = record.gap_runs(record.to_frame())
        lived_s = float(np.sum(np.array(done.log.finish_s) - np.array(done.log.first_s)))
        assert float(np.sum(value_s * count)) == pytest.approx(lived_s, rel=1e-9)
        assert (count >= 0).all()
        gaps.append(np.sort(np.repeat(value_s, count.astype(int))))
    assert np.allclose(gaps[0], gaps[1], rtol=1e-9)


@pytest.mark.parametrize("name", ALONE)
def test_no_decode_beside_a_prompt(name: str) -> None:
    leaps = run(name, blocks=4000, chunked=False).records[0].to_frame()
    assert not ((leaps["prompts"] > 0) & (leaps["decoding"] > 0)).any()


@pytest.mark.parametrize("name", ["vllm-v0", "trtllm", "sglang-mixed"])
def test_chunked_prompts_run_beside_decodes(name: str) -> None:
    leaps = run(name, blocks=4000).records[0].to_frame()
    assert ((leaps["prompts"] > 0) & (leaps["decoding"] > 0)).any()


def test_guaranteed_no_evict() -> None:
    scarce = {name: run(name, blocks=40) for name in ("trtllm", "vllm-v1", "sglang")}
    assert scarce["trtllm"].records[0].preemptions == 0
    assert scarce["vllm-v1"].records[0].preemptions > scarce["sglang"].records[0].preemptions > 0


def test_mixed_chunks_admit_by_the_estimate_of_sglang() -> None:
    """Fewer are evicted than where a first chunk that fits is enough."""
    mixed, eager = (run(name, blocks=40).records[0].preemptions for name in ("sglang-mixed", "vllm-v1"))
    assert eager > mixed


def test_a_lone_request_costs_the_same_under_all() -> None:
    ends = set()
    for name in SCHEDULERS.names():
        log, load = RequestLog([100], [20]), random_traffic(0, 1, rate=1.0, longest=9)[1]
        limits = EngineLimits(max_sequences=4, token_budget=512, chunk_limit=512, kv_blocks=99)
        serve(log, load, costs=[AffineCost()], limits=limits, scheduler=name)
        ends.add(round(log.finish_s[0] - log.arrival_s[0], 12))
    assert len(ends) == 1
