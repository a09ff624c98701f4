"""The command `plansim`: one verb per file, results on stdout, progress and errors on stderr.

`app` joins the verbs; `options` holds the flags they share; `output` prints results; `failures` turns every exception
into one message and an exit code. A verb imports what it needs when it runs, so `plansim --help` stays fast.
"""

from __future__ import annotations

from sim.cli.app import main

__all__ = ["main"]
