"""The processes that read and encode: one a core where there is much to do, else this one alone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

from mixscale.data.job import Job
from mixscale.errors import Unfinished

MUCH = 2**26
"""bytes from which starting processes pays"""
AHEAD = 2
"""pieces that wait for each process"""
T = TypeVar("T")
Each = Callable[[Callable[[Job, int], T], Iterable[int]], Iterator[tuple[int, T]]]
"""does something with pieces of a job, and gives number and result of each, in order"""


@contextmanager
def crew(job: Job) -> Iterator[Each]:
    """Raises Unfinished where a process is killed."""
    workers = _workers(job)
    if workers == 1:
        yield lambda function, numbers: ((number, function(job, number)) for number in numbers)
        return
    context = multiprocessing.get_context("spawn")
    ends = context.Event()
    with ProcessPoolExecutor(workers, context, _start, (job, ends)) as pool:
        try:
            yield lambda function, numbers: _in_order(pool, workers, function, numbers)
        except BrokenProcessPool as error:
            raise Unfinished(
                "a process that reads the corpus was ended (out of memory?); start again to go on, with fewer "
                f"--corpus.workers (now {workers}) if memory is short"
            ) from error
        finally:
            # What they have begun is not waited for.
            ends.set()
            pool.shutdown(wait=False, cancel_futures=True)


def _workers(job: Job) -> int:
    if job.corpus.workers:
        return job.corpus.workers
    if job.size < MUCH or multiprocessing.current_process().daemon:
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_order(
    pool: ProcessPoolExecutor, workers: int, function: Callable[[Job, int], T], numbers: Iterable[int]
) -> Iterator[tuple[int, T]]:
    waiting: deque[tuple[int, Future[T]]] = deque()
    for number in numbers:
        waiting.append((number, pool.submit(_do, function, number)))
        if len(waiting) >= workers * AHEAD:
            first, future = waiting.popleft()
            yield first, future.result()
    for first, future in waiting:
        yield first, future.result()


_job: Job


def _start(job: Job, ends: Any) -> None:
    """Begins a process, which ends with its parent or when it is told to, and leaves Ctrl-C to the parent."""
    global _job
    _job = job
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # One process a core; each would otherwise start a thread a core.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    threading.Thread(target=_end_with_parent, daemon=True).start()
    threading.Thread(target=_end_when_told, args=(ends,), daemon=True).start()


def _do(function: Callable[[Job, int], T], number: int) -> T:
    return function(_job, number)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _end_when_told(ends: Any) -> None:
    ends.wait()
    os._exit(0)
