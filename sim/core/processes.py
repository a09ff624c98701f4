"""Work in several processes, which end with this one's Ctrl-C and never see it themselves."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
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
    are ended at once, whatever they are doing.

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
            results = pool.map(function, items)  # the workers start here and inherit that Ctrl-C is blocked
        yield from results
    except BaseException:
        for worker in {*active_children()} - others:
            worker.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start(start: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if start is not None:
        start(*arguments)


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
