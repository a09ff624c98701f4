"""Stands in for the simulation where only the command is under test."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import sim


@dataclass
class FakeResult:
    """A result that saves one file and counts as a run, a search or a comparison."""

    metrics: dict[str, Any] = field(default_factory=lambda: {"slo_attainment_frac": 0.5})
    interrupted: bool = False
    recommended: Any = None

    def to_json(self) -> dict[str, Any]:
        return {"schema_version": 1, "metrics": self.metrics}

    def save(self, folder: Path) -> None:
        (folder / "manifest.json").write_text("new")


@dataclass
class FakeApi:
    """Replaces `sim.load`, `run`, `search` and `compare`; records calls; `action` may raise."""

    result: FakeResult = field(default_factory=FakeResult)
    action: Callable[[], None] = lambda: None
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    slo: Any = None

    def load(self, source: str, *, overrides: Any = ()) -> Any:
        self.calls.append(("load", {"source": source, "overrides": [*overrides]}))
        spec = SimpleNamespace(name="fake", slo=self.slo)
        return SimpleNamespace(root=spec, spec=spec, is_training=False)

    def simulate(self, verb: str) -> Callable[..., FakeResult]:
        def call(_scenario: Any, **options: Any) -> FakeResult:
            self.calls.append((verb, options))
            self.action()
            return self.result

        return call


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    fake = FakeApi()
    monkeypatch.setitem(sim.__dict__, "load", fake.load)
    for verb in ("run", "search", "compare"):
        monkeypatch.setitem(sim.__dict__, verb, fake.simulate(verb))
    return fake
