"""How far every run of a folder is: noted by who trains it, read by whoever asks, on any machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixscale.sweeps import failures, reached
from mixscale.sweeps.claims import Holder, holder
from mixscale.sweeps.directory import run_directory
from mixscale.sweeps.failures import Failure
from mixscale.sweeps.reached import Reached

if TYPE_CHECKING:
    from mixscale.training import Progress

OFTEN = 5.0
"""Seconds between two notes of how far a run is."""


@dataclass(frozen=True)
class Standing:
    """Where one run stands."""

    run: str
    state: str
    """`ended`, `running`, `failed` (and left alone) or `waiting`, perhaps with steps done and failures behind it"""
    holder: Holder | None = None
    reached: Reached | None = None
    failure: Failure | None = None


class Notes:
    """Passes a worker's reports on, and notes in each run's folder how far it is.

    Args:
        directory: of the experiment.
        report: is told everything.
    """

    def __init__(self, directory: Path, report: Callable[[Any], None]):
        self._directory, self._report = directory, report
        self._reached: dict[str, Reached] = {}
        self._noted: dict[str, float] = {}

    def __call__(self, message: Progress | dict[str, Any]) -> None:
        self._report(message)
        if isinstance(message, dict):
            reached.forget(run_directory(self._directory, message["run"]))
            return
        now = time.time()
        known = self._reached.get(message.run)
        if known is None:
            here = Reached(message.done, message.total, 0, message.done, now, now)
        else:
            here = replace(known, done=message.done, tokens=known.tokens + message.tokens, at=now)
        self._reached[message.run] = here
        if now - self._noted.get(message.run, 0.0) >= OFTEN:
            self._noted[message.run] = now
            reached.note(run_directory(self._directory, message.run), here)


def standings(directory: Path, runs: Iterable[str]) -> Iterator[Standing]:
    """Where each of `runs` stands, in their order."""
    folder = directory / "runs"
    begun = set(os.listdir(folder)) if folder.exists() else set()
    for run in runs:
        yield _standing(directory, run) if run in begun else Standing(run, "waiting")


def _standing(directory: Path, run: str) -> Standing:
    path = run_directory(directory, run)
    if (path / "rows.json").exists():
        return Standing(run, "ended")
    failure, held = failures.read(path), holder(path)
    if held:
        return Standing(run, "running", held, reached.read(path), failure)
    return Standing(run, "failed" if failure and failure.final else "waiting", None, reached.read(path), failure)
