"""How far a run is, as its folder says: noted by the process that trains it, and left there when that process dies."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from mixscale.io import atomic_write

FILE = "progress.json"


@dataclass(frozen=True)
class Reached:
    """How far the process that trains a run is, in optimizer steps of all segments."""

    done: int
    total: int
    tokens: int
    """trained by this process since its first dispatch, which compiles"""
    before: int
    """steps that were done when that dispatch ended"""
    began: float
    """when it ended, in seconds since 1970"""
    at: float

    @property
    def steps_per_second(self) -> float | None:
        """None before there is anything to measure."""
        return (self.done - self.before) / (self.at - self.began) if self.done > self.before else None


def note(path: Path, reached: Reached) -> None:
    """Leaves in a run's folder how far it is."""
    with atomic_write(path / FILE) as temporary:
        temporary.write_text(json.dumps(asdict(reached)))


def read(path: Path) -> Reached | None:
    """How far the run in this folder is; None where nobody has said so."""
    try:
        return Reached(**json.loads((path / FILE).read_text()))
    except FileNotFoundError:
        return None


def forget(path: Path) -> None:
    (path / FILE).unlink(missing_ok=True)
