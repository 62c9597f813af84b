"""The launcher for this machine: worker processes, and one process that watches them and shows progress.

On a CPU, small models train fastest with one worker per core; on an accelerator one worker uses it all. Workers exit
when their parent does.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from mixscale.config import Experiment
from mixscale.errors import Unfinished
from mixscale.sweeps.launchers import use_one_thread
from mixscale.sweeps.plan import Planned
from mixscale.sweeps.run_state import Failure, ProgressWriter
from mixscale.sweeps.status import SweepProgress
from mixscale.sweeps.worker import work
from mixscale.training.hosts import Interrupt

WORKER_BYTES = 1_000_000_000  # memory of a worker with a small model, libraries and compiler included


def launch(experiment: Experiment, store_path: Path, left: list[Planned], progress: SweepProgress) -> None:
    """Trains what is left with `machine.workers` workers; stops at the first that fails."""
    # Whatever is left, so that a restart trains a run with the same program. Where several hosts train a run together,
    # each has one process, and JAX must not look for devices before they have joined.
    machine = experiment.machine
    workers = 1 if machine.hosts.coordinator else machine.workers or default_workers()
    if workers == 1:
        work(experiment, store_path, left, ProgressWriter(experiment.directory, progress.take))
    else:
        _side_by_side(experiment, store_path, left, min(workers, len(left)), progress)


def default_workers() -> int:
    """One per core, as far as memory allows, where JAX would use the CPU; else one."""
    if os.environ.get("JAX_PLATFORMS", "") != "cpu":
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
    # One pipe per worker: a shared queue has a shared lock, which a killed worker may never release.
    pipes = [context.Pipe(duplex=False) for _ in range(workers)]
    receivers = [receiver for receiver, _ in pipes]
    processes = [
        context.Process(target=_worker, args=(experiment, store_path, left, index, sender), daemon=True)
        for index, (_, sender) in enumerate(pipes)
    ]
    # Ctrl-C reaches workers too; they inherit that it is ignored, and this process ends them.
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        for process in processes:
            process.start()
    finally:
        signal.signal(signal.SIGINT, handler)
    for _, sender in pipes:
        sender.close()
    # Until the last worker has ended: on a signal they save first, and this process must outlive that.
    with Interrupt() as interrupt:
        try:
            _watch(processes, receivers, progress, interrupt)
        finally:
            for process in processes:
                process.terminate()
            # A worker cannot end before its messages are read.
            while any(process.is_alive() for process in processes):
                list(_messages(receivers, 0.2))


def _messages(receivers: list[Connection], seconds: float) -> Iterator[Any]:
    """Messages that arrive within that time; removes the pipes of workers that have ended."""
    if not receivers:
        time.sleep(seconds)
    for receiver in wait(receivers, seconds):
        try:
            yield receiver.recv()
        except (EOFError, OSError):
            receivers.remove(receiver)


def _watch(processes: list[Any], receivers: list[Connection], progress: SweepProgress, interrupt: Interrupt) -> None:
    """Shows messages until every worker has ended; raises the error of one that failed."""
    while True:
        if interrupt.requested:
            raise interrupt.exception()
        alive = any(process.is_alive() for process in processes)
        messages = list(_messages(receivers, 0.5))
        for message in messages:
            if isinstance(message, Failure):
                # A signal to the whole process group reaches workers too, and they may report it first.
                raise interrupt.exception() if interrupt.requested else message.exception()
            progress.take(message)
        if not messages and not alive:
            break
    status = next((process.exitcode for process in processes if process.exitcode), 0)
    if status < 0:
        raise Unfinished(
            f"signal {-status} killed a worker (out of memory?); progress is saved, rerun the same command to "
            "resume, with fewer --machine.workers if memory is short"
        )
    if status:
        raise Unfinished(f"a worker exited with status {status} before training; see its output above")


def _worker(experiment: Experiment, store_path: Path, planned: list[Planned], index: int, sender: Connection) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if hasattr(os, "sched_setaffinity"):  # XLA makes as many threads as the process has cores
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[index % len(cores)]})
    use_one_thread()
    try:
        work(experiment, store_path, planned, ProgressWriter(experiment.directory, sender.send))
    except Exception as error:
        sender.send(Failure.of(error))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
