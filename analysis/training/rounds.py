"""Times jobs against each other, each in a process of its own, in turns and on the same cores.

So whatever else runs on the machine slows all of them alike. Wall time and the processor time of the process are both
kept: where the cores are shared, the first says what was felt and the second what was spent.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Job:
    """`module.job(*arguments)` returns a function that does one round and returns its tokens."""

    name: str
    module: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Timed:
    """Medians over rounds."""

    wall: float
    """tokens a second"""
    processor: float
    """tokens a second of the processor's time, of all cores"""


def in_turns(jobs: Sequence[Job], cores: Sequence[int], rounds: int) -> dict[str, Timed]:
    """Medians of every job's rounds, on the given cores; the first round of each is not counted."""
    context = multiprocessing.get_context("spawn")
    ends, processes = {}, []
    for job in jobs:
        ends[job.name], theirs = context.Pipe()
        processes.append(context.Process(target=_serve, args=(theirs, job, tuple(cores)), daemon=True))
        processes[-1].start()
        theirs.close()
    figures: dict[str, list[tuple[float, float]]] = {job.name: [] for job in jobs}
    try:
        for number in range(rounds + 1):
            for name, end in ends.items():
                end.send(True)
                figure = end.recv()
                if number:
                    figures[name].append(figure)
    finally:
        for end in ends.values():
            end.close()
        for process in processes:
            process.join(10)
    return {name: Timed(*(median(part) for part in zip(*found, strict=True))) for name, found in figures.items()}


def _serve(end: Connection, job: Job, cores: tuple[int, ...]) -> None:
    # Before anything is imported that counts cores to make threads.
    os.sched_setaffinity(0, cores)
    os.environ["OMP_NUM_THREADS"] = str(len(cores))
    once = importlib.import_module(job.module).job(*job.arguments)
    while True:
        try:
            end.recv()
        except EOFError:
            return
        wall, processor = time.perf_counter(), time.process_time()
        tokens = once()
        end.send((tokens / (time.perf_counter() - wall), tokens / (time.process_time() - processor)))
