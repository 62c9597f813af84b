"""Launchers start the workers that train a plan: on this machine, SLURM or Ray; and what all of them share.

Workers share nothing but the experiment's folder: they claim runs there, and a run has ended when its rows are there.
So a sweep may change launchers, use several at once, and be killed at any time.

A launcher is a function `Launch`, registered under the name of its class in `config/launcher.py`; every module of this
package is imported, so a new one is a class there and a file here. One for a cluster gives `supervise` its `Jobs`.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from mixscale.config import Experiment
from mixscale.errors import Unfinished
from mixscale.registry import Registry
from mixscale.sweeps.directory import ended, read_rows, run_directory
from mixscale.sweeps.run_state import Failure, ProgressWriter, RunState, Stage, allow_retry, read_failure, run_states
from mixscale.sweeps.status import SweepProgress
from mixscale.sweeps.worker import work

if TYPE_CHECKING:
    from mixscale.sweeps.plan import Planned

Launch = Callable[[Experiment, Path, list["Planned"], SweepProgress], None]
"""Trains the runs of the list with the token store at the path, and shows their progress."""
LAUNCHERS: Registry[Launch] = Registry("launcher")

POLL_SECONDS = 2.0
"""Between two looks at the folder."""
MAX_FRUITLESS = 3
"""Rounds of jobs that may end without a change in the folder before the sweep gives up."""


def train_all(experiment: Experiment, store_path: Path, planned: list[Planned]) -> None:
    """Trains every planned run that has not ended, and shows progress; returns when all have ended.

    Runs that failed before are tried again.

    Raises:
        InputError: a run cannot be trained as it is configured.
        Unfinished: a worker was killed, or another process is training some of the runs; progress is saved.
        RuntimeError: a worker failed, with its stack trace.
    """
    left = _left(experiment, planned)
    if not left:
        return
    for item in left:
        allow_retry(run_directory(experiment.directory, item.run.id))
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    launch = LAUNCHERS[type(experiment.launcher).__name__]
    with SweepProgress(planned, left, experiment.objective.weights) as progress:
        launch(experiment, store_path, left, progress)
    if missing := _left(experiment, left):
        raise Unfinished(
            f"another process is training {len(missing)} of the runs (`mixscale status {experiment.directory}` shows "
            "them); rerun the same command when it has finished"
        )


def _left(experiment: Experiment, planned: list[Planned]) -> list[Planned]:
    """Those that have not ended. With several hosts, process 0 decides: others may see an older state of the disk."""
    left = [not ended(experiment.directory, p.run.id) for p in planned]
    if experiment.machine.hosts.coordinator:
        from mixscale.training import hosts

        hosts.join(experiment.machine.hosts)
        left = hosts.alike(np.array(left, bool))
    return [p for p, is_left in zip(planned, left, strict=True) if is_left]


def use_one_thread() -> None:
    """XLA of this process computes in one thread; call it before JAX looks for devices."""
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()


@dataclass(frozen=True)
class Job:
    """What a job of a cluster runs on its node: it claims and trains one run after another until none is free.

    Args:
        experiment: with paths as the node sees them.
        store_path: folder of the token store.
        planned: the runs to choose from.
        folder: that relative paths start from.
        one_core: whether the job has only one core, so that more threads would slow it down.
    """

    experiment: Experiment
    store_path: Path
    planned: list[Planned]
    folder: Path
    one_core: bool

    def __call__(self) -> None:
        os.chdir(self.folder)
        if self.one_core:
            use_one_thread()
        writer = ProgressWriter(self.experiment.directory)
        left = self.planned
        while left:
            before = self._failures(left)
            try:
                work(self.experiment, self.store_path, left, writer)
                return
            except Unfinished:
                raise
            except Exception:
                # A failure that was recorded belongs to a run, which is tried again or given up; otherwise the job
                # itself is broken. The hosts of one job must have the same runs left, which only a new job ensures.
                recorded = any(f and f != before[run] for run, f in self._failures(left).items())
                if self.experiment.machine.hosts.coordinator or not recorded:
                    raise
            left = [item for item in left if self._is_open(item)]

    def _failures(self, left: list[Planned]) -> dict[str, Failure | None]:
        return {item.run.id: read_failure(run_directory(self.experiment.directory, item.run.id)) for item in left}

    def _is_open(self, item: Planned) -> bool:
        failure = read_failure(run_directory(self.experiment.directory, item.run.id))
        return not ended(self.experiment.directory, item.run.id) and not (failure and failure.final)


class Jobs(Protocol):
    """The jobs of a sweep that one scheduler knows; each claims one run after another."""

    def submit(self, planned: Sequence[Planned], count: int) -> None:
        """Queues `count` jobs that choose from `planned`."""

    def live(self) -> int | None:
        """How many are queued or running; None where the scheduler does not answer."""

    def last_error(self) -> str:
        """What the job that ended last reported."""


def supervise(directory: Path, jobs: Jobs, most: int, left: list[Planned], progress: SweepProgress) -> None:
    """Keeps at most `most` jobs training until no run of `left` can be trained any more; shows their progress.

    It knows only what is on disk or in the scheduler, so its process may be killed and started again.

    Raises:
        InputError: a run cannot be trained as it is.
        Unfinished: runs failed, or jobs end before they claim one; progress is saved.
    """
    runs = {p.run.id: p for p in left}
    seen: dict[str, RunState] = {}
    last_seen, fruitless = None, 0
    while True:
        for state in run_states(directory, list(runs)):
            _show(directory, state, seen.get(state.run), progress)
            seen[state.run] = state
            if state.stage in (Stage.ENDED, Stage.FAILED):
                del runs[state.run]
        if not runs:
            break
        free = sum(seen[run].stage is Stage.WAITING for run in runs)
        live = jobs.live()
        if live is not None and (count := min(most - live, len(runs) - live, free)) > 0:
            if live == 0:
                fruitless = fruitless + 1 if last_seen == seen else 0
                last_seen = dict(seen)
            if fruitless == MAX_FRUITLESS:
                raise Unfinished(f"{fruitless} rounds of jobs ended without claiming a run; {jobs.last_error()}")
            jobs.submit(list(runs.values()), count)
        time.sleep(POLL_SECONDS)
    _raise_failures(directory, list(seen.values()))


def _show(directory: Path, state: RunState, before: RunState | None, progress: SweepProgress) -> None:
    """Shows what changed in a run since `before`."""
    from mixscale.training import Progress

    if state.stage is Stage.ENDED:
        progress.take(read_rows(directory, state.run)[-1])
    elif state.stage is Stage.RUNNING and (now := state.progress):
        known = before.progress.tokens if before and before.progress else 0
        progress.take(Progress(state.run, now.done, now.total, max(0, now.tokens - known)))


def _raise_failures(directory: Path, states: list[RunState]) -> None:
    failed = [s for s in states if s.stage is Stage.FAILED and s.failure]
    if failed:
        first = failed[0].failure
        raise type(first.exception())(
            f"{len(failed)} of {len(states)} runs failed (`mixscale status {directory}` lists them; rerun the same "
            f"command to try them again); run {failed[0].run}: {first.why}"
        )
