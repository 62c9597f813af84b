"""A population from its first step, or its newest checkpoint, to its last measurement.

A population that is killed at any time and rerun returns the same rows of the RunTable, except for the column
`seconds`. A single run is a population of one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from mixscale.training.checkpoint import Checkpoints, Restored
from mixscale.training.cursor import Position, open_parent
from mixscale.training.hosts import Agreement, Interrupt, any_of, first
from mixscale.training.loader import StepRange
from mixscale.training.metrics import MetricLog, Profile, Speed, observers
from mixscale.training.run import Run
from mixscale.training.trainer import Trainer

# Runs up to which every step is logged; of 16 runs every second step, and so on, because logging takes host time.
FULL_LOGS = 8


@dataclass(frozen=True)
class Progress:
    """What a run reports after every dispatch."""

    run: str
    done: int  # optimizer steps of all segments
    total: int
    tokens: int  # trained since the last report
    mfu: float | None = None  # share of the devices' peak FLOP/s, of all runs together; None while it is not known


Report = Callable[[Progress], None]


def train_run(trainer: Trainer, run: Run, directory: Path, report: Report) -> list[dict[str, Any]]:
    """Trains what is left of `run` and returns its measurements, rows of the RunTable without labels."""
    return train_population(trainer, [run], [directory], directory, report)[0]


def train_population(
    trainer: Trainer, runs: Sequence[Run], directories: Sequence[Path], shared: Path, report: Report
) -> list[list[dict[str, Any]]]:
    """Trains what is left of `runs` in one program and returns the measurements of each.

    `directories` receive the metrics and, at the end, the checkpoint of each run, as if it had been trained alone;
    `shared` the common checkpoints. A trainer for more runs leaves places idle.

    Raises:
        Interrupted: a signal arrived; all progress is saved.
        InputError: the checkpoint is of another model, tokenizer or optimizer.
        OSError: the disk is full.
    """
    with ExitStack() as stack:
        loop = _Loop(trainer, runs, directories, shared, report, stack)
        loop.run()
        loop.checkpoints.keep_newest()
        if trainer.population > 1:
            for r in range(len(runs)):
                loop.save_alone(r)
        # A signal during the last measurement: all is saved, and the next run must not start.
        if any_of(loop.interrupt.requested):
            raise loop.interrupt.exception()
    return [cursor.position.rows for cursor in loop.cursors]


class _Loop:
    """The state of a population while it trains."""

    def __init__(
        self,
        trainer: Trainer,
        runs: Sequence[Run],
        directories: Sequence[Path],
        shared: Path,
        report: Report,
        stack: ExitStack,
    ):
        self._trainer, self._directories, self._report = trainer, directories, report
        self.checkpoints = stack.enter_context(closing(Checkpoints(shared / "checkpoints", trainer.made_with(runs))))
        self.interrupt = stack.enter_context(Interrupt())
        self._agreement = Agreement()
        self._done, self._trunk, seconds = 0, None, 0.0
        # Metrics of the dispatch that is not read yet, its ranges, and the steps that each run had done before it.
        self._pending: tuple[dict[str, jax.Array], list[StepRange], list[int]] | None = None
        found = self.checkpoints.restore(trainer.of_all)
        positions = [Position.read(p) for p in found.position["runs"]] if found else [Position() for _ in runs]
        # Parents are read once; afterwards their folders may be removed.
        parents: list[Restored | None] = [None] * len(runs)
        for r, (run, position) in enumerate(zip(runs, positions, strict=True)):
            if position.seen is None:
                parents[r] = parent = open_parent(run, trainer.store, trainer.of_one, trainer.kind(run))
                position.seen = parent.position["runs"][0]["drawn"] if parent else {}
        self.cursors = [trainer.cursor(run, position) for run, position in zip(runs, positions, strict=True)]
        if found is None:
            self._live = trainer.start(runs, parents)
        else:
            self._live, self._trunk, self._done = found.live, found.trunk, found.done
            seconds = found.position["seconds"]
        self._began = time.perf_counter() - seconds * len(runs)
        self._speed = Speed(self.cursors[0].flops_per_token, trainer.layout.mesh.devices.flat, runs[0].train.dtype)
        self._logs, every = [], max(1, len(runs) // FULL_LOGS)
        for run, directory, position in zip(runs, directories, positions, strict=True):
            watching = observers(run, directory, position.done, trainer.machine.wandb) if first() else ()
            log = MetricLog(run.task.loss_limit(trainer.store), watching, every)
            self._logs.append(stack.enter_context(closing(log)))
        self._profile = stack.enter_context(Profile(directories[0] / "profile", trainer.machine.profile))

    def run(self) -> None:
        while not all(cursor.position.ended for cursor in self.cursors):
            self._fork()
            self._dispatch()
            self._profile.step()
            self._stop_if_requested()
            at_end = [cursor.at_end() for cursor in self.cursors]
            if any(at_end):
                self._leave(at_end)
            elif self._done % self._trainer.machine.checkpoint_steps == 0:
                # Read what is pending first: a checkpoint must not hold a divergence that was not noticed.
                self._read()
                self._save()

    def save_alone(self, r: int, stable: bool = False) -> None:
        """Saves a checkpoint of run r in its own folder, as if it had been trained alone."""
        cursor, folder = self.cursors[r], self._directories[r] / "checkpoints"
        position = {"seconds": self._seconds(), "runs": [cursor.recorded()]}
        best = None if stable else cursor.position.mean
        with closing(Checkpoints(folder, self._trainer.made_with([cursor.run]))) as own:
            own.save(cursor.position.done, self._trainer.alone(self._live, r), None, position, best, stable)
            if cursor.position.ended:
                own.keep_newest()

    def _fork(self) -> None:
        """Keeps the state of every run that starts a branch."""
        forks = [cursor.forks() for cursor in self.cursors]
        if any(forks):
            self._trunk = self._trainer.merge(forks, self._live, self._trunk or self._live)
            for cursor, fork in zip(self.cursors, forks, strict=True):
                if fork:
                    cursor.fork()

    def _dispatch(self) -> None:
        """Hands the next steps to the devices, and only then reads the metrics of the steps before them."""
        machine = self._trainer.machine
        most = min(machine.steps_per_dispatch, machine.checkpoint_steps - self._done % machine.checkpoint_steps)
        ranges = [cursor.next_steps(most) for cursor in self.cursors]
        before = [cursor.position.done for cursor in self.cursors]
        self._live, metrics = self._trainer.advance(self._live, ranges)
        self._done += max(part.steps for part in ranges)
        for cursor, part in zip(self.cursors, ranges, strict=True):
            cursor.advance(part.steps)
            if part.steps:
                tokens = part.steps * cursor.tokens_per_step
                self._report(Progress(cursor.run.id, cursor.position.done, cursor.steps, tokens, self._speed.mfu))
        self._read()
        self._pending = metrics, ranges, before

    def _read(self) -> None:
        """Logs the metrics of the pending dispatch, and ends the runs that diverged in it."""
        if self._pending is None:
            return
        (metrics, ranges, before), self._pending = self._pending, None
        metrics = jax.device_get(metrics)
        steps = [0 if c.position.ended else part.steps for c, part in zip(self.cursors, ranges, strict=True)]
        speed = self._speed.read(sum(steps) * self.cursors[0].tokens_per_step)
        for r, (cursor, log) in enumerate(zip(self.cursors, self._logs, strict=True)):
            if not steps[r]:
                continue
            values = {name: value_RxS[r, : steps[r]] for name, value_RxS in metrics.items()}
            sound = log.record(values | {"learning_rate": ranges[r].learning_rate_S}, before[r])
            cursor.position.spikes.take(values["loss"][:sound])
            if log.diverged_at is not None:
                # Back to the step itself, so that the row does not depend on dispatches and interruptions.
                cursor.advance(log.diverged_at - cursor.position.done)
                cursor.measured({}, self._seconds())
            drawn = {f"tokens/{domain}": float(n) for domain, n in cursor.tokens().items()}
            scalars = {f"speed/{name}": value for name, value in speed.items()} | drawn
            log.write(scalars | {"train/spikes": cursor.position.spikes.count}, cursor.position.done)

    def _leave(self, at_end: list[bool]) -> None:
        """Measures the runs at the end of a segment, moves them to their next one, and saves."""
        self._read()
        leaving = [r for r, cursor in enumerate(self.cursors) if at_end[r] and not cursor.position.ended]
        if any(self.cursors[r].segment.measure for r in leaving):
            measured = self._trainer.held_out(self._live)
        best, stable, back = None, False, [False] * len(self.cursors)
        for r in leaving:
            cursor, segment = self.cursors[r], self.cursors[r].segment
            if segment.measure:
                kept = cursor.measured(measured[r], self._seconds())
                self._logs[r].write({f"held_out/{d}": value for d, value in kept.items()}, cursor.position.done)
                best = None if segment.branch else cursor.position.mean
            elif not segment.branch:
                stable = True
            if not cursor.position.ended:
                back[r] = cursor.leave()
            if self._trainer.population > 1 and not segment.branch and not cursor.position.ended:
                # As the run alone would: a checkpoint to start other runs from, or perhaps its best.
                self.save_alone(r, stable=not segment.measure)
        if any(back):
            self._live = self._trainer.merge(back, self._trunk, self._live)
        if not any(cursor.position.on_branch for cursor in self.cursors):
            self._trunk = None
        self._save(best, stable)

    def _stop_if_requested(self) -> None:
        if self._agreement.on(self.interrupt.requested):
            self._read()
            self._save()
            self.checkpoints.wait()
            raise self.interrupt.exception()

    def _save(self, best: float | None = None, stable: bool = False) -> None:
        position = {"seconds": self._seconds(), "runs": [cursor.recorded() for cursor in self.cursors]}
        self.checkpoints.save(self._done, self._live, self._trunk, position, best, stable)

    def _seconds(self) -> float:
        """Seconds of each run: those of the population divided by the number of runs."""
        return (time.perf_counter() - self._began) / len(self.cursors)
