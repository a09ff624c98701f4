"""One measured value beside its prediction."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Entry:
    """A metric of a row, measured and predicted.

    Attributes:
        id: The row.
        metric: Metric path.
        measured: Measured value [SI]; None if the table has none.
        predicted: Predicted value [SI]; None if it could not be predicted.
        low: Lower end of the 90 % interval of a repeat of the measurement; None while unknown.
        high: Its upper end.
        reason: Why there is no prediction; empty where there is one.
    """

    id: str
    metric: str
    measured: float | None
    predicted: float | None
    low: float | None = None
    high: float | None = None
    reason: str = ""

    @property
    def error(self) -> float | None:
        """Predicted over measured minus one; None if one of them is missing or the measured value is zero."""
        if self.measured is None or self.predicted is None or self.measured == 0:
            return None
        return self.predicted / self.measured - 1.0

    def to_json(self) -> dict[str, Any]:
        """The entry as plain data."""
        return asdict(self)
