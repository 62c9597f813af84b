"""What a person sees of a build: a bar a step, with bytes, speed and what is being read."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

BETWEEN = 0.1
"""seconds between two drawings, which take longer than many documents"""


class Bar:
    """Of one step of a build; drawn when it moves.

    Drawing from a thread of its own, as rich does by itself, fails while TFDS imports its parts in another.
    """

    def __init__(self, progress: Progress, task: TaskID):
        self._progress, self._task, self._drawn = progress, task, 0.0

    def advance(self, done: int, domain: str) -> None:
        self._progress.update(self._task, advance=done, domain=domain)
        if time.monotonic() - self._drawn > BETWEEN:
            self._progress.refresh()
            self._drawn = time.monotonic()


class Bars:
    def __init__(self, progress: Progress):
        self._progress = progress

    @contextmanager
    def step(self, name: str, total: int) -> Iterator[Bar]:
        """A bar for one step of a build; `total` in bytes of files or text."""
        task = self._progress.add_task(name, total=total, domain="")
        self._progress.refresh()
        yield Bar(self._progress, task)
        # Caps leave some of it unread.
        self._progress.update(task, total=self._progress.tasks[task].completed, domain="", refresh=True)


@contextmanager
def bars(shown: bool) -> Iterator[Bars]:
    columns = TextColumn("{task.description:10}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with Progress(
        *columns,
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[domain]}"),
        console=Console(stderr=True),
        auto_refresh=False,
        disable=not shown,
    ) as progress:
        yield Bars(progress)
