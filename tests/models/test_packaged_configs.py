"""Configs inside the package aiconfigurator-core: each loads, with the size its name says, and as the shipped file."""

import re

import pytest

from sim.core import InputError, data_names
from sim.models import ModelSpec, load_model, packaged_configs, parameter_counts
from sim.models import load as loading
from sim.models.hf import read_config

CONFIGS = packaged_configs()
needs_package = pytest.mark.skipif(not CONFIGS, reason="the extra plansim[measured] (aiconfigurator-core) is absent")

PUBLISHED = {
    "deepseek-v3": 671e9,
    "deepseek-r1": 671e9,
    "deepseek-v4-flash": 284e9,
    "deepseek-v4-pro": 1.6e12,
    "glm-5": 744e9,
    "gpt-oss-120b": 116.8e9,
    "gpt-oss-20b": 20.9e9,
    "kimi-k2": 1.03e12,
    "llama-4-maverick": 400e9,
    "llama-4-scout": 109e9,
    "mimo-v2-flash": 309e9,
    "minimax-m2": 229e9,
    "mixtral-8x22b": 141e9,
    "mixtral-8x7b": 46.7e9,
    "step-3.7-flash": 196e9,
}
"""Totals of model cards where the name has none, by the beginning of the name."""

UNPUBLISHED = ("kimi-k3", "minimax-m3")
"""Models whose size neither their name nor a card known to this project gives."""


def sizes(name: str) -> tuple[float | None, float | None]:
    """Parameters in all and per token that a name or a card gives."""
    short = name.split("/")[1].lower()
    for beginning, total in PUBLISHED.items():
        if short.startswith(beginning):
            return total, None
    total = re.search(r"-(\d+(?:\.\d+)?)b", short)
    active = re.search(r"-a(\d+)b", short)
    return (float(total[1]) * 1e9 if total else None), (float(active[1]) * 1e9 if active else None)


@needs_package
@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_loads_with_the_size_of_its_name(name: str) -> None:
    model = load_model(name)
    counts = parameter_counts(model)
    total, active = sizes(name)
    if total is None:
        assert any(part in name.lower() for part in UNPUBLISHED), f"no published size is known for {name}"
        return
    vision = "-VL-" in name  # names count the vision part, which is left out
    assert counts.total == pytest.approx(total, rel=0.15 if vision else 0.09)
    if active is not None:  # names round down, and some leave the embeddings out
        assert 0.95 * active <= counts.active <= active + 0.7e9 + 0.06 * active + model.vocab_size * model.hidden_size


@needs_package
@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_is_the_model_shipped_under_its_id(name: str) -> None:
    if name.lower() not in loading._names():
        pytest.skip("not shipped")
    imported, shipped = read_config(CONFIGS[name]), load_model(name)
    keep = ("name", "hf_id", "aliases", "checkpoints", "refs", "note", "unknown_fields")
    as_shipped = {field: getattr(shipped, field) for field in keep}
    assert one_by_one(imported.model_copy(update=as_shipped)) == one_by_one(shipped)


def one_by_one(model: ModelSpec) -> ModelSpec:
    layers = [group.model_copy(update={"count": 1}) for group in model.layers for _ in range(group.count)]
    return model.model_copy(update={"layers": tuple(layers)})


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "packaged_configs", dict)
    with pytest.raises(InputError, match=r"plansim\[measured\]"):
        load_model("nobody/nothing-7b")


def test_shipped_names_come_first() -> None:
    for name in data_names("workloads/models"):
        assert load_model(load_model(name).hf_id or name).refs
