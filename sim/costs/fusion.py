"""What an engine's kernels do together, or beside each other on a second stream."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sim.core import Array
from sim.costs.cost import OpCost


@dataclass(frozen=True)
class Fusion:
    """Kernels of an engine that take in work of others.

    Attributes:
        within_attention: Names of streaming operators that the attention kernel does as well; they cost nothing more,
            since its time was measured with them.
        norm_bytes: Largest buffer [B] of an all-reduce that does the norm behind it as well: what that moves counts, a
            launch of its own does not.
        norm_kernel: Family of engines whose kernel such an all-reduce is; empty, the engine's own.
        side_stream: Whether operators on a side stream run beside those of the main one.
        side_tokens: Most tokens with which they do; an engine computes more one after the other.
        one_attention: Whether attention of prompts and decodes is one launch of FlashAttention, whose version 2 leaves
            decodes unpacked beside prompts and blocks unequal (`mixed_rows` and `tail` of its curves).
        copies_states: Whether the recurrent state behind the last draft that holds is copied to where the next step
            looks for it; otherwise that step reads it where it is.
        one_qk_norm: Whether queries and keys are normed in one kernel.
        absorbed_fp8: Whether absorbed projections of latent attention stay in the FP8 blocks of their checkpoint, for
            which inputs are quantised and results copied in kernels of their own; otherwise engines turn them back
            into the format of the model.
        drafts_apart: Whether thread blocks of latent attention take one token each where drafts are verified, which is
            priced as so many sequences; otherwise tokens of a sequence are folded into its heads.
    """

    within_attention: frozenset[str] = frozenset()
    norm_bytes: float = 0.0
    norm_kernel: str = ""
    side_stream: bool = False
    side_tokens: float = math.inf
    one_attention: bool = False
    copies_states: bool = False
    one_qk_norm: bool = False
    absorbed_fp8: bool = False
    drafts_apart: bool = False


NO_FUSION = Fusion()
"""Every operator is a kernel of its own, one after the other."""


def side_by_side_share(members: Sequence[tuple[bool, OpCost]]) -> Array:
    """Time of a block of operators on two streams over their times one after the other, 0 to 1.

    The block lasts as long as the longer stream, but no less than what all of its operators ask of one resource:
    neither arithmetic, memory nor links get faster by being shared. `max(main, side, sum compute, sum memory,
    sum network)`, at most the sum, which is what two streams that saturate the same resource take.

    Args:
        members: For each operator whether it is on the side stream, and its cost.
    """
    serial_s = sum((cost.time_s for _, cost in members), np.asarray(0.0))
    side_s = sum((cost.time_s for aside, cost in members if aside), np.asarray(0.0))
    resources = zip(*((cost.compute_s, cost.memory_s, cost.network_s) for _, cost in members), strict=True)
    demands_s = [sum(parts, np.asarray(0.0)) for parts in resources]
    joint_s = np.minimum(np.maximum.reduce(np.broadcast_arrays(side_s, serial_s - side_s, *demands_s)), serial_s)
    return np.asarray(np.divide(joint_s, serial_s, out=np.ones_like(serial_s), where=serial_s > 0.0))
