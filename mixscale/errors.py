"""The exceptions whose message is for the user, and the words that messages share.

The command line prints the message and exits with status 2 (wrong input), 1 (unfinished work) or, after a signal, 128
plus its number; any other exception is a defect and keeps its stack trace. A message names what is wrong, the value it
had, and the remedy.
"""

from __future__ import annotations

import difflib
import signal
from collections.abc import Iterable


class InputError(ValueError):
    """Input (config, table, mixture, file) that cannot be used as it is."""


class Unfinished(RuntimeError):
    """Work that stopped for a reason other than its input; progress is saved, and a rerun resumes it."""

    status = 1


class Interrupted(Unfinished):
    """Work that saved its progress and stopped because of signal `number`.

    Its exit status is that of a process that the signal ended, so that schedulers restart it as a preempted job.
    """

    def __init__(self, number: int):
        super().__init__(
            f"Interrupted by {signal.Signals(number).name}. Progress is saved; rerun the same command to resume"
        )
        self.number, self.status = number, 128 + number


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a sentence: the name in `known` that is nearest to `name`, or else all of them."""
    names = sorted({str(k) for k in known})
    close = difflib.get_close_matches(name.lower(), [n.lower() for n in names], n=1, cutoff=0.5)
    if close:
        return f"; did you mean '{next(n for n in names if n.lower() == close[0])}'?"
    return f" (found: {listed(names)})"


def listed(names: list[str]) -> str:
    """Names for a sentence, at most a dozen."""
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def os_message(error: OSError) -> str:
    return f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
