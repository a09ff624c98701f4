"""Joins the verbs into one command and maps what happens to exit codes."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from sim.cli.calibrate import calibrate
from sim.cli.compare import compare
from sim.cli.doctor import doctor
from sim.cli.failures import InterruptedByUserError, report_failure
from sim.cli.import_ import import_
from sim.cli.list import list_
from sim.cli.profile import profile
from sim.cli.reproduce import reproduce
from sim.cli.run import run
from sim.cli.schema import schema
from sim.cli.search import search
from sim.cli.validate import validate
from sim.core import InputError, did_you_mean

VERBS: dict[str, Callable[..., int]] = {
    "run": run,
    "search": search,
    "compare": compare,
    "validate": validate,
    "reproduce": reproduce,
    "calibrate": calibrate,
    "profile": profile,
    "import": import_,
    "list": list_,
    "schema": schema,
    "doctor": doctor,
}
HELP = """What will this model deliver on this hardware, and which execution plan should it run?

plansim simulates language-model serving and training from a scenario file and searches for the plans worth running.
Start with: plansim list scenarios, then plansim search NAME."""
EPILOG = (
    "Exit codes: 0 done, 1 internal error, 2 bad input, 3 no feasible plan, 4 SLO not met under --check, "
    "5 errors or verdicts worse than recorded, "
    "130 interrupted. PLANSIM_DEBUG=1 adds the traceback to an internal error; NO_COLOR turns colours off."
)
_YOUNG_OBJECTS = 100_000
"""Objects made before garbage is looked for: start-up alone makes as many that all stay, and looking costs a tenth."""


class _Group(TyperGroup):
    """Names the verbs where one is misspelt, and keeps Ctrl-C visible to `main`, whatever typer does with it."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        verb = args[0]
        if verb not in VERBS and not verb.startswith("-"):
            raise InputError(f"unknown verb {verb!r}{did_you_mean(verb, VERBS)}", allowed=[*VERBS])
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise InterruptedByUserError from None


def _version(show: bool) -> None:
    if show:
        from sim import __version__

        typer.echo(f"plansim {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Options that stand before the verb."""


def build() -> typer.Typer:
    """The typer application with every verb of `VERBS`."""
    app = typer.Typer(
        cls=_Group,
        name="plansim",
        help=HELP,
        epilog=EPILOG,
        no_args_is_help=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(help=HELP, epilog=EPILOG)(_root)
    for name, verb in VERBS.items():
        app.command(name)(verb)
    return app


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command with `argv` (default: the process's) and returns its exit code; never raises.

    Verbs return their exit code. With `--json`, a failure also prints one JSON document with an `error` key.
    """
    gc.set_threshold(_YOUNG_OBJECTS, *gc.get_threshold()[1:])
    atexit.register(gc.freeze)  # what is left then goes with the process: to look through it takes a tenth of a search
    arguments = [*(sys.argv[1:] if argv is None else argv)]
    command = typer.main.get_command(build())
    try:
        code = command.main(args=arguments or ["--help"], prog_name="plansim", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of a pipe left, as in `plansim list models | head`; leave quietly, also at the final flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (Exception, KeyboardInterrupt) as error:
        return report_failure(error, arguments)
    return code if isinstance(code, int) else 0
