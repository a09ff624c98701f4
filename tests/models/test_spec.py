"""Model files: what they may say, number formats, and finding a model by name."""

from pathlib import Path

import jsonschema
import pytest

from sim.core import InputError, load_yaml
from sim.models import (
    ALIASES,
    FORMATS,
    ModelSpec,
    attention_flops_per_key,
    bytes_per_element,
    canonical_dtype,
    load_model,
    model_flops_per_token,
    parameter_counts,
)

TINY = """
name: tiny
hidden_size: 64
vocab_size: 128
max_position_embeddings: 256
layers:
  - repeat: 2
    groups:
      - count: 1
        attention: {kind: gqa, heads: 4, kv_heads: 2, head_dim: 16, window: 32}
        ffn: {kind: dense, intermediate: 128}
      - {count: 2, attention: {kind: gqa, heads: 4, kv_heads: 2, head_dim: 16}, ffn: {kind: dense, intermediate: 128}}
"""


def _load(folder: Path, text: str) -> ModelSpec:
    path = folder / "tiny.yaml"
    path.write_text(text, encoding="utf-8")
    return load_model(str(path))


def test_groups_repeat(tmp_path: Path) -> None:
    model = _load(tmp_path, TINY)
    assert [(group.count, group.attention.window) for group in model.layers] == [(1, 32), (2, None)] * 2
    assert model.n_layers == 6
    assert "6 layers" in repr(model)
    assert not model.is_moe


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("repeat: 2", "repeat: 0", "repeat is a positive integer, not 0"),
        ("    groups:", "    group:", "expected {repeat: N, groups"),
        ("count: 2", "count: 0", "greater than 0"),
        ("name: tiny", "name: tiny\nweights_dtype: fp9", "unknown number format 'fp9'; did you mean 'fp8'"),
        ("vocab_size: 128", "vocab: 128", "vocab"),
        ("kv_heads: 2", "kv_heads: 3", "4 query heads do not divide into 3 KV heads"),
    ],
)
def test_mistakes_in_a_file(tmp_path: Path, old: str, new: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        _load(tmp_path, TINY.replace(old, new))
    assert words in str(caught.value)
    assert "tiny.yaml" in str(caught.value)


def test_a_layer_has_at_least_one_block(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a layer has attention, a feed-forward block or both"):
        _load(tmp_path, TINY + "  - {count: 1}\n")


def test_schema_takes_repeated_groups(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY, encoding="utf-8")
    data = load_yaml(tmp_path / "tiny.yaml").data
    validator = jsonschema.Draft202012Validator(ModelSpec.model_json_schema())
    assert not list(validator.iter_errors(data))
    assert list(validator.iter_errors({**data, "layers": [{"repeat": 2}]}))


def test_unknown_model_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"unknown model 'llama-3\.1-70'; did you mean 'llama-3\.1-70b'\?"):
        load_model("llama-3.1-70")
    assert load_model("META-LLAMA/llama-3.1-70b-instruct").name == "llama-3.1-70b"
    assert load_model("llama-3.3-70b").name == "llama-3.1-70b"


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("bf16", 2.0),
        ("fp8", 1.0),
        ("fp8_block", 1 + 4 / 16384),
        ("int4", 0.5 + 2 / 128),
        ("mxfp4", 0.5 + 1 / 32),
        ("nvfp4", 0.5 + 1 / 16),
        ("int4_wo", 0.5 + 2 / 128),
        ("FP4", 0.5 + 1 / 16),
    ],
)
def test_bytes_with_scales(dtype: str, expected: float) -> None:
    assert bytes_per_element(dtype) == expected


def test_aliases_are_no_formats_and_lead_to_one() -> None:
    assert not set(ALIASES) & set(FORMATS)
    assert set(ALIASES.values()) <= set(FORMATS)
    assert canonical_dtype("bfloat16") == "bf16"
    with pytest.raises(InputError, match="unknown number format 'fp5'"):
        canonical_dtype("fp5")


def test_parts_add_up_to_the_total() -> None:
    for name in ("llama-3.1-8b", "deepseek-v3", "gpt-oss-120b", "opt-13b", "gemma-2-9b"):
        c = parameter_counts(load_model(name))
        assert c.embedding + c.lm_head + c.attention + c.ffn + c.experts + c.norms == c.total
        assert c.active <= c.total


def test_flops_of_llama_70b() -> None:
    """Two per weight without embedding and norms; 4 h d per key and layer."""
    model = load_model("llama-3.1-70b")
    per_token, per_row = model_flops_per_token(model)
    counts = parameter_counts(model)
    assert per_token + per_row == 2.0 * (counts.total - counts.embedding - counts.norms)
    assert attention_flops_per_key(model) == 80 * 4 * 64 * 128
