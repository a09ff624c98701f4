"""Collectives timed by fitted measurements of the link: NCCL (forms R3, R5) and the engines' own all-reduce (R7).

The forms and parameters are fits to the tables of NVIDIA AIConfigurator core 0.12.0 (median error 2-8 % for R3,
3-12 % for R5, 2-6 % for R7 on CUDA-graph rows); `S` is the buffer, `w = 2(n-1)/n` for all-reduce, else `(n-1)/n`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np

from sim.core import Array
from sim.costs.collectives.base import COLLECTIVES, Timer, wire_factor
from sim.costs.collectives.one_shot import CUSTOM_MAX_BYTES, custom_applies
from sim.hardware import CollectiveCurve, CommGroup, Link

MEASURED_RANKS = 8
"""Ranks of the largest groups in the measurements."""


def pooled_alpha_s(params: Mapping[str, float], ranks: int) -> float:
    """Start-up time [s] of the pooled form, `a0 + a1 (n-1)`; beyond eight ranks it grows with log2 n (trees)."""
    steps = ranks - 1.0 if ranks <= MEASURED_RANKS else (MEASURED_RANKS - 1.0) * math.log2(ranks) / 3.0
    return params["a0_s"] + params["a1_s"] * steps


def boost(b8: float, ranks: int) -> float:
    """Factor on the rate from in-switch reduction: 1 up to four ranks, `b8` from eight, linear between.

    The shape between follows public NVLS results on H200 (4: 363, 5: 414, 6: 436, 7: 460, 8: 473 GB/s).
    """
    return 1.0 + (b8 - 1.0) * min(max((ranks - 4.0) / 4.0, 0.0), 1.0)


def root_form(kind: str, ranks: int, *, alpha_s: float, beta_bytes_per_s: float, sigma: float) -> Timer:
    """Timer of `t = alpha + sigma sqrt(wS) + wS/beta` (R3); `sigma` in s per sqrt(byte)."""
    wire = wire_factor(kind, ranks)
    root, per_byte_s = sigma * math.sqrt(wire), wire / beta_bytes_per_s

    def timer(size_bytes: Array) -> Array:
        return np.asarray(alpha_s + root * np.sqrt(size_bytes) + per_byte_s * size_bytes)

    return timer


def library_curve(link: Link, kind: str, ranks: int) -> CollectiveCurve | None:
    """The curve that times a library collective: these ranks' own, the pooled one, else the nearest rank count's."""
    exact = link.curve(kind, form="R3", ranks=ranks) or link.curve(kind, form="R5")
    if exact is not None:
        return exact
    fitted = [curve for curve in link.collectives.get(kind, ()) if curve.form == "R3" and curve.ranks is not None]
    return min(fitted, key=lambda curve: abs((curve.ranks or 0) - ranks), default=None)


@COLLECTIVES.register("nccl_measured")
class NcclMeasured:
    """Measured NCCL collective of one domain, whatever algorithm NCCL chose (R3 at its ranks, R5 pooled)."""

    library: ClassVar[Literal["nccl", "custom"]] = "nccl"
    measured: ClassVar[bool] = True

    def bind(self, kind: str, group: CommGroup, engine: str) -> Timer | None:
        """A timer of any kind that was measured on the group's link; None across domains."""
        if group.nodes > 1 or group.intra is None or kind == "p2p":
            return None
        curve = library_curve(group.intra, kind, group.ranks)
        if curve is None:
            return None
        params = curve.params
        beta, sigma = params["beta_bytes_per_s"], params["sigma_s_per_sqrt_byte"]
        if curve.form == "R5":
            alpha_s = pooled_alpha_s(params, group.ranks)
            beta *= boost(params["b8"], group.ranks)
        else:
            alpha_s = params["alpha_s"] * _alpha_ratio(group.intra, curve.ranks or group.ranks, group.ranks)
        return root_form(kind, group.ranks, alpha_s=alpha_s, beta_bytes_per_s=beta, sigma=sigma)


@COLLECTIVES.register("custom_measured")
class CustomMeasured:
    """Measured one-kernel all-reduce of an engine (R7) in CUDA graphs: one shot or two.

    The faster of both, or two shots from `switch_bytes` on, half of that over more than four ranks and never over two,
    as engines choose whose kernel came with vLLM (`custom_all_reduce.cuh`); one is no longer than two are there. Where
    the library would be faster, from 0.5 to 8 MiB on B200, it is taken, as `bind_collective` has it; the engines stay.
    """

    library: ClassVar[Literal["nccl", "custom"]] = "custom"
    measured: ClassVar[bool] = True

    def bind(self, kind: str, group: CommGroup, engine: str) -> Timer | None:
        """A timer for all_reduce where the engine has its own kernel and it was measured; otherwise None."""
        if group.intra is None or not custom_applies(kind, group, engine):
            return None
        curve = group.intra.curve(kind, form="R7", engine=engine)
        if curve is None:
            return None
        params, ranks = curve.params, group.ranks
        one_s = params["a1_s"] + params["a1n_s"] * (ranks - 1)
        one_per_byte_s = (ranks - 1) / params["beta1_bytes_per_s"]
        two = root_form(
            kind,
            ranks,
            alpha_s=params["a2_s"],
            beta_bytes_per_s=params["beta2_bytes_per_s"] * boost(params["b8"], ranks),
            sigma=params["sigma_s_per_sqrt_byte"],
        )

        switch = params.get("switch_bytes")
        most_at_once = math.inf if ranks == 2 else (switch or 0.0) / (1.0 if ranks <= 4 else 2.0)
        longest_s = math.inf if ranks == 2 else two(np.asarray(most_at_once))

        def timer(size_bytes: Array) -> Array:
            single, double = one_s + size_bytes * one_per_byte_s, two(size_bytes)
            by_size = np.where(size_bytes < most_at_once, np.minimum(single, longest_s), double)
            chosen = np.minimum(single, double) if switch is None else by_size
            return np.where(size_bytes <= CUSTOM_MAX_BYTES, chosen, np.inf)

        return timer


def _alpha_ratio(link: Link, measured: int, wanted: int) -> float:
    """Start-up time of `wanted` ranks over that of `measured` ones, as the pooled all-reduce curve has it."""
    pooled = link.curve("all_reduce", form="R5")
    if pooled is None or measured == wanted:
        return 1.0
    return pooled_alpha_s(pooled.params, wanted) / pooled_alpha_s(pooled.params, measured)
