"""A population from its first step, or its newest checkpoint, to its last measurement.

Walks the segments of every run, saves where they stand, and returns rows of the RunTable. A population that is killed
at any moment and called again returns the same rows but for the column `seconds`. A run alone is a population of one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mixscale.training.checkpoint import Checkpoints
from mixscale.training.hosts import Agreement, any_of, first
from mixscale.training.interrupt import Interrupt
from mixscale.training.member import Member, Position, Progress, Report
from mixscale.training.metrics import MetricLog
from mixscale.training.observers import observers
from mixscale.training.parent import open_parent
from mixscale.training.profile import Profile
from mixscale.training.rows import Draw
from mixscale.training.run import Run
from mixscale.training.speed import Speed
from mixscale.training.trainer import Trainer

DIVERGED = 3.0
"""Training loss, over that of guessing every token alike, from which a run counts as diverged."""
FULL_LOGS = 8
"""Runs of which every step is told; of more, every second step, and so on, because telling takes the host's time."""


@dataclass(frozen=True)
class Pending:
    """A dispatch whose metrics were not read yet."""

    metrics: dict[str, jax.Array]
    draws: list[Draw]
    before: list[int]
    """steps that each run had done"""


def train_run(trainer: Trainer, run: Run, directory: Path, report: Report) -> list[dict[str, Any]]:
    """Trains `run`, or what is left of it, and returns its measurements (RunTable columns without labels)."""
    return train_population(trainer, [run], [directory], directory, report)[0]


def train_population(
    trainer: Trainer, runs: Sequence[Run], directories: Sequence[Path], shared: Path, report: Report
) -> list[list[dict[str, Any]]]:
    """Trains all `runs`, or what is left of them, in one program.

    Args:
        trainer: of their shape, for at least as many; places that are left over stand idle.
        directories: one a run, for its metrics and, at the end, its own checkpoint, as if it had been trained alone.
        shared: folder of the checkpoints of all together; that of the run where it is alone.
        report: is told of every dispatch.

    Returns:
        Of each run, its measurements.

    Raises:
        Interrupted: a signal asked to stop; everything up to there is saved.
        InputError: the checkpoint is of another model, tokenizer or optimizer.
        OSError: the disk is full.
    """
    with closing(Checkpoints(shared / "checkpoints", trainer.about(runs))) as checkpoints, Interrupt() as interrupt:
        loop = _Loop(trainer, runs, directories, checkpoints, report, interrupt)
        with ExitStack() as stack:
            loop.logs = [stack.enter_context(closing(log)) for log in loop.open_logs()]
            loop.profile = stack.enter_context(Profile(directories[0] / "profile", trainer.machine.profile))
            loop.to_the_end()
        checkpoints.keep_newest()
        if trainer.population > 1:
            for r in range(len(runs)):
                loop.export(r)
        # Asked while it measured, or after the last step: all is saved, and the next run must not begin.
        if any_of(interrupt.asked):
            raise interrupt.exception()
    return [member.position.rows for member in loop.members]


class _Loop:
    """The state of a population while it trains."""

    logs: list[MetricLog]
    profile: Profile

    def __init__(
        self,
        trainer: Trainer,
        runs: Sequence[Run],
        directories: Sequence[Path],
        checkpoints: Checkpoints,
        report: Report,
        interrupt: Interrupt,
    ):
        self._directories = directories
        self._trainer, self._checkpoints, self._report, self._interrupt = trainer, checkpoints, report, interrupt
        self._agreement = Agreement()
        # Idle places repeat the last run: they draw nothing and their state stays as it starts.
        self._idle = trainer.population - len(runs)
        self._weight_decay = [run.optimizer.weight_decay for run in [*runs, *[runs[-1]] * self._idle]]
        self._done, self._pending, self._trunk, seconds = 0, None, None, 0.0
        found = checkpoints.restore(trainer.of_all)
        positions = [Position.read(m) for m in found.position["members"]] if found else [Position() for _ in runs]
        # Parents are asked once: afterwards their folders may go.
        parents = [
            open_parent(run.train.parent, trainer.of_one, trainer.kind(run)) if position.seen is None else None
            for run, position in zip(runs, positions, strict=True)
        ]
        for position, parent in zip(positions, parents, strict=True):
            if position.seen is None:
                position.seen = parent.drawn if parent else {}
        self.members = [_member(trainer, run, position) for run, position in zip(runs, positions, strict=True)]
        if found is None:
            start = trainer.start([run.seed for run in runs] + [runs[-1].seed] * self._idle)
            self._live = trainer.inherit(start, parents)
        else:
            self._live, self._trunk, self._done = found.live, found.trunk, found.done
            seconds = found.position["seconds"]
        self._began = time.perf_counter() - seconds * len(runs)
        self._speed = Speed(self.members[0].flops_per_token, trainer.layout.mesh.devices.flat, runs[0].train.dtype)

    def open_logs(self) -> list[MetricLog]:
        """One a run, with the observers that it asks for; process 0 alone has any."""
        limit, project = DIVERGED * float(np.log(self._trainer.store.vocab_size)), self._trainer.machine.wandb
        every = max(1, len(self.members) // FULL_LOGS)
        return [
            MetricLog(limit, observers(m.run, directory, m.position.done, project) if first() else (), every)
            for m, directory in zip(self.members, self._directories, strict=True)
        ]

    def to_the_end(self) -> None:
        """Dispatch after dispatch, until every run has ended."""
        while not all(member.position.ended for member in self.members):
            self._fork()
            self._dispatch()
            self.profile.step()
            self._stop_if_asked()
            at_end = [member.at_end() for member in self.members]
            if any(at_end):
                self._leave(at_end)
            elif self._done % self._trainer.machine.checkpoint_steps == 0:
                # Read what is pending first: a checkpoint must never hold a divergence that was not noticed.
                self._read()
                self._save()

    def export(self, r: int, stable: bool = False) -> None:
        """Gives run r a checkpoint of its own, as if it had been trained alone."""
        member = self.members[r]
        position = {"seconds": self._seconds(), "members": [member.recorded()]}
        best = None if stable else member.mean_loss
        with closing(Checkpoints(self._directories[r] / "checkpoints", self._trainer.about([member.run]))) as own:
            own.save(member.position.done, self._trainer.alone(self._live, r), None, position, best, stable)
            if member.position.ended:
                own.keep_newest()

    def _fork(self) -> None:
        """Keeps the state of every run that begins a branch."""
        forks = [member.forks() for member in self.members]
        if any(forks):
            self._trunk = self._trainer.merge(self._padded(forks), self._live, self._trunk or self._live)
            for member, fork in zip(self.members, forks, strict=True):
                if fork:
                    member.fork()

    def _dispatch(self) -> None:
        """Hands the devices their next steps, and only then reads what the steps before them gave."""
        machine = self._trainer.machine
        most = min(machine.steps_per_dispatch, machine.checkpoint_steps - self._done % machine.checkpoint_steps)
        draws = [member.draw(most) for member in self.members]
        before = [member.position.done for member in self.members]
        idle = [Draw(draws[-1].run, draws[-1].sampler, 0, draws[-1].learning_rate_S[:0])] * self._idle
        self._live, metrics = self._trainer.advance(self._live, draws + idle, self._weight_decay)
        self._done += max(len(draw.learning_rate_S) for draw in draws)
        for member, draw in zip(self.members, draws, strict=True):
            steps = len(draw.learning_rate_S)
            member.advance(steps)
            if steps:
                tokens = steps * member.tokens_per_step
                self._report(Progress(member.run.id, member.position.done, member.steps, tokens, self._speed.mfu))
        self._read()
        self._pending = Pending(metrics, draws, before)

    def _read(self) -> None:
        """Gives every run the metrics of the dispatch that is pending, and ends those that have diverged."""
        if self._pending is None:
            return
        pending, self._pending = self._pending, None
        metrics = jax.device_get(pending.metrics)
        pairs = list(zip(self.members, pending.draws, strict=True))
        steps = [0 if member.position.ended else len(draw.learning_rate_S) for member, draw in pairs]
        speed = self._speed.read(sum(n * self.members[0].tokens_per_step for n in steps))
        for r, (member, log) in enumerate(zip(self.members, self.logs, strict=True)):
            if not steps[r]:
                continue
            values = {name: value_RxS[r, : steps[r]] for name, value_RxS in metrics.items()}
            sound = log.record(values | {"learning_rate": pending.draws[r].learning_rate_S}, pending.before[r])
            member.position.spikes.take(values["loss"][:sound])
            if log.diverged_at is not None:
                # Counted from the step itself, whatever dispatch it was in and however often the run was cut.
                member.advance(log.diverged_at - member.position.done)
                member.measured({}, True, self._seconds())
            ledger = {f"tokens/{domain}": float(n) for domain, n in member.tokens().items()}
            told = {f"speed/{name}": value for name, value in speed.items()} | ledger
            log.write(told | {"train/spikes": member.position.spikes.count}, member.position.done)

    def _leave(self, at_end: list[bool]) -> None:
        """Measures runs whose segment ends with that, and goes on to their next one; then saves."""
        self._read()
        leaving = [r for r, member in enumerate(self.members) if at_end[r] and not member.position.ended]
        if any(self.members[r].segment.measure for r in leaving):
            losses = self._trainer.held_out_losses(self._live)
        best, stable, back = None, False, [False] * len(self.members)
        for r in leaving:
            member, segment = self.members[r], self.members[r].segment
            if segment.measure:
                kept = member.measured(losses[r], False, self._seconds())
                self.logs[r].write({f"held_out/{d}": loss for d, loss in kept.items()}, member.position.done)
                best = None if segment.branch else member.mean_loss
            elif not segment.branch:
                stable = True
            if not member.position.ended:
                back[r] = member.leave()
            if self._trainer.population > 1 and not segment.branch and not member.position.ended:
                # What the checkpoints of a run alone would be: one to begin from, or perhaps its best.
                self.export(r, stable=not segment.measure)
        if any(back):
            self._live = self._trainer.merge(self._padded(back), self._trunk, self._live)
        if not any(member.position.on_branch for member in self.members):
            self._trunk = None
        self._save(best, stable)

    def _stop_if_asked(self) -> None:
        """Saves and ends where a signal asked any of the processes for it."""
        if self._agreement.asked(self._interrupt.asked):
            self._read()
            self._save()
            self._checkpoints.wait()
            raise self._interrupt.exception()

    def _save(self, best: float | None = None, stable: bool = False) -> None:
        position = {"seconds": self._seconds(), "members": [member.recorded() for member in self.members]}
        self._checkpoints.save(self._done, self._live, self._trunk, position, best, stable)

    def _seconds(self) -> float:
        """Of each run's own: a population's runs share its time."""
        return (time.perf_counter() - self._began) / len(self.members)

    def _padded(self, marks: list[bool]) -> list[bool]:
        return marks + [False] * self._idle


def _member(trainer: Trainer, run: Run, position: Position) -> Member:
    return Member(run, trainer.store, trainer.sampler(run, position.seen), trainer.offered(run), position)
