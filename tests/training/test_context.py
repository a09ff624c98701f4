"""What context-parallel ranks send obeys the law of its kind; what they compute does not depend on it."""

from __future__ import annotations

from typing import Any

import pytest

from sim.models import GQA, Collective, load_model
from sim.training import TrainingStep
from sim.training.analytic import Screen
from sim.training.context import exchanges, shown_s
from sim.training.shape import WorkShape
from tests.training.builders import gpt, resolved, step_of

S, HEADS, KV, D = 65536, 32, 8, 128
ATTENTION = GQA(heads=HEADS, kv_heads=KV, head_dim=D)
KINDS = ("all_gather", "ring", "token_ring", "ulysses")
GIVEN: dict[str, Any] = {"node": "dgx-h100", "engine": "megatron-lm", "batch": 8}


def sent_bytes(kind: Any, cp: int, *, attention: GQA = ATTENTION, backward: bool = False) -> float:
    """Bytes that a rank sends in one layer's pass over one sequence, the busier way of two."""
    found = 0.0
    for one in exchanges(attention, WorkShape(micro_batch=1, sequence=S, cp=cp, cp_kind=kind))[backward]:
        assert isinstance(one, Collective)
        share = 1.0 if one.kind == "p2p" else (cp - 1) / cp
        found += share * float(one.buffer_bytes) * one.count
    return found


@pytest.mark.parametrize("cp", [2, 4, 8])
@pytest.mark.parametrize("kind", ["all_gather", "ring"])
def test_keys_and_values_of_all_others_pass_every_rank(kind: str, cp: int) -> None:
    whole = 2.0 * S * KV * 2 * D
    assert sent_bytes(kind, cp) == pytest.approx((cp - 1) / cp * whole)
    assert sent_bytes(kind, cp, backward=True) == pytest.approx(2.0 * (cp - 1) / cp * whole)


@pytest.mark.parametrize("cp", [2, 4, 8])
def test_ulysses_sends_a_share_that_falls_with_the_ranks(cp: int) -> None:
    """(n-1)/n of the queries, keys, values and results of a rank's own tokens (arXiv 2309.14509, section 3.2)."""
    own = 2.0 * S / cp * (HEADS * D + 2 * KV * D + HEADS * D)
    assert sent_bytes("ulysses", cp) == pytest.approx((cp - 1) / cp * own)
    assert sent_bytes("ulysses", cp, backward=True) == pytest.approx(sent_bytes("ulysses", cp))


def test_ulysses_copies_kv_heads_where_there_are_fewer_than_ranks() -> None:
    one = GQA(heads=HEADS, kv_heads=1, head_dim=D)
    own = 2.0 * S / 8 * (2 * HEADS * D + 8 * 2 * D)
    assert sent_bytes("ulysses", 8, attention=one) == pytest.approx(7 / 8 * own)


def test_token_ring_sends_less_than_a_ring_where_every_head_has_keys_of_its_own() -> None:
    """Queries one way and results the other are half of keys and values (arXiv 2412.20501); with few KV heads more."""
    every = GQA(heads=HEADS, kv_heads=HEADS, head_dim=D)
    ratio = sent_bytes("token_ring", 4, attention=every) / sent_bytes("ring", 4, attention=every)
    assert ratio == pytest.approx(0.5 * (1.0 + 4.0 / (2.0 * D)))
    assert sent_bytes("token_ring", 4) > sent_bytes("ring", 4)


def test_nothing_is_exchanged_by_one_rank() -> None:
    for kind in KINDS:
        assert sent_bytes(kind, 1) == 0.0


@pytest.mark.parametrize(
    ("comm_s", "attention_s", "expected"), [(1.0, 8.0, 0.1), (8.0, 4.0, 5.0), (3.0, 4.0, 0.3), (1.0, 0.0, 1.0)]
)
def test_hops_hide_behind_the_attention_to_other_blocks(comm_s: float, attention_s: float, expected: float) -> None:
    assert shown_s(comm_s, attention_s=attention_s, ranks=4, taken=0.1) == pytest.approx(expected)


def test_the_kind_changes_what_is_sent_and_not_what_is_computed() -> None:
    model = gpt(layers=4, hidden=4096, heads=32)
    steps = {kind: step_of({"cp": 4, "cp_kind": kind}, model=model, sequence=32768, **GIVEN) for kind in KINDS}
    flops = [step.times.hardware_flops for step in steps.values()]
    assert flops == pytest.approx([flops[0]] * 4, rel=1e-3)
    sent = {kind: step.times.parts_s["cp_comm"] for kind, step in steps.items()}
    assert sent["ring"] < sent["all_gather"]
    assert sent["ulysses"] < sent["all_gather"]
    for step in steps.values():
        assert sum(step.times.parts_s.values()) == pytest.approx(step.times.step_s, rel=1e-12)


def test_ulysses_needs_heads_for_all_its_ranks() -> None:
    reasons, _ = resolved({"tp": 4, "cp": 2, "cp_kind": "ulysses"}, model=gpt(layers=2, hidden=1024, heads=4), **GIVEN)
    assert reasons[0].code == "context_parallel"
    assert "the nearest cp are 1" in reasons[0].message


@pytest.mark.parametrize("kind", KINDS)
def test_the_screen_knows_the_kind(kind: str) -> None:
    model = load_model("llama-3-8b")
    found, things = resolved({"cp": 4, "tp": 2, "cp_kind": kind}, model=model, gpus=16, sequence=32768, **GIVEN)
    step = TrainingStep(plan=found, **things)
    assert Screen(**things).estimate([found]).step_s[0] == pytest.approx(step.step_s, rel=0.05)
