"""Law 10: parameter counts and cache bytes equal the published sizes."""

import pytest

from sim.core import data_names
from sim.models import kv_bytes_per_token, load_model, parameter_counts, state_bytes_per_sequence

# Exact counts of the checkpoints on Hugging Face (safetensors index or summed shapes).
_EXACT = {
    "llama-2-7b": 6_738_415_616,
    "llama-2-13b": 13_015_864_320,
    "llama-2-70b": 68_976_648_192,
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.1-405b": 405_853_388_800,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "mistral-7b": 7_241_732_096,
    "mixtral-8x7b": 46_702_792_704,
    "mixtral-8x22b": 140_620_634_112,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-72b": 72_706_203_648,
    "qwen3-0.6b": 596_049_920,
    "qwen3-8b": 8_190_735_360,
    "qwen3-32b": 32_762_123_264,
    "qwen3-30b-a3b": 30_532_122_624,
    "qwen3-235b-a22b": 235_093_634_560,
    "yi-34b": 34_388_917_248,
    "mistral-nemo-12b": 12_247_782_400,
    "mistral-small-24b": 23_572_403_200,
    "phi-4": 14_659_507_200,
    "gemma-7b": 8_537_680_896,
    "gemma-2-9b": 9_241_705_984,
    "gemma-2-27b": 27_227_128_320,
    "opt-6.7b": 6_658_473_984,
    "opt-13b": 12_853_473_280,
}
# Rounded figures of papers and model cards: (total, active, relative tolerance).
_ROUNDED = {
    "deepseek-v3": (671e9, 37e9, 0.02),
    "deepseek-v2-lite": (15.7e9, 2.4e9, 0.12),
    "kimi-k2": (1.0e12, 32e9, 0.03),
    "gpt-3-175b": (175e9, 175e9, 0.005),
    "opt-13b": (13e9, 13e9, 0.015),
    "opt-66b": (66e9, 66e9, 0.01),
    "opt-175b": (175e9, 175e9, 0.005),
    "mixtral-8x7b": (46.7e9, 12.9e9, 0.005),
    "mixtral-8x22b": (141e9, 39e9, 0.005),
    "qwen3-30b-a3b": (30.5e9, 3.3e9, 0.02),
    "qwen3-235b-a22b": (235e9, 22e9, 0.01),
    "mistral-large-2": (123e9, 123e9, 0.005),
    "deepseek-v2": (236e9, 21e9, 0.02),
    "qwen3-coder-480b-a35b": (480e9, 35e9, 0.015),
    "glm-4.5": (355e9, 32e9, 0.06),
    "glm-4.5-air": (106e9, 12e9, 0.12),
    "llama-4-scout": (109e9, 17e9, 0.015),
    "gemma-3-27b": (27e9, 27e9, 0.001),
    "llama-4-maverick": (400e9, 17e9, 0.015),
    "qwen3.5-397b-a17b": (397e9, 17e9, 0.025),
    "qwen3.5-122b-a10b": (122e9, 10e9, 0.03),
    "qwen3.5-35b-a3b": (35e9, 3.5e9, 0.02),
    "qwen3.5-27b": (27e9, 27e9, 0.01),
    "minimax-m2.5": (229e9, 10e9, 0.11),
    "glm-5": (744e9, 40e9, 0.05),
    "deepseek-v3.2": (671e9, 37e9, 0.04),
    "deepseek-v4-flash": (284e9, 13e9, 0.07),
    "deepseek-v4-pro": (1.6e12, 49e9, 0.02),
    "kimi-k2.5": (1.0e12, 32e9, 0.03),
    "nemotron-3-nano-30b-a3b": (31.6e9, 3.6e9, 0.01),
    "nemotron-3-super-120b-a12b": (120.6e9, 12.7e9, 0.01),
    "nemotron-3-ultra-550b-a55b": (550e9, 55e9, 0.02),
    "nemotron-h-56b": (56e9, 56e9, 0.01),
    "mimo-v2-flash": (309e9, 15e9, 0.035),
    "gemma-4-26b-a4b": (25.2e9, 3.8e9, 0.01),
    "step-3.7-flash": (196e9, 11e9, 0.02),
}
_KV_BYTES = {
    "llama-2-7b": 524_288,
    "llama-2-13b": 819_200,
    "llama-3.1-8b": 131_072,
    "llama-3-8b": 131_072,
    "llama-3.1-70b": 327_680,
    "llama-2-70b": 327_680,
    "gpt-3-175b": 4_718_592,
    "gpt-oss-120b": 73_728,
    "opt-13b": 819_200,
    "opt-66b": 2_359_296,
    "yi-34b": 245_760,
    "deepseek-v3": 70_272,
    "llama-4-maverick": 196_608,
    "qwen3.5-397b-a17b": 30_720,
    "minimax-m2.5": 253_952,
    "kimi-k2.5": 70_272,
    "nemotron-3-nano-30b-a3b": 6_144,
    "nemotron-h-56b": 40_960,
}
_INDEXED_KV_BYTES = {"deepseek-v3.2": 61 * (576 * 2 + 132), "glm-5": 78 * (576 * 2 + 132)}
"""Latents in 16 bit; an indexer's key has 128 elements of 8 bit and a scale of 4 bytes (DeepSeek-V3.2's code)."""

_STATE_BYTES = {
    "qwen3.5-397b-a17b": 45 * (64 * 128 * 128 * 4 + 3 * (2 * 16 * 128 + 64 * 128) * 2),
    "nemotron-3-nano-30b-a3b": 23 * (64 * 64 * 128 * 4 + 3 * (64 * 64 + 2 * 8 * 128) * 2),
}
"""States in fp32 and the last three inputs of the convolution in 16 bit, from the widths in the configs."""


@pytest.mark.parametrize(("name", "parameters"), _EXACT.items())
def test_exact_parameter_counts(name: str, parameters: int) -> None:
    assert parameter_counts(load_model(name)).total == parameters


@pytest.mark.parametrize(("name", "published"), _ROUNDED.items())
def test_rounded_parameter_counts(name: str, published: tuple[float, float, float]) -> None:
    total, active, tolerance = published
    counts = parameter_counts(load_model(name))
    assert counts.total == pytest.approx(total, rel=tolerance)
    assert counts.active == pytest.approx(active, rel=tolerance)


def test_gpt_oss_counts_as_its_card_does() -> None:
    """The card gives 116.83 B in all and 5.13 B active; active leaves the token embedding out."""
    counts = parameter_counts(load_model("gpt-oss-120b"))
    assert counts.total == pytest.approx(116.83e9, rel=1e-4)
    assert counts.active - counts.embedding == pytest.approx(5.13e9, rel=2e-3)
    counts = parameter_counts(load_model("gpt-oss-20b"))
    assert counts.total == pytest.approx(20.91e9, rel=1e-3)
    assert counts.active - counts.embedding == pytest.approx(3.61e9, rel=2e-3)


@pytest.mark.parametrize(("name", "kv_bytes"), _KV_BYTES.items())
def test_cache_bytes_per_token(name: str, kv_bytes: int) -> None:
    model = load_model(name)
    assert kv_bytes_per_token(model, "bf16") == kv_bytes
    assert kv_bytes_per_token(model, "fp8") == kv_bytes / 2


@pytest.mark.parametrize(("name", "kv_bytes"), _INDEXED_KV_BYTES.items())
def test_cache_with_index_keys(name: str, kv_bytes: int) -> None:
    assert kv_bytes_per_token(load_model(name), "bf16") == kv_bytes


@pytest.mark.parametrize(("name", "state_bytes"), _STATE_BYTES.items())
def test_states_of_recurrent_layers(name: str, state_bytes: int) -> None:
    assert state_bytes_per_sequence(load_model(name)) == state_bytes


@pytest.mark.parametrize("name", data_names("workloads/models"))
def test_every_shipped_model_loads_by_each_of_its_names(name: str) -> None:
    model = load_model(name)
    assert model.name == name
    assert model.refs, "every model names its source"
    for alias in (model.hf_id, *model.aliases):
        assert load_model(alias) == model
    for copy, checkpoint in model.checkpoints.items():
        quantised = load_model(copy)
        assert quantised.hf_id == copy
        assert (quantised.weights_dtype, quantised.quantized) == (checkpoint.weights_dtype, checkpoint.quantized)
        assert quantised.layers == model.layers
