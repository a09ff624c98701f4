"""All-reduces that take in the norms behind them: where engines have them, how they are asked for."""

from __future__ import annotations

import math
from typing import Any

import pytest

from sim.core import InfeasibleError
from sim.hardware import load_device
from sim.models import load_model
from sim.plans import Placement, fused_bytes, load_engine
from tests.plans.test_launch import command


@pytest.mark.parametrize(
    ("engine", "model", "fields", "device", "most"),
    [
        ("vllm", "llama-3.1-70b", {"tp": 8}, "h100-sxm", 2.0**19),
        ("vllm", "llama-3.1-70b", {"tp": 4}, "b200-sxm", 2.0**25),
        ("vllm", "llama-3.1-70b", {"tp": 8, "asked": False}, "h100-sxm", 0.0),
        ("vllm", "llama-3.1-70b", {"tp": 8}, "a100-80-sxm", 0.0),
        ("vllm", "llama-3.1-70b", {"tp": 4, "pp": 2}, "h100-sxm", 0.0),
        ("vllm", "deepseek-v3", {"tp": 4, "dp": 2}, "h100-sxm", 0.0),
        ("vllm-0.15", "llama-3.1-70b", {"tp": 8}, "h100-sxm", 0.0),
        ("vllm-0.15", "llama-3.1-70b", {"tp": 8, "asked": True}, "h100-sxm", 2.0**19),
        ("vllm", "llama-3.1-70b", {"tp": 8, "node": 4}, "gb200", 0.0),
        ("sglang", "llama-3.1-70b", {"tp": 8}, "h100-sxm", 0.0),
        ("sglang", "deepseek-v3", {"tp": 8, "node": 4}, "gb200", 0.0),
        ("sglang", "deepseek-v3", {"tp": 4, "pp": 2}, "h100-sxm", 2048 * 2 * 7168),
        ("sglang", "deepseek-v3", {"tp": 8}, "h100-sxm", 2048 * 2 * 7168),
        ("trtllm", "llama-3.1-70b", {"tp": 8}, "h100-sxm", math.inf),
        ("trtllm", "llama-3.1-70b", {"tp": 1}, "h100-sxm", 0.0),
    ],
)
def test_engines_fuse_all_reduces_where_they_say(
    engine: str, model: str, fields: dict[str, Any], device: str, most: float
) -> None:
    """vLLM since 0.17, on Hopper and Blackwell, one node and without other ranks; SGLang for some models."""
    ranks = {"tp": 1, "pp": 1, "dp": 1, "node": 8, "asked": None} | fields
    placement = Placement(ranks["tp"], ranks["dp"], ranks["pp"], 8, ranks["node"], 8)
    found = fused_bytes(load_engine(engine), load_model(model), load_device(device), placement, asked=ranks["asked"])
    assert found == most


@pytest.mark.parametrize(
    ("engine", "on", "off"),
    [
        ("vllm", '{"pass_config": {"fuse_allreduce_rms": true}}', '{"pass_config": {"fuse_allreduce_rms": false}}'),
        ("sglang", "--enable-flashinfer-allreduce-fusion", "--enforce-disable-flashinfer-allreduce-fusion"),
    ],
)
def test_it_is_asked_for_by_flags(make_cluster, engine: str, on: str, off: str) -> None:  # type: ignore[no-untyped-def]
    texts = {
        asked: command(
            {"tp": 2, **({} if asked is None else {"fuse_all_reduce": asked})},
            "llama-3.1-8b",
            load_engine(engine),
            make_cluster(name="h100-test"),
        )
        for asked in (None, True, False)
    }
    assert on in texts[True]
    assert off in texts[False]
    assert "fuse" not in texts[None]
    assert "fusion" not in texts[None]


@pytest.mark.parametrize(
    ("engine", "device", "fields", "why"),
    [
        ("trtllm", "h100-test", {"fuse_all_reduce": True}, "trtllm cannot be told what its all-reduces take in"),
        (
            "vllm",
            "a100-test",
            {"fuse_all_reduce": True},
            "vllm has no all-reduce with a norm over tp 2, pp 1, dp 1 on a100-test",
        ),
        ("vllm", "h100-test", {"fuse_all_reduce": True, "pp": 2}, "over tp 2, pp 2, dp 1 on"),
    ],
)
def test_what_cannot_be_told_is_refused(  # type: ignore[no-untyped-def]
    make_cluster, engine: str, device: str, fields: dict[str, Any], why: str
) -> None:
    with pytest.raises(InfeasibleError, match=why):
        command({"tp": 2, **fields}, "llama-3.1-8b", load_engine(engine), make_cluster(name=device))
