"""How far a sweep is, as one table: what has ended, who trains what, what failed and why, how long it still takes.

It reads the experiment's folder and nothing else, so it works on any machine that sees it and never waits for JAX.
"""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mixscale.errors import InputError
from mixscale.sweeps.directory import run_directory
from mixscale.sweeps.labels import read_plans
from mixscale.sweeps.standing import Standing, standings

LISTED = 20
"""Runs that a table names at most."""
STATES = ("complete", "diverged", "running", "waiting", "failed")


@dataclass
class Status:
    """Where every planned run of a folder stands."""

    labels: dict[str, dict[str, Any]]
    standings: list[Standing]
    states: Counter[tuple[str, str]] = field(default_factory=Counter)
    """runs by size and state, one of `STATES`"""
    spent: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """training FLOPs by size"""
    speeds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """FLOP/s of the runs that have ended, by size"""

    @classmethod
    def read(cls, directory: Path) -> Status:
        """The status of an experiment's folder.

        Raises:
            InputError: it holds no plan.
        """
        labels = {label["run"]: label for label in read_plans(directory)}
        if not labels:
            raise InputError(f"'{directory}' holds no plan of a sweep; give an experiment's folder, such as runs/NAME")
        status = cls(labels, list(standings(directory, labels)))
        for found in status.standings:
            status._count(directory, found)
        return status

    @property
    def running(self) -> list[Standing]:
        return [s for s in self.standings if s.state == "running"]

    @property
    def over(self) -> bool:
        """Whether there is nothing left to train."""
        return not any(s.state in ("running", "waiting") for s in self.standings)

    @property
    def rate(self) -> float:
        """FLOP/s of all who train now; runs too young to tell count as those of their size that have ended."""
        return sum(self._rate(s) for s in self.running)

    @property
    def seconds_left(self) -> float | None:
        """Until all runs have ended, if as many go on being trained at a time; None where nobody trains."""
        to_train = [s for s in self.standings if s.state in ("running", "waiting")]
        left = {s.run: self.flops_of(s.run) - self._done(s) for s in to_train}
        if not self.rate:
            return None
        own = [left[s.run] / self._rate(s) for s in self.running if self._rate(s)]
        return max(sum(left.values()) / self.rate, *own)

    def _count(self, directory: Path, found: Standing) -> None:
        size, state = self.labels[found.run]["size"], found.state
        flops = self._done(found)
        if state == "ended":
            row = json.loads((run_directory(directory, found.run) / "rows.json").read_text())[-1]
            state = row["status"]
            flops = self.flops_of(found.run) if state == "complete" else row["flops"]
            self.speeds[size].append(flops / row["seconds"])
        self.states[size, state] += 1
        self.spent[size] += flops

    def flops_of(self, run: str) -> float:
        return self.labels[run].get("flops", 0.0)

    def _done(self, found: Standing) -> float:
        return self.flops_of(found.run) * found.reached.done / found.reached.total if found.reached else 0.0

    def _rate(self, found: Standing) -> float:
        reached = found.reached
        if reached and reached.steps_per_second:
            return self.flops_of(found.run) * reached.steps_per_second / reached.total
        ended = self.speeds.get(self.labels[found.run]["size"])
        return median(ended) if ended else 0.0


def shown(status: Status) -> RenderableType:
    """For a person at a terminal."""
    parts: list[RenderableType] = [_by_size(status), "", _outlook(status)]
    if status.running:
        parts += ["", _running(status)]
    if failed := [s for s in status.standings if s.failure and s.state != "ended"]:
        parts += ["", _failures(status, failed)]
    return Group(*parts)


def _by_size(status: Status) -> Table:
    table = _table("size", *STATES, "runs", "FLOPs", "of", elastic=("size",), numbers=8)
    sizes = list(dict.fromkeys(label["size"] for label in status.labels.values()))
    planned = Counter(label["size"] for label in status.labels.values())
    whole: dict[str, float] = defaultdict(float)
    for run, label in status.labels.items():
        whole[label["size"]] += status.flops_of(run)
    for size in sizes:
        counts = [str(status.states[size, state]) for state in STATES]
        flops = (f"{status.spent[size]:.3g}", f"{whole[size]:.3g}")
        table.add_row(_cut(size), *counts, str(planned[size]), *flops)
    if len(sizes) > 1:
        counts = [str(sum(status.states[size, state] for size in sizes)) for state in STATES]
        spent = f"{sum(status.spent.values()):.3g}"
        table.add_row("all", *counts, str(len(status.labels)), spent, f"{sum(whole.values()):.3g}", style="bold")
    return table


def _outlook(status: Status) -> str:
    if status.over:
        failed = sum(s.state == "failed" for s in status.standings)
        return f"over, but for {failed} runs that failed" if failed else "all runs have ended"
    if not status.running:
        return "nobody is training; `mixscale sweep` with the experiment's config goes on"
    left = status.seconds_left
    when = f"about {_span(left)} left" if left is not None else "how long it takes shows in a moment"
    return f"{len(status.running)} runs at a time, {status.rate:.3g} FLOP/s: {when}"


def _running(status: Status) -> Table:
    names = ("run", "size", "seed", "role", "host", "process", "done", "steps/s", "for")
    table = _table(*names, elastic=("size", "role"))
    for found in status.running[:LISTED]:
        label, reached, holder = status.labels[found.run], found.reached, found.holder
        share = f"{reached.done / reached.total:.0%}" if reached else "0%"
        speed = f"{reached.steps_per_second:.3g}" if reached and reached.steps_per_second else ""
        since = _span(time.time() - holder.since) if holder else ""
        host, process = (_short(holder.host), str(holder.pid)) if holder else ("", "")
        role, seed = _cut(f"{label['role']}/{label['origin']}"), str(label.get("seed", ""))
        table.add_row(found.run, _cut(label["size"]), seed, role, _cut(host), process, share, speed, since)
    if len(status.running) > LISTED:
        table.caption = f"and {len(status.running) - LISTED} more"
    return table


def _failures(status: Status, failed: list[Standing]) -> Text:
    """A line a run and, below it, why: a reason is no use where it is cut."""
    told = Text()
    for found in failed[:LISTED]:
        failure = found.failure
        assert failure is not None
        then = "left alone" if found.state == "failed" else "is tried again"
        times = "once" if failure.times == 1 else f"{failure.times} times"
        where = f" on {_short(failure.host)}" if failure.host else ""
        told.append(f"{found.run} ({status.labels[found.run]['size']}) failed {times}{where}, {then}: ")
        told.append(f"{failure.why.strip().splitlines()[-1]}\n")
    if len(failed) > LISTED:
        told.append(f"and {len(failed) - LISTED} more; failure.json in each run's folder has the whole story\n")
    told.rstrip()
    return told


def _table(*columns: str, elastic: tuple[str, ...], numbers: int = 0) -> Table:
    """The last `numbers` columns are numbers; those that are elastic are cut where the terminal is narrow."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for index, column in enumerate(columns):
        right = index >= len(columns) - numbers
        table.add_column(column, justify="right" if right else "left", no_wrap=column not in elastic)
    return table


def _cut(text: str) -> Text:
    return Text(text, no_wrap=True, overflow="ellipsis")


def _short(host: str) -> str:
    """A host's name without its domain."""
    return host.split(".")[0]


def _span(seconds: float) -> str:
    days, rest = divmod(round(seconds), 86_400)
    clock = f"{rest // 3600}:{rest // 60 % 60:02d}:{rest % 60:02d}"
    return f"{days}d {clock}" if days else clock
