"""The exchange between experts: what engines' kernels take on links where they were measured."""

import numpy as np
import pytest

from sim.costs import bind_collective
from sim.hardware import load_cluster

MEASURED = [
    (32, 256, 32.8e-6, 68.5e-6),
    (8, 2048, 107.1e-6, 351.1e-6),
    (16, 16, 19.3e-6, 28.0e-6),
]


@pytest.mark.parametrize(("ranks", "tokens", "dispatch_s", "combine_s"), MEASURED)
def test_kernel_times_are_near_those_of_the_table(ranks: int, tokens: int, dispatch_s: float, combine_s: float) -> None:
    """`NVLinkOneSided` on GB200, NVFP4 out and 16 bit back, eight experts a token spread evenly: within a third."""
    bound = bind_collective("all_to_all", load_cluster("gb200-nvl72-1").group(range(ranks)), engine="trtllm")
    copies = tokens * min(ranks, 8) * 7168
    for size, measured in ((copies * 0.5625, dispatch_s), (copies * 2.0, combine_s)):
        assert float(bound.time_s(np.asarray(size))) == pytest.approx(measured, rel=0.33)


def test_only_one_domain_has_the_kernel() -> None:
    """Across racks the library's pairwise exchange is left, over the network."""
    cluster = load_cluster("gb200-nvl72-8")
    inside = bind_collective("all_to_all", cluster.group(range(16)), engine="trtllm")
    across = bind_collective("all_to_all", cluster.group([*range(8), *range(72, 80)]), engine="trtllm")
    assert "expert_exchange" in inside.names
    assert "expert_exchange" not in across.names
    size = np.asarray(32e6)
    assert float(across.time_s(size)) > 3.0 * float(inside.time_s(size))
