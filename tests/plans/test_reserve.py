"""What SGLang keeps free by itself: its figures come out, more of anything never leaves more, and it is a default."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.hardware import load_cluster
from sim.models import load_model
from sim.plans import (
    Infeasible,
    PlanSpec,
    ResolvedPlan,
    enumerate_plans,
    launch_command,
    load_engine,
    resolve,
)
from sim.plans.reserve import StaticReserve

MIB, GIB = 2**20, 2**30
SGLANG = load_engine("sglang")
assert SGLANG.static_reserve is not None
RESERVE: StaticReserve = SGLANG.static_reserve


def plan(cluster: str = "dgx-h100-1", model: str = "llama-3.1-8b", **fields: object) -> ResolvedPlan | Infeasible:
    return resolve(PlanSpec(**fields), model=load_model(model), engine=SGLANG, cluster=load_cluster(cluster))


def kv_bytes(found: ResolvedPlan | Infeasible) -> float:
    return found.memory.kv_cache_bytes if isinstance(found, ResolvedPlan) else 0.0


@pytest.mark.parametrize(
    ("mib", "shape", "reserved_mib"),
    [
        # by hand from the source: 512 + 1.5 chunk + 2 batch + 128 ranks
        (81920, {"tokens": 8192, "width": 8}, 512 + 12288 + 1024 + 1024),
        (81559, {"tokens": 8192, "width": 1}, 512 + 12288 + 512 + 128),
        (143771, {"tokens": 8192, "width": 2}, 512 + 12288 + 512 + 256),
        (183359, {"tokens": 16384, "width": 4}, 512 + 24576 + 1024 + 512),
        (24564, {"tokens": 512, "width": 1}, 512 + 3072 + 48 + 128),  # a chunk counts 2,048 tokens at least
        (81559, {"tokens": 2048, "width": 1}, 10240),  # and large devices keep 10 GiB at least
        (81559, {"tokens": 2048, "width": 1, "drafts": True}, 12288),
        (81559, {"tokens": 8192, "width": 2, "pp": 2}, 512 + 12288 + 512 + 512),  # stages are ranks, not its tp size
        (183359, {"tokens": 8192, "width": 8, "dp": 8}, 512 + 12288 + 1024 + 1024 + 512 * 8 * 4.5),
        (183359, {"tokens": 8192, "width": 8, "dp": 8, "seqs": 256}, 512 + 12288 + 512 + 1024 + 256 * 8 * 3),
    ],
)
def test_it_is_what_the_engine_keeps(mib: int, shape: dict[str, int], reserved_mib: float) -> None:
    fields = {"dp": 1, "seqs": 1024, "drafts": False, **shape}
    assert RESERVE.reserved_bytes(mib * MIB, **fields) == pytest.approx(reserved_mib * MIB)
    assert RESERVE.share(mib * MIB, **fields) == pytest.approx(1 - reserved_mib / mib, abs=5e-4)


@given(
    memory=st.floats(8 * GIB, 300 * GIB),
    tokens=st.integers(1, 65536),
    seqs=st.integers(1, 4096),
    dp=st.integers(1, 32),
    tp=st.integers(1, 8),
    more=st.integers(1, 8192),
    drafts=st.booleans(),
)
def test_more_of_anything_never_leaves_more(memory, tokens, seqs, dp, tp, more, drafts) -> None:
    def share(**changed: object) -> float:
        fields = {"tokens": tokens, "seqs": seqs, "dp": dp, "width": tp * dp, "drafts": drafts, **changed}
        return RESERVE.share(memory, **fields)

    here = share()
    assert 0.0 <= here < 1.0
    assert share(tokens=tokens + more) <= here
    assert share(seqs=seqs + more) <= here
    assert share(width=(tp + more) * dp) <= here
    assert share(dp=dp + 1, width=tp * (dp + 1)) <= here
    assert share(drafts=True) <= here


@given(tp=st.sampled_from([1, 2, 4, 8]), tokens=st.integers(1024, 60000), more=st.integers(1, 20000))
def test_longer_chunks_never_leave_more_cache(tp, tokens, more) -> None:
    short, long = (plan(tp=tp, max_num_batched_tokens=one, max_num_seqs=256) for one in (tokens, tokens + more))
    assert kv_bytes(long) <= kv_bytes(short)


@given(tp=st.sampled_from([1, 2, 4, 8]), tokens=st.integers(1024, 80000))
def test_there_is_a_cache_where_weights_and_reserve_fit_and_nowhere_else(tp, tokens) -> None:
    found = plan(model="llama-3.1-70b", tp=tp, max_num_batched_tokens=tokens)
    if isinstance(found, Infeasible):
        assert {reason.code for reason in found.reasons} == {"memory"}
        assert "as sglang has it by itself; kv_memory_frac gives it another share" in found.reasons[0].message
        return
    assert kv_bytes(found) > 0
    visible = load_cluster("dgx-h100-1").device.memory_bytes * SGLANG.visible_memory_frac.value
    reserved = RESERVE.reserved_bytes(visible, tokens=tokens, seqs=1024, dp=1, width=tp, drafts=False)
    memory = found.memory
    assert memory.weights_bytes + memory.kv_cache_bytes + reserved < visible * 1.0006, "the share is rounded"
    assert memory.free_bytes > 0, "activations and graphs fit into what is reserved"


def test_a_share_that_is_given_holds_and_one_that_is_not_is_launched_as_worked_out() -> None:
    given_, own = plan(tp=4, kv_memory_frac=0.7), plan(tp=4)
    assert isinstance(given_, ResolvedPlan)
    assert isinstance(own, ResolvedPlan)
    assert (given_.kv_memory_frac, own.kv_memory_frac) == (0.7, 0.823)
    assert own.label == "tp4", "what the engine works out is no choice"
    assert "--mem-fraction-static 0.823" in launch_command(own, model=load_model("llama-3.1-8b"), engine=SGLANG)


def test_a_search_leaves_the_share_to_the_engine() -> None:
    cluster, model = load_cluster("dgx-h100-1"), load_model("llama-3.1-8b")
    assert {one.kv_memory_frac for one in enumerate_plans(model, SGLANG, cluster)} == {None}
    assert {one.kv_memory_frac for one in enumerate_plans(model, load_engine("vllm"), cluster)} == {0.9}


def test_classes_of_devices_end_with_one_for_all() -> None:
    entry = {"min_memory": "1 GiB", "few_ranks": 1, "many_ranks": 1}
    with pytest.raises(ValueError, match="the last entry must fit every device"):
        StaticReserve.model_validate({**RESERVE.model_dump(), "rows": [entry]})
