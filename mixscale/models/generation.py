"""Continues sequences of tokens with a cache of keys and values, in one compiled program of static shapes.

Prompts are padded on the left, so that the next token of every row is in the same slot; a row's positions count from
its first token, and no token attends to padding.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from mixscale.config import Model
from mixscale.models.transformer import Transformer, project, rotary, rotate, with_weights

Cache = tuple[jax.Array, jax.Array]  # keys and values of S slots, (L, B, S, G, C)


@partial(jax.jit, static_argnames=("config", "tokens"))
def generate(
    config: Model,
    params: dict[str, Any],
    ids_BxP: jax.Array,
    padding_B: jax.Array,
    tokens: int,
    temperature: float,
    top_p: float,
    end: int,
    seed: int,
) -> jax.Array:
    """The next tokens of each row, (B, tokens); from the token `end` on all are `end`.

    Args:
        params: weights of one run, without an axis of runs.
        ids_BxP: prompts, padded on the left; padding_B: how many slots are padding.
        temperature: divides the logits; 0 takes the most probable token.
        top_p: sample only from the most probable tokens that together have this probability (Holtzman et al.,
            arXiv 1904.09751).
        end: token that ends a row, or -1.
    """
    model = with_weights(config, params)
    (B, P), C = ids_BxP.shape, config.d_model // config.heads
    empty = jnp.zeros((config.layers, B, P + tokens, config.kv_heads, C))
    logits_BxV, cache = step(model, ids_BxP, (empty, empty), jnp.int32(0), padding_B)

    def unfinished(carry: tuple) -> jax.Array:
        i, *_, ended_B = carry
        return (i < tokens) & ~ended_B.all()

    def append(carry: tuple) -> tuple:
        i, out_BxN, logits_BxV, cache, ended_B = carry
        key = jax.random.fold_in(jax.random.key(seed), i)
        next_B = jnp.where(ended_B, end, choose(key, logits_BxV, temperature, top_p))
        logits_BxV, cache = step(model, next_B[:, None], cache, P + i, padding_B)
        return i + 1, out_BxN.at[:, i].set(next_B), logits_BxV, cache, ended_B | (next_B == end)

    start = jnp.int32(0), jnp.full((B, tokens), end), logits_BxV, cache, jnp.zeros(B, bool)
    return jax.lax.while_loop(unfinished, append, start)[1]


def step(
    model: Transformer, ids_BxT: jax.Array, cache: Cache, first: jax.Array, padding_B: jax.Array
) -> tuple[jax.Array, Cache]:
    """Logits (B, V) after tokens in the slots from `first` on, and the cache with their keys and values."""
    (B, T), S, config = ids_BxT.shape, cache[0].shape[2], model.config
    slot_T, slot_S = first + jnp.arange(T), jnp.arange(S)
    position_BxT = jnp.maximum(slot_T - padding_B[:, None], 0)
    table = tuple(t_Sxc[position_BxT] for t_Sxc in rotary(S, config.d_model // config.heads, config.rope_theta))
    visible_BxTxS = (slot_S <= slot_T[:, None]) & (slot_S >= padding_B[:, None, None])
    graph, stacked = nnx.split(model.blocks)
    turn = jax.vmap(rotate)  # every row has its own positions

    def block(x_BxTxD: jax.Array, part: tuple[nnx.State, jax.Array, jax.Array]) -> tuple[jax.Array, Cache]:
        layer, k_BxSxGxC, v_BxSxGxC = part
        blocks = nnx.merge(graph, layer)
        q_BxTxHxC, k_BxTxGxC, v_BxTxGxC = blocks.attention.heads(blocks.attention_norm(x_BxTxD))
        k_BxSxGxC = jax.lax.dynamic_update_slice_in_dim(k_BxSxGxC, turn(k_BxTxGxC, table), first, axis=1)
        v_BxSxGxC = jax.lax.dynamic_update_slice_in_dim(v_BxSxGxC, v_BxTxGxC, first, axis=1)
        y_BxTxHxC = jax.nn.dot_product_attention(
            turn(q_BxTxHxC, table), k_BxSxGxC, v_BxSxGxC, mask=visible_BxTxS[:, None]
        )
        x_BxTxD = x_BxTxD + project(y_BxTxHxC.reshape(B, T, -1), blocks.attention.out[...], model.compute)
        return x_BxTxD + blocks.mlp(blocks.mlp_norm(x_BxTxD)), (k_BxSxGxC, v_BxSxGxC)

    x_BxTxD, cache = jax.lax.scan(block, model.embedded(ids_BxT), (stacked, *cache))
    h_Bx1xD, table_VxD = model.last(x_BxTxD[:, -1:])
    return jnp.einsum("btd,vd->bv", h_Bx1xD, table_VxD), cache


def choose(key: jax.Array, logits_BxV: jax.Array, temperature: float, top_p: float) -> jax.Array:
    """A token for each row, int32 (B,)."""
    order_BxV = jnp.argsort(-logits_BxV, axis=-1)
    sorted_BxV = jnp.take_along_axis(logits_BxV, order_BxV, axis=-1) / jnp.maximum(temperature, 1e-6)
    p_BxV = jax.nn.softmax(sorted_BxV, axis=-1)
    before_BxV = jnp.cumsum(p_BxV, axis=-1) - p_BxV
    drawn_B = jax.random.categorical(key, jnp.where(before_BxV < top_p, sorted_BxV, -jnp.inf))
    rank_B = jnp.where(temperature > 0, drawn_B, 0)
    return jnp.take_along_axis(order_BxV, rank_B[:, None], axis=-1)[:, 0]
