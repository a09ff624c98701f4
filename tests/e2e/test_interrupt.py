"""Ctrl-C during a search or a comparison: exit code 130, what was done is kept, no process is left behind.

The signal is sent when the progress bar, drawn because stderr is a terminal here, says that a plan is done. There is
work for minutes after that, so nothing depends on how fast the machine is. As on a terminal, all processes get it.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

if sys.platform == "win32":
    pytest.skip("needs pseudo-terminals and process groups", allow_module_level=True)

ROOT = Path(__file__).resolve().parents[2]
LONG_SEARCH = [
    *("search", "llama3-70b-azure-conv", "--set", "search.algorithm=exhaustive", "--set", "workload.requests=1000"),
    *("--set", "search.space={max_num_seqs: [8, 16, 32, 64, 128, 256, 512, 1024]}", "--set", "plan.tp=8"),
]
LONG_COMPARE = ["compare", "h100-or-h200", "--set", "replications=100", "--set", "workload.requests=5000"]
SOME_DONE = re.compile(rb"\b[1-9]\d*/\d{2,}\b")


@dataclass
class Command:
    """A running command: its process group, and its terminal for stderr."""

    process: subprocess.Popen[bytes]
    terminal: int
    seen: bytes = b""

    def wait_until(self, pattern: re.Pattern[bytes]) -> None:
        """Reads the terminal until `pattern` shows up."""
        while not pattern.search(self.seen):
            self.seen += os.read(self.terminal, 65536)

    def interrupt(self) -> tuple[int, str]:
        """Presses Ctrl-C; exit code and stdout."""
        os.killpg(self.process.pid, signal.SIGINT)
        out, _ = self.process.communicate(timeout=120)
        os.set_blocking(self.terminal, False)
        try:
            while more := os.read(self.terminal, 65536):
                self.seen += more
        except OSError:  # nothing more, or the other end is closed
            pass
        return self.process.returncode, out.decode()


@contextmanager
def started(*arguments: object) -> Iterator[Command]:
    """The command in a process group of its own, with a terminal for stderr; killed at the end, whatever happens."""
    terminal, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "sim", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
        stdout=subprocess.PIPE,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield Command(process, terminal)
    finally:
        if group_is_alive(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        os.close(terminal)


def group_is_alive(group: int) -> bool:
    """Whether any process is left in the group."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def all_gone(group: int) -> bool:
    """Whether the group is empty; children that ended with their parent may take a moment to be collected."""
    return any(not group_is_alive(group) or time.sleep(0.1) for _ in range(100))


def document_of(out: str) -> dict[str, Any]:
    found = json.loads(out)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("workers", [1, 2])
def test_a_search_keeps_what_was_done(workers: int, tmp_path: Path) -> None:
    with started(*LONG_SEARCH, "--workers", workers, "--json", "--out", tmp_path) as command:
        command.wait_until(SOME_DONE)
        code, out = command.interrupt()
        assert code == 130
        assert all_gone(command.process.pid)
    document = document_of(out)
    done = document["space"]["simulated"]
    assert document["interrupted"] is True
    assert 1 <= done < document["space"]["screened"]
    assert 1 <= len(document["front"]) <= done
    assert document["recommended"]["label"] in {entry["label"] for entry in document["front"]}
    assert json.loads((tmp_path / "result.json").read_text(encoding="utf-8")) == document
    stages = pd.read_parquet(tmp_path / "evaluations.parquet")["stage"]
    assert (stages == "simulated").sum() == done
    assert (tmp_path / "report.html").is_file()
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert command.seen.count(b"error:") == 1
    assert b"error: interrupted" in command.seen
    assert b"Traceback" not in command.seen


@pytest.mark.parametrize("workers", [1, 2])
def test_a_comparison_leaves_earlier_results_as_they_are(workers: int, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text("earlier")
    with started(*LONG_COMPARE, "--workers", workers, "--json", "--out", tmp_path) as command:
        command.wait_until(SOME_DONE)
        code, out = command.interrupt()
        assert code == 130
        assert all_gone(command.process.pid)
    assert document_of(out)["error"]["kind"] == "interrupted"
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"result.json": "earlier"}
    assert command.seen.count(b"error:") == 1
    assert b"Traceback" not in command.seen


def test_a_profile_keeps_what_was_measured(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs PyTorch (plansim[profile]); a CPU build will do")
    options = ("--device", "cpu", "--threads", 1, "--dtypes", "fp32", "--name", "mine")
    with started("profile", *options, "--json", "--out", tmp_path) as command:
        command.wait_until(re.compile(rb"gemm fp32"))
        code, out = command.interrupt()
        assert code == 130
        assert all_gone(command.process.pid)
    document = document_of(out)
    assert document["interrupted"] is True
    assert {"copy"} <= {sample["kind"] for sample in document["samples"]} <= {"copy", "gemm"}
    table = pd.read_csv(tmp_path / "mine-samples.csv")
    assert table["time_s"].tolist() == [sample["time_s"] for sample in document["samples"]]
    assert b"Traceback" not in command.seen


def test_before_any_plan_is_done_it_says_so_in_one_line(tmp_path: Path) -> None:
    with started(*LONG_SEARCH, "--workers", 2, "--set", "workload.requests=200000", "--out", tmp_path) as command:
        command.wait_until(re.compile(rb"checking plans|screening|simulating"))
        code, _ = command.interrupt()
        assert code == 130
        assert all_gone(command.process.pid)
    assert command.seen.count(b"error:") == 1
    assert b"Traceback" not in command.seen
