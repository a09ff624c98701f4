"""`plansim list`: every kind has items, every column, names that a scenario can use, and fits into a terminal."""

from collections.abc import Callable
from typing import Any

import pytest
from rich.cells import cell_len

from sim.cli.catalogue import KINDS
from sim.core import data_names
from sim.explore import search
from sim.scenario import assemble, load
from tests.conftest import Command

OPTIONAL = {"fp8_flops", "usd_per_device_hour", "bytes_per_s_per_device", "link", "parts", "short", "unit"}
FILES = {
    "devices": "hardware_profiles/devices",
    "links": "hardware_profiles/links",
    "nodes": "hardware_profiles/nodes",
    "clusters": "hardware_profiles/clusters",
    "prices": "hardware_profiles/prices",
    "kernels": "hardware_profiles/kernels",
    "engines": "hardware_profiles/engines",
    "training_engines": "hardware_profiles/training_engines",
    "models": "workloads/models",
    "traffic": "workloads/traffic",
    "scenarios": "scenarios",
}
SCENARIO: dict[str, Any] = {
    "name": "named",
    "model": "llama-3.1-8b",
    "cluster": {"node": "dgx-h100"},
    "workload": {"traffic": "chat-poisson", "requests": 1},
}
IN_A_SCENARIO: dict[str, Callable[[str], dict[str, Any]]] = {
    "models": lambda name: {"model": name},
    "nodes": lambda name: {"cluster": {"node": name}},
    "clusters": lambda name: {"cluster": name},
    "prices": lambda name: {"cluster": {"node": "dgx-h100", "price": name}},
    "engines": lambda name: {"engine": name},
    "traffic": lambda name: {"workload": {"traffic": name, "requests": 1}},
    "routers": lambda name: {"plan": {"router": name}},
    "schedulers": lambda name: {"search": {"space": {"scheduler": name}}},
}


def listed(plansim: Command, kind: str) -> list[dict[str, Any]]:
    done = plansim("list", kind, "--json")
    assert (done.code, done.err) == (0, "")
    document = done.document
    assert (document["schema_version"], document["command"], document["kind"]) == (1, "list", kind)
    items = document["items"]
    assert isinstance(items, list)
    return items


@pytest.mark.parametrize("kind", KINDS)
def test_every_item_has_every_column(kind: str, plansim: Command) -> None:
    items = listed(plansim, kind)
    assert items
    for column in KINDS[kind].columns:
        assert all(column.key in item for item in items)
        empty = [item["name"] for item in items if item[column.key] in (None, "", [])]
        assert len(empty) < len(items), f"no item has {column.key}"
        assert empty == [] or column.key in OPTIONAL
    names = [item["name"] for item in items]
    assert len(set(names)) == len(names)
    assert kind not in FILES or sorted(names) == [*data_names(FILES[kind])]


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_fits_a_narrow_terminal_and_cuts_no_name(
    kind: str, plansim: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [item["name"] for item in listed(plansim, kind)]
    monkeypatch.setenv("COLUMNS", "80")
    done = plansim("list", kind)
    assert (done.code, done.err) == (0, "")
    assert max(map(cell_len, done.out.splitlines())) <= 80
    assert "…" not in done.out
    first_cells = {line.split("│")[1].strip() for line in done.out.splitlines() if line.startswith("│")}
    assert set(names) <= first_cells


def test_what_a_narrow_terminal_hides_is_said(plansim: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert "not shown for lack of room: " in plansim("list", "nodes").out
    monkeypatch.setenv("COLUMNS", "200")
    assert "not shown" not in plansim("list", "nodes").out


def test_a_kind_may_be_named_in_the_singular(plansim: Command) -> None:
    assert plansim("list", "device", "--json").document["kind"] == "devices"


@pytest.mark.parametrize("kind", IN_A_SCENARIO)
def test_listed_names_can_be_used_in_a_scenario(kind: str, plansim: Command) -> None:
    for item in listed(plansim, kind):
        assemble(load({**SCENARIO, **IN_A_SCENARIO[kind](item["name"])}), seed=0)


@pytest.mark.parametrize("kind", ["metrics", "algorithms"])
def test_listed_names_can_be_used_in_a_search(kind: str, plansim: Command) -> None:
    space = {"space": {"tp": 3}}  # no plan can run, so nothing is simulated
    for item in listed(plansim, kind):
        part = f".{item['parts'][0]}" if item.get("parts") else ""
        names = [item["name"] + part, *item.get("short", ())] if kind == "metrics" else [item["name"]]
        for name in names:
            chosen = {"objectives": [f"+{name}"]} if kind == "metrics" else {"algorithm": name}
            found = search(load({**SCENARIO, "slo": {"ttft": 1.0}, "search": {**space, **chosen}}))
            assert found.recommended is None
