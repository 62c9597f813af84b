"""The state of each run on disk: waiting, running, failed or ended, its progress and its last failure.

The process that holds a run's claim writes the state; any process that sees the folder reads it.
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
from typing import TYPE_CHECKING, Any, ClassVar, Self

from mixscale.errors import InputError, Interrupted, Unfinished, os_message
from mixscale.sweeps.directory import ended, read_json, run_directory, write_json
from mixscale.sweeps.queue import Holder, claim, holder

if TYPE_CHECKING:
    from mixscale.training import Progress

ATTEMPTS = 3  # failures in a row without progress after which a run is given up
PROGRESS_SECONDS = 5.0  # between two writes of a run's progress


class Stage(StrEnum):
    WAITING = "waiting"  # free to be claimed, perhaps with progress and failures
    RUNNING = "running"
    FAILED = "failed"  # given up
    ENDED = "ended"  # complete or diverged


class Record:
    """A dataclass that is saved in a run's folder, as `file`."""

    file: ClassVar[str]

    @classmethod
    def read(cls, path: Path) -> Self | None:
        try:
            return cls(**read_json(path / cls.file))
        except FileNotFoundError:
            return None

    def write(self, path: Path) -> None:
        write_json(path / self.file, asdict(self))

    @classmethod
    def clear(cls, path: Path) -> None:
        (path / cls.file).unlink(missing_ok=True)


@dataclass(frozen=True)
class RunProgress(Record):
    """Progress of the process that trains a run, in optimizer steps of all segments."""

    file = "progress.json"

    done: int
    total: int
    tokens: int  # trained by this process since its first dispatch, which compiles
    first_done: int  # steps done when that dispatch ended
    since: float  # when it ended, in seconds since 1970
    at: float

    @property
    def steps_per_second(self) -> float | None:
        return (self.done - self.first_done) / (self.at - self.since) if self.done > self.first_done else None


@dataclass(frozen=True)
class Failure(Record):
    """What last stopped a run or a worker."""

    file = "failure.json"

    kind: str  # `input`, `unfinished`, or `defect`, which has its stack trace in `why`
    why: str
    times: int = 1  # failures in a row without progress in between
    host: str = ""
    at: float = 0.0  # seconds since 1970
    done: int = 0  # the most optimizer steps that the run had done
    together: int = 1  # runs that were trained together; where several, another of them may have caused it

    @property
    def exhausted(self) -> bool:
        """Whether the run must not be tried again together with these runs."""
        return self.times >= ATTEMPTS

    @property
    def final(self) -> bool:
        """Whether the run is given up."""
        return self.kind == "input" or (self.exhausted and self.together == 1)

    @classmethod
    def of(cls, error: BaseException, times: int = 1, done: int = 0, together: int = 1) -> Failure:
        """From an error: its message if that is for the user, else its stack trace."""
        if isinstance(error, OSError):
            kind, why = "unfinished", f"{os_message(error)}; progress is saved"
        elif isinstance(error, InputError | Unfinished):
            kind, why = "input" if isinstance(error, InputError) else "unfinished", str(error)
        else:
            kind, why = "defect", "".join(traceback.format_exception(error))
        return cls(kind, why, times, platform.node(), time.time(), done, together)

    def exception(self) -> Exception:
        return {"input": InputError, "unfinished": Unfinished}.get(self.kind, RuntimeError)(self.why)


@dataclass(frozen=True)
class RunState:
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
        if run not in started:
            yield RunState(run, Stage.WAITING)
        elif ended(directory, run):
            yield RunState(run, Stage.ENDED)
        else:
            path = run_directory(directory, run)
            failure, held, progress = Failure.read(path), holder(path), RunProgress.read(path)
            stage = Stage.RUNNING if held else Stage.FAILED if failure and failure.final else Stage.WAITING
            yield RunState(run, stage, held, progress, failure)


def can_train(directory: Path, run: str) -> bool:
    """Whether the run has neither ended nor been given up."""
    failure = Failure.read(run_directory(directory, run))
    return not ended(directory, run) and not (failure and failure.final)


@contextmanager
def claimed(path: Path, together: int = 1) -> Iterator[bool]:
    """Holds the claim on a run's folder, and records failures: of the block, and of a holder that died.

    Yields:
        whether the run was free.
    """
    with claim(path, together) as held:
        if held is None:
            yield False
            return
        if dead := held.dead:
            reason = f"process {dead.pid} on {dead.host}, which trained the run, ended without an error message"
            record_failure(path, Unfinished(reason), dead.together)
        try:
            yield True
        except Exception as error:
            record_failure(path, error, together)
            raise


def record_failure(path: Path, error: Exception, together: int = 1) -> None:
    """Counts a failure of the run in folder `path` that was trained with `together` - 1 others, and marks the error.

    Only failures without progress in between add up, so a run that is often killed completes if it makes progress. An
    interrupt is no failure.
    """
    if isinstance(error, Interrupted):
        return
    before, now = Failure.read(path), RunProgress.read(path)
    done, times = now.done if now else 0, 1
    if before is not None and before.together == together:
        times = before.times + 1 if done <= before.done else 1
        done = max(done, before.done)
    with suppress(OSError):  # on a full disk, `error` itself names the reason
        Failure.of(error, times, done, together).write(path)
        error.recorded = True  # type: ignore[attr-defined]


def allow_retry(path: Path) -> None:
    """Forgets the failure of a run that was given up; failures of a population still split it."""
    failure = Failure.read(path)
    if failure and (failure.final or failure.together == 1):
        Failure.clear(path)


class ProgressWriter:
    """Forwards a worker's reports to `report`, and saves the progress of each run in its folder."""

    def __init__(self, directory: Path, report: Callable[[Any], None] = lambda message: None):
        self._directory, self._report = directory, report
        self._progress: dict[str, RunProgress] = {}
        self._written: dict[str, float] = {}

    def __call__(self, message: Progress | dict[str, Any]) -> None:
        self._report(message)
        if isinstance(message, dict):
            RunProgress.clear(run_directory(self._directory, message["run"]))
            return
        now = time.time()
        progress = self._progress.get(message.run)
        if progress is None:
            progress = RunProgress(message.done, message.total, 0, message.done, now, now)
        else:
            progress = replace(progress, done=message.done, tokens=progress.tokens + message.tokens, at=now)
        self._progress[message.run] = progress
        if now - self._written.get(message.run, 0.0) >= PROGRESS_SECONDS:
            self._written[message.run] = now
            progress.write(run_directory(self._directory, message.run))
