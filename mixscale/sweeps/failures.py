"""Why a run has not ended: what failed while it was trained, and how often. The record goes once the run has ended."""

from __future__ import annotations

import json
import platform
import time
import traceback
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from mixscale.errors import InputError, Interrupted, Unfinished
from mixscale.io import atomic_write
from mixscale.sweeps import reached

ATTEMPTS = 3
"""Times in a row that a run may fail, or its process die, without getting further, before it is left alone."""
FILE = "failure.json"


@dataclass(frozen=True)
class Failure:
    """What stopped a run, or a worker, last."""

    kind: str
    """`input`, `unfinished`, or `defect`, which has its stack trace in `why`"""
    why: str
    times: int = 1
    host: str = ""
    at: float = 0.0
    """seconds since 1970"""
    done: int = 0
    """optimizer steps that the run had done, at the furthest"""
    together: int = 1
    """runs that were trained together; where several, another of them may be to blame"""

    @property
    def spent(self) -> bool:
        """Whether it must not be tried in this way again."""
        return self.times >= ATTEMPTS

    @property
    def final(self) -> bool:
        """Whether trying again is pointless."""
        return self.kind == "input" or (self.spent and self.together == 1)

    @classmethod
    def of(cls, error: BaseException, times: int = 1, done: int = 0, together: int = 1) -> Failure:
        """For a person: a sentence where the error is one, else the stack trace."""
        if isinstance(error, InputError):
            kind, why = "input", str(error)
        elif isinstance(error, Unfinished):
            kind, why = "unfinished", str(error)
        elif isinstance(error, OSError):
            where = f": {error.filename}" if error.filename else ""
            kind, why = "unfinished", f"{error.strerror or error}{where}; what had finished is kept"
        else:
            kind, why = "defect", "".join(traceback.format_exception(error))
        return cls(kind, why, times, platform.node(), time.time(), done, together)

    def raised(self) -> Exception:
        """As the exception it stands for."""
        return {"input": InputError, "unfinished": Unfinished}.get(self.kind, RuntimeError)(self.why)


def record(path: Path, error: Exception, together: int = 1) -> None:
    """Keeps in a run's folder that it failed once more; work that was asked to stop did not fail.

    Counted are failures without getting further in between: a run that is killed again and again but goes on each
    time comes to its end.

    Args:
        path: folder of the run.
        error: what it failed with.
        together: runs that were trained with it, itself included.
    """
    if isinstance(error, Interrupted):
        return
    before, now = read(path), reached.read(path)
    done = now.done if now else 0
    if before is not None and before.together == together:
        times = before.times + 1 if done <= before.done else 1
        done = max(done, before.done)
    else:
        times = 1
    failure = Failure.of(error, times, done, together)
    # Where not even this can be written, the error itself says why.
    with suppress(OSError), atomic_write(path / FILE) as temporary:
        temporary.write_text(json.dumps(asdict(failure)))


def read(path: Path) -> Failure | None:
    """What stopped the run in this folder last."""
    try:
        return Failure(**json.loads((path / FILE).read_text()))
    except FileNotFoundError:
        return None


def forget(path: Path) -> None:
    (path / FILE).unlink(missing_ok=True)


def forgive(path: Path) -> None:
    """Has a run tried again that was left alone; what a population failed with leads to its runs' going on alone."""
    failure = read(path)
    if failure and (failure.final or failure.together == 1):
        forget(path)


class Died(Unfinished):
    """A process ended without giving its claims back."""
