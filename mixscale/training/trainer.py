"""`Trainer`: one shape of run, compiled once and held on the devices together with its tokens.

It starts, advances and measures populations; `loop.py` decides the order and what is saved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mixscale.config import Machine, content_hash
from mixscale.data import TokenStore
from mixscale.errors import InputError
from mixscale.models import Compute
from mixscale.training.checkpoint import Restored
from mixscale.training.cursor import Position, RunCursor
from mixscale.training.loader import StepRange, make_loader
from mixscale.training.mesh import Layout, make_layout
from mixscale.training.run import Run, steps_of
from mixscale.training.sampler import Sampler
from mixscale.training.step import Program, State, StepInputs
from mixscale.training.tasks import HeldOut

COMPILED = ("name", "b1", "b2", "momentum", "clip", "ema")  # settings of the optimizer that the program contains
SCANNED = 8  # layers from which `auto` compiles one layer for all: compiling them all takes longer than a loop costs


def shape_of(run: Run) -> str:
    """Equal for runs that one compiled program can train, alone or together."""
    compiled = [getattr(run.optimizer, name) for name in COMPILED]
    train = run.train
    return content_hash(run.task.name, run.model, compiled, train.batch, train.validation_rows, train.dtype, run.store)


class Trainer:
    """Trains runs of one shape, `population` at a time.

    `run` is any run of the shape; `corpus_seed` chooses the held-out rows, which all experiments on the corpus share.
    `of_all` and `of_one` are shapes and places of the state of a population, and of a single run.

    Raises InputError if the run was planned with another store, or its mesh is impossible.
    """

    def __init__(self, run: Run, store: TokenStore, corpus_seed: int, machine: Machine, population: int = 1):
        if run.store != store.id:
            raise InputError(f"run {run.id} was planned for token store {run.store}, but this is store {store.id}")
        self.store, self.machine, self.population, self.batch = store, machine, population, run.train.batch
        self.layout = make_layout(machine.mesh, run.model, run.train.batch, machine.accumulate, population)
        compute = Compute(
            dtype=run.train.dtype,
            remat=machine.remat,
            scan=machine.layers == "scan" or (machine.layers == "auto" and run.model.layers >= SCANNED),
            attention=machine.attention,
            shards=self.layout.mesh.shape["data"] * self.layout.mesh.shape["fsdp"],
            loss_chunk=machine.loss_chunk,
            constrain=self.layout.constrain,
        )
        program = Program(
            run.task, run.model, store.vocab_size, run.optimizer, compute, population, machine.accumulate
        )
        self._loader = make_loader(store, self.layout, corpus_seed, machine)
        self._held_out = HeldOut(store, run.train.validation_rows, corpus_seed, run.train.batch)
        self._rows_NxBxT1 = self.layout.put(self._held_out.rows_NxBxT1, None, "batch", None)
        self.of_all = abstract(program, self.layout, population)
        self._state = jax.tree.map(lambda x: x.sharding, self.of_all)
        whole = self.layout.placed()
        self.of_one = abstract(program, self.layout, 1)
        self._init = jax.jit(program.init, out_shardings=self._state)
        self._steps = jax.jit(program.steps, donate_argnums=0, out_shardings=(self._state, whole))
        self._evaluate = jax.jit(program.evaluate, out_shardings=whole)
        self._merge = jax.jit(_merge, out_shardings=self._state)

    def cursor(self, run: Run, position: Position) -> RunCursor:
        """The cursor of a run at `position`, whose `seen` rows its parents have drawn."""
        steps = steps_of(run.train.tokens, run.train, self.store.context)
        stages = [(length * self.batch, mixture) for length, mixture in run.schedule.spans(steps)]
        sampler = Sampler(stages, self._loader.offered(run), run.seed, position.seen)
        return RunCursor(run, self.store, sampler, position)

    def start(self, runs: Sequence[Run], parents: Sequence[Restored | None]) -> State:
        """Fresh weights and optimizer state from the runs' seeds, or those of their parents; idle places too."""
        idle = self.population - len(runs)
        seeds = [run.seed for run in [*runs, *runs[-1:] * idle]]
        state = self._init(self.layout.put(np.asarray(seeds, np.uint32), "run"))
        if not any(parents):
            return state
        rows = [self.alone(state, r) for r in range(self.population)]
        for r, parent in enumerate(parents):
            if parent:
                rows[r] = parent.live if parent.live.opt else rows[r]._replace(params=parent.live.params)
        return jax.device_put(jax.tree.map(lambda *x: jnp.concatenate(x), *rows), self._state)

    def merge(self, where: Sequence[bool], there: State, here: State) -> State:
        """A new state: `there` for the marked runs, `here` for the others and for idle places."""
        where_R = np.pad(np.asarray(where), (0, self.population - len(where)))
        return self._merge(self.layout.put(where_R, "run"), there, here)

    def alone(self, state: State, r: int) -> State:
        """Run r's part of a population's state, as a population of one."""
        return jax.tree.map(lambda x: x[r : r + 1], state)

    def made_with(self, runs: Sequence[Run]) -> dict[str, Any]:
        """What a checkpoint must have been made with for `runs` to resume from it."""
        return {"runs": [run.id for run in runs]} | self.kind(runs[0])

    def kind(self, run: Run) -> dict[str, Any]:
        """What a checkpoint must have been made with for another run to start from it."""
        optimizer = {name: getattr(run.optimizer, name) for name in COMPILED}
        tokenizer = {"hash": self.store.tokenizer_hash, "vocab_size": self.store.vocab_size}
        return {"model": run.model, "optimizer": optimizer, "tokenizer": tokenizer}

    def advance(self, state: State, ranges: Sequence[StepRange]) -> tuple[State, dict[str, jax.Array]]:
        """Trains a range of steps of each run, without waiting for the device; consumes `state`; metrics (R, S)."""
        S = self.machine.steps_per_dispatch
        # Idle places repeat the last run without any steps.
        idle = replace(ranges[-1], first=0, learning_rate_S=ranges[-1].learning_rate_S[:0])
        ranges = [*ranges, *[idle] * (self.population - len(ranges))]
        rate_RxS = np.zeros((self.population, S), np.float32)
        for r, part in enumerate(ranges):
            rate_RxS[r, : part.steps] = part.learning_rate_S
        inputs = StepInputs(
            self._loader.dispatch(ranges, self.batch, S),
            self.layout.put(rate_RxS, "run", None),
            self.layout.put(np.array([part.run.optimizer.weight_decay for part in ranges], np.float32), "run"),
            self.layout.put(np.array([part.steps for part in ranges], np.int32), "run"),
        )
        with jax.transfer_guard("disallow"):
            return self._steps(state, self._loader.resident, inputs)

    def held_out(self, state: State) -> list[dict[str, float]]:
        """For every run, the mean of the task's measure over the held-out rows of each domain."""
        with jax.transfer_guard("disallow"):
            measured_RxNxB = self._evaluate(state, self._rows_NxBxT1)
        return [self._held_out.by_domain(measured_NxB) for measured_NxB in jax.device_get(measured_RxNxB)]


def abstract(program: Program, layout: Layout, runs: int) -> State:
    """Shapes and places on the mesh of the state of `runs`."""
    shapes = jax.eval_shape(program.init, jax.ShapeDtypeStruct((runs,), np.uint32))
    is_axes = lambda x: isinstance(x, tuple)  # noqa: E731
    params = jax.tree.map(
        lambda axes, x: layout.placed("run", *axes, shape=x.shape), program.axes, shapes.params, is_leaf=is_axes
    )
    places = State(params, program.update.placed(params, layout.placed("run", shape=(runs,))))
    return jax.tree.map(lambda x, at: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=at), shapes, places)


def _merge(where_R: jax.Array, there: State, here: State) -> State:
    choose = jax.vmap(jnp.where)
    return jax.tree.map(lambda a, b: choose(where_R, a, b), there, here)
