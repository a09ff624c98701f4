"""Which source each kernel's times came from, and how far look-ups went beyond what was measured."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal


@dataclass(frozen=True)
class Use:
    """Use of one source for one kernel.

    Attributes:
        source: `measured` or `analytic`.
        table: Measured table, or analytic curve, and where it is from.
        note: Why the analytic curve stands in, or what the table stands in for; empty if nothing does.
        look_ups: Points of compiled cost tables that were looked up in a measured table.
        outside: Those of them that lie outside its grid or layouts, and follow the form scaled as at the nearest edge.
    """

    source: Literal["measured", "analytic"]
    table: str
    note: str = ""
    look_ups: int = 0
    outside: int = 0

    def __str__(self) -> str:
        """The use in one line."""
        beyond = f"; {self.outside} of {self.look_ups} look-ups beyond it" if self.outside else ""
        return f"{self.source}: {self.table}{beyond}" + (f" ({self.note})" if self.note else "")

    def to_json(self) -> dict[str, Any]:
        """The use as plain data."""
        found: dict[str, Any] = {"source": self.source, "table": self.table}
        if self.note:
            found["note"] = self.note
        return found if self.source == "analytic" else {**found, "look_ups": self.look_ups, "outside": self.outside}


def merged(uses: Iterable[dict[str, Use]]) -> dict[str, Use]:
    """Uses of several stages as one: look-ups add up."""
    total: dict[str, Use] = {}
    for one in uses:
        for label, use in one.items():
            known = total.get(label)
            if known is not None:
                use = replace(use, look_ups=known.look_ups + use.look_ups, outside=known.outside + use.outside)
            total[label] = use
    return dict(sorted(total.items()))
