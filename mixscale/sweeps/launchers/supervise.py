"""The driver of a sweep on a cluster: queues jobs for as long as runs are free, and shows how far they are.

It holds nothing that is not on disk or known to the scheduler, so it may die and come back: what has ended, what is
held and by whom, and what failed is read from the experiment's folder.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from mixscale.errors import Unfinished
from mixscale.sweeps.directory import run_directory
from mixscale.sweeps.plan import Planned
from mixscale.sweeps.progress import SweepProgress
from mixscale.sweeps.standing import Standing, standings
from mixscale.training import Progress

POLL = 2.0
"""Seconds between two looks at the folder."""
FRUITLESS = 3
"""Rounds of jobs that may end without a trace before the sweep gives up."""


class Jobs(Protocol):
    """Jobs that one scheduler knows; each takes free runs, one after another."""

    def submit(self, planned: Sequence[Planned], count: int) -> None:
        """Queues `count` jobs that take from `planned`."""

    def live(self) -> int | None:
        """How many are queued or running; None where the scheduler does not answer."""

    def last_words(self) -> str:
        """What the job that ended last said."""


def supervise(directory: Path, jobs: Jobs, most: int, left: list[Planned], progress: SweepProgress) -> None:
    """Has `jobs` train what is left, at most `most` of them at a time; returns when no run is left to train.

    Raises:
        InputError: a run cannot be trained as it stands.
        Unfinished: runs failed, or jobs end before they take one; what was trained is kept.
    """
    watch = _Watch(directory, left, progress)
    trace, fruitless = None, 0
    while True:
        open_ = watch.look()
        if not open_:
            break
        free = [p for p in open_ if watch.seen[p.run.id].state == "waiting"]
        live = jobs.live()
        if live is not None and (count := min(most - live, len(open_) - live, len(free))) > 0:
            if live == 0:
                fruitless = fruitless + 1 if trace == watch.trace() else 0
                trace = watch.trace()
            if fruitless == FRUITLESS:
                raise Unfinished(f"{fruitless} rounds of jobs ended without taking a run; {jobs.last_words()}")
            jobs.submit(open_, count)
        time.sleep(POLL)
    _raise_failures(directory, watch)


class _Watch:
    """What is new in the folder since the last look, for the person who waits."""

    def __init__(self, directory: Path, planned: list[Planned], progress: SweepProgress):
        self._directory, self._progress = directory, progress
        self._open = {p.run.id: p for p in planned}
        self._tokens: dict[str, int] = {}
        self.seen: dict[str, Standing] = {}

    def look(self) -> list[Planned]:
        """The runs that are still to be trained."""
        for found in standings(self._directory, list(self._open)):
            self.seen[found.run] = found
            if found.state == "ended":
                rows = json.loads((run_directory(self._directory, found.run) / "rows.json").read_text())
                self._progress.take(rows[-1])
            elif found.state == "running" and found.reached:
                tokens = found.reached.tokens
                new = max(0, tokens - self._tokens.get(found.run, 0))
                self._tokens[found.run] = tokens
                self._progress.take(Progress(found.run, found.reached.done, found.reached.total, new))
            if found.state in ("ended", "failed"):
                del self._open[found.run]
        return list(self._open.values())

    def trace(self) -> object:
        """What changes wherever a job did anything."""
        return {s.run: (s.state, s.holder, s.reached, s.failure) for s in self.seen.values()}


def _raise_failures(directory: Path, watch: _Watch) -> None:
    failed = [s for s in watch.seen.values() if s.state == "failed" and s.failure]
    if failed:
        first = failed[0].failure
        raise type(first.raised())(
            f"{len(failed)} of {len(watch.seen)} runs failed (`mixscale status {directory}` lists them, and the same "
            f"command tries them again); run {failed[0].run}: {first.why}"
        )
