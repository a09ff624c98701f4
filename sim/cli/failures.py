"""Every way a command can fail, as one message on stderr, an exit code and, with `--json`, one document on stdout."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from sim.core import InfeasibleError, InputError, PlansimError, Reason, SloNotMetError

SCHEMA_VERSION = 1


class InterruptedByUserError(PlansimError):
    """Ctrl-C; what was finished before it stays."""

    exit_code = 130

    def __init__(self) -> None:
        super().__init__("interrupted; results saved earlier stay as they are")


def report_failure(error: BaseException, arguments: Sequence[str]) -> int:
    """Prints `error` for the command called with `arguments` and returns its exit code."""
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort":
        error = InterruptedByUserError()
    code, message = _explain(error, arguments)
    print(f"error: {message}", file=sys.stderr)
    if code == 1 and os.environ.get("PLANSIM_DEBUG") == "1":
        traceback.print_exception(error)
    if "--json" in arguments:
        print_failure_document(error, code, message, arguments)
    return code


def _explain(error: BaseException, arguments: Sequence[str]) -> tuple[int, str]:
    if isinstance(error, PlansimError):
        return error.exit_code, str(error)
    format_message = getattr(error, "format_message", None)  # typer's usage errors, whose class it moved over time
    if callable(format_message):
        return 2, f"{format_message()}{_given(error, arguments)} (plansim --help)"
    if isinstance(error, MemoryError):
        return 1, "out of memory; use fewer requests or a smaller search space"
    text = str(error).partition("\n")[0]
    return 1, f"internal error: {type(error).__name__}: {text} (run again with PLANSIM_DEBUG=1 for the traceback)"


def _given(error: BaseException, arguments: Sequence[str]) -> str:
    """`; got '...'` with what followed the option that a usage error is about, where the error itself leaves it out."""
    names = getattr(getattr(error, "param", None), "opts", ())
    words = [part for argument in arguments for part in argument.split("=", 1)]
    value = next((value for name, value in pairwise(words) if name in names and name.startswith("-")), None)
    return "" if value is None or repr(value) in str(error) else f"; got {value!r}"


def print_failure_document(error: BaseException, code: int, message: str, arguments: Sequence[str]) -> None:
    """Prints the JSON document of a failed command; `infeasible` holds the reasons where plans were ruled out."""
    from sim.cli.output import print_json

    verb = next((argument for argument in arguments if not argument.startswith("-")), "")
    detail: dict[str, Any] = {"exit_code": code, "kind": _kind(error, code), "message": message}
    if isinstance(error, InputError):
        allowed = error.allowed if isinstance(error.allowed, (str, type(None))) else [*map(str, error.allowed)]
        detail |= {"file": error.file, "line": error.line, "path": error.path, "allowed": allowed, "hint": error.hint}
    reasons: Sequence[Reason] = error.reasons if isinstance(error, InfeasibleError) else ()
    print_json(
        {
            "schema_version": SCHEMA_VERSION,
            "command": verb,
            "error": detail,
            "infeasible": [
                {"code": reason.code, "message": reason.message, "numbers": dict(reason.numbers)} for reason in reasons
            ],
        }
    )


def _kind(error: BaseException, code: int) -> str:
    names = {
        InputError: "input",
        InfeasibleError: "infeasible",
        SloNotMetError: "slo",
        InterruptedByUserError: "interrupted",
    }
    return next((name for cls, name in names.items() if isinstance(error, cls)), "usage" if code == 2 else "internal")
