"""The state of each run on disk: whether it waits, is trained, failed or ended, how far it is and what stopped it.

The process that holds a run's claim writes it; any process on any machine that sees the folder reads it.
"""

from __future__ import annotations

import os
import platform
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mixscale.errors import InputError, Interrupted, Unfinished
from mixscale.sweeps.directory import ended, read_json, run_directory, write_json
from mixscale.sweeps.queue import Holder, claim, holder

if TYPE_CHECKING:
    from mixscale.training import Progress

ATTEMPTS = 3
"""Times in a row that a run may fail, or its process die, without progress, before it is given up."""
NOTE_SECONDS = 5.0
"""Seconds between two notes of a run's progress."""
PROGRESS, FAILURE = "progress.json", "failure.json"


class Stage(StrEnum):
    """What a run's folder says of it."""

    WAITING = "waiting"
    """free to be claimed, perhaps with progress and failures"""
    RUNNING = "running"
    FAILED = "failed"
    """given up"""
    ENDED = "ended"
    """complete or diverged"""


@dataclass(frozen=True)
class RunProgress:
    """How far the process that trains a run is, in optimizer steps of all segments."""

    done: int
    total: int
    tokens: int
    """trained by this process since its first dispatch, which compiles"""
    first_done: int
    """steps done when that dispatch ended"""
    since: float
    """when it ended, in seconds since 1970"""
    at: float

    @property
    def steps_per_second(self) -> float | None:
        """None before there is anything to measure."""
        return (self.done - self.first_done) / (self.at - self.since) if self.done > self.first_done else None


@dataclass(frozen=True)
class Failure:
    """What stopped a run, or a worker, last."""

    kind: str
    """`input`, `unfinished`, or `defect`, which has its stack trace in `why`"""
    why: str
    times: int = 1
    """failures in a row without progress in between"""
    host: str = ""
    at: float = 0.0
    """seconds since 1970"""
    done: int = 0
    """the most optimizer steps that the run had done"""
    together: int = 1
    """runs that were trained together; where several, another of them may have caused it"""

    @property
    def exhausted(self) -> bool:
        """Whether the run must not be tried again in this way."""
        return self.times >= ATTEMPTS

    @property
    def final(self) -> bool:
        """Whether the run is given up."""
        return self.kind == "input" or (self.exhausted and self.together == 1)

    @classmethod
    def of(cls, error: BaseException, times: int = 1, done: int = 0, together: int = 1) -> Failure:
        """The sentence of an error that has one for the user, else its stack trace."""
        if isinstance(error, OSError):
            where = f": {error.filename}" if error.filename else ""
            kind, why = "unfinished", f"{error.strerror or error}{where}; progress is saved"
        elif isinstance(error, InputError | Unfinished):
            kind, why = "input" if isinstance(error, InputError) else "unfinished", str(error)
        else:
            kind, why = "defect", "".join(traceback.format_exception(error))
        return cls(kind, why, times, platform.node(), time.time(), done, together)

    def exception(self) -> Exception:
        return {"input": InputError, "unfinished": Unfinished}.get(self.kind, RuntimeError)(self.why)


@dataclass(frozen=True)
class RunState:
    """The state of one run."""

    run: str
    stage: Stage
    holder: Holder | None = None
    progress: RunProgress | None = None
    failure: Failure | None = None


def run_states(directory: Path, runs: Iterable[str]) -> Iterator[RunState]:
    """The states of `runs`, in their order."""
    folder = directory / "runs"
    started = set(os.listdir(folder)) if folder.exists() else set()
    for run in runs:
        yield _state(directory, run) if run in started else RunState(run, Stage.WAITING)


@contextmanager
def claimed(path: Path, together: int = 1) -> Iterator[bool]:
    """Holds the claim on a run's folder, as `queue.claim`, and records failures: its own and a dead holder's.

    Yields:
        Whether the run was free.
    """
    with claim(path, together) as held:
        if held is None:
            yield False
            return
        if dead := held.dead:
            reason = f"process {dead.pid} on {dead.host}, which trained the run, died without an error message"
            record_failure(path, Unfinished(reason), dead.together)
        try:
            yield True
        except Exception as error:
            record_failure(path, error, together)
            raise


def record_failure(path: Path, error: Exception, together: int = 1) -> None:
    """Counts a failure of the run in folder `path`; a process that was asked to stop did not fail.

    Only failures without progress in between add up, so a run that is killed again and again completes if it gets
    further each time.

    Args:
        together: runs that were trained with it, itself included.
    """
    if isinstance(error, Interrupted):
        return
    before, now = read_failure(path), read_progress(path)
    done, times = now.done if now else 0, 1
    if before is not None and before.together == together:
        times = before.times + 1 if done <= before.done else 1
        done = max(done, before.done)
    # Where the disk is full, the error itself tells the reason.
    with suppress(OSError):
        write_json(path / FAILURE, asdict(Failure.of(error, times, done, together)))


def read_failure(path: Path) -> Failure | None:
    """What stopped the run in folder `path` last."""
    return _read(path / FAILURE, Failure)


def clear_failure(path: Path) -> None:
    (path / FAILURE).unlink(missing_ok=True)


def allow_retry(path: Path) -> None:
    """Allows a run that was given up to be tried again; the failures of its population still split the population."""
    failure = read_failure(path)
    if failure and (failure.final or failure.together == 1):
        clear_failure(path)


def read_progress(path: Path) -> RunProgress | None:
    """How far the run in folder `path` is; None where no process has noted it."""
    return _read(path / PROGRESS, RunProgress)


def write_progress(path: Path, progress: RunProgress) -> None:
    write_json(path / PROGRESS, asdict(progress))


def clear_progress(path: Path) -> None:
    (path / PROGRESS).unlink(missing_ok=True)


class ProgressWriter:
    """Forwards a worker's reports, and notes the progress of each run in its folder.

    Args:
        directory: of the experiment.
        report: receives every report.
    """

    def __init__(self, directory: Path, report: Callable[[Any], None] = lambda message: None):
        self._directory, self._report = directory, report
        self._progress: dict[str, RunProgress] = {}
        self._noted: dict[str, float] = {}

    def __call__(self, message: Progress | dict[str, Any]) -> None:
        self._report(message)
        if isinstance(message, dict):
            clear_progress(run_directory(self._directory, message["run"]))
            return
        now = time.time()
        known = self._progress.get(message.run)
        if known is None:
            here = RunProgress(message.done, message.total, 0, message.done, now, now)
        else:
            here = replace(known, done=message.done, tokens=known.tokens + message.tokens, at=now)
        self._progress[message.run] = here
        if now - self._noted.get(message.run, 0.0) >= NOTE_SECONDS:
            self._noted[message.run] = now
            write_progress(run_directory(self._directory, message.run), here)


def _state(directory: Path, run: str) -> RunState:
    if ended(directory, run):
        return RunState(run, Stage.ENDED)
    path = run_directory(directory, run)
    failure, held, progress = read_failure(path), holder(path), read_progress(path)
    stage = Stage.RUNNING if held else Stage.FAILED if failure and failure.final else Stage.WAITING
    return RunState(run, stage, held, progress, failure)


T = TypeVar("T", RunProgress, Failure)


def _read(path: Path, kind: type[T]) -> T | None:
    try:
        return kind(**read_json(path))
    except FileNotFoundError:
        return None
