"""The same rows once more with kernel times of another source, and its errors beside those of the scoreboard.

Start at `with_other_costs`. Rows of training are left out: their kernels have no measured tables. A source that cannot
be had here (an optional package that is absent) is not scored, and the summary says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sim.core import InputError
from sim.costs import TABLES
from sim.hardware import load_device
from sim.validation.batch import Progress
from sim.validation.score import Scoreboard, score


def with_other_costs(
    board: Scoreboard, sources: Sequence[str], *, workers: int = 1, progress: Progress | None = None
) -> Scoreboard:
    """The scoreboard with one of all its serving rows under every source of kernel times in `sources`.

    Args:
        board: The scoreboard.
        sources: `measured`, or paths of kernel measurements of one's own.
        workers: Processes to use.
        progress: Called with (done, total, what).

    Raises:
        InputError: if a source is unknown or its file cannot be read.
    """
    kept = [replace(one, rows=tuple(row for row in one.rows if row.is_serving)) for one in board.datasets]
    serving = [one for one in kept if any(row.scenario for row in one.rows)]
    others: dict[str, Scoreboard | str] = {}
    for source in dict.fromkeys(sources):
        others[source] = _missing(source) or score(
            serving,
            seed=board.seed,
            workers=workers,
            overrides=(*board.overrides, f"costs={source}"),
            progress=progress,
        )
    return replace(board, others=others)


def _missing(source: str) -> str:
    """Why a source that needs an optional package cannot be had; empty if it can, or needs none."""
    if source not in TABLES.names():
        return ""
    try:
        TABLES.get(source)(device=load_device("h100-sxm"), engine="vllm", path="")
    except InputError as error:
        return f"{error.message}: {error.hint}" if error.hint else error.message
    return ""
