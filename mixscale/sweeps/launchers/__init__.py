"""Launchers start the workers that train a plan: on this machine, SLURM or Ray; and what all of them share.

Workers share only the experiment's folder: they claim runs there, and a run has ended when its rows are there. So a
sweep may change launchers, use several at once, and be killed at any time.

To add one, add its class to `config/machine.py` and a module here, named after the class, with a function `launch`;
one for a cluster gives `supervise` its `Jobs`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mixscale.config import Experiment
from mixscale.errors import Unfinished
from mixscale.sweeps.directory import read_rows, run_directory
from mixscale.sweeps.run_state import ProgressWriter, RunState, Stage, allow_retry, can_train, run_states
from mixscale.sweeps.status import SweepProgress
from mixscale.sweeps.worker import unfinished, work

if TYPE_CHECKING:
    from mixscale.sweeps.plan import Planned

POLL_SECONDS = 2.0  # between two reads of the folder
MAX_FRUITLESS = 3  # rounds of jobs that may end without a change in the folder before the sweep gives up


def train_all(experiment: Experiment, store_path: Path, planned: list[Planned]) -> None:
    """Trains every planned run that has not ended, failed ones again, and shows progress; returns when all have ended.

    Raises:
        InputError: a run cannot be trained as it is configured.
        Unfinished: a worker was killed, or another process is training some of the runs; progress is saved.
        RuntimeError: a worker failed, with its stack trace.
    """
    left = unfinished(experiment, planned)
    if not left:
        return
    for item in left:
        allow_retry(run_directory(experiment.directory, item.run.id))
    launcher = import_module(f"{__name__}.{type(experiment.launcher).__name__.lower()}")
    with SweepProgress(planned, left, experiment.objective) as progress:
        launcher.launch(experiment, store_path, left, progress)
    if missing := unfinished(experiment, left):
        raise Unfinished(
            f"another process is training {len(missing)} of the runs (`mixscale status {experiment.directory}` shows "
            "them); rerun the same command when it has finished"
        )


def use_one_thread() -> None:
    """XLA of this process computes in one thread; call it before JAX looks for devices."""
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()


@dataclass(frozen=True)
class Job:
    """A job on a cluster's node: it claims and trains one run after another until none is free."""

    experiment: Experiment
    store_path: Path
    planned: list[Planned]
    folder: Path  # that relative paths start from
    one_core: bool  # more threads would slow the job down

    def __call__(self) -> None:
        os.chdir(self.folder)
        if self.one_core:
            use_one_thread()
        directory = self.experiment.directory
        writer, left = ProgressWriter(directory), self.planned
        while left:
            try:
                work(self.experiment, self.store_path, left, writer)
                return
            except Unfinished:
                raise
            except Exception as error:
                # A recorded failure belongs to a run, which is retried or given up; otherwise the job itself is
                # broken. The hosts of one job must have the same runs left, which only a new job ensures.
                if self.experiment.machine.hosts.coordinator or not getattr(error, "recorded", False):
                    raise
            left = [item for item in left if can_train(directory, item.run.id)]


class Jobs(Protocol):
    """The jobs of a sweep that one scheduler knows; each claims one run after another."""

    def submit(self, planned: Sequence[Planned], count: int) -> None:
        """Queues `count` jobs that choose from `planned`."""

    def live(self) -> int | None:
        """How many are queued or running; None where the scheduler does not answer."""

    def last_error(self) -> str:
        """What the job that ended last reported."""


def supervise(directory: Path, jobs: Jobs, most: int, left: list[Planned], progress: SweepProgress) -> None:
    """Keeps at most `most` jobs training until every run of `left` has ended or failed; shows their progress.

    All its state is on disk or in the scheduler, so its process may be killed and restarted. Raises the first error of
    runs that failed, or Unfinished if jobs end without claiming a run.
    """
    runs = {p.run.id: p for p in left}
    states: dict[str, RunState] = {}
    last_round, fruitless = None, 0
    while True:
        for state in run_states(directory, list(runs)):
            _show(directory, state, states.get(state.run), progress)
            states[state.run] = state
            if state.stage in (Stage.ENDED, Stage.FAILED):
                del runs[state.run]
        if not runs:
            break
        free = sum(states[run].stage is Stage.WAITING for run in runs)
        live = jobs.live()
        if live is not None and (count := min(most - live, len(runs) - live, free)) > 0:
            if live == 0:
                fruitless = fruitless + 1 if last_round == states else 0
                last_round = dict(states)
            if fruitless == MAX_FRUITLESS:
                raise Unfinished(f"{fruitless} rounds of jobs ended without claiming a run; {jobs.last_error()}")
            jobs.submit(list(runs.values()), count)
        time.sleep(POLL_SECONDS)
    failures = {run: state.failure for run, state in states.items() if state.stage is Stage.FAILED and state.failure}
    for run, failure in failures.items():
        raise type(failure.exception())(
            f"{len(failures)} of {len(states)} runs failed (`mixscale status {directory}` lists them; rerun the same "
            f"command to try them again); run {run}: {failure.why}"
        )


def _show(directory: Path, state: RunState, before: RunState | None, progress: SweepProgress) -> None:
    """Shows what changed in a run since `before`."""
    from mixscale.training import Progress

    if state.stage is Stage.ENDED:
        progress.take(read_rows(directory, state.run)[-1])
    elif state.stage is Stage.RUNNING and (now := state.progress):
        known = before.progress.tokens if before and before.progress else 0
        progress.take(Progress(state.run, now.done, now.total, max(0, now.tokens - known)))
