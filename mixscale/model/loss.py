"""Next-token loss from the last hidden state, in chunks of positions, so that logits are never whole in memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

CHUNK_LOGITS = 1 << 26
"""Logits held at a time, where nothing else is asked: 256 MiB of float32."""

Constrain = Callable[[jax.Array, tuple[str | None, ...]], jax.Array]


def losses(h_BxTxD: jax.Array, table_VxD: jax.Array, target_BxT: jax.Array, chunk: int, constrain: Constrain):
    """Mean of -log softmax(h · tableᵀ)[target] over each row, float32 (B,); softmax in float32.

    Args:
        chunk: positions at a time, which must divide T.
        constrain: places the logits of a chunk, with axes batch, None, vocab.
    """
    B, T, _ = h_BxTxD.shape
    if chunk == T:
        return _chunk_sum(h_BxTxD, table_VxD, target_BxT, constrain) / T

    @jax.checkpoint
    def body(sum_B: jax.Array, part: tuple[jax.Array, jax.Array]):
        return sum_B + _chunk_sum(part[0], table_VxD, part[1], constrain), None

    sum_B, _ = jax.lax.scan(body, jnp.zeros(B), (_chunks(h_BxTxD, chunk), _chunks(target_BxT, chunk)))
    return sum_B / T


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def mean_loss(h_BxTxD: jax.Array, table_VxD: jax.Array, target_BxT: jax.Array, chunk: int, constrain: Constrain):
    """Mean of `losses`, whose gradient is found on the way forward: no logits are kept, and none computed twice."""
    return losses(h_BxTxD, table_VxD, target_BxT, chunk, constrain).mean()


def _forward(h_BxTxD: jax.Array, table_VxD: jax.Array, target_BxT: jax.Array, chunk: int, constrain: Constrain):
    B, T, D = h_BxTxD.shape
    V, dtype = len(table_VxD), h_BxTxD.dtype

    def body(carry: tuple[jax.Array, jax.Array], part: tuple[jax.Array, jax.Array]):
        total, dtable_VxD = carry
        h_BxtxD, target_Bxt = part
        logits_BxtxV = _logits(h_BxtxD, table_VxD, constrain)
        top_Bxtx1 = logits_BxtxV.max(axis=-1, keepdims=True)
        e_BxtxV = jnp.exp(logits_BxtxV - top_Bxtx1)
        sum_Bxtx1 = e_BxtxV.sum(axis=-1, keepdims=True)
        hit_BxtxV = target_Bxt[..., None] == jnp.arange(V, dtype=target_Bxt.dtype)
        loss = (jnp.log(sum_Bxtx1) + top_Bxtx1).sum() - jnp.where(hit_BxtxV, logits_BxtxV, 0.0).sum()
        dlogits_BxtxV = ((e_BxtxV / sum_Bxtx1 - hit_BxtxV) / (B * T)).astype(dtype)
        flat_NxV = dlogits_BxtxV.reshape(-1, V)
        dh_BxtxD = (flat_NxV @ table_VxD).reshape(h_BxtxD.shape)
        dtable_VxD += jnp.einsum("nv,nd->vd", flat_NxV, h_BxtxD.reshape(-1, D), preferred_element_type=jnp.float32)
        return (total + loss, dtable_VxD), dh_BxtxD

    start = jnp.zeros(()), jnp.zeros((V, D))
    if chunk == T:
        (total, dtable_VxD), dh_BxTxD = body(start, (h_BxTxD, target_BxT))
    else:
        parts = _chunks(h_BxTxD, chunk), _chunks(target_BxT, chunk)
        (total, dtable_VxD), dh_NxBxtxD = jax.lax.scan(body, start, parts)
        dh_BxTxD = dh_NxBxtxD.swapaxes(0, 1).reshape(B, T, D)
    return total / (B * T), (dh_BxTxD, dtable_VxD.astype(dtype))


def _backward(chunk: int, constrain: Constrain, gradients: tuple[jax.Array, jax.Array], g: jax.Array):
    dh_BxTxD, dtable_VxD = gradients
    return (g * dh_BxTxD).astype(dh_BxTxD.dtype), (g * dtable_VxD).astype(dtable_VxD.dtype), None


mean_loss.defvjp(_forward, _backward)


def chunk_of(asked: int, B: int, T: int, V: int) -> int:
    """Positions at a time: the largest divisor of T that is not over `asked`, or 0: over what CHUNK_LOGITS allows."""
    most = asked or max(1, CHUNK_LOGITS // (B * V))
    return max(t for t in range(1, T + 1) if T % t == 0 and t <= most)


def _chunk_sum(h_BxtxD: jax.Array, table_VxD: jax.Array, target_Bxt: jax.Array, constrain: Constrain) -> jax.Array:
    logits_BxtxV = _logits(h_BxtxD, table_VxD, constrain)
    # A comparison and a sum, not a gather, which a vocabulary spread over devices would have to collect.
    hit_BxtxV = target_Bxt[..., None] == jnp.arange(len(table_VxD), dtype=target_Bxt.dtype)
    own_Bxt = jnp.where(hit_BxtxV, logits_BxtxV, 0.0).sum(axis=-1)
    return (jax.nn.logsumexp(logits_BxtxV, axis=-1) - own_Bxt).sum(axis=-1)


def _logits(h_BxtxD: jax.Array, table_VxD: jax.Array, constrain: Constrain) -> jax.Array:
    B, t, D = h_BxtxD.shape
    # As plain matrices, which XLA multiplies without turning them.
    flat_NxV = jnp.einsum("nd,vd->nv", h_BxtxD.reshape(B * t, D), table_VxD, preferred_element_type=jnp.float32)
    return constrain(flat_NxV.reshape(B, t, -1), ("batch", None, "vocab"))


def _chunks(x_BxT: jax.Array, chunk: int) -> jax.Array:
    """(B, T, …) as (T/chunk, B, chunk, …)."""
    B, T, *rest = x_BxT.shape
    return x_BxT.reshape(B, T // chunk, chunk, *rest).swapaxes(0, 1)
