"""The scoreboard's digest on disk: written beside the page, and read again to hold a later run against it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sim.cli.output import remark
from sim.core import InputError

if TYPE_CHECKING:
    from sim.validation import Scoreboard

NAME: Final = "scoreboard"
REGRESSED: Final = 5


def save_digest(board: Scoreboard, folder: Path) -> None:
    """Writes `scoreboard.json` and `scoreboard.md`."""
    from sim.report import scoreboard_page
    from sim.results import json_text
    from sim.validation import digest

    data = digest(board)
    (folder / f"{NAME}.json").write_text(json_text(data), encoding="utf-8")
    (folder / f"{NAME}.md").write_text(scoreboard_page(data), encoding="utf-8")


def read_digest(path: Path) -> dict[str, Any]:
    """The digest in a file.

    Raises:
        InputError: if it is none.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the stored errors: {error}", file=str(path)) from None
    if not isinstance(data, dict) or "datasets" not in data:
        raise InputError(
            "these are no stored errors", file=str(path), allowed=f"a {NAME}.json of plansim validate --out"
        )
    return data


def judged(board: Scoreboard, before: dict[str, Any]) -> int:
    """The exit code: 5 where an error rose by more than is tolerated, each said on stderr."""
    from sim.validation import digest, regressions

    found = regressions(digest(board), before)
    for one in found:
        remark(f"error: {one}")
    return REGRESSED if found else 0
