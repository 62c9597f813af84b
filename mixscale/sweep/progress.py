"""What a person sees while a sweep trains: one bar for all, one line for every run that ends."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from mixscale.sweep.plan import Planned


class SweepProgress:
    """Shows the messages of workers.

    Args:
        planned: all runs, to count against.
        left: those that have not ended.
    """

    def __init__(self, planned: list[Planned], left: list[Planned]):
        self._all, self._ended = len(planned), len(planned) - len(left)
        self._by_id = {p.run.id: p for p in left}
        self._share: dict[str, float] = {}
        self._tokens = 0
        self._console = Console()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[speed]}"),
            console=self._console,
        )
        self._task = self._bar.add_task(self._title(), total=len(left), speed="compiling")
        self._started: float | None = None

    def __enter__(self) -> SweepProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def take(self, message: Any) -> None:
        """A `train.Progress`, or the last row of a run that ended."""
        if isinstance(message, dict):
            self._end(message)
            return
        # The clock starts with the first report, when what is left is training and no more compiling.
        if self._started is None:
            self._started = time.perf_counter()
        else:
            self._tokens += message.tokens
        self._share[message.run] = message.done / message.total
        self._update()

    def _end(self, row: dict[str, Any]) -> None:
        self._ended += 1
        self._share[row["run"]] = 1.0
        item = self._by_id[row["run"]]
        losses = [v for k, v in row.items() if k.startswith("loss/")]
        outcome = f"plain mean loss {np.mean(losses):.4f}" if row["status"] == "complete" else row["status"]
        what = f"{row['run']}  {item.run.size}  seed {row['seed']}  {item.role}/{item.origin}"
        self._console.print(f"[{self._ended}/{self._all}] {what}  {outcome}  {row['seconds']:.1f} s", markup=False)
        self._update()

    def _update(self) -> None:
        done = sum(self._share.values())
        elapsed = time.perf_counter() - (self._started or time.perf_counter())
        speed = "compiling"
        if elapsed > 1 and self._tokens:
            left = len(self._by_id) - done
            minutes, seconds = divmod(round(elapsed * left / max(done, 1e-9)), 60)
            speed = f"{self._tokens / elapsed / 1e3:.1f}k tokens/s  {minutes}:{seconds:02d} left"
        self._bar.update(self._task, completed=done, description=self._title(), speed=speed)

    def _title(self) -> str:
        return f"{self._ended}/{self._all} runs"
