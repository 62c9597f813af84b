"""Why a run has not ended: what failed while it was trained, and how often. The record goes once the run has ended."""

from __future__ import annotations

import json
import platform
import time
import traceback
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from mixscale.errors import InputError, Unfinished
from mixscale.files import replaced

ATTEMPTS = 3
"""Times that a run may fail, or its process die, before a cluster's jobs leave it alone."""
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

    @property
    def final(self) -> bool:
        """Whether trying again is pointless."""
        return self.kind == "input" or self.times >= ATTEMPTS

    @classmethod
    def of(cls, error: BaseException, times: int = 1) -> Failure:
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
        return cls(kind, why, times, platform.node(), time.time())

    def raised(self) -> Exception:
        """As the exception it stands for."""
        return {"input": InputError, "unfinished": Unfinished}.get(self.kind, RuntimeError)(self.why)


def record(path: Path, error: Exception) -> None:
    """Keeps in a run's folder that it failed once more; work that was interrupted did not fail."""
    if isinstance(error, Unfinished) and not isinstance(error, Died):
        return
    before = read(path)
    failure = Failure.of(error, times=before.times + 1 if before else 1)
    # Where not even this can be written, the error itself says why.
    with suppress(OSError), replaced(path / FILE) as temporary:
        temporary.write_text(json.dumps(asdict(failure)))


def read(path: Path) -> Failure | None:
    """What stopped the run in this folder last."""
    try:
        return Failure(**json.loads((path / FILE).read_text()))
    except FileNotFoundError:
        return None


def forget(path: Path) -> None:
    (path / FILE).unlink(missing_ok=True)


class Died(Unfinished):
    """A process ended without giving its claims back."""
