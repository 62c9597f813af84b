"""The compiled inner loop: gradient, AdamW update and evaluation as pure functions of arrays.

Learning rate and rows arrive as arrays, so that one compilation serves every mixture, seed, schedule and length of a
shape. Several steps run per dispatch, in a loop whose trip count is an argument. Nothing here touches files.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from mixscale.experiment import Model, Optimiser
from mixscale.model import Transformer

Pytree = Any


class State(NamedTuple):
    """What a run carries from step to step, and what a checkpoint holds."""

    params: Pytree
    opt: Pytree


class Program:
    """Model, loss and optimiser of one shape, as functions to be jitted by their caller's mesh.

    Args:
        model: shape of the transformer.
        vocab: V, tokens of the vocabulary.
        optimiser: AdamW's settings other than the learning rate, which comes with each step.
        dtype: of the computation.
    """

    def __init__(self, model: Model, vocab: int, optimiser: Optimiser, dtype: str):
        self._build = partial(Transformer, model, vocab, dtype=jnp.dtype(dtype))
        abstract = nnx.eval_shape(lambda: self._build(nnx.Rngs(0)))
        self._graph, annotated = nnx.split(abstract)
        is_param = lambda x: isinstance(x, nnx.Variable)  # noqa: E731
        self._lr_scale = nnx.to_pure_dict(jax.tree.map(lambda p: p.lr_scale, annotated, is_leaf=is_param))
        decay = nnx.to_pure_dict(jax.tree.map(lambda p: p.decay, annotated, is_leaf=is_param))
        self._annotated = annotated
        self._adam = optax.chain(
            optax.clip_by_global_norm(optimiser.clip), optax.scale_by_adam(b1=optimiser.b1, b2=optimiser.b2)
        )
        self._decay = jax.tree.map(lambda on: optimiser.weight_decay if on else 0.0, decay)

    def init(self, seed: jax.Array) -> State:
        """Fresh weights and optimiser state from an integer seed."""
        params = nnx.to_pure_dict(nnx.state(self._build(nnx.Rngs(params=jax.random.key(seed)))))
        return State(params, self._adam.init(params))

    def losses(self, params: Pytree, rows_BxT1: jax.Array) -> jax.Array:
        """Mean next-token loss of each row in nats, float32 (B,)."""
        state = jax.tree.map(lambda x: x, self._annotated)
        nnx.replace_by_pure_dict(state, params)
        model = nnx.merge(self._graph, state)
        ids_BxT1 = rows_BxT1.astype(jnp.int32)
        logits_BxTxV = model(ids_BxT1[:, :-1])
        return cross_entropy(logits_BxTxV, ids_BxT1[:, 1:]).mean(axis=-1)

    def step(self, state: State, rows_BxT1: jax.Array, learning_rate: jax.Array) -> tuple[State, dict[str, jax.Array]]:
        """One update, and the loss and gradient norm before it."""
        loss, grads = jax.value_and_grad(lambda p: self.losses(p, rows_BxT1).mean())(state.params)
        direction, opt = self._adam.update(grads, state.opt, state.params)
        params = jax.tree.map(
            lambda p, u, scale, decay: p - learning_rate * (scale * u + decay * p),
            state.params, direction, self._lr_scale, self._decay,
        )  # fmt: skip
        return State(params, opt), {"loss": loss, "grad_norm": optax.tree.norm(grads)}

    def steps(
        self, state: State, tokens_RxT1: jax.Array, row_SxB: jax.Array, learning_rate_S: jax.Array, count: jax.Array
    ) -> tuple[State, dict[str, jax.Array]]:
        """The first `count` of S steps on the given rows of `tokens_RxT1`; metrics (S,) are zero after `count`."""
        S = len(learning_rate_S)

        def body(s: jax.Array, carry: tuple[State, dict[str, jax.Array]]) -> tuple[State, dict[str, jax.Array]]:
            state, metrics = carry
            state, now = self.step(state, tokens_RxT1[row_SxB[s]], learning_rate_S[s])
            return state, {name: metrics[name].at[s].set(now[name]) for name in metrics}

        metrics = {"loss": jnp.zeros(S), "grad_norm": jnp.zeros(S)}
        return jax.lax.fori_loop(0, count, body, (state, metrics))

    def evaluate(self, params: Pytree, rows_NxBxT1: jax.Array) -> jax.Array:
        """Loss of every held-out row in nats a token, float32 (N, B)."""
        return jax.lax.map(partial(self.losses, params), rows_NxBxT1)


def cross_entropy(logits_BxTxV: jax.Array, target_BxT: jax.Array) -> jax.Array:
    """Next-token loss in nats, float32 (B, T)."""
    return optax.softmax_cross_entropy_with_integer_labels(logits_BxTxV, target_BxT)
