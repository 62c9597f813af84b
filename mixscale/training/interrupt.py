"""Signals that ask a process to stop: a scheduler sends one, and kills what has not ended some time later.

Meanwhile the loop ends the dispatch it is in, saves and leaves; the same command then goes on from there.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType

from mixscale.errors import Interrupted

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""SIGTERM is what schedulers and clouds send first; SIGUSR1 what `sbatch --signal=USR1@120` sends before the limit."""


class Interrupt:
    """While it is entered, the first of `SIGNALS` to arrive is noted, and none of them ends the process.

    Only a process's main thread may take signals; entered in another it notes nothing, and they do what they did.
    """

    def __init__(self) -> None:
        self._number = 0
        self._before: dict[int, object] = {}

    @property
    def asked(self) -> bool:
        """Whether this process has been asked to stop."""
        return self._number != 0

    def exception(self) -> Interrupted:
        """What to raise once everything is saved; a process that stops because another was asked may raise it too."""
        return Interrupted(self._number or signal.SIGTERM)

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._number = self._number or number
