"""Work in several processes: results in order, a start in each worker, and an end of all of them when left early."""

import operator
import os
import signal
import time
from multiprocessing import active_children

import pytest

from sim.core import map_in_processes

_STARTED: list[str] = []


def test_results_come_in_the_order_of_the_items() -> None:
    assert [*map_in_processes(operator.neg, range(20), workers=3)] == [-i for i in range(20)]
    assert active_children() == []


def test_each_worker_is_started_once_and_is_not_this_process() -> None:
    pids = {*map_in_processes(_started_pid, range(6), workers=2, start=_start, arguments=("mark",))}
    assert 1 <= len(pids) <= 2
    assert os.getpid() not in pids
    assert _STARTED == []


def test_leaving_early_ends_the_workers_at_once() -> None:
    started = time.monotonic()
    results = map_in_processes(time.sleep, [0.0, 600.0, 600.0, 600.0], workers=2)
    assert next(results) is None
    results.close()  # type: ignore[attr-defined]
    assert active_children() == []
    assert time.monotonic() - started < 60


def test_an_error_in_a_worker_is_raised_here_and_ends_the_others() -> None:
    with pytest.raises(ValueError, match="must be non-negative"):
        [*map_in_processes(time.sleep, [-1.0, 600.0, 600.0], workers=2)]
    assert active_children() == []


def test_workers_do_not_see_ctrl_c() -> None:
    ignored, blocked = next(iter(map_in_processes(_ctrl_c_state, [0, 0], workers=2)))
    assert ignored
    assert blocked
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def _start(mark: str) -> None:
    _STARTED.append(mark)


def _started_pid(_: int) -> int:
    assert _STARTED == ["mark"]
    return os.getpid()


def _ctrl_c_state(_: int) -> tuple[bool, bool]:
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    return signal.getsignal(signal.SIGINT) is signal.SIG_IGN, signal.SIGINT in mask
