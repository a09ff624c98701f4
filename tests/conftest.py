"""Settings shared by all tests, and the command run in this process."""

import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import settings

from sim.cli import main

# No deadline: a busy machine must not fail a test. The same examples in every run of continuous integration.
settings.register_profile("plansim", deadline=None, derandomize="CI" in os.environ, max_examples=60)
settings.load_profile("plansim")

# A job that a shell starts in the background ignores Ctrl-C, and so do its children; tests of Ctrl-C must not.
signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class Done:
    """What a command left: its exit code and both streams."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """Stdout as the one JSON document it must be, without NaN or infinity."""
        found = json.loads(self.out, parse_constant=lambda text: pytest.fail(f"{text} in JSON"))
        assert isinstance(found, dict)
        return found


Command = Callable[..., Done]


@pytest.fixture
def plansim(capfd: pytest.CaptureFixture[str]) -> Command:
    def call(*arguments: object) -> Done:
        code = main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        assert "Traceback" not in captured.err + captured.out
        return Done(code, captured.out, captured.err)

    return call
