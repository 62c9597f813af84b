"""The engine for this machine: as many worker processes as pay, watched by one that shows the progress.

On a CPU small models use one core better than two share the work, so each core gets a worker of its own; on an
accelerator one worker uses it all. Workers end with their parent, however it dies.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from mixscale.config import Experiment
from mixscale.errors import Unfinished
from mixscale.sweeps.failures import Failure
from mixscale.sweeps.plan import Planned
from mixscale.sweeps.progress import SweepProgress
from mixscale.sweeps.standing import Notes
from mixscale.sweeps.worker import work
from mixscale.training.interrupt import Interrupt

WORKER_BYTES = 1_000_000_000
"""What a worker with a small model takes, libraries and compiler included."""
SINGLE_THREAD = "--xla_cpu_multi_thread_eigen=false"


def train(experiment: Experiment, store_path: Path, left: list[Planned], progress: SweepProgress) -> None:
    """Trains what is left with as many workers as the machine has use for; stops at the first that fails."""
    # Decided before looking at what is left: a run must be trained by the same program after a restart. Where several
    # hosts train a run together, one process of each does, and JAX must not look for devices before they have joined.
    machine = experiment.machine
    workers = 1 if machine.hosts.coordinator else machine.workers or workers_that_pay()
    if workers == 1:
        work(experiment, store_path, left, Notes(experiment.directory, progress.take))
    else:
        _side_by_side(experiment, store_path, left, min(workers, len(left)), progress)


def workers_that_pay() -> int:
    """One per core, as far as memory goes, where JAX would use the CPU; else one."""
    platforms = os.environ.get("JAX_PLATFORMS", "")
    if platforms != "cpu":
        import jax

        if jax.default_backend() != "cpu":
            return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(cores, memory // WORKER_BYTES))


def _side_by_side(
    experiment: Experiment, store_path: Path, left: list[Planned], workers: int, progress: SweepProgress
) -> None:
    context = multiprocessing.get_context("spawn")
    # A pipe each: of a queue they would share the lock, which a worker that is killed can take with it.
    pipes = [context.Pipe(duplex=False) for _ in range(workers)]
    receivers = [receiver for receiver, _ in pipes]
    with _environment(XLA_FLAGS=f"{os.environ.get('XLA_FLAGS', '')} {SINGLE_THREAD}".strip()):
        processes = [
            context.Process(target=_worker, args=(experiment, store_path, left, index, sender), daemon=True)
            for index, (_, sender) in enumerate(pipes)
        ]
        with _deaf_to_interrupts():
            for process in processes:
                process.start()
    for _, sender in pipes:
        sender.close()
    # Entered until the last worker has ended: told to stop, they save, and this process must outlive that.
    with Interrupt() as interrupt:
        try:
            _watch(processes, receivers, progress, interrupt)
        finally:
            for process in processes:
                process.terminate()
            # A worker cannot end while what it says is not read.
            while any(process.is_alive() for process in processes):
                list(_said(receivers, 0.2))


def _said(receivers: list[Connection], seconds: float) -> Iterator[Any]:
    """What workers have said, waited for no longer than that; pipes of those that have ended are taken out."""
    if not receivers:
        time.sleep(seconds)
    for receiver in wait(receivers, seconds):
        try:
            yield receiver.recv()
        except (EOFError, OSError):
            receivers.remove(receiver)


def _watch(processes: list[Any], receivers: list[Connection], progress: SweepProgress, interrupt: Interrupt) -> None:
    """Passes messages on until every worker has ended; raises what made one fail."""
    while True:
        if interrupt.asked:
            raise interrupt.exception()
        alive = any(process.is_alive() for process in processes)
        said = list(_said(receivers, 0.5))
        for message in said:
            if isinstance(message, Failure):
                # A signal to the whole group reaches workers too, and they answer first.
                raise interrupt.exception() if interrupt.asked else message.raised()
            progress.take(message)
        if not said and not alive:
            break
    failed = [process.exitcode for process in processes if process.exitcode]
    if failed and failed[0] < 0:
        raise Unfinished(
            f"a worker was ended by signal {-failed[0]} (out of memory?); start again to go on, "
            "with fewer --machine.workers if memory is short"
        )
    if failed:
        raise Unfinished(f"a worker ended with status {failed[0]} before it could train; what it said is above")


def _worker(experiment: Experiment, store_path: Path, planned: list[Planned], index: int, sender: Connection) -> None:
    """What runs in worker process `index`."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _keep_to_core(index)
    try:
        work(experiment, store_path, planned, Notes(experiment.directory, sender.send))
    except Exception as error:
        sender.send(Failure.of(error))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _keep_to_core(index: int) -> None:
    """XLA makes as many threads as the process has cores when it starts, so it starts on one."""
    if not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[index % len(cores)]})


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Processes started inside ignore Ctrl-C, which reaches them too; the parent answers it, and ends its workers."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Sets environment variables for the processes started inside."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
