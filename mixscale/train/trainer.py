"""`Trainer`: one shape of run, compiled once and held on the devices together with its tokens.

It turns a `Run` into measured rows of the RunTable; where the results go and who asks for them it does not know.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from mixscale.errors import InputError
from mixscale.experiment import Corpus, Mesh
from mixscale.model import count_parameters, flops_per_token
from mixscale.train.checkpoint import Checkpoints
from mixscale.train.evaluation import HeldOut
from mixscale.train.metrics import MetricLog
from mixscale.train.run import Run
from mixscale.train.sampler import Sampler, epoch_order
from mixscale.train.schedule import Segment, learning_rates, segments, steps_of
from mixscale.train.step import Program, State

if TYPE_CHECKING:
    from mixscale.corpus import TokenStore


@dataclass(frozen=True)
class Progress:
    """What a run tells while it trains."""

    run: str
    done: int
    """optimiser steps, of all segments"""
    total: int
    tokens: int
    """trained since the last report"""
    loss: float


@dataclass
class Position:
    """Where a run stands; what a checkpoint records beside the weights."""

    segment: int = 0
    step: int = 0
    done: int = 0
    seconds: float = 0.0
    rows: list[dict[str, Any]] = field(default_factory=list)


def make_mesh(mesh: Mesh, batch: int) -> jax.sharding.Mesh:
    """Mesh with the axis `data`.

    Raises:
        InputError: it needs more devices than there are, or does not divide the batch.
    """
    devices = jax.devices()
    size = len(devices) if mesh.data == -1 else mesh.data
    if not 1 <= size <= len(devices):
        raise InputError(f"mesh data={mesh.data} on {len(devices)} devices; give -1 or 1 to {len(devices)}")
    if batch % size:
        raise InputError(f"batch {batch} does not divide over {size} devices; give a multiple of {size}")
    return jax.make_mesh((size,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=devices[:size])


class Trainer:
    """Trains runs that differ in mixture, seed and learning rate only.

    Args:
        run: any run of the shape.
        store: tokens of every domain; must be the store that the run names.
        corpus: for the seed of the held-out rows.

    Raises:
        InputError: the run was planned with another store, or its shape is impossible.
    """

    def __init__(self, run: Run, store: TokenStore, corpus: Corpus):
        if run.store != store.id:
            raise InputError(f"run {run.id} was planned on token store {run.store}, this is store {store.id}")
        self._run, self._store, self._train = run, store, run.train
        self._mesh = make_mesh(run.train.mesh, run.train.batch)
        self._whole = jax.sharding.NamedSharding(self._mesh, jax.P())
        self._by_batch = jax.sharding.NamedSharding(self._mesh, jax.P(None, "data"))
        rows = {d: offered_rows(store, d, run.train, corpus.seed) for d in store.domains}
        self._rows = {d: len(r) for d, r in rows.items()}
        self._first = dict(zip(rows, np.cumsum([0, *self._rows.values()]), strict=False))
        self._tokens_RxT1 = jax.device_put(np.concatenate(list(rows.values())), self._whole)
        self._held_out = HeldOut(store, run.train.validation_rows, corpus.seed, run.train.batch)
        self._held_out_NxBxT1 = jax.device_put(self._held_out.rows_NxBxT1, self._by_batch)
        program = Program(run.model, store.vocab_size, run.optimiser, run.train.dtype)
        self._init = jax.jit(program.init, out_shardings=self._whole)
        self._steps = jax.jit(program.steps, donate_argnums=0, out_shardings=self._whole)
        self._evaluate = jax.jit(program.evaluate, out_shardings=self._whole)
        self._copy = jax.jit(lambda state: jax.tree.map(lambda x: x.copy(), state))

    def train(self, run: Run, directory: Path, report: Callable[[Progress], None]) -> list[dict[str, Any]]:
        """Trains `run`, or the rest of it, and returns its measured rows (RunTable columns without labels).

        Killed at any moment and called again, it returns the same rows but for the column `seconds`.
        """
        total = steps_of(self._train.tokens, self._train, self._store.context)
        plan = segments(run.optimiser, self._train, self._store.context)
        sampler = Sampler(run.mixture, self._rows, run.seed, total * self._train.batch)
        checkpoints = Checkpoints(directory / "checkpoints")
        live, trunk, position = self._start(run, checkpoints)
        log = MetricLog(directory / "tensorboard", position.done, 3.0 * np.log(self._store.vocab_size))
        all_steps = sum(s.last - s.first for s in plan)
        started = time.perf_counter() - position.seconds
        for index in range(position.segment, len(plan)):
            segment = plan[index]
            if position.segment != index:
                position = replace(position, segment=index, step=segment.first)
            if segment.branch and trunk is None:
                trunk = self._copy(live)
            rate_S = learning_rates(run.optimiser, total, segment)
            for first, last in self._dispatches(segment, position):
                rows = self._draw(sampler, first, last)
                rates = self._padded(rate_S[first - segment.first : last - segment.first])
                live, metrics = self._steps(live, self._tokens_RxT1, rows, rates, np.int32(last - first))
                position.step, position.done = last, position.done + last - first
                log.add(metrics, first, last - first, position.done)
                tokens = (last - first) * self._train.batch * self._store.context
                report(Progress(run.id, position.done, all_steps, tokens, log.last_loss))
                due = position.done % self._train.checkpoint_steps == 0 and last < segment.last
                if due:
                    log.flush()
                if log.diverged:
                    break
                if due:
                    position.seconds = time.perf_counter() - started
                    checkpoints.save(position.done, live, trunk, _recorded(position, trunk))
            log.flush()
            position.seconds = time.perf_counter() - started
            if log.diverged or segment.measure:
                position.rows.append(self._measure(run, sampler, position, live, log.diverged))
            if log.diverged:
                break
            if segment.branch:
                live, trunk = trunk, None
            if index + 1 < len(plan):
                ahead = replace(position, segment=index + 1, step=plan[index + 1].first)
                checkpoints.save(position.done, live, trunk, _recorded(ahead, trunk))
            else:
                checkpoints.save(position.done, live, trunk, _recorded(replace(position, segment=len(plan)), trunk))
        log.close()
        checkpoints.close()
        return position.rows

    def _start(self, run: Run, checkpoints: Checkpoints) -> tuple[State, State | None, Position]:
        """State and place from the newest checkpoint, or from the beginning."""
        live = self._init(np.uint32(run.seed))
        found = checkpoints.restore(live)
        if found is None:
            return live, None, Position()
        live, trunk, recorded = found
        return live, trunk, Position(**{k: v for k, v in recorded.items() if k != "forked"})

    def _dispatches(self, segment: Segment, position: Position) -> Iterator[tuple[int, int]]:
        """(first, last) of each dispatch left in the segment; they end where a checkpoint is due."""
        first, done = max(segment.first, position.step), position.done
        while first < segment.last:
            to_checkpoint = self._train.checkpoint_steps - done % self._train.checkpoint_steps
            count = min(self._train.steps_per_dispatch, to_checkpoint, segment.last - first)
            yield first, first + count
            first, done = first + count, done + count

    def _draw(self, sampler: Sampler, first: int, last: int) -> jax.Array:
        """Rows of the token array for steps `first` to `last`, int32 (S, B), padded to a whole dispatch."""
        B = self._train.batch
        domain_n, row_n = sampler.draws(first * B, last * B)
        first_K = np.array([self._first[d] for d in sampler.domains])
        row_SxB = (first_K[domain_n] + row_n).reshape(-1, B).astype(np.int32)
        return jax.device_put(self._padded(row_SxB), self._by_batch)

    def _padded(self, steps_S: np.ndarray) -> np.ndarray:
        """Zeros after the given steps, so that every dispatch has one shape."""
        missing = self._train.steps_per_dispatch - len(steps_S)
        return np.pad(steps_S, [(0, missing)] + [(0, 0)] * (steps_S.ndim - 1))

    def _measure(
        self, run: Run, sampler: Sampler, position: Position, live: State, diverged: bool
    ) -> dict[str, Any]:
        """One row of the RunTable for where the run stands."""
        body, everything = count_parameters(run.model, self._store.vocab_size)
        tokens = position.step * self._train.batch * self._store.context
        drawn = sampler.counts(position.step * self._train.batch)
        if diverged:
            losses = dict.fromkeys(self._store.domains, float("nan"))
        else:
            losses = self._held_out.by_domain(np.asarray(self._evaluate(live.params, self._held_out_NxBxT1)))
        unique = {d: n * self._store.context for d, n in self._rows.items()}
        seen = {d: drawn.get(d, 0) * self._store.context for d in self._store.domains}
        return {
            "run": run.id,
            "seed": run.seed,
            "size": run.size,
            "step": position.step,
            "n_params": body,
            "n_params_total": everything,
            "n_tokens": tokens,
            "flops": flops_per_token(run.model, self._store.vocab_size, self._store.context) * tokens,
            "status": "diverged" if diverged else "complete",
            **{f"mix/{d}": run.mixture.get(d, 0.0) for d in self._store.domains},
            **{f"tokens/{d}": seen[d] for d in self._store.domains},
            **{f"unique_tokens/{d}": unique[d] for d in self._store.domains},
            **{f"epochs/{d}": seen[d] / unique[d] for d in self._store.domains},
            **{f"loss/{d}": losses[d] for d in self._store.domains},
            "seconds": position.seconds,
        }


def offered_rows(store: TokenStore, domain: str, train: Any, seed: int) -> np.ndarray:
    """Training rows (R, T+1) that a domain offers: all, or the share that makes the proxy repeat like its target."""
    rows_RxT1 = store.rows(domain, "train")
    if train.like_tokens is None:
        return rows_RxT1
    keep = max(1, min(len(rows_RxT1), round(len(rows_RxT1) * train.tokens / train.like_tokens)))
    return rows_RxT1[np.sort(epoch_order(seed, f"{domain}/offered", 0, len(rows_RxT1))[:keep])]


def _recorded(position: Position, trunk: State | None) -> dict[str, Any]:
    return {**position.__dict__, "forked": trunk is not None}
