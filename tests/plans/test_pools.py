"""Plans with engines of their own for prompts: placement together, reasons by kind, labels and launch commands."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.models import load_model
from sim.plans import Infeasible, PlanSpec, ResolvedPlan, launch_command, load_engine, resolve
from sim.plans.placement import Placement, devices_for, domains_for


def plan(cluster, engine, **fields) -> ResolvedPlan | Infeasible:
    return resolve(PlanSpec(**fields), model=load_model("llama-3.1-70b"), engine=engine, cluster=cluster)


def test_both_kinds_are_counted_and_written_back(make_cluster, engine) -> None:
    found = plan(make_cluster(nodes=2), engine, tp=4, replicas=2, prefill={"tp": 8, "max_num_batched_tokens": 16384})
    assert isinstance(found, ResolvedPlan)
    assert (found.n_gpus, found.n_replicas) == (16, 3)
    assert found.label == "prefill tp8 16384 tokens | decode 2x tp4"
    again = plan(make_cluster(nodes=2), engine, **found.to_dict())
    assert isinstance(again, ResolvedPlan)
    assert again.to_dict() == found.to_dict()


def test_the_context_is_what_both_kinds_hold(make_cluster, engine) -> None:
    wide = plan(make_cluster(nodes=2), engine, tp=8, prefill={"tp": 2})
    narrow = plan(make_cluster(nodes=2), engine, tp=2)
    assert isinstance(wide, ResolvedPlan)
    assert isinstance(narrow, ResolvedPlan)
    assert wide.max_model_len == narrow.max_model_len


def test_the_way_of_the_cache_is_the_slowest_link_between_the_kinds(make_cluster, engine) -> None:
    near = plan(make_cluster(devices=8), engine, tp=4, prefill={"tp": 4})
    far = plan(make_cluster(devices=8, nodes=2), engine, tp=8, prefill={"tp": 8})
    assert isinstance(near, ResolvedPlan)
    assert isinstance(far, ResolvedPlan)
    assert near.kv_link is not None
    assert far.kv_link is not None
    assert (near.kv_link.inter, far.kv_link.inter.name) == (None, "nic-test")


REFUSED = [
    ({"tp": 8, "prefill": {"tp": 8, "replicas": 2}}, "placement", "take 24 GPUs and do not fit together on 16"),
    ({"tp": 8, "prefill": {"tp": 3}}, "heads", "prefill engines: 64 query heads"),
    ({"tp": 1, "prefill": {"tp": 8}}, "memory", "decode engines: weights"),
]


@pytest.mark.parametrize(("fields", "code", "text"), REFUSED)
def test_what_cannot_run_says_which_kind(make_cluster, engine, fields, code, text) -> None:
    found = plan(make_cluster(nodes=2), engine, **fields)
    assert isinstance(found, Infeasible)
    assert text in {reason.code: reason.message for reason in found.reasons}[code]


def test_kinds_on_several_nodes_need_a_network(make_cluster, engine) -> None:
    found = plan(make_cluster(nodes=2, network=False), engine, tp=8, prefill={"tp": 8})
    assert isinstance(found, Infeasible)
    assert [reason.code for reason in found.reasons] == ["network"]


@given(
    pools=st.lists(st.tuples(st.sampled_from([1, 2, 4, 8]), st.integers(1, 4)), min_size=1, max_size=3),
    domains=st.integers(1, 4),
)
def test_domains_hold_the_pools_exactly_when_sizes_can_be_packed(pools, domains) -> None:
    """Powers of two fill domains of a power of two without gaps, so packing is counting."""
    n_devices = 8 * domains
    asked = [(Placement(tp, 1, 1, 8, 8, n_devices), replicas) for tp, replicas in pools]
    total = sum(tp * replicas for tp, replicas in pools)
    found = domains_for(asked)
    assert found == (-(-total // 8) if total <= n_devices else None)


def test_larger_replicas_take_whole_domains_first() -> None:
    """One replica over two domains and one that shares what is left."""
    spanning, small = Placement(8, 2, 1, 8, 8, 24), Placement(4, 1, 1, 8, 8, 24)
    assert domains_for([(small, 2), (spanning, 1)]) == 3
    assert domains_for([(small, 3), (spanning, 1)]) is None


ROLES = {
    "vllm": ("--kv-transfer-config", "--kv-transfer-config"),
    "sglang": ("--disaggregation-mode prefill", "--disaggregation-mode decode"),
    "trtllm": ("cache_transceiver_config", "cache_transceiver_config"),
}


@pytest.mark.parametrize("name", sorted(ROLES))
def test_launch_commands_say_what_each_engine_does(make_cluster, name) -> None:
    engine, model = load_engine(name), load_model("llama-3.1-70b")
    found = plan(make_cluster(), engine, tp=4, prefill={"tp": 2, "replicas": 2, "kv_memory_frac": 0.9})
    assert isinstance(found, ResolvedPlan)
    text = launch_command(found, model=model, engine=engine)
    first, second = ROLES[name]
    assert first in text.split("to decode")[0]
    assert second in text.split("to decode")[1]
    ports = [word for one, word in itertools.pairwise(text.split()) if one == "--port"]
    assert len(set(ports)) == 3


@given(
    pools=st.lists(st.tuples(st.sampled_from([1, 2, 4, 8, 16]), st.integers(1, 5)), min_size=2, max_size=2),
    domains=st.integers(1, 8),
)
def test_every_replica_has_devices_of_its_own(pools: list[tuple[int, int]], domains: int) -> None:
    """What fits is laid out: no device twice, replicas that fit in a domain inside one, as many domains as counted."""
    placed = [(Placement(1, size, 1, 8, 8, 8 * domains), replicas) for size, replicas in pools]
    used = domains_for(placed)
    if used is None:
        return
    found = devices_for(placed)
    assert [len(of) for of in found] == [replicas for _, replicas in placed]
    flat = [device for of in found for devices in of for device in devices]
    assert len(set(flat)) == len(flat) == sum(size * replicas for size, replicas in pools)
    assert max(flat) < 8 * domains
    for (size, _), of in zip(pools, found, strict=True):
        assert all(len({device // 8 for device in devices}) == max(1, size // 8) for devices in of)
    assert len({device // 8 for device in flat}) == used


@pytest.mark.parametrize("name", sorted(ROLES))
def test_launch_commands_give_every_engine_its_devices_and_ports(make_cluster, name) -> None:
    engine, model = load_engine(name), load_model("llama-3.1-8b")
    tight = {"tp": 2, "replicas": 2, "kv_memory_frac": 0.9}
    found = plan(make_cluster(), engine, **tight, prefill=tight)
    assert isinstance(found, ResolvedPlan)
    text = launch_command(found, model=model, engine=engine)
    masks = [word for word in text.split() if word.startswith("CUDA_VISIBLE_DEVICES=")]
    assert sorted(masks) == [f"CUDA_VISIBLE_DEVICES={i},{i + 1}" for i in (0, 2, 4, 6)]
    sides = {"vllm": "VLLM_NIXL_SIDE_CHANNEL_PORT=", "sglang": "--disaggregation-bootstrap-port ", "trtllm": None}[name]
    if sides is not None:
        ports = [part.split()[0] for part in text.split(sides)[1:]]
        assert len(ports) == len(set(ports)) == (4 if name == "vllm" else 2)


def test_decode_engines_hold_no_prompts_back_but_may_be_told_to(make_cluster) -> None:
    engine = load_engine("trtllm")
    found = plan(make_cluster(), engine, tp=2, dp=2, balance_wait=5, prefill={"tp": 2, "dp": 2, "balance_wait": 9})
    assert isinstance(found, ResolvedPlan)
    assert any("balance_wait" in note for note in found.notes)
    assert "timeout_iters: 9" in launch_command(found, model=load_model("llama-3.1-70b"), engine=engine)
