"""What a run of the project costs beside the computing: data, dispatch, logging and checkpoints."""

from __future__ import annotations

import os
import tempfile
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax

from mixscale.data import build_store
from mixscale.mixture import Mixture
from mixscale.mixtures.schedule import Constant
from mixscale.training import Run, Trainer, train_run
from training.real import DOMAINS, experiment
from training.shapes import Shape


def outside(out: Path, shape: Shape, dispatches: int) -> dict[str, float]:
    """What a whole run with the default settings, its checkpoints included, costs beside the computing.

    `idle` is the share of the run's time in which the device had nothing to compute, from the end of one dispatch to
    the handing over of the next. `host` is the share of the cores' time that other threads than XLA's took while it
    computed: drawing rows, dispatching, logging, copying and writing checkpoints. It need not hold up the computing,
    so that `share`, the two together, is the most that lies outside of the compiled programs. Nothing is compared with
    another timing, between which the machine drifts. Linux only, where threads have names.
    """
    asked = experiment(out, shape, 1)
    steps = asked.machine.steps_per_dispatch
    tokens = steps * shape.batch * shape.context
    store = build_store(asked.corpus, progress=False)
    run = Run(Constant(Mixture.uniform(DOMAINS)), "proxy", shape.model, asked.optimizer, asked.train, 0, store.id)
    trainer = _Watched(run, store, 0, asked.machine)
    # Compiles all that a run needs, that which begins a branch and copies a state for a checkpoint included.
    _train(trainer, replace(run, train=replace(run.train, tokens=7 * tokens)))
    trainer.dispatched.clear()
    before, began, began_cpu = _computing(), time.perf_counter(), time.process_time()
    _train(trainer, replace(run, train=replace(run.train, tokens=dispatches * tokens)))
    ended, cpu_s, computing_s = time.perf_counter(), time.process_time() - began_cpu, _computing() - before
    times = [done.result() for done in trainer.dispatched]
    idle = sum(max(0.0, handed - ready) for (_, ready), (handed, _) in pairwise(times))
    run_s = ended - began
    # While the device waits at least one thread of the host is at work, which must not count twice.
    host = max(0.0, cpu_s - computing_s - idle) / (run_s * len(os.sched_getaffinity(0)))
    return {"run_s": run_s / dispatches, "idle": idle / run_s, "host": host, "share": idle / run_s + host}


class _Watched:
    """A trainer that tells when each dispatch was handed over and when the device was through with it."""

    def __init__(self, *arguments: Any):
        self._trainer: Trainer = Trainer(*arguments)
        self._waiting = ThreadPoolExecutor(1)
        self.dispatched: list[Future[tuple[float, float]]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._trainer, name)

    def advance(self, *arguments: Any) -> Any:
        state, metrics = self._trainer.advance(*arguments)
        self.dispatched.append(self._waiting.submit(_ready, time.perf_counter(), metrics))
        return state, metrics


def _ready(handed: float, metrics: Any) -> tuple[float, float]:
    jax.block_until_ready(metrics)
    return handed, time.perf_counter()


def _train(trainer: Any, run: Run) -> None:
    with tempfile.TemporaryDirectory() as folder:
        train_run(trainer, run, Path(folder), lambda _: None)


def _computing() -> float:
    """Seconds of processor time of XLA's threads so far."""
    ticks = 0
    for task in Path("/proc/self/task").iterdir():
        name, _, fields = (task / "stat").read_text().partition("(")[2].rpartition(")")
        if "XLA" in name:
            user, system = fields.split()[11:13]
            ticks += int(user) + int(system)
    return ticks / os.sysconf("SC_CLK_TCK")
