"""Reads files of published claims and checks that the names in them mean something."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from sim.core import InputError, YamlDocument, build_spec, data_names, data_root, did_you_mean, load_yaml
from sim.results import METRICS
from sim.scenario import Scenario, load
from sim.training import CAUSES, RankMemory
from sim.validation.claims.spec import ClaimsSpec
from sim.validation.flop_rates import DEFINITIONS

FOLDER: Final = "scenarios/published"
MEMORY: Final = "memory."
"""Beginning of a metric path that means a class of the fullest device's memory."""
SECONDS: Final = "seconds."
"""Beginning of a metric path that means the exposed seconds of a training step by cause."""
_CLASSES: Final = tuple(f"{MEMORY}{field.name}" for field in fields(RankMemory))


@dataclass(frozen=True)
class Claims:
    """A checked file of claims.

    Attributes:
        spec: The data.
        document: The data as written, with lines.
        overrides: Texts `a.b=value` that replace values of every run.
    """

    spec: ClaimsSpec
    document: YamlDocument
    overrides: tuple[str, ...] = ()

    def scenario(self, run: str) -> Scenario:
        """The scenario of one of the runs.

        Raises:
            InputError: if it is no valid scenario; says which run of which file.
        """
        data: dict[str, Any] = {"name": self.spec.name, **copy.deepcopy(self.spec.scenario)}
        with self.errors_at(run):
            for path, value in self.changes(run).items():
                _set(data, path, value)
            return load(data, overrides=self.overrides)

    def changes(self, run: str) -> Mapping[str, Any]:
        """Values that a run replaces, with those of the runs it is like."""
        own = self.spec.runs[run]
        return {**(self.changes(own.like) if own.like else {}), **own.set}

    @contextmanager
    def errors_at(self, run: str) -> Iterator[None]:
        """An `InputError` raised inside says that this run is at fault, unless another file or an option is."""
        try:
            yield
        except InputError as error:
            if error.file is None or error.file.startswith("<"):
                error.file, error.line = self.document.path, self.document.line_of(("runs", run))
                error.path = f"runs.{run}" + (f" {error.path}" if error.path else "")
            raise


def load_claims(source: str | Path, *, overrides: Sequence[str] = ()) -> Claims:
    """The claims in a file, or those of a shipped one by its name.

    Args:
        source: Path of a YAML file, or name of a shipped one.
        overrides: Texts `a.b=value` that replace values in the scenario of every run.

    Raises:
        InputError: for anything unreadable or unknown, with file, line, value and what is allowed.
    """
    document = load_yaml(_find(source))
    spec = build_spec(ClaimsSpec, document)
    _check_names(spec, document)
    return Claims(spec, document, tuple(overrides))


def claim_names() -> tuple[str, ...]:
    """Names of the shipped files of claims."""
    return data_names(FOLDER)


def _find(source: str | Path) -> Path:
    path = Path(source)
    if path.is_file():
        return path
    if path.suffix or str(source) not in claim_names():
        raise InputError(
            f"no such claims {str(source)!r}{did_you_mean(path.stem, claim_names())}", hint="plansim list claims"
        )
    return data_root() / FOLDER / f"{source}.yaml"


def _set(data: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    here = data
    for depth, key in enumerate(parents):
        here = here.setdefault(key, {})
        if not isinstance(here, dict):
            raise InputError(f"{'.'.join(parents[: depth + 1])!r} is a value, not a mapping of keys", path=path)
    here[last] = copy.deepcopy(value)


def _check_names(spec: ClaimsSpec, document: YamlDocument) -> None:
    """Every name refers to something, and no two expectations share one.

    Raises:
        InputError: for the first that does not, with its line.
    """

    def known(value: str | None, choices: Iterable[str], what: str, *at: str | int) -> None:
        allowed = list(choices)
        if value is not None and value not in allowed:
            raise InputError(
                f"unknown {what} {value!r}{did_you_mean(value, allowed)}",
                file=document.path,
                line=document.line_of(at),
                path=".".join(map(str, at)),
                allowed=allowed,
            )

    for name, run in spec.runs.items():
        known(run.like, [*spec.runs][: [*spec.runs].index(name)], "earlier run", "runs", name, "like")
    for i, one in enumerate(spec.expect):
        at = ("expect", i)
        known(one.run, spec.runs, "run", *at, "run")
        known(one.over, spec.runs, "baseline run", *at, "over")
        known(one.evidence, spec.evidence, "evidence", *at, "evidence")
        if one.metric is not None:
            head = one.metric if one.metric.startswith((MEMORY, SECONDS)) else one.metric.partition(".")[0]
            causes = [f"{SECONDS}{cause}" for cause in CAUSES]
            known(head, [*METRICS, *_CLASSES, *causes], "metric", *at, "metric")
        known(one.flops, DEFINITIONS, "definition of FLOPs", *at, "flops")
        if one.without is not None:
            known(one.without.run, spec.runs, "run", *at, "without", "run")
            known(one.without.over, spec.runs, "baseline run", *at, "without", "over")
    names = [one.name for one in spec.expect]
    for i, order in enumerate(spec.orders):
        known(order.evidence, spec.evidence, "evidence", "orders", i, "evidence")
        for name in order.of:
            known(name, names, "claim", "orders", i, "of")
    _check_distinct([*names, *(order.name for order in spec.orders)], document)


def _check_distinct(names: Sequence[str], document: YamlDocument) -> None:
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise InputError(f"two claims are called {twice[0]!r}", file=document.path, line=document.line_of(("expect",)))
