"""Errors a user can act on: each says where, what was found, what is allowed and the next step.

The tree is small because the command line maps it to exit codes: `InputError` 2, `InfeasibleError` 3,
`SloNotMetError` 4; anything else is a defect of plansim (1).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import Any, Final


class _Missing:
    """Marks "no value was given", where None would be a legal value."""

    def __repr__(self) -> str:
        return "<missing>"

    def __reduce__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()
_MAX_LISTED = 12


class PlansimError(Exception):
    """Base of every error raised on purpose; `exit_code` is what the command line returns."""

    exit_code = 1


class InputError(PlansimError):
    """Unusable input: a file, a key, a value or a name.

    Args:
        message: What is wrong, in lower case, without a final full stop.
        file: File the input came from.
        line: Line in that file, from 1.
        path: Dotted path of the value inside the file, such as `cluster.node`.
        value: What was found there.
        allowed: What would be accepted: a sentence or a list of choices.
        hint: The next step for the user, such as a command to run.
    """

    exit_code = 2

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        line: int | None = None,
        path: str | None = None,
        value: object = MISSING,
        allowed: Sequence[str] | str | None = None,
        hint: str | None = None,
    ) -> None:
        self.message = message
        self.file = file
        self.line = line
        self.path = path
        self.value = value
        self.allowed = allowed
        self.hint = hint
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_input_error, (self.__dict__.copy(),)

    def __str__(self) -> str:
        place = self.file or ""
        if self.file and self.line is not None:
            place += f":{self.line}"
        head = " ".join(part for part in (place, self.path or "") if part)
        text = f"{head}: {self.message}" if head else self.message
        said = isinstance(self.value, str) and repr(self.value) in self.message
        if self.value is not MISSING and not said:
            text += f"; got {self.value!r}"
        if self.allowed:
            text += f"; allowed: {_listed(self.allowed)}"
        return f"{text} ({self.hint})" if self.hint else text


def _rebuild_input_error(state: dict[str, Any]) -> InputError:
    return InputError(**{k: state[k] for k in ("message", "file", "line", "path", "value", "allowed", "hint")})


def _listed(allowed: Sequence[str] | str) -> str:
    if isinstance(allowed, str):
        return allowed
    shown = ", ".join(str(choice) for choice in allowed[:_MAX_LISTED])
    rest = len(allowed) - _MAX_LISTED
    return f"{shown} and {rest} more" if rest > 0 else shown


@dataclass(frozen=True)
class Reason:
    """Why a plan cannot run, as a value: a search counts these instead of raising.

    Attributes:
        code: Short stable name to group by, such as `memory`, `heads` or `ranks`.
        message: One sentence with the numbers in it.
        numbers: The same numbers by name, in SI units.
    """

    code: str
    message: str
    numbers: Mapping[str, float] = field(default_factory=dict)


class InfeasibleError(PlansimError):
    """No plan can run; `reasons` says why, with numbers."""

    exit_code = 3

    def __init__(self, message: str, reasons: Sequence[Reason] = ()) -> None:
        self.message = message
        self.reasons = tuple(reasons)
        super().__init__(message, self.reasons)

    def __str__(self) -> str:
        lines = [f"  - [{reason.code}] {reason.message}" for reason in self.reasons]
        return "\n".join([self.message, *lines])


class SloNotMetError(PlansimError):
    """The SLO is not attained, under `--check`."""

    exit_code = 4


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the choice closest to `name`, or an empty string."""
    close = difflib.get_close_matches(name.lower(), [str(choice) for choice in choices], n=1, cutoff=0.55)
    return f"; did you mean {close[0]!r}?" if close else ""


def require_extra(module: str, extra: str) -> ModuleType:
    """The optional dependency `module`.

    Raises:
        InputError: if it is not installed; says which extra brings it.
    """
    try:
        return import_module(module)
    except ImportError:
        raise InputError(f"this needs the package {module!r}", hint=f"pip install 'plansim[{extra}]'") from None
