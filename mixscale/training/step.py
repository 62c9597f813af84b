"""The compiled inner loop: gradient, update and evaluation of a population, as pure functions of arrays.

Everything that differs between runs of a shape (weights, rows, learning rates, weight decay, number of steps) is an
array with a leading axis R, so that one compilation serves a whole grid. A dispatch runs several steps in a loop.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from mixscale.config import Model, Optimizer
from mixscale.models import Compute, Transformer
from mixscale.training.optimizers import Update
from mixscale.training.tasks import Task

Pytree = Any
METRICS = ("loss", "grad_norm", "param_norm")


class State(NamedTuple):
    """What a population carries from step to step; the first axis of every leaf is R runs."""

    params: Pytree
    opt: Pytree


class StepInputs(NamedTuple):
    """Inputs of one dispatch: at most S steps of each of R runs."""

    rows: jax.Array  # int32 (R, S, B), numbers of rows of the resident tokens; or the rows themselves, (R, S, B, T+1)
    learning_rate: jax.Array  # float32 (R, S)
    weight_decay: jax.Array  # float32 (R,)
    count: jax.Array  # int32 (R,): how many of the S steps each run takes


class Program:
    """Model, task and optimizer of one shape with V = `vocab` and R = `runs`, as functions for the caller to jit.

    The learning rate and weight decay of `optimizer` are not read; they come with each dispatch. The loss of a batch
    is the mean over `accumulate` parts.
    """

    def __init__(
        self, task: Task, model: Model, vocab: int, optimizer: Optimizer, compute: Compute, runs: int, accumulate: int
    ):
        self._task = task
        self._build = partial(Transformer, model, vocab, compute=compute)
        abstract = nnx.eval_shape(lambda: self._build(nnx.Rngs(0)))
        self._graph, self._annotated = nnx.split(abstract)
        self.axes = self._of_params("axes")
        self.update = Update(optimizer, self._of_params("lr_scale"), self._of_params("decay"))
        self._runs, self._accumulate = runs, accumulate

    def init(self, seed_R: jax.Array) -> State:
        return self._each(self._init)(seed_R)

    def steps(
        self, state: State, tokens_NxT1: jax.Array | None, inputs: StepInputs
    ) -> tuple[State, dict[str, jax.Array]]:
        """Up to S steps of each run; metrics (R, S) are zero after a run's count, and its state no longer changes.

        `inputs.rows` are numbers of rows in `tokens_NxT1`, or the rows themselves if there are no resident tokens.
        """
        alone = self._runs == 1
        step = self._step if alone else self._each(self._step)
        if alone:
            # Before the loop: if the axis is removed inside it, XLA copies the whole state at every step.
            state, inputs = jax.tree.map(lambda x: x[0], (state, inputs))
        row_SxRxB = inputs.rows if alone else inputs.rows.swapaxes(0, 1)

        def body(s: jax.Array, carry: tuple[State, dict[str, jax.Array]]) -> tuple[State, dict[str, jax.Array]]:
            state, metrics = carry
            rows_RxBxT1 = row_SxRxB[s] if tokens_NxT1 is None else tokens_NxT1[row_SxRxB[s]]
            active_R = s < inputs.count
            state, now = step(state, rows_RxBxT1, inputs.learning_rate[..., s], inputs.weight_decay, active_R)
            return state, {name: metrics[name].at[..., s].set(now[name]) for name in METRICS}

        metrics = {name: jnp.zeros(inputs.learning_rate.shape) for name in METRICS}
        out = jax.lax.fori_loop(0, inputs.count.max(), body, (state, metrics))
        return jax.tree.map(lambda x: x[None], out) if alone else out

    def evaluate(self, state: State, rows_NxBxT1: jax.Array) -> jax.Array:
        """The task's measure of every held-out row, float32 (R, N, B)."""

        def alone(state: State) -> jax.Array:
            model = self._model(self.update.averaged(state.params, state.opt))
            return jax.lax.map(partial(self._task.measure, model), rows_NxBxT1)

        return self._each(alone)(state)

    def _of_params(self, name: str) -> Pytree:
        flat = nnx.to_flat_state(self._annotated)
        return nnx.traversals.unflatten_mapping({path: getattr(param, name) for path, param in flat})

    def _each(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function` of one run, for all. A single run does not need the axis, which costs time on a CPU."""
        if self._runs > 1:
            return jax.vmap(function, spmd_axis_name="run")

        def alone(*arguments: Any) -> Any:
            out = function(*jax.tree.map(lambda x: x[0], arguments))
            return jax.tree.map(lambda x: x[None], out)

        return alone

    def _init(self, seed: jax.Array) -> State:
        params = nnx.to_pure_dict(nnx.state(self._build(nnx.Rngs(params=jax.random.key(seed)))))
        return State(params, self.update.init(params))

    def _model(self, params: Pytree) -> Transformer:
        state = jax.tree.map(lambda x: x, self._annotated)
        nnx.replace_by_pure_dict(state, params)
        return nnx.merge(self._graph, state)

    def _gradient(self, params: Pytree, rows_BxT1: jax.Array) -> tuple[jax.Array, Pytree]:
        mean = jax.value_and_grad(lambda p, rows: self._task.loss(self._model(p), rows))
        parts = self._accumulate
        if parts == 1:
            return mean(params, rows_BxT1)
        # Every part takes each A-th sequence, so that every device has a share of every part.
        rows_AxbxT1 = rows_BxT1.reshape(-1, parts, rows_BxT1.shape[-1]).swapaxes(0, 1)

        def add(total: Any, rows_bxT1: jax.Array) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, total, mean(params, rows_bxT1)), None

        zero = jnp.zeros(()), jax.tree.map(jnp.zeros_like, params)
        total, _ = jax.lax.scan(add, zero, rows_AxbxT1)
        return jax.tree.map(lambda x: x / parts, total)

    def _step(
        self, state: State, rows_BxT1: jax.Array, learning_rate: jax.Array, weight_decay: jax.Array, active: jax.Array
    ) -> tuple[State, dict[str, jax.Array]]:
        """One update of one run, or none if it is not active; the loss is that before the update."""
        loss, grads = self._gradient(state.params, rows_BxT1)
        params, opt, norms = self.update.apply(grads, state.opt, state.params, learning_rate, weight_decay)
        new, metrics = State(params, opt), {"loss": loss, **norms}
        if self._runs == 1:
            return new, metrics
        kept = jax.tree.map(lambda now, before: jnp.where(active, now, before), new, state)
        return kept, {name: jnp.where(active, metrics[name], 0.0) for name in METRICS}
