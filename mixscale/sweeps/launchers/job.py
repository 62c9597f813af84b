"""What runs on a node of a cluster: takes runs that nobody holds, one after another, until none is left to take."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from mixscale.config import Experiment
from mixscale.errors import Unfinished
from mixscale.sweeps import failures
from mixscale.sweeps.directory import ended, run_directory
from mixscale.sweeps.failures import Failure
from mixscale.sweeps.launchers.local import SINGLE_THREAD
from mixscale.sweeps.plan import Planned
from mixscale.sweeps.standing import Notes
from mixscale.sweeps.worker import work


@dataclass(frozen=True)
class Job:
    """Everything a node must be told.

    Args:
        experiment: with paths as the node sees them.
        store_path: folder of the token store.
        planned: the runs to take from.
        folder: that relative paths start from.
        alone: whether it has one core, where a second thread would only be in the way.
    """

    experiment: Experiment
    store_path: Path
    planned: list[Planned]
    folder: Path
    alone: bool

    def __call__(self) -> None:
        os.chdir(self.folder)
        if self.alone:
            # JAX reads it when it first looks for devices, which is later.
            os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {SINGLE_THREAD}".strip()
        notes = Notes(self.experiment.directory, lambda message: None)
        left = self.planned
        while left:
            failed = {item.run.id: self._failure(item) for item in left}
            try:
                work(self.experiment, self.store_path, left, notes)
                return
            except Unfinished:
                raise
            except Exception:
                # Hosts of one job must all go on with the same runs, which only a new job makes sure of.
                if self.experiment.machine.hosts.coordinator or not self._recorded_since(failed):
                    raise
            left = [item for item in left if self._open(item)]

    def _failure(self, item: Planned) -> Failure | None:
        return failures.read(run_directory(self.experiment.directory, item.run.id))

    def _recorded_since(self, before: dict[str, Failure | None]) -> bool:
        """Whether what failed belongs to a run, which is then tried again or left alone; else the job is broken."""
        found = {item.run.id: self._failure(item) for item in self.planned}
        return any(found[run] not in (None, failure) for run, failure in before.items())

    def _open(self, item: Planned) -> bool:
        failure = self._failure(item)
        return not ended(self.experiment.directory, item.run.id) and not (failure and failure.final)
