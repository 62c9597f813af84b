"""What a person sees while a sweep trains: one bar for all, or lines in a log; and a line for each run that ends."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from mixscale.models import count_parameters

if TYPE_CHECKING:
    from mixscale.sweeps.plan import Planned

EVERY = 30.0
"""Seconds between two lines where there is no terminal for a bar."""
BETWEEN = 0.1
"""Seconds between two drawings of the bar."""
SETTLED = 1.0
"""Seconds of training before a speed is worth telling."""


class SweepProgress:
    """Shows the messages of workers.

    Args:
        planned: all runs, to count against.
        left: those that have not ended.
        weights: of each target's loss in the goal, by name; all count the same where none are given.
        console: where; standard output where none is given.
    """

    def __init__(
        self,
        planned: list[Planned],
        left: list[Planned],
        weights: Mapping[str, float] | None = None,
        console: Console | None = None,
    ):
        self._weights = weights or {}
        self._all, self._ended = len(planned), len(planned) - len(left)
        self._by_id = {p.run.id: p for p in left}
        self._pace = Pace({p.run.id: _work(p) for p in left})
        self._mfu: dict[str, float] = {}
        self._tokens = 0
        self._console = console or Console()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[speed]}"),
            console=self._console,
            # Elsewhere it would be a bar of control characters in somebody's log.
            disable=not self._console.is_terminal,
            # rich's own thread would fail while TFDS imports its parts, which replaces `import` for all threads.
            auto_refresh=False,
        )
        self._task = self._bar.add_task(self._title(), total=1.0, speed="compiling")
        self._started: float | None = None
        self._told, self._drawn = time.perf_counter(), 0.0

    def __enter__(self) -> SweepProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._update()
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
        if message.mfu is not None:
            self._mfu[message.run] = message.mfu
        self._pace.take(message.run, message.done / message.total)
        self._draw()

    def _end(self, row: dict[str, Any]) -> None:
        self._ended += 1
        self._pace.end(row["run"])
        self._mfu.pop(row["run"], None)
        item = self._by_id[row["run"]]
        outcome = self._goal(row) if row["status"] == "complete" else row["status"]
        spikes = f"  {row['spikes']} loss spikes" if row.get("spikes") else ""
        what = f"{row['run']}  {item.run.size}  seed {row['seed']}  {item.role}/{item.origin}"
        self._print(f"[{self._ended}/{self._all}] {what}  {outcome}{spikes}  {row['seconds']:.1f} s")
        self._draw()

    def _goal(self, row: dict[str, Any]) -> str:
        """The mean loss by the weights that the optimum is solved with."""
        loss_by = {k.removeprefix("loss/"): v for k, v in row.items() if k.startswith("loss/")}
        if not self._weights:
            return f"mean loss {np.mean(list(loss_by.values())):.4f}"
        weight_by = {k.removeprefix("loss/"): v for k, v in self._weights.items()}
        mean = np.average(list(loss_by.values()), weights=[weight_by.get(t, 0.0) for t in loss_by])
        return f"weighted mean loss {mean:.4f}"

    def _draw(self) -> None:
        """Not at every message: there may be hundreds a second, and thousands of runs to add up."""
        if time.perf_counter() - self._drawn >= BETWEEN:
            self._update()

    def _update(self) -> None:
        speed = self._speed()
        self._bar.update(self._task, completed=self._pace.share, description=self._title(), speed=speed, refresh=True)
        now = self._drawn = time.perf_counter()
        if not self._console.is_terminal and now - self._told >= EVERY:
            self._told = now
            self._print(f"{self._title()}  {self._pace.share:.0%}  {speed}")

    def _speed(self) -> str:
        """Since the first report, of all workers; MFU is the mean over those that train."""
        elapsed = time.perf_counter() - (self._started or time.perf_counter())
        if elapsed < SETTLED or not self._tokens:
            return "compiling"
        words = [f"{self._tokens / elapsed / 1e3:.1f}k tokens/s"]
        if self._mfu:
            words.append(f"MFU {np.mean(list(self._mfu.values())):.0%}")
        seconds = self._pace.left(elapsed)
        return "  ".join(words if seconds is None else [*words, f"{clock(seconds)} left"])

    def _title(self) -> str:
        return f"{self._ended}/{self._all} runs"

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class Pace:
    """How much of a sweep's work is done, and how long the rest will take at the speed so far.

    Args:
        work: of each run that is left, in any unit.
    """

    def __init__(self, work: Mapping[str, float]):
        self._work = work
        self._share: dict[str, float] = {}
        self._found: dict[str, float] = {}

    @property
    def share(self) -> float:
        """Of the work that is done, what earlier processes did included."""
        return self._done(self._share) / sum(self._work.values())

    def take(self, run: str, share: float) -> None:
        """`run` has come so far; what it had done at its first report is not this sweep's."""
        self._found.setdefault(run, share)
        self._share[run] = share

    def end(self, run: str) -> None:
        """`run` has ended, seen before or not."""
        self._found.setdefault(run, 0.0)
        self._share[run] = 1.0

    def left(self, elapsed: float) -> float | None:
        """Seconds, when `elapsed` were needed so far; None before anything was done."""
        done, before = self._done(self._share), self._done(self._found)
        return elapsed * (sum(self._work.values()) - done) / (done - before) if done > before else None

    def _done(self, shares: Mapping[str, float]) -> float:
        return sum(self._work[run] * share for run, share in shares.items())


def clock(seconds: float) -> str:
    """As m:ss, or h:mm:ss from an hour."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}" if hours else f"{m}:{s:02d}"


def _work(planned: Planned) -> float:
    """Of a run: weights that multiply, times tokens. What the vocabulary adds is alike for all and left out."""
    run = planned.run
    return float(count_parameters(run.model, 0)[0] * run.train.tokens)
