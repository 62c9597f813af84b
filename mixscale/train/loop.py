"""One run from its first step, or its newest checkpoint, to its last measurement.

Walks the run's segments, saves where it stands, and returns rows of the RunTable. A run that is killed at any moment
and called again returns the same rows but for the column `seconds`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mixscale.model import count_parameters, flops_per_token
from mixscale.train.checkpoint import Checkpoints
from mixscale.train.metrics import MetricLog
from mixscale.train.run import Run
from mixscale.train.schedule import Segment, learning_rates, segments, steps_of
from mixscale.train.step import State
from mixscale.train.trainer import Trainer

DIVERGED = 3.0
"""Training loss, over that of guessing every token alike, from which a run counts as diverged."""


@dataclass(frozen=True)
class Progress:
    """What a run tells while it trains."""

    run: str
    done: int
    """optimiser steps, of all segments"""
    total: int
    tokens: int
    """trained since the last report"""


@dataclass
class Position:
    """Where a run stands; what a checkpoint records beside the weights."""

    segment: int = 0
    step: int = 0
    done: int = 0
    seconds: float = 0.0
    rows: list[dict[str, Any]] = field(default_factory=list)


def train_run(trainer: Trainer, run: Run, directory: Path, report: Callable[[Progress], None]) -> list[dict[str, Any]]:
    """Trains `run`, or what is left of it, and returns its measurements (RunTable columns without labels)."""
    with closing(Checkpoints(directory / "checkpoints")) as checkpoints:
        loop = _Loop(trainer, run, checkpoints, report)
        limit = DIVERGED * float(np.log(trainer.store.vocab_size))
        with closing(MetricLog(directory / "tensorboard", loop.position.done, limit)) as log:
            rows = loop.to_the_end(log)
        checkpoints.keep_newest()
        return rows


class _Loop:
    """The state of one run while it trains."""

    def __init__(self, trainer: Trainer, run: Run, checkpoints: Checkpoints, report: Callable[[Progress], None]):
        self._trainer, self._run, self._checkpoints, self._report = trainer, run, checkpoints, report
        context = trainer.store.context
        self._total = steps_of(run.train.tokens, run.train, context)
        self._plan = segments(run.optimiser, run.train, context)
        self._sampler = trainer.sampler(run)
        self._live, self._trunk, self.position = self._start()
        self._began = time.perf_counter() - self.position.seconds

    def to_the_end(self, log: MetricLog) -> list[dict[str, Any]]:
        """Trains segment after segment; stops early where the run diverges."""
        while self.position.segment < len(self._plan):
            segment = self._plan[self.position.segment]
            self._walk(segment, log)
            log.flush()
            losses = self._trainer.held_out_losses(self._live) if segment.measure and not log.diverged else {}
            diverged = log.diverged or not all(map(math.isfinite, losses.values()))
            if losses or diverged:
                self.position.rows.append(self._row({} if diverged else losses))
                log.write({f"held_out/{d}": loss for d, loss in losses.items()}, self.position.done)
            if diverged:
                break
            self._leave(segment)
        return self.position.rows

    def _start(self) -> tuple[State, State | None, Position]:
        fresh = self._trainer.start(self._run.seed)
        found = self._checkpoints.restore(fresh)
        if found is None:
            return fresh, None, Position()
        live, trunk, recorded = found
        return live, trunk, Position(**recorded)

    def _walk(self, segment: Segment, log: MetricLog) -> None:
        """Trains the segment's steps, with checkpoints when they are due."""
        position, train, machine = self.position, self._run.train, self._trainer.machine
        if segment.branch and self._trunk is None:
            self._trunk = self._trainer.copy(self._live)
        rate_S = learning_rates(self._run.optimiser, self._total, segment)
        steps = sum(s.last - s.first for s in self._plan)
        while position.step < segment.last:
            to_checkpoint = machine.checkpoint_steps - position.done % machine.checkpoint_steps
            count = min(machine.steps_per_dispatch, to_checkpoint, segment.last - position.step)
            rates = rate_S[position.step - segment.first :][:count]
            self._live, metrics = self._trainer.advance(self._live, self._sampler, position.step, rates)
            position.step, position.done = position.step + count, position.done + count
            log.add(metrics, rates, position.done)
            tokens = count * train.batch * self._trainer.store.context
            self._report(Progress(self._run.id, position.done, steps, tokens))
            due = position.done % machine.checkpoint_steps == 0 and position.step < segment.last
            if due:
                # Read what is pending first: a checkpoint must never hold a divergence that was not noticed.
                log.flush()
            if log.diverged:
                return
            if due:
                self._save()

    def _leave(self, segment: Segment) -> None:
        """Goes to the start of the next segment, back to the trunk after a branch, and saves."""
        if segment.branch:
            self._live, self._trunk = self._trunk, None
        self.position.segment += 1
        if self.position.segment < len(self._plan):
            self.position.step = self._plan[self.position.segment].first
        self._save()

    def _save(self) -> None:
        self.position.seconds = time.perf_counter() - self._began
        self._checkpoints.save(self.position.done, self._live, self._trunk, asdict(self.position))

    def _row(self, losses: dict[str, float]) -> dict[str, Any]:
        """The row of the RunTable for where the run stands; without losses it is that of a run that diverged."""
        store, run, step = self._trainer.store, self._run, self.position.step
        body, everything = count_parameters(run.model, store.vocab_size)
        tokens = step * run.train.batch * store.context
        drawn = self._sampler.counts(step * run.train.batch)
        unique = {d: n * store.context for d, n in self._trainer.rows.items()}
        seen = {d: drawn.get(d, 0) * store.context for d in store.domains}
        return {
            "run": run.id,
            "seed": run.seed,
            "step": step,
            "n_params": body,
            "n_params_total": everything,
            "n_tokens": tokens,
            "flops": flops_per_token(run.model, store.vocab_size, store.context) * tokens,
            "status": "complete" if losses else "diverged",
            **{f"mix/{d}": run.mixture.get(d, 0.0) for d in store.domains},
            **{f"tokens/{d}": seen[d] for d in store.domains},
            **{f"unique_tokens/{d}": unique[d] for d in store.domains},
            **{f"epochs/{d}": seen[d] / unique[d] for d in store.domains},
            # JSON has no NaN: a loss that is not there is null.
            **{f"loss/{d}": losses.get(d) for d in store.domains},
            "seconds": time.perf_counter() - self._began,
        }
