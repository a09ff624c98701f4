"""Progress goes to stderr, and only to a terminal; NO_COLOR is respected."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sim.cli.output import progress, result_folder, workers_or_cores


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def draw(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch, *, quiet: bool = False) -> bool:
    monkeypatch.setattr(sys, "stderr", stream)
    with progress(quiet=quiet) as advance:
        if advance is None:
            return False
        for done in range(4):
            advance(done, 3, "simulating")
    return True


def test_progress_needs_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not draw(io.StringIO(), monkeypatch)
    assert not draw(Terminal(), monkeypatch, quiet=True)


def test_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal()
    assert draw(terminal, monkeypatch)
    assert "simulating" in terminal.getvalue()
    assert "3/3" in terminal.getvalue()
    assert capsys.readouterr().out == ""


def test_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal()
    assert draw(terminal, monkeypatch)
    assert "\x1b[3" not in terminal.getvalue()


def test_result_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert result_folder(None, name="n", wanted=False) is None
    assert result_folder(None, name="n", wanted=True) == Path("out/n")
    assert result_folder(tmp_path / "x", name="n", wanted=False) == tmp_path / "x"
    assert (tmp_path / "x").is_dir()


def test_workers() -> None:
    assert workers_or_cores(3) == 3
    assert workers_or_cores(None) >= 1


def test_a_closed_pipe_is_no_error() -> None:
    command = [sys.executable, "-m", "sim", "doctor", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ}) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read().decode()
    assert "Traceback" not in errors
    assert "Exception ignored" not in errors
