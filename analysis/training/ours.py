"""The project's compiled training loop on random tokens, without a store and without writing anything."""

from __future__ import annotations

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from mixscale.config import Optimizer
from mixscale.models import Compute
from mixscale.training.step import Program, State, StepInputs
from mixscale.training.tasks import LanguageModelling
from training.shapes import Shape


def program_of(shape: Shape, dtype: str, runs: int = 1, **compute: object) -> Program:
    return Program(
        LanguageModelling(), shape.model, shape.vocab, Optimizer(), Compute(dtype=dtype, **compute), runs, 1
    )


def job(shape: Shape, dtype: str, runs: int = 1, **compute: object) -> Callable[[], int]:
    """A function that trains `shape.steps` steps of each of `runs` runs and returns the tokens of all."""
    program = program_of(shape, dtype, runs, **compute)
    state = jax.jit(program.init)(jnp.arange(runs, dtype=jnp.uint32))
    steps = jax.jit(program.steps, donate_argnums=0)
    tokens_NxT1 = jnp.asarray(shape.rows())
    row_RxSxB = np.arange(runs * shape.steps * shape.batch, dtype=np.int32) % len(tokens_NxT1)
    inputs = StepInputs(
        jnp.asarray(row_RxSxB.reshape(runs, shape.steps, shape.batch)),
        jnp.full((runs, shape.steps), 1e-3),
        jnp.full(runs, 0.1),
        jnp.full(runs, shape.steps, jnp.int32),
    )
    held: list[State] = [state]

    def once() -> int:
        held[0], metrics = steps(held[0], tokens_NxT1, inputs)
        jax.block_until_ready(metrics)
        return row_RxSxB.size * shape.context

    return once


def timed(call: Callable[[], object], rounds: int) -> float:
    """Seconds of the quickest of some calls after a first."""
    call()
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return min(seconds)
