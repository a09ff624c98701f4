"""Work in several processes, which end with this one's Ctrl-C and never see it themselves."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import active_children
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


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
    leave what they are doing and end. They are asked to, not killed: a worker that dies while it sends a result would
    leave this process waiting for the rest of it.

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
        for worker in {*active_children()} - others:
            worker.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


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
