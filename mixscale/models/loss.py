"""Next-token loss from the last hidden state, in chunks of positions, so that logits are never whole in memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mixscale.models.products import multiply, over_rows

CHUNK_LOGITS = 1 << 26
"""Logits held at a time, where nothing else is asked: 256 MiB of float32."""


class Head(NamedTuple):
    """How the loss is computed."""

    dtype: str
    """of the products; softmax and loss are float32"""
    chunk: int
    """positions at a time; must divide T"""
    constrain: Callable[[jax.Array, tuple[str | None, ...]], jax.Array]
    """places the logits of a chunk, with axes batch, None, vocab"""


def chunk_of(asked: int, B: int, T: int, V: int) -> int:
    """Positions at a time: the largest divisor of T that is not over `asked`, or 0: over what CHUNK_LOGITS allows."""
    most = asked or max(1, CHUNK_LOGITS // (B * V))
    return max(t for t in range(1, T + 1) if T % t == 0 and t <= most)


def losses(h_BxTxD: jax.Array, table_VxD: jax.Array, target_BxT: jax.Array, head: Head) -> jax.Array:
    """Mean of -log softmax(h · tableᵀ)[target] over each row, float32 (B,)."""

    @jax.checkpoint
    def body(sum_B: jax.Array, part: tuple[jax.Array, jax.Array]):
        h_BxtxD, target_Bxt = part
        logits_BxtxV = _logits(h_BxtxD.astype(head.dtype), table_VxD.astype(head.dtype), head)
        own_Bxt = jnp.where(_hits(target_Bxt, len(table_VxD)), logits_BxtxV, 0.0).sum(axis=-1)
        return sum_B + (jax.nn.logsumexp(logits_BxtxV, axis=-1) - own_Bxt).sum(axis=-1), None

    B, T = target_BxT.shape
    return _over_chunks(body, jnp.zeros(B), (h_BxTxD, target_BxT), head.chunk)[0] / T


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def mean_loss(h_BxTxD: jax.Array, table_VxD: jax.Array, target_BxT: jax.Array, head: Head) -> jax.Array:
    """Mean of `losses`, whose gradient is found on the way forward: no logits are kept, and none computed twice."""
    return losses(h_BxTxD, table_VxD, target_BxT, head).mean()


def _forward(h_BxTxD: jax.Array, table_VxD: jax.Array, target_BxT: jax.Array, head: Head):
    B, T, D = h_BxTxD.shape
    V = len(table_VxD)
    rounded_VxD = table_VxD.astype(head.dtype)

    def body(carry: tuple[jax.Array, jax.Array], part: tuple[jax.Array, jax.Array]):
        total, dtable_DxV = carry
        h_BxtxD, target_Bxt = part[0].astype(head.dtype), part[1]
        logits_BxtxV = _logits(h_BxtxD, rounded_VxD, head)
        top_Bxtx1 = logits_BxtxV.max(axis=-1, keepdims=True)
        e_BxtxV = jnp.exp(logits_BxtxV - top_Bxtx1)
        sum_Bxtx1 = e_BxtxV.sum(axis=-1, keepdims=True)
        hit_BxtxV = _hits(target_Bxt, V)
        loss = (jnp.log(sum_Bxtx1) + top_Bxtx1).sum() - jnp.where(hit_BxtxV, logits_BxtxV, 0.0).sum()
        dlogits_BxtxV = (e_BxtxV / sum_Bxtx1 - hit_BxtxV) / (B * T)
        dlogits_NxV = dlogits_BxtxV.astype(head.dtype).reshape(-1, V)
        dh_BxtxD = multiply("nv,vd->nd", dlogits_NxV, rounded_VxD, part[0].dtype).reshape(part[0].shape)
        # The table's transpose is summed, because the CPU is quicker with the narrow operand first.
        return (total + loss, dtable_DxV + over_rows(h_BxtxD.reshape(-1, D), dlogits_NxV)), dh_BxtxD

    start = jnp.zeros(()), jnp.zeros((D, V))
    (total, dtable_DxV), dh_BxTxD = _over_chunks(body, start, (h_BxTxD, target_BxT), head.chunk)
    return total / (B * T), (dh_BxTxD, jax.lax.optimization_barrier(dtable_DxV).T.astype(table_VxD.dtype))


def _backward(head: Head, gradients: tuple[jax.Array, jax.Array], g: jax.Array):
    dh_BxTxD, dtable_VxD = gradients
    return (g * dh_BxTxD).astype(dh_BxTxD.dtype), g * dtable_VxD, None


mean_loss.defvjp(_forward, _backward)


def _over_chunks(body: Callable, start, arrays_BxT: tuple[jax.Array, ...], chunk: int):
    """lax.scan of `body` over chunks of positions; what it gives for each (B, t, …) is joined to (B, T, …)."""
    B, T = arrays_BxT[0].shape[:2]
    if chunk == T:
        return body(start, arrays_BxT)
    parts = tuple(x.reshape(B, T // chunk, chunk, *x.shape[2:]).swapaxes(0, 1) for x in arrays_BxT)
    end, given = jax.lax.scan(body, start, parts)
    return end, jax.tree.map(lambda y: y.swapaxes(0, 1).reshape(B, T, *y.shape[3:]), given)


def _logits(h_BxtxD: jax.Array, table_VxD: jax.Array, head: Head) -> jax.Array:
    B, t, D = h_BxtxD.shape
    # As plain matrices, which XLA multiplies without turning them.
    flat_NxV = multiply("nd,vd->nv", h_BxtxD.reshape(B * t, D), table_VxD, jnp.float32)
    return head.constrain(flat_NxV.reshape(B, t, -1), ("batch", None, "vocab"))


def _hits(target_Bxt: jax.Array, V: int) -> jax.Array:
    """Where a token is the target (B, t, V): not a gather, which a vocabulary spread over devices had to collect."""
    return target_Bxt[..., None] == jnp.arange(V, dtype=target_Bxt.dtype)
