"""Causal grouped-query attention: rotary positions, and the choice of who computes the softmax."""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp

from mixscale.errors import InputError


def rotary(T: int, C: int, theta: float) -> tuple[jax.Array, jax.Array]:
    """Cosine and sine, float32 (T, C/2), of position · theta^(-2i/C) (Su et al., arXiv 2104.09864)."""
    frequency_c = theta ** (-jnp.arange(0, C, 2, dtype=jnp.float32) / C)
    angle_Txc = jnp.arange(T, dtype=jnp.float32)[:, None] * frequency_c
    return jnp.cos(angle_Txc), jnp.sin(angle_Txc)


def rotate(x_BxTxHxC: jax.Array, table: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Turns the two halves of each head, taken as coordinates of planes, by the angles of `rotary`."""
    cos_Tx1xc, sin_Tx1xc = (t_Txc[:, None, :] for t_Txc in table)
    a, b = jnp.split(x_BxTxHxC.astype(jnp.float32), 2, axis=-1)
    turned = [a * cos_Tx1xc - b * sin_Tx1xc, a * sin_Tx1xc + b * cos_Tx1xc]
    return jnp.concatenate(turned, axis=-1).astype(x_BxTxHxC.dtype)


def attend(q_BxTxHxC: jax.Array, k_BxTxGxC: jax.Array, v_BxTxGxC: jax.Array, attention: str) -> jax.Array:
    """Causal softmax attention (B, T, H, C), each key-value head serving H/G neighbouring heads.

    Raises:
        InputError: cuDNN is asked for, and the device, dtype or width of a head does not allow it.
    """
    reason = without_cudnn(q_BxTxHxC.dtype, q_BxTxHxC.shape[-1])
    if attention == "cudnn" and reason:
        raise InputError(f"attention 'cudnn' is not possible: {reason}; choose 'auto' or 'xla'")
    if attention != "xla" and not reason:
        # Under vmap over runs, cuDNN's batching rule folds the runs into the batch.
        return jax.nn.dot_product_attention(q_BxTxHxC, k_BxTxGxC, v_BxTxGxC, is_causal=True, implementation="cudnn")
    B, T, H, C = q_BxTxHxC.shape
    G = k_BxTxGxC.shape[2]
    # The heads that share a key-value head are rows of one matrix, S = H/G · T of them.
    q_BxTxGxMxC = (q_BxTxHxC * jnp.asarray(C**-0.5, q_BxTxHxC.dtype)).reshape(B, T, G, H // G, C)
    q_BxGxSxC = q_BxTxGxMxC.transpose(0, 2, 3, 1, 4).reshape(B, G, -1, C)
    y_BxGxSxC = softmax_attention(q_BxGxSxC, k_BxTxGxC.swapaxes(1, 2), v_BxTxGxC.swapaxes(1, 2))
    return y_BxGxSxC.reshape(B, G, H // G, T, C).transpose(0, 3, 1, 2, 4).reshape(B, T, H, C)


@jax.custom_vjp
def softmax_attention(q_BxGxSxC: jax.Array, k_BxGxTxC: jax.Array, v_BxGxTxC: jax.Array) -> jax.Array:
    """softmax(q·kᵀ)·v, where row s of q is at position s mod T and sees the positions up to its own.

    Written out with its gradient, because XLA's own for the CPU moves whole matrices of scores about in memory.
    """
    return _forward(q_BxGxSxC, k_BxGxTxC, v_BxGxTxC)[0]


def _forward(q_BxGxSxC: jax.Array, k_BxGxTxC: jax.Array, v_BxGxTxC: jax.Array):
    S, T = q_BxGxSxC.shape[2], k_BxGxTxC.shape[2]
    score_BxGxSxT = jnp.einsum("bgsc,bgtc->bgst", q_BxGxSxC, k_BxGxTxC, preferred_element_type=jnp.float32)
    seen_SxT = jnp.arange(S)[:, None] % T >= jnp.arange(T)
    score_BxGxSxT = jnp.where(seen_SxT, score_BxGxSxT, -jnp.inf)
    p_BxGxSxT = jax.nn.softmax(score_BxGxSxT, axis=-1).astype(v_BxGxTxC.dtype)
    y_BxGxSxC = jnp.einsum("bgst,bgtc->bgsc", p_BxGxSxT, v_BxGxTxC)
    return y_BxGxSxC, (q_BxGxSxC, k_BxGxTxC, v_BxGxTxC, p_BxGxSxT, y_BxGxSxC)


def _backward(kept: tuple[jax.Array, ...], dy_BxGxSxC: jax.Array):
    q_BxGxSxC, k_BxGxTxC, v_BxGxTxC, p_BxGxSxT, y_BxGxSxC = kept
    dp_BxGxSxT = jnp.einsum("bgsc,bgtc->bgst", dy_BxGxSxC, v_BxGxTxC, preferred_element_type=jnp.float32)
    # Σ_t p·dp without the scores: dy·y.
    shift_BxGxSx1 = (dy_BxGxSxC.astype(jnp.float32) * y_BxGxSxC).sum(axis=-1, keepdims=True)
    dscore_BxGxSxT = (p_BxGxSxT * (dp_BxGxSxT - shift_BxGxSx1)).astype(q_BxGxSxC.dtype)
    dq_BxGxSxC = jnp.einsum("bgst,bgtc->bgsc", dscore_BxGxSxT, k_BxGxTxC)
    return dq_BxGxSxC, _over_queries(dscore_BxGxSxT, q_BxGxSxC), _over_queries(p_BxGxSxT, dy_BxGxSxC)


def _over_queries(scores_BxGxSxT: jax.Array, x_BxGxSxC: jax.Array) -> jax.Array:
    """scoresᵀ·x, as (xᵀ·scores)ᵀ: so XLA turns round the narrow x and not the wide scores."""
    product_BxGxCxT = jnp.einsum("bgsc,bgst->bgct", x_BxGxSxC, scores_BxGxSxT)
    # XLA would put the two transposes together again.
    return jax.lax.optimization_barrier(product_BxGxCxT).swapaxes(2, 3)


softmax_attention.defvjp(_forward, _backward)


def without_cudnn(dtype: jnp.dtype, C: int) -> str:
    """Why cuDNN's flash attention cannot be used on this process's devices; empty where it can."""
    capability = _capability()
    if capability < 8.0:
        return "it needs an NVIDIA GPU of the Ampere generation or later"
    if dtype not in (jnp.bfloat16, jnp.float16):
        return f"it computes in bfloat16, not in {jnp.dtype(dtype).name}"
    widest = 256 if capability >= 9.0 else 128
    if C % 8 or widest < C:
        return f"heads must be a multiple of 8 and at most {widest} wide, not {C}"
    return ""


@cache
def _capability() -> float:
    """Compute capability of the NVIDIA GPUs of this process; 0 without them."""
    device = jax.local_devices()[0]
    if device.platform != "gpu" or "cuda" not in device.client.platform_version:
        return 0.0
    return float(device.compute_capability)
