"""The caching allocator: sizes of segments, what is split and joined, and what fragmentation costs."""

from __future__ import annotations

import random
from typing import Any

import pytest

from sim.models import load_model
from sim.training import peak_reserved_bytes
from sim.training.allocator import MIB, CachingAllocator
from sim.training.memory import available_bytes
from sim.training.reserved import cut, replayed_memory
from tests.training.builders import gpt, step_of


def allocator(**changes: object) -> CachingAllocator:
    return CachingAllocator(**{"capacity_bytes": 1e12, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size", "allocated", "reserved"),
    [
        (1, 512, 2 * MIB),
        (513, 1024, 2 * MIB),
        (MIB, MIB, 2 * MIB),
        (MIB + 1, MIB + 512, 20 * MIB),
        (10 * MIB - 512, 10 * MIB - 512, 20 * MIB),
        (10 * MIB, 10 * MIB, 10 * MIB),
        (21 * MIB + 5, 22 * MIB, 22 * MIB),
    ],
)
def test_requests_are_rounded_and_segments_by_size(size: int, allocated: int, reserved: int) -> None:
    """What is left of a large block is split off from 1 MiB on only, so 21 MiB and 5 bytes keep 22."""
    one = allocator()
    one.allocate(size)
    assert (one.allocated_bytes, one.reserved_bytes) == (allocated, reserved)


def test_neighbours_join_and_are_used_again() -> None:
    one = allocator()
    first, second, third = (one.allocate(6 * MIB) for _ in range(3))
    assert one.reserved_bytes == 20 * MIB
    one.free(first)
    one.free(third)
    one.free(second)
    one.allocate(18 * MIB)
    assert one.reserved_bytes == 20 * MIB


def test_holes_cost_a_segment_unless_segments_expand() -> None:
    """Every second block of 40 MiB freed, then 80 MiB asked for: the holes do not fit."""
    reserved = []
    for expandable in (False, True):
        one = allocator(expandable=expandable)
        blocks = [one.allocate(40 * MIB) for _ in range(8)]
        for block in blocks[::2]:
            one.free(block)
        one.allocate(80 * MIB)
        assert one.reserved_bytes >= 400 * MIB
        one.free(blocks[1])
        one.allocate(120 * MIB)
        reserved.append(one.reserved_bytes)
    assert reserved == [520 * MIB, 400 * MIB]


def test_free_segments_go_back_when_the_device_is_full() -> None:
    one = allocator(capacity_bytes=100 * MIB)
    one.free(one.allocate(60 * MIB))
    one.allocate(80 * MIB)
    assert one.reserved_bytes == 80 * MIB
    assert one.peak_reserved_bytes == 80 * MIB


def test_free_pages_go_back_when_the_device_is_full() -> None:
    """Segments that expand: of 40 + 40 MiB the first are free, and 60 more take the device to its 100, not to 140."""
    one = allocator(capacity_bytes=100 * MIB, expandable=True)
    first, second = one.allocate(40 * MIB), one.allocate(40 * MIB)
    one.free(first)
    one.allocate(60 * MIB)
    assert one.peak_reserved_bytes == one.reserved_bytes == 100 * MIB
    one.free(second)
    one.allocate(30 * MIB)
    assert one.reserved_bytes == 100 * MIB


@pytest.mark.parametrize("capacity", [1e12, 600 * MIB])
@pytest.mark.parametrize("expandable", [False, True])
def test_whatever_is_asked_for_blocks_never_overlap_nor_get_lost(expandable: bool, capacity: float) -> None:
    """Segments hold all that is in use, and once all is free they are whole again."""
    draw, one, held = random.Random(7), allocator(expandable=expandable, capacity_bytes=capacity), []
    for _ in range(4000):
        if held and draw.random() < 0.5:
            one.free(held.pop(draw.randrange(len(held))))
        else:
            held.append(one.allocate(draw.choice((300, 5000, MIB // 2, 3 * MIB, 12 * MIB, 50 * MIB))))
        assert sum(block.size for block in held) == one.allocated_bytes <= one.reserved_bytes
        assert sum(block.size for block in one._blocks.values()) == one.reserved_bytes
    for block in held:
        one.free(block)
    assert one.allocated_bytes == 0
    assert sum(block.size for block in one._blocks.values()) == one.reserved_bytes
    assert all(not block.used for block in one._blocks.values())
    assert all(block.before is None and block.behind is None for block in one._blocks.values())


def test_pieces_add_up() -> None:
    assert cut(10.0, 3.0) == [3.0, 3.0, 3.0, 1.0]
    assert cut(0.0, 3.0) == []
    assert cut(5.0, 0.0) == [5.0]


LLAMA: dict[str, Any] = {"model": load_model("llama-3-8b"), "node": "dgx-h100", "sequence": 8192}


@pytest.mark.parametrize(
    ("plan", "given"),
    [
        ({"tp": 2, "pp": 4, "micro_batch": 2}, {}),
        ({"tp": 1, "pp": 4, "vpp": 2, "recompute": "selective"}, {}),
        ({"tp": 1, "zero": 3, "recompute": "full"}, {}),
        ({"tp": 2, "pp": 4, "schedule": "zb_h1"}, {}),
        ({"pp": 4, "schedule": "dualpipe"}, {}),
        ({"pp": 4, "schedule": "1f1b_vocab_1"}, {}),
        ({"zero": 3, "recompute": "full"}, {**LLAMA, "engine": "torchtitan"}),
        ({"zero": 3, "recompute": "none"}, {**LLAMA, "engine": "torchtitan"}),
        ({"zero": 3, "recompute": "full"}, {**LLAMA, "engine": "deepspeed"}),
    ],
)
def test_the_tensors_of_a_rank_need_what_its_memory_says(plan: dict[str, Any], given: dict[str, Any]) -> None:
    """Replayed, they peak within 6 % of the closed form, and more is reserved than is allocated, but not by half.

    Where layers are gathered, the LM head is too, with the loss beside it.
    """
    model = gpt(layers=16, hidden=4096, heads=32)
    step = step_of(plan, **{"model": model, "batch": 64, "sequence": 2048, **given})
    found, closed = replayed_memory(step), step.peak_memory.allocated_bytes
    assert found.allocated_bytes == pytest.approx(closed, rel=0.06)
    assert found.allocated_bytes < found.reserved_bytes < 1.5 * found.allocated_bytes
    assert closed < peak_reserved_bytes(step) < 1.5 * closed


def test_what_fits_never_reserves_more_than_the_device_has() -> None:
    """Tensors need 74.3 GiB; of the segments around them, 78.9, some go back, for the device has 78.1."""
    given: dict[str, Any] = {"model": load_model("llama-2-7b"), "engine": "fsdp", "node": "dgx-h100", "sequence": 3072}
    step = step_of({"zero": 3, "micro_batch": 5}, batch=40, **given)
    available = available_bytes(step.device, step.engine)
    found, allocated = replayed_memory(step), step.peak_memory.allocated_bytes
    assert allocated < available < allocated + found.reserved_bytes - found.allocated_bytes
    assert peak_reserved_bytes(step) == available
