"""A decoder-only transformer in Flax NNX, small enough to hold in mind.

RMSNorm before each block, rotary positions, grouped-query attention with or without QK-norm, SwiGLU, tied or untied
embeddings: Llama's layout. Parameters of all layers are stacked along a leading axis, whether they are computed in a
loop or unrolled, so that a checkpoint does not depend on how it was computed. The module knows nothing of data or of
training; what the optimizer and the mesh must know, its parameters say (`parameters.py`).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from mixscale.config import Model
from mixscale.models import loss
from mixscale.models.attention import attend, rotary, rotate
from mixscale.models.compute import Compute
from mixscale.models.parameters import BASE_WIDTH, EMBEDDING_STD, embedding, gain, matrix
from mixscale.models.products import activation_dtype, product
from mixscale.models.shape import hidden_width


class RMSNorm(nnx.Module):
    """x / rms(x) · scale over the last axis, computed in float32 (Zhang and Sennrich, arXiv 1910.07467)."""

    def __init__(self, *shape: int):
        self.scale = gain(*shape)

    def __call__(self, x: jax.Array) -> jax.Array:
        wide = x.astype(jnp.float32)
        inverse = jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + 1e-6)
        return (wide * inverse * self.scale[...]).astype(x.dtype)


def project(x_BxTxD: jax.Array, weights_DxF: jax.Array, compute: Compute) -> jax.Array:
    """x·weights (B, T, F); as plain matrices, because XLA copies and turns x and y for a gradient over two axes."""
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
        B, T, D = x_BxTxD.shape
        H, G, C, M = self.H, self.G, self.C, self.H // self.G
        # One product for the three, joined within each key-value head so that heads may be spread over devices.
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
        y_BxTxHxC = attend(rotate(q, table), rotate(k, table), v_BxTxGxC, self.compute.attention)
        return project(y_BxTxHxC.reshape(B, T, D), self.out[...], self.compute)


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
    """All blocks; called once it holds the parameters of one of them, it is that block."""

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
    """Token ids (B, T) in, float32 logits (B, T, V) out; or rows of ids in, losses out."""

    def __init__(self, config: Model, vocab: int, rngs: nnx.Rngs, compute: Compute = Compute()):  # noqa: B008
        self.config, self.compute = config, compute
        self.embed = embedding(rngs, vocab, config.d_model)
        self.blocks = Blocks(config, rngs, compute)
        self.norm = RMSNorm(config.d_model)
        self.unembed = None if config.tie_embeddings else embedding(rngs, vocab, config.d_model)

    def __call__(self, ids_BxT: jax.Array) -> jax.Array:
        operands = (x.astype(self.compute.dtype) for x in self._last(ids_BxT))
        return jnp.einsum("btd,vd->btv", *operands, preferred_element_type=jnp.float32)

    def losses(self, rows_BxT1: jax.Array) -> jax.Array:
        """Mean next-token loss of each row in nats, float32 (B,)."""
        return loss.losses(*self._asked(rows_BxT1))

    def loss(self, rows_BxT1: jax.Array) -> jax.Array:
        """Mean next-token loss of all rows in nats: to be trained on, since its gradient costs less than `losses`'."""
        return loss.mean_loss(*self._asked(rows_BxT1))

    def _asked(self, rows_BxT1: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, loss.Head]:
        ids_BxT1 = rows_BxT1.astype(jnp.int32)
        h_BxTxD, table_VxD = self._last(ids_BxT1[:, :-1])
        B, T, _ = h_BxTxD.shape
        chunk = loss.chunk_of(self.compute.loss_chunk, -(-B // self.compute.shards), T, len(table_VxD))
        return h_BxTxD, table_VxD, ids_BxT1[:, 1:], loss.Head(self.compute.dtype, chunk, self.compute.constrain)

    def _last(self, ids_BxT: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The state (B, T, D) and the table (V, D) whose product is the logits."""
        # Gathered over the width before it is looked up, like every weight before its product.
        embed_VxD = self.compute.constrain(self.embed[...], ("vocab", None))
        x_BxTxD = (embed_VxD[ids_BxT] / EMBEDDING_STD).astype(activation_dtype(self.compute.dtype))
        x_BxTxD = self._through(self.compute.constrain(x_BxTxD, ("batch", "length", None)))
        h_BxTxD = self.norm(x_BxTxD) * (BASE_WIDTH / self.config.d_model)
        return h_BxTxD, (self.embed if self.unembed is None else self.unembed)[...]

    def _through(self, x_BxTxD: jax.Array) -> jax.Array:
        """All blocks, in a loop or unrolled."""
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
        # Unstacked in one piece: the gradient of L separate slices would be a sum of L padded arrays.
        for layer in zip(*map(jnp.unstack, leaves), strict=True):
            x_BxTxD, _ = block(x_BxTxD, jax.tree.unflatten(tree, layer))
        return x_BxTxD
