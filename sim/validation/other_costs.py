"""The same rows once more with kernel times of another source, and its errors beside those of the scoreboard.

Start at `with_other_costs`. Rows of training are left out: their kernels have no measured tables. A source that cannot
be had here (an optional package that is absent) is not scored, and the summary says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from sim.core import InputError
from sim.costs import TABLES
from sim.hardware import load_device
from sim.validation.batch import Progress
from sim.validation.datasets import Dataset
from sim.validation.predict import Prediction
from sim.validation.rows import MeasuredRow
from sim.validation.score import Scoreboard, score
from sim.validation.summary import errors_of

_GROUPS: Final = ("engine", "system", "model")


def with_other_costs(
    board: Scoreboard, sources: Sequence[str], *, workers: int = 1, progress: Progress | None = None
) -> Scoreboard:
    """The scoreboard with the errors of all its serving rows under every source of kernel times in `sources`.

    Args:
        board: The scoreboard.
        sources: `measured`, or paths of kernel measurements of one's own.
        workers: Processes to use.
        progress: Called with (done, total, what).

    Raises:
        InputError: if a source is unknown or its file cannot be read.
    """
    found: dict[str, dict[str, Any]] = {}
    for source in dict.fromkeys(sources):
        for dataset in board.datasets:
            rows = tuple(row for row in dataset.rows if _is_serving(row))
            if not any(row.scenario for row in rows):
                continue
            serving = replace(dataset, rows=rows)
            one = _missing(source)
            found.setdefault(dataset.name, {})[source] = (
                {"reason": one} if one else _scored(serving, source, board, workers, progress)
            )
    return replace(board, other_costs=found)


def _is_serving(row: MeasuredRow) -> bool:
    return row.scenario is None or row.scenario["workload"].get("kind") != "training"


def _missing(source: str) -> str:
    """Why a source that needs an optional package cannot be had; empty if it can, or needs none."""
    if source not in TABLES.names():
        return ""
    try:
        TABLES.get(source)(device=load_device("h100-sxm"), engine="vllm", path="")
    except InputError as error:
        return f"{error.message}: {error.hint}" if error.hint else error.message
    return ""


def _scored(
    dataset: Dataset, source: str, board: Scoreboard, workers: int, progress: Progress | None
) -> dict[str, Any]:
    """Errors in all and by group, and which share of the operators that asked for tables had them."""
    overrides = (*board.overrides, f"costs={source}")
    scored = score([dataset], seed=board.seed, workers=workers, overrides=overrides, progress=progress)
    (entries,), (predictions,) = scored.entries, scored.predictions
    weights = {row.id: row.weight for row in dataset.rows}
    labels = {name: [row.groups.get(name, "") for row in dataset.rows] for name in _GROUPS}

    def part(kept: Sequence[bool]) -> dict[str, Any]:
        inside = [one for one, keep in zip(predictions, kept, strict=True) if keep]
        errors = errors_of([own for own, keep in zip(entries, kept, strict=True) if keep], weights)
        return {**errors, **_from_tables(inside)}

    return {
        **part([True] * len(dataset.rows)),
        "by": {
            group: {name: part([one == name for one in own]) for name in sorted(set(own))}
            for group, own in labels.items()
        },
    }


def _from_tables(predictions: Sequence[Prediction]) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    for one in predictions:
        counts.update(one.operators)
    asked = sum(counts.values())
    return {"operators": asked, "from_tables_frac": counts["measured"] / asked if asked else None}
