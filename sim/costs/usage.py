"""Which source each kernel's times came from, and how far look-ups went beyond what was measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

_IN_PART: Final = ", in part"


@dataclass(frozen=True)
class Use:
    """Use of one source for one kernel.

    Attributes:
        source: `measured` or `analytic`.
        table: Measured table, or analytic curve, and where it is from.
        note: Why the analytic curve stands in, or what the table stands in for; empty if nothing does.
        look_ups: Points of compiled cost tables that were looked up in a measured table.
        outside: Those of them that lie outside its grid or layouts, and follow the form scaled as at the nearest edge.
        doubt: Why the table is unlikely to be of this device and in its unit; empty if it may be.
        operators: Operators of a stage or pool that asked tables for their time, and had this answer.
    """

    source: Literal["measured", "analytic"]
    table: str
    note: str = ""
    look_ups: int = 0
    outside: int = 0
    operators: int = 0
    doubt: str = ""

    def __str__(self) -> str:
        """The use in one line."""
        beyond = f"; {self.outside} of {self.look_ups} look-ups beyond it" if self.outside else ""
        return f"{self.source}: {self.table}{beyond}" + (f" ({self.note})" if self.note else "")

    def to_json(self) -> dict[str, Any]:
        """The use as plain data."""
        found: dict[str, Any] = {"source": self.source, "table": self.table}
        if self.note:
            found["note"] = self.note
        if self.doubt:
            found["doubt"] = self.doubt
        return found if self.source == "analytic" else {**found, "look_ups": self.look_ups, "outside": self.outside}

    def plus(self, other: Use) -> Use:
        """Both uses of the same source: look-ups add up, tables and notes that differ stand beside each other."""
        return Use(
            self.source,
            _joined(self.table, other.table),
            _joined(self.note, other.note),
            self.look_ups + other.look_ups,
            self.outside + other.outside,
            self.operators + other.operators,
            self.doubt or other.doubt,
        )


def merged(uses: Iterable[Mapping[str, Use]]) -> dict[str, Use]:
    """Uses of several operators, stages or pools as one.

    Where a kernel is measured for some and analytic for others with a reason, the latter is `<kernel>, in part`.
    """
    found: dict[str, dict[str, Use]] = {"measured": {}, "analytic": {}}
    for one in uses:
        for label, use in one.items():
            kernel, same = label.removesuffix(_IN_PART), found[use.source]
            same[kernel] = same[kernel].plus(use) if kernel in same else use
    total = dict(found["measured"])
    for label, use in found["analytic"].items():
        if label not in total:
            total[label] = use
        elif use.note:
            total[label + _IN_PART] = use
    return dict(sorted(total.items()))


def _joined(first: str, second: str) -> str:
    return "; ".join(dict.fromkeys(part for text in (first, second) if text for part in text.split("; ")))
