"""What a person sees of a sweep: a bar or log lines in the process that trains it, and a table of any sweep's folder.

The table needs only the folder and no JAX, so any machine that sees the folder can show it.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from mixscale.errors import InputError
from mixscale.io import Status
from mixscale.objective import Objective
from mixscale.sweeps.directory import read_manifests, read_rows
from mixscale.sweeps.run_state import RunState, Stage, run_states

if TYPE_CHECKING:
    from mixscale.sweeps.plan import Planned

MAX_LISTED = 20  # runs that a table lists at most
COUNTED = (Status.COMPLETE, Status.DIVERGED, Stage.RUNNING, Stage.WAITING, Stage.FAILED)
LINE_SECONDS = 30.0  # between two log lines, if there is no terminal for a bar
DRAW_SECONDS = 0.1  # between two updates of the bar
SPEED_SECONDS = 1.0  # of training before the speed is shown


class SweepStatus:
    """The states of all planned runs of an experiment's folder; raises InputError if it holds no plan."""

    def __init__(self, directory: Path):
        self.planned = {run["run"]: run for run in read_manifests(directory)}  # the manifest's entry of each run
        if not self.planned:
            raise InputError(f"'{directory}' has no plan of a sweep; give an experiment's folder, such as runs/NAME")
        self.runs = list(run_states(directory, self.planned))
        self.counts: Counter[tuple[str, str]] = Counter()  # runs by size and state, one of `COUNTED`
        self.spent: dict[str, float] = defaultdict(float)  # training FLOPs by size
        self.speeds: dict[str, list[float]] = defaultdict(list)  # FLOP/s of the runs that have ended, by size
        for run in self.runs:
            size, state, flops = self.size_of(run), str(run.stage), self._done(run)
            if run.stage is Stage.ENDED:
                row = read_rows(directory, run.run)[-1]
                state = row["status"]
                flops = self.flops_of(run) if state == Status.COMPLETE else row["flops"]
                self.speeds[size].append(flops / row["seconds"])
            self.counts[size, state] += 1
            self.spent[size] += flops

    def at(self, *stages: Stage) -> list[RunState]:
        return [run for run in self.runs if run.stage in stages]

    @property
    def running(self) -> list[RunState]:
        return self.at(Stage.RUNNING)

    @property
    def done(self) -> bool:
        """Whether all runs have ended or failed."""
        return not self.at(Stage.RUNNING, Stage.WAITING)

    @property
    def rate(self) -> float:
        """FLOP/s of all running runs; one without a measured speed counts as those of its size that have ended."""
        return sum(map(self._rate, self.running))

    @property
    def seconds_left(self) -> float | None:
        """Until all runs have ended, if as many are trained at a time; None before a speed is measured."""
        left = {run.run: self.flops_of(run) - self._done(run) for run in self.at(Stage.RUNNING, Stage.WAITING)}
        if not self.rate:
            return None
        own = [left[run.run] / self._rate(run) for run in self.running if self._rate(run)]
        return max(sum(left.values()) / self.rate, *own)

    def size_of(self, run: RunState) -> str:
        return self.planned[run.run]["size"]

    def flops_of(self, run: RunState) -> float:
        return self.planned[run.run]["flops"]

    def _done(self, run: RunState) -> float:
        return self.flops_of(run) * run.progress.done / run.progress.total if run.progress else 0.0

    def _rate(self, run: RunState) -> float:
        if run.progress and run.progress.steps_per_second:
            return self.flops_of(run) * run.progress.steps_per_second / run.progress.total
        ended = self.speeds.get(self.size_of(run))
        return median(ended) if ended else 0.0


def render(status: SweepStatus) -> RenderableType:
    """The status for a terminal."""
    parts: list[RenderableType] = [_by_size(status), "", _outlook(status)]
    if status.running:
        parts += ["", _running(status)]
    if failed := [run for run in status.runs if run.failure and run.stage is not Stage.ENDED]:
        parts += ["", _failures(status, failed)]
    return Group(*parts)


def _by_size(status: SweepStatus) -> Table:
    table = _table("size", *COUNTED, "runs", "FLOPs", "of", elastic=("size",), numbers=8)
    planned: dict[str, list[float]] = defaultdict(list)
    for run in status.runs:
        planned[status.size_of(run)].append(status.flops_of(run))

    def add(name: Text | str, sizes: list[str], style: str | None = None) -> None:
        flops = [f for size in sizes for f in planned[size]]
        counts = [sum(status.counts[size, state] for size in sizes) for state in COUNTED]
        spent = sum(status.spent[size] for size in sizes)
        table.add_row(name, *map(str, [*counts, len(flops)]), f"{spent:.3g}", f"{sum(flops):.3g}", style=style)

    for size in planned:
        add(_cut(size), [size])
    if len(planned) > 1:
        add("all", list(planned), style="bold")
    return table


def _outlook(status: SweepStatus) -> str:
    if status.done:
        failed = len(status.at(Stage.FAILED))
        return f"done; {failed} runs failed" if failed else "all runs have ended"
    if not status.running:
        return "no run is in progress; resume with `mixscale sweep` and the experiment's config"
    left = status.seconds_left
    time_left = f"about {duration(left)} left" if left is not None else "time left unknown"
    return f"{len(status.running)} runs at a time, {status.rate:.3g} FLOP/s: {time_left}"


def _running(status: SweepStatus) -> Table:
    names = ("run", "size", "seed", "role", "host", "pid", "done", "steps/s", "time")
    table = _table(*names, elastic=("size", "role"))
    for run in status.running[:MAX_LISTED]:
        planned, progress, holder = status.planned[run.run], run.progress, run.holder
        share = f"{progress.done / progress.total:.0%}" if progress else "0%"
        speed = f"{progress.steps_per_second:.3g}" if progress and progress.steps_per_second else ""
        assert holder is not None
        role, host = _cut(f"{planned['role']}/{planned['origin']}"), _cut(_short(holder.host))
        what = (run.run, _cut(planned["size"]), str(planned["seed"]), role, host, str(holder.pid))
        table.add_row(*what, share, speed, duration(time.time() - holder.since))
    if len(status.running) > MAX_LISTED:
        table.caption = f"and {len(status.running) - MAX_LISTED} more"
    return table


def _failures(status: SweepStatus, failed: list[RunState]) -> Text:
    """A line for each run with its whole reason, which a table would cut."""
    text = Text()
    for run in failed[:MAX_LISTED]:
        failure = run.failure
        assert failure is not None
        times = "once" if failure.times == 1 else f"{failure.times} times"
        where = f" on {_short(failure.host)}" if failure.host else ""
        next_ = "given up" if run.stage is Stage.FAILED else "will be retried"
        text.append(f"{run.run} ({status.size_of(run)}) failed {times}{where}, {next_}: ")
        text.append(f"{failure.why.strip().splitlines()[-1]}\n")
    if len(failed) > MAX_LISTED:
        text.append(f"and {len(failed) - MAX_LISTED} more; failure.json in each run's folder has the full error\n")
    text.rstrip()
    return text


def _table(*columns: str, elastic: tuple[str, ...], numbers: int = 0) -> Table:
    """The last `numbers` columns are numbers; `elastic` ones are cut where the terminal is narrow."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for index, column in enumerate(columns):
        right = index >= len(columns) - numbers
        table.add_column(column, justify="right" if right else "left", no_wrap=column not in elastic)
    return table


def _cut(text: str) -> Text:
    return Text(text, no_wrap=True, overflow="ellipsis")


def _short(host: str) -> str:
    return host.split(".")[0]


def duration(seconds: float) -> str:
    """As m:ss, from an hour h:mm:ss, from a day with days."""
    days, rest = divmod(round(seconds), 86_400)
    hours, minutes, s = rest // 3600, rest // 60 % 60, rest % 60
    clock = f"{hours}:{minutes:02d}:{s:02d}" if days or hours else f"{minutes}:{s:02d}"
    return f"{days}d {clock}" if days else clock


class SweepProgress:
    """Shows the messages of workers: one bar for the whole sweep or lines in a log, and a line per run that ends.

    Args:
        planned: all runs, to count against.
        left: those that have not ended.
        objective: of the experiment.
        console: None: standard output.
    """

    def __init__(
        self,
        planned: list[Planned],
        left: list[Planned],
        objective: Objective = Objective(),  # noqa: B008
        console: Console | None = None,
    ):
        self._spec = objective
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
            disable=not self._console.is_terminal,  # in a log, a bar would be control characters
            # rich's own thread would fail while TFDS imports its parts, which replaces `import` for all threads.
            auto_refresh=False,
        )
        self._task = self._bar.add_task(self._title, total=1.0, speed="compiling")
        self._started: float | None = None
        self._last_line, self._drawn = time.perf_counter(), 0.0

    def __enter__(self) -> SweepProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._draw()
        self._bar.stop()

    def take(self, message: Any) -> None:
        """Shows a `training.Progress`, or the last row of a run that has ended."""
        if isinstance(message, dict):
            self._end(message)
        else:
            # The clock starts with the first report, when compiling is over.
            if self._started is None:
                self._started = time.perf_counter()
            else:
                self._tokens += message.tokens
            if message.mfu is not None:
                self._mfu[message.run] = message.mfu
            self._pace.take(message.run, message.done / message.total)
        # Not at every message: there may be hundreds a second, and thousands of runs to sum over.
        if time.perf_counter() - self._drawn >= DRAW_SECONDS:
            self._draw()

    @property
    def _title(self) -> str:
        return f"{self._ended}/{self._all} runs"

    def _end(self, row: dict[str, Any]) -> None:
        self._ended += 1
        self._pace.take(row["run"], 1.0, before=0.0)
        self._mfu.pop(row["run"], None)
        item = self._by_id[row["run"]]
        outcome = self._objective(row) if row["status"] == Status.COMPLETE else row["status"]
        spikes = f"  {row['spikes']} loss spikes" if row.get("spikes") else ""
        what = f"{row['run']}  {item.run.size}  seed {row['seed']}  {item.role}/{item.origin}"
        self._print(f"[{self._ended}/{self._all}] {what}  {outcome}{spikes}  {row['seconds']:.1f} s")

    def _objective(self, row: dict[str, Any]) -> str:
        """The objective of a run, or the mean if the objective is relative to another mixture."""
        losses = {column: value for column, value in row.items() if column.startswith("loss/")}
        of, y_T = self._spec.bind(list(losses)), np.array(list(losses.values()))
        return f"{of.mean_name} {of.mean(y_T):.4f}" if self._spec.reference else f"{of.name} {of.observed(y_T):.4f}"

    def _draw(self) -> None:
        speed, share = self._speed(), self._pace.share
        self._bar.update(self._task, completed=share, description=self._title, speed=speed, refresh=True)
        now = self._drawn = time.perf_counter()
        if not self._console.is_terminal and now - self._last_line >= LINE_SECONDS:
            self._last_line = now
            self._print(f"{self._title}  {share:.0%}  {speed}")

    def _speed(self) -> str:
        """Of all workers since the first report; MFU is the mean over the runs that train."""
        elapsed = time.perf_counter() - (self._started or time.perf_counter())
        if elapsed < SPEED_SECONDS or not self._tokens:
            return "compiling"
        parts = [f"{self._tokens / elapsed / 1e3:.1f}k tokens/s"]
        if self._mfu:
            parts.append(f"MFU {fmean(self._mfu.values()):.0%}")
        seconds = self._pace.seconds_left(elapsed)
        return "  ".join(parts if seconds is None else [*parts, f"{duration(seconds)} left"])

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class Pace:
    """How much of a sweep's work is done, and how long what is left takes at the speed so far."""

    def __init__(self, work: Mapping[str, float]):  # of each run that is left, in any unit
        self._work, self._total = work, sum(work.values())
        self._share: dict[str, float] = {}
        self._at_start: dict[str, float] = {}

    @property
    def share(self) -> float:
        """Of the work that is done, also by earlier processes."""
        return self._done(self._share) / self._total

    def take(self, run: str, share: float, before: float | None = None) -> None:
        """`run` has done `share`; of its first report, an earlier process did `before` (None: all)."""
        self._at_start.setdefault(run, share if before is None else before)
        self._share[run] = share

    def seconds_left(self, elapsed: float) -> float | None:
        """After `elapsed` seconds of training; None before anything was done."""
        done, before = self._done(self._share), self._done(self._at_start)
        return elapsed * (self._total - done) / (done - before) if done > before else None

    def _done(self, shares: Mapping[str, float]) -> float:
        return sum(self._work[run] * share for run, share in shares.items())


def _work(planned: Planned) -> float:
    """Of a run: parameters without embeddings, times tokens."""
    from mixscale.models import count_parameters

    return float(count_parameters(planned.run.model, 0)[0] * planned.run.train.tokens)
