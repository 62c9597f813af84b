"""What a person sees of a build: a bar a step, with bytes, speed and what is being read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Bar:
    progress: Progress
    task: TaskID

    def advance(self, done: int, domain: str) -> None:
        self.progress.update(self.task, advance=done, domain=domain)


@dataclass(frozen=True)
class Bars:
    progress: Progress

    @contextmanager
    def step(self, name: str, total: int) -> Iterator[Bar]:
        """A bar for one step of a build; `total` in bytes of files or text."""
        task = self.progress.add_task(name, total=total, domain="")
        # What rich imports when it first draws must not meet the imports of another thread.
        self.progress.refresh()
        yield Bar(self.progress, task)
        # Caps leave some of it unread.
        self.progress.update(task, total=self.progress.tasks[task].completed, domain="")


@contextmanager
def bars(shown: bool) -> Iterator[Bars]:
    columns = TextColumn("{task.description:10}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with Progress(
        *columns,
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[domain]}"),
        console=Console(stderr=True),
        disable=not shown,
    ) as progress:
        yield Bars(progress)
