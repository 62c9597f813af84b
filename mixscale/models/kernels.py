"""Matrix products, attention and the loss, with gradients in the forms that XLA runs fast.

On a GPU or TPU they are what JAX computes by itself, except that logits are never whole in memory. XLA for the CPU
has fast kernels only for operands without a transpose, and for bfloat16 operands with a float32 sum. There activations
stay float32, operands are rounded on the way in, and a gradient's operands are transposed first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal

import jax
import jax.numpy as jnp

from mixscale.errors import InputError

CHUNK_LOGITS = 1 << 26  # logits held at a time by default: 256 MiB of float32


@dataclass(frozen=True)
class Compute:
    dtype: str = "float32"  # of products and activations; parameters, norms, softmax and loss are float32
    remat: bool = False  # keep only each layer's input for the gradient, and compute the rest again
    scan: bool = False  # compile one layer for all, in a loop
    attention: Literal["auto", "xla", "cudnn"] = "auto"
    shards: int = 1  # number of devices that a batch is spread over
    loss_chunk: int = 0  # positions whose logits are in memory, a divisor of T; in a `Transformer` 0 chooses by size
    # Places an activation, given the name of each of its axes: batch, length, heads, mlp, vocab or None.
    constrain: Callable[[jax.Array, tuple[str | None, ...]], jax.Array] = lambda x, axes: x


def on_cpu() -> bool:
    """Whether programs are compiled for the CPU."""
    return jax.default_backend() == "cpu"


def activation_dtype(dtype: str) -> jnp.dtype:
    return jnp.dtype("float32" if on_cpu() else dtype)


# Products


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def product(x_NxD: jax.Array, weights_DxF: jax.Array, dtype: str) -> jax.Array:
    """x·weights (N, F), in the dtype of x, of operands rounded to `dtype`; float32 weights have a float32 gradient."""
    return _product(x_NxD, weights_DxF, dtype)[0]


def _product(x_NxD: jax.Array, weights_DxF: jax.Array, dtype: str):
    rounded = x_NxD.astype(dtype), weights_DxF.astype(dtype)
    return multiply("nd,df->nf", *rounded, x_NxD.dtype), (*rounded, jnp.zeros((0,), weights_DxF.dtype))


def _product_gradient(dtype: str, kept: tuple[jax.Array, jax.Array, jax.Array], dy_NxF: jax.Array):
    x_NxD, weights_DxF, like_weights = kept
    rounded_NxF = dy_NxF.astype(dtype)
    dx_NxD = multiply("nf,df->nd", rounded_NxF, weights_DxF, dy_NxF.dtype)
    return dx_NxD, over_rows(x_NxD, rounded_NxF).astype(like_weights.dtype)


product.defvjp(_product, _product_gradient)


def multiply(form: str, a: jax.Array, b: jax.Array, out: jnp.dtype) -> jax.Array:
    """einsum in `out`, summed in float32."""
    # With a float32 result the CPU multiplies bfloat16 directly; otherwise it makes copies in float32 first.
    return jnp.einsum(form, a, b, preferred_element_type=jnp.float32 if on_cpu() else out).astype(out)


def over_rows(x_NxD: jax.Array, dy_NxF: jax.Array) -> jax.Array:
    """xᵀ·dy, float32 (D, F): the gradient of weights."""
    sums = partial(jnp.einsum, preferred_element_type=jnp.float32)
    if not on_cpu():
        return sums("nd,nf->df", x_NxD, dy_NxF)
    if x_NxD.shape[1] > dy_NxF.shape[1]:
        # Transpose the narrower operand. Without the barrier XLA would merge the two transposes.
        return jax.lax.optimization_barrier(over_rows(dy_NxF, x_NxD)).T
    if x_NxD.dtype == jnp.float32:
        return sums("nd,nf->df", x_NxD, dy_NxF)
    # As one long row the transpose is hidden from XLA, which would give up the bfloat16 kernel for it.
    transposed = jax.lax.optimization_barrier(x_NxD.T.reshape(-1)).reshape(x_NxD.shape[::-1])
    return sums("dn,nf->df", transposed, dy_NxF)


# Attention


def attend(q_BxTxHxC: jax.Array, k_BxTxGxC: jax.Array, v_BxTxGxC: jax.Array, attention: str) -> jax.Array:
    """Causal softmax attention (B, T, H, C); each key-value head serves H/G neighbouring heads.

    Raises InputError if cuDNN is requested, but impossible with this device, dtype or width of a head.
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
    """softmax(q·kᵀ)·v, where row s of q is at position s mod T and attends to the positions up to its own."""
    # An explicit gradient, because XLA's own for the CPU moves whole matrices of scores in memory.
    return _attention(q_BxGxSxC, k_BxGxTxC, v_BxGxTxC)[0]


def _attention(q_BxGxSxC: jax.Array, k_BxGxTxC: jax.Array, v_BxGxTxC: jax.Array):
    S, T = q_BxGxSxC.shape[2], k_BxGxTxC.shape[2]
    score_BxGxSxT = jnp.einsum("bgsc,bgtc->bgst", q_BxGxSxC, k_BxGxTxC, preferred_element_type=jnp.float32)
    visible_SxT = jnp.arange(S)[:, None] % T >= jnp.arange(T)
    score_BxGxSxT = jnp.where(visible_SxT, score_BxGxSxT, -jnp.inf)
    p_BxGxSxT = jax.nn.softmax(score_BxGxSxT, axis=-1).astype(v_BxGxTxC.dtype)
    y_BxGxSxC = jnp.einsum("bgst,bgtc->bgsc", p_BxGxSxT, v_BxGxTxC)
    return y_BxGxSxC, (q_BxGxSxC, k_BxGxTxC, v_BxGxTxC, p_BxGxSxT, y_BxGxSxC)


def _attention_gradient(kept: tuple[jax.Array, ...], dy_BxGxSxC: jax.Array):
    q_BxGxSxC, k_BxGxTxC, v_BxGxTxC, p_BxGxSxT, y_BxGxSxC = kept
    dp_BxGxSxT = jnp.einsum("bgsc,bgtc->bgst", dy_BxGxSxC, v_BxGxTxC, preferred_element_type=jnp.float32)
    # Σ_t p·dp without the scores: dy·y.
    shift_BxGxSx1 = (dy_BxGxSxC.astype(jnp.float32) * y_BxGxSxC).sum(axis=-1, keepdims=True)
    dscore_BxGxSxT = (p_BxGxSxT * (dp_BxGxSxT - shift_BxGxSx1)).astype(q_BxGxSxC.dtype)
    dq_BxGxSxC = jnp.einsum("bgst,bgtc->bgsc", dscore_BxGxSxT, k_BxGxTxC)
    return dq_BxGxSxC, _over_queries(dscore_BxGxSxT, q_BxGxSxC), _over_queries(p_BxGxSxT, dy_BxGxSxC)


def _over_queries(scores_BxGxSxT: jax.Array, x_BxGxSxC: jax.Array) -> jax.Array:
    """scoresᵀ·x, as (xᵀ·scores)ᵀ, so that XLA transposes the narrow x and not the wide scores."""
    product_BxGxCxT = jnp.einsum("bgsc,bgst->bgct", x_BxGxSxC, scores_BxGxSxT)
    # Without the barrier XLA would merge the two transposes.
    return jax.lax.optimization_barrier(product_BxGxCxT).swapaxes(2, 3)


softmax_attention.defvjp(_attention, _attention_gradient)


def without_cudnn(dtype: jnp.dtype, C: int) -> str:
    """Why cuDNN's flash attention cannot be used on this process's devices; empty if it can."""
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
    """Compute capability of this process's NVIDIA GPUs; 0 without them."""
    device = jax.local_devices()[0]
    if device.platform != "gpu" or "cuda" not in device.client.platform_version:
        return 0.0
    return float(device.compute_capability)


# Loss


def chunk_of(requested: int, B: int, T: int, V: int) -> int:
    """Positions at a time: the largest divisor of T up to `requested`, or if that is 0, up to CHUNK_LOGITS logits."""
    most = requested or max(1, CHUNK_LOGITS // (B * V))
    return max(t for t in range(1, T + 1) if T % t == 0 and t <= most)


def losses(
    h_BxTxD: jax.Array, table_VxD: jax.Array, target_BxT: jax.Array, mask_BxT: jax.Array | None, compute: Compute
) -> jax.Array:
    """Mean of -log softmax(h · tableᵀ)[target] over the positions of each row that the mask marks, float32 (B,)."""

    @jax.checkpoint
    def body(sum_B: jax.Array, part: tuple[jax.Array, jax.Array, jax.Array | None]):
        h_BxtxD, target_Bxt, mask_Bxt = part
        logits_BxtxV = _logits(h_BxtxD.astype(compute.dtype), table_VxD.astype(compute.dtype), compute)
        own_Bxt = jnp.where(_hits(target_Bxt, len(table_VxD)), logits_BxtxV, 0.0).sum(axis=-1)
        loss_Bxt = jax.nn.logsumexp(logits_BxtxV, axis=-1) - own_Bxt
        return sum_B + (loss_Bxt if mask_Bxt is None else loss_Bxt * mask_Bxt).sum(axis=-1), None

    B, T = target_BxT.shape
    sum_B, _ = _over_chunks(body, jnp.zeros(B), (h_BxTxD, target_BxT, mask_BxT), compute.loss_chunk)
    return sum_B / (T if mask_BxT is None else mask_BxT.sum(axis=-1))


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def mean_loss(
    h_BxTxD: jax.Array, table_VxD: jax.Array, target_BxT: jax.Array, mask_BxT: jax.Array | None, compute: Compute
) -> jax.Array:
    """Mean loss over all marked positions. The forward pass computes the gradient, so that no logits are kept."""
    loss_B = losses(h_BxTxD, table_VxD, target_BxT, mask_BxT, compute)
    return loss_B.mean() if mask_BxT is None else (loss_B * mask_BxT.sum(axis=-1)).sum() / mask_BxT.sum()


def _mean_loss(h_BxTxD, table_VxD, target_BxT, mask_BxT, compute):
    B, T, D = h_BxTxD.shape
    V = len(table_VxD)
    positions = B * T if mask_BxT is None else mask_BxT.sum()
    rounded_VxD = table_VxD.astype(compute.dtype)

    def body(carry: tuple[jax.Array, jax.Array], part: tuple[jax.Array, jax.Array, jax.Array | None]):
        total, dtable_DxV = carry
        h_BxtxD, target_Bxt, mask_Bxt = part[0].astype(compute.dtype), part[1], part[2]
        logits_BxtxV = _logits(h_BxtxD, rounded_VxD, compute)
        top_Bxtx1 = logits_BxtxV.max(axis=-1, keepdims=True)
        e_BxtxV = jnp.exp(logits_BxtxV - top_Bxtx1)
        sum_Bxtx1 = e_BxtxV.sum(axis=-1, keepdims=True)
        hit_BxtxV = _hits(target_Bxt, V)
        all_Bxtx1, own_BxtxV = jnp.log(sum_Bxtx1) + top_Bxtx1, jnp.where(hit_BxtxV, logits_BxtxV, 0.0)
        dlogits_BxtxV = e_BxtxV / sum_Bxtx1 - hit_BxtxV
        if mask_Bxt is not None:
            marked_Bxtx1 = mask_Bxt[..., None]
            all_Bxtx1, own_BxtxV, dlogits_BxtxV = (x * marked_Bxtx1 for x in (all_Bxtx1, own_BxtxV, dlogits_BxtxV))
        dlogits_NxV = (dlogits_BxtxV / positions).astype(compute.dtype).reshape(-1, V)
        dh_BxtxD = multiply("nv,vd->nd", dlogits_NxV, rounded_VxD, part[0].dtype).reshape(part[0].shape)
        # Sum the table's transpose, because the CPU is faster with the narrow operand first.
        dtable_DxV = dtable_DxV + over_rows(h_BxtxD.reshape(-1, D), dlogits_NxV)
        return (total + (all_Bxtx1.sum() - own_BxtxV.sum()), dtable_DxV), dh_BxtxD

    start = jnp.zeros(()), jnp.zeros((D, V))
    (total, dtable_DxV), dh_BxTxD = _over_chunks(body, start, (h_BxTxD, target_BxT, mask_BxT), compute.loss_chunk)
    return total / positions, (dh_BxTxD, jax.lax.optimization_barrier(dtable_DxV).T.astype(table_VxD.dtype))


def _mean_loss_gradient(compute: Compute, gradients: tuple[jax.Array, jax.Array], g: jax.Array):
    dh_BxTxD, dtable_VxD = gradients
    return (g * dh_BxTxD).astype(dh_BxTxD.dtype), g * dtable_VxD, None, None


mean_loss.defvjp(_mean_loss, _mean_loss_gradient)


def _over_chunks(body: Callable, start: Any, arrays_BxT: tuple[jax.Array | None, ...], chunk: int):
    """lax.scan of `body` over chunks of positions; its outputs (B, t, …) are joined to (B, T, …)."""
    B, T = arrays_BxT[0].shape[:2]
    if chunk == T:
        return body(start, arrays_BxT)
    parts = jax.tree.map(lambda x: x.reshape(B, T // chunk, chunk, *x.shape[2:]).swapaxes(0, 1), arrays_BxT)
    end, outputs = jax.lax.scan(body, start, parts)
    return end, jax.tree.map(lambda y: y.swapaxes(0, 1).reshape(B, T, *y.shape[3:]), outputs)


def _logits(h_BxtxD: jax.Array, table_VxD: jax.Array, compute: Compute) -> jax.Array:
    B, t, D = h_BxtxD.shape
    # As plain matrices, which XLA multiplies without a transpose.
    flat_NxV = multiply("nd,vd->nv", h_BxtxD.reshape(B * t, D), table_VxD, jnp.float32)
    return compute.constrain(flat_NxV.reshape(B, t, -1), ("batch", None, "vocab"))


def _hits(target_Bxt: jax.Array, V: int) -> jax.Array:
    """Where a token is the target (B, t, V), without a gather, which would collect a spread vocabulary."""
    return target_Bxt[..., None] == jnp.arange(V, dtype=target_Bxt.dtype)
