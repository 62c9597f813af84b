"""The exceptions whose message is for the user.

The command line prints their message and exits with status 2 (input to mend), 1 (work to start again) or, where a
signal stopped it, 128 and the signal's number; any other exception is a defect and keeps its stack trace. A message
names the thing that is wrong, the value it had, and what would be right.
"""

from __future__ import annotations

import difflib
import signal
from collections.abc import Iterable


class InputError(ValueError):
    """Input (config, table, mixture, file) that cannot be used as it stands."""


class Unfinished(RuntimeError):
    """Work that stopped through no fault of its input; what was done is kept, and starting again goes on."""

    status = 1


class Interrupted(Unfinished):
    """Work that a signal asked to stop, and that was saved first.

    Args:
        number: of the signal. The exit status is what a shell gives a process that a signal ended (143 for SIGTERM),
            so that a scheduler which starts preempted jobs again takes it for one.
    """

    def __init__(self, number: int):
        super().__init__(
            f"Interrupted by {signal.Signals(number).name}. Progress is saved; rerun the same command to resume"
        )
        self.number, self.status = number, 128 + number


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a sentence that names what `name` was probably meant to be, or else what there is."""
    names = sorted({str(k) for k in known})
    close = difflib.get_close_matches(name.lower(), [n.lower() for n in names], n=1, cutoff=0.5)
    if close:
        return f"; did you mean '{next(n for n in names if n.lower() == close[0])}'?"
    return f" (found: {listed(names)})"


def listed(names: list[str]) -> str:
    """Names for a sentence; a dozen of them at most."""
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
