"""Work in several processes, which end with this one's Ctrl-C and never see it themselves."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import active_children
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_ASKED_EVERY_S = 0.05  # wait between two requests to end
_PATIENCE_S = 10.0  # from then on workers are killed


def map_in_processes(
    function: Callable[[T], R],
    items: Sequence[T],
    *,
    workers: int,
    start: Callable[..., None] | None = None,
    arguments: tuple[Any, ...] = (),
) -> Iterator[R]:
    """`function` of each item, in the order of the items.

    Ctrl-C raises KeyboardInterrupt here only. When the iterator is left early, by that or any other way, the workers
    leave what they are doing and end.

    Args:
        function: Called in a worker; like items and results it must be picklable.
        items: Its arguments.
        workers: Processes at most.
        start: Called once in each worker before anything else.
        arguments: What `start` is called with.
    """
    others = {*active_children()}
    pool = ProcessPoolExecutor(min(workers, len(items)), initializer=_start, initargs=(start, arguments))
    try:
        with _without_ctrl_c():
            results = pool.map(partial(_call, function), items)  # the workers start here, with Ctrl-C blocked
        yield from results
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        _end_all({*active_children()} - others)
        raise
    finally:
        pool.shutdown()


def _end_all(workers: Iterable[BaseProcess]) -> None:
    """Makes workers end, and returns when they have.

    They are asked, not killed: one that dies while it sends a result would leave this process waiting for the rest of
    it. They are asked again and again, because a signal that comes between a worker's look at the flag and the start
    of its work, or just before a system call that waits, does not interrupt that work. One that has not ended after
    `_PATIENCE_S` can't be sending a result, which is always read here, and is killed.
    """
    given_up = time.monotonic() + _PATIENCE_S
    while alive := [worker for worker in workers if worker.is_alive()]:
        for worker in alive:
            if time.monotonic() < given_up:
                worker.terminate()
            else:
                worker.kill()
        alive[0].join(_ASKED_EVERY_S)


class _LeftError(Exception):
    """What a worker that was told to end gives instead of a result."""


class _Worker:
    """State of this process as a worker: whether it may be interrupted now, and whether it was told to end."""

    working = False
    told_to_end = False


def _start(start: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end)
    if start is not None:
        start(*arguments)


def _end(*_: object) -> None:
    _Worker.told_to_end = True
    if _Worker.working:
        raise _LeftError


def _call(function: Callable[[T], R], item: T) -> R:
    if _Worker.told_to_end:
        raise _LeftError
    _Worker.working = True
    try:
        return function(item)
    finally:
        _Worker.working = False


@contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Holds Ctrl-C back until the end of the block, where the system can do that."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
