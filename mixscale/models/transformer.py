"""A decoder-only transformer in Flax NNX that you can read in one sitting.

Llama's layout: RMSNorm before each block, rotary positions, grouped-query attention with or without QK-norm, SwiGLU,
tied or untied embeddings. Parameters of all layers are stacked along a leading axis, so that a checkpoint does not
depend on how they were computed, in a loop or unrolled.

Width transfer follows µP for Adam (Yang et al., arXiv 2203.03466, table 8): a hidden matrix starts with standard
deviation 1/sqrt(fan-in) and learns at a rate proportional to 1/fan-in; embeddings and norms are the same at every
width; logits are scaled by 1/width. Scales are relative to `BASE_WIDTH`, at which all of them are one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from mixscale.config import Model
from mixscale.models import kernels
from mixscale.models.kernels import Compute, activation_dtype, attend, product

BASE_WIDTH = 64
EMBEDDING_STD = 0.1
NORM_EPS = 1e-6

Axes = tuple[str | None, ...]


class Param(nnx.Param):
    """A weight with properties: `lr_scale`, a factor on the learning rate; `decay`, true for hidden matrices, to which
    weight decay and Muon apply; `axes`, a name per dimension (layers, embed, heads, kv_heads, mlp, vocab or None), by
    which the mesh spreads it over devices."""


def matrix(
    rngs: nnx.Rngs, layers: int, fan_in: int, fan_out: int, *, axes: Axes, width: int, gain: float = 1.0
) -> Param:
    """Hidden matrices (layers, fan_in, fan_out); every fan-in grows in proportion to the model's `width`."""
    std = gain / fan_in**0.5
    value = std * jax.random.truncated_normal(rngs.params(), -3.0, 3.0, (layers, fan_in, fan_out))
    return Param(value, lr_scale=BASE_WIDTH / width, decay=True, axes=("layers", *axes))


def embedding(rngs: nnx.Rngs, vocab: int, width: int) -> Param:
    """Table (vocab, width), the same at every width."""
    value = EMBEDDING_STD * jax.random.normal(rngs.params(), (vocab, width))
    return Param(value, lr_scale=1.0, decay=False, axes=("vocab", "embed"))


def gain(*shape: int) -> Param:
    """Factors of a norm, all one: (width,), or (layers, width)."""
    axes = (None,) if len(shape) == 1 else ("layers", None)
    return Param(jnp.ones(shape), lr_scale=1.0, decay=False, axes=axes)


def hidden_width(config: Model) -> int:
    """Width of the SwiGLU: as given, or 8/3 of d_model rounded up to a multiple of 16."""
    return config.d_ff or -(-8 * config.d_model // 3 // 16) * 16


def count_parameters(config: Model, vocab: int) -> tuple[int, int]:
    """(N without embeddings, all parameters)."""
    D, F = config.d_model, hidden_width(config)
    C = D // config.heads
    attention = 2 * D * D + 2 * D * config.kv_heads * C + (2 * C if config.qk_norm else 0)
    body = config.layers * (attention + 3 * D * F + 2 * D) + D
    return body, body + vocab * D * (1 if config.tie_embeddings else 2)


def flops_per_token(config: Model, vocab: int, context: int) -> float:
    """Training FLOPs per token (Kaplan et al., arXiv 2001.08361): six per weight that multiplies, logits included, and
    6·L·T·D for causal attention."""
    body, _ = count_parameters(config, vocab)
    return 6.0 * (body + vocab * config.d_model) + 6.0 * config.layers * context * config.d_model


def rotary(T: int, C: int, theta: float) -> tuple[jax.Array, jax.Array]:
    """Cosine and sine, float32 (T, C/2), of position · theta^(-2i/C) (Su et al., arXiv 2104.09864)."""
    frequency_c = theta ** (-jnp.arange(0, C, 2, dtype=jnp.float32) / C)
    angle_Txc = jnp.arange(T, dtype=jnp.float32)[:, None] * frequency_c
    return jnp.cos(angle_Txc), jnp.sin(angle_Txc)


def rotate(x_BxTxHxC: jax.Array, table: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Rotates the two halves of each head, as coordinates of planes, by the angles of `rotary`."""
    cos_Tx1xc, sin_Tx1xc = (t_Txc[:, None, :] for t_Txc in table)
    a, b = jnp.split(x_BxTxHxC.astype(jnp.float32), 2, axis=-1)
    rotated = [a * cos_Tx1xc - b * sin_Tx1xc, a * sin_Tx1xc + b * cos_Tx1xc]
    return jnp.concatenate(rotated, axis=-1).astype(x_BxTxHxC.dtype)


class RMSNorm(nnx.Module):
    """x / rms(x) · scale over the last axis, computed in float32 (Zhang and Sennrich, arXiv 1910.07467)."""

    def __init__(self, *shape: int):
        self.scale = gain(*shape)

    def __call__(self, x: jax.Array) -> jax.Array:
        wide = x.astype(jnp.float32)
        inverse = jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + NORM_EPS)
        return (wide * inverse * self.scale[...]).astype(x.dtype)


def project(x_BxTxD: jax.Array, weights_DxF: jax.Array, compute: Compute) -> jax.Array:
    """x·weights (B, T, F) as plain matrices, because XLA transposes x and y for a gradient over two axes."""
    B, T, D = x_BxTxD.shape
    return product(x_BxTxD.reshape(B * T, D), weights_DxF, compute.dtype).reshape(B, T, -1)


class Attention(nnx.Module):
    """Causal grouped-query attention (Ainslie et al., arXiv 2305.13245) with rotary positions and QK-norm."""

    def __init__(self, config: Model, rngs: nnx.Rngs, compute: Compute):
        L, D, H, G = config.layers, config.d_model, config.heads, config.kv_heads
        self.H, self.G, self.C = H, G, D // H
        self.compute = compute
        self.query = matrix(rngs, L, D, D, axes=("embed", "heads"), width=D)
        self.key = matrix(rngs, L, D, G * self.C, axes=("embed", "kv_heads"), width=D)
        self.value = matrix(rngs, L, D, G * self.C, axes=("embed", "kv_heads"), width=D)
        self.out = matrix(rngs, L, D, D, axes=("heads", "embed"), width=D, gain=(2 * L) ** -0.5)
        self.query_norm = RMSNorm(L, self.C) if config.qk_norm else None
        self.key_norm = RMSNorm(L, self.C) if config.qk_norm else None

    def __call__(self, x_BxTxD: jax.Array, table: tuple[jax.Array, jax.Array]) -> jax.Array:
        q_BxTxHxC, k_BxTxGxC, v_BxTxGxC = self.heads(x_BxTxD)
        y_BxTxHxC = attend(rotate(q_BxTxHxC, table), rotate(k_BxTxGxC, table), v_BxTxGxC, self.compute.attention)
        return project(y_BxTxHxC.reshape(x_BxTxD.shape), self.out[...], self.compute)

    def heads(self, x_BxTxD: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Queries (B, T, H, C), keys and values (B, T, G, C), not rotated yet."""
        B, T, D = x_BxTxD.shape
        H, G, C, M = self.H, self.G, self.C, self.H // self.G
        # One product for the three, joined within each key-value head so that heads can be spread over devices.
        parts = (
            self.query[...].reshape(D, G, M * C),
            self.key[...].reshape(D, G, C),
            self.value[...].reshape(D, G, C),
        )
        weights_DxGxN = jnp.concatenate(parts, axis=-1)
        qkv_BxTxGxN = project(x_BxTxD, weights_DxGxN.reshape(D, -1), self.compute).reshape(B, T, G, -1)
        qkv_BxTxGxN = self.compute.constrain(qkv_BxTxGxN, ("batch", "length", "heads", None))
        q, k, v_BxTxGxC = jnp.split(qkv_BxTxGxN, [M * C, (M + 1) * C], axis=-1)
        q = q.reshape(B, T, H, C)
        if self.query_norm is not None:
            q, k = self.query_norm(q), self.key_norm(k)
        return q, k, v_BxTxGxC


class SwiGLU(nnx.Module):
    """silu(x·gate) · (x·up) · down (Shazeer, arXiv 2002.05202)."""

    def __init__(self, config: Model, rngs: nnx.Rngs, compute: Compute):
        L, D, F = config.layers, config.d_model, hidden_width(config)
        self.compute = compute
        self.gate = matrix(rngs, L, D, F, axes=("embed", "mlp"), width=D)
        self.up = matrix(rngs, L, D, F, axes=("embed", "mlp"), width=D)
        self.down = matrix(rngs, L, F, D, axes=("mlp", "embed"), width=D, gain=(2 * L) ** -0.5)

    def __call__(self, x_BxTxD: jax.Array) -> jax.Array:
        gate_BxTxF, up_BxTxF = (project(x_BxTxD, w[...], self.compute) for w in (self.gate, self.up))
        hidden_BxTxF = self.compute.constrain(jax.nn.silu(gate_BxTxF) * up_BxTxF, ("batch", "length", "mlp"))
        return project(hidden_BxTxF, self.down[...], self.compute)


class Blocks(nnx.Module):
    """All blocks. With the parameters of a single layer merged in, a call computes that block."""

    def __init__(self, config: Model, rngs: nnx.Rngs, compute: Compute):
        L, D = config.layers, config.d_model
        self.compute = compute
        self.attention_norm, self.attention = RMSNorm(L, D), Attention(config, rngs, compute)
        self.mlp_norm, self.mlp = RMSNorm(L, D), SwiGLU(config, rngs, compute)

    def __call__(self, x_BxTxD: jax.Array, table: tuple[jax.Array, jax.Array]) -> jax.Array:
        x_BxTxD = x_BxTxD + self.attention(self.attention_norm(x_BxTxD), table)
        x_BxTxD = x_BxTxD + self.mlp(self.mlp_norm(x_BxTxD))
        return self.compute.constrain(x_BxTxD, ("batch", "length", None))


class Transformer(nnx.Module):
    """Token ids (B, T) in, float32 logits (B, T, V) out; or ids and targets in, losses out."""

    def __init__(self, config: Model, vocab: int, rngs: nnx.Rngs, compute: Compute = Compute()):  # noqa: B008
        self.config, self.compute = config, compute
        self.embed = embedding(rngs, vocab, config.d_model)
        self.blocks = Blocks(config, rngs, compute)
        self.norm = RMSNorm(config.d_model)
        self.unembed = None if config.tie_embeddings else embedding(rngs, vocab, config.d_model)

    def __call__(self, ids_BxT: jax.Array) -> jax.Array:
        operands = (x.astype(self.compute.dtype) for x in self._last(ids_BxT))
        return jnp.einsum("btd,vd->btv", *operands, preferred_element_type=jnp.float32)

    def losses(self, ids_BxT: jax.Array, target_BxT: jax.Array, mask_BxT: jax.Array | None = None) -> jax.Array:
        """Mean cross-entropy of each row in nats over the positions with mask 1, float32 (B,)."""
        return kernels.losses(*self._last(ids_BxT), target_BxT, mask_BxT, self._chunked(ids_BxT))

    def loss(self, ids_BxT: jax.Array, target_BxT: jax.Array, mask_BxT: jax.Array | None = None) -> jax.Array:
        """Mean cross-entropy of all rows in nats. Train on this: its gradient costs less than that of `losses`."""
        return kernels.mean_loss(*self._last(ids_BxT), target_BxT, mask_BxT, self._chunked(ids_BxT))

    def _chunked(self, ids_BxT: jax.Array) -> Compute:
        (B, T), V = ids_BxT.shape, self.embed[...].shape[0]
        rows = -(-B // self.compute.shards)
        return replace(self.compute, loss_chunk=kernels.chunk_of(self.compute.loss_chunk, rows, T, V))

    def _last(self, ids_BxT: jax.Array) -> tuple[jax.Array, jax.Array]:
        return self.last(self._through(self.embedded(ids_BxT)))

    def embedded(self, ids_BxT: jax.Array) -> jax.Array:
        """The input of the first block (B, T, D)."""
        # Gathered over the width before the lookup, as every weight is before its product.
        embed_VxD = self.compute.constrain(self.embed[...], ("vocab", None))
        x_BxTxD = (embed_VxD[ids_BxT] / EMBEDDING_STD).astype(activation_dtype(self.compute.dtype))
        return self.compute.constrain(x_BxTxD, ("batch", "length", None))

    def last(self, x_BxTxD: jax.Array) -> tuple[jax.Array, jax.Array]:
        """From the output of the last block, the hidden state (B, T, D) and the table (V, D) whose product is the
        logits."""
        h_BxTxD = self.norm(x_BxTxD) * (BASE_WIDTH / self.config.d_model)
        return h_BxTxD, (self.embed if self.unembed is None else self.unembed)[...]

    def _through(self, x_BxTxD: jax.Array) -> jax.Array:
        config = self.config
        graph, stacked = nnx.split(self.blocks)
        table = rotary(x_BxTxD.shape[1], config.d_model // config.heads, config.rope_theta)

        def block(x_BxTxD: jax.Array, layer: nnx.State) -> tuple[jax.Array, None]:
            return nnx.merge(graph, layer)(x_BxTxD, table), None

        if self.compute.remat:
            block = jax.checkpoint(block)
        if self.compute.scan:
            return jax.lax.scan(block, x_BxTxD, stacked)[0]
        leaves, tree = jax.tree.flatten(stacked)
        # Unstack all layers at once: the gradient of L separate slices would be a sum of L padded arrays.
        for layer in zip(*map(jnp.unstack, leaves), strict=True):
            x_BxTxD, _ = block(x_BxTxD, jax.tree.unflatten(tree, layer))
        return x_BxTxD


def with_weights(config: Model, params: dict[str, Any]) -> Transformer:
    """The model of one run with the weights in a nested dict."""
    vocab = len(params["embed"])
    graph, state = nnx.split(nnx.eval_shape(lambda: Transformer(config, vocab, nnx.Rngs(0))))
    nnx.replace_by_pure_dict(state, params)
    return nnx.merge(graph, state)
