"""A decoder-only transformer in Flax NNX, small enough to hold in mind.

RMSNorm before each block, rotary positions, grouped-query attention with QK-norm, SwiGLU, tied or untied
embeddings. Every parameter carries what the optimiser must know about it: `lr_scale`, by which width is kept out of
the learning rate, and `decay`, whether weight decay applies. The module knows nothing of data or of training.

Width transfer follows µP for Adam (Yang et al., arXiv 2203.03466, table 8): a hidden matrix starts with standard
deviation 1/sqrt(fan-in) and learns at a rate proportional to 1/fan-in; embeddings and norms start and learn the same
at every width; logits are scaled by 1/width. Scales are relative to `BASE_WIDTH`, at which all of them are one.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from mixscale.errors import InputError
from mixscale.experiment import Model

BASE_WIDTH = 64
EMBEDDING_STD = 0.1


class Param(nnx.Param):
    """A weight with its `lr_scale` (factor on the learning rate) and `decay` (whether it is decayed)."""


def matrix(config: Model, rngs: nnx.Rngs, fan_in: int, fan_out: int, gain: float = 1.0) -> Param:
    """Hidden matrix (fan_in, fan_out) in µP's parametrisation; every fan-in grows in proportion to the width."""
    std = gain / fan_in**0.5
    value = std * jax.random.truncated_normal(rngs.params(), -3.0, 3.0, (fan_in, fan_out))
    return Param(value, lr_scale=BASE_WIDTH / config.d_model, decay=True)


def embedding(rngs: nnx.Rngs, vocab: int, width: int) -> Param:
    """Table (vocab, width), the same at every width."""
    value = EMBEDDING_STD * jax.random.normal(rngs.params(), (vocab, width))
    return Param(value, lr_scale=1.0, decay=False)


class RMSNorm(nnx.Module):
    """x / rms(x) · scale over the last axis, computed in float32 (Zhang and Sennrich, arXiv 1910.07467)."""

    def __init__(self, width: int):
        self.scale = Param(jnp.ones(width), lr_scale=1.0, decay=False)

    def __call__(self, x: jax.Array) -> jax.Array:
        wide = x.astype(jnp.float32)
        inverse = jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + 1e-6)
        return (wide * inverse * self.scale[...]).astype(x.dtype)


class Attention(nnx.Module):
    """Causal grouped-query attention (Ainslie et al., arXiv 2305.13245) with QK-norm and rotary positions."""

    def __init__(self, config: Model, rngs: nnx.Rngs):
        D, H, G = config.d_model, config.heads, config.kv_heads
        self.H, self.G, self.C = H, G, D // H
        self.theta = config.rope_theta
        self.query = matrix(config, rngs, D, H * self.C)
        self.key = matrix(config, rngs, D, G * self.C)
        self.value = matrix(config, rngs, D, G * self.C)
        self.out = matrix(config, rngs, H * self.C, D, gain=(2 * config.layers) ** -0.5)
        self.query_norm, self.key_norm = RMSNorm(self.C), RMSNorm(self.C)

    def __call__(self, x_BxTxD: jax.Array) -> jax.Array:
        B, T, D = x_BxTxD.shape
        dtype = x_BxTxD.dtype
        # One product for the three: on small widths its cost is the reading of x.
        qkv = jnp.concatenate([self.query[...], self.key[...], self.value[...]], axis=1).astype(dtype)
        q, k, v = jnp.split(x_BxTxD @ qkv, [self.H * self.C, (self.H + self.G) * self.C], axis=-1)
        q_BxTxHxC = rotate(self.query_norm(q.reshape(B, T, self.H, self.C)), self.theta)
        k_BxTxGxC = rotate(self.key_norm(k.reshape(B, T, self.G, self.C)), self.theta)
        v_BxTxGxC = v.reshape(B, T, self.G, self.C)
        y_BxTxHxC = jax.nn.dot_product_attention(q_BxTxHxC, k_BxTxGxC, v_BxTxGxC, is_causal=True)
        return y_BxTxHxC.reshape(B, T, D) @ self.out[...].astype(dtype)


class SwiGLU(nnx.Module):
    """silu(x·gate) · (x·up) · down (Shazeer, arXiv 2002.05202)."""

    def __init__(self, config: Model, rngs: nnx.Rngs):
        D, F = config.d_model, hidden_width(config)
        self.gate, self.up = matrix(config, rngs, D, F), matrix(config, rngs, D, F)
        self.down = matrix(config, rngs, F, D, gain=(2 * config.layers) ** -0.5)

    def __call__(self, x_BxTxD: jax.Array) -> jax.Array:
        dtype = x_BxTxD.dtype
        both = jnp.concatenate([self.gate[...], self.up[...]], axis=1).astype(dtype)
        gate_BxTxF, up_BxTxF = jnp.split(x_BxTxD @ both, 2, axis=-1)
        return (jax.nn.silu(gate_BxTxF) * up_BxTxF) @ self.down[...].astype(dtype)


class Block(nnx.Module):
    def __init__(self, config: Model, rngs: nnx.Rngs):
        self.attention_norm, self.attention = RMSNorm(config.d_model), Attention(config, rngs)
        self.mlp_norm, self.mlp = RMSNorm(config.d_model), SwiGLU(config, rngs)

    def __call__(self, x_BxTxD: jax.Array) -> jax.Array:
        x_BxTxD = x_BxTxD + self.attention(self.attention_norm(x_BxTxD))
        return x_BxTxD + self.mlp(self.mlp_norm(x_BxTxD))


class Transformer(nnx.Module):
    """Token ids (B, T) in, float32 logits (B, T, V) out.

    Raises:
        InputError: heads do not divide the width, or key-value heads the heads.
    """

    def __init__(self, config: Model, vocab: int, rngs: nnx.Rngs, dtype: jnp.dtype = jnp.float32):
        check(config)
        self.dtype = dtype
        self.logit_scale = BASE_WIDTH / config.d_model
        self.embed = embedding(rngs, vocab, config.d_model)
        self.blocks = nnx.List([Block(config, rngs) for _ in range(config.layers)])
        self.norm = RMSNorm(config.d_model)
        self.unembed = None if config.tie_embeddings else embedding(rngs, vocab, config.d_model)

    def __call__(self, ids_BxT: jax.Array) -> jax.Array:
        x_BxTxD = (self.embed[...][ids_BxT] / EMBEDDING_STD).astype(self.dtype)
        for block in self.blocks:
            x_BxTxD = block(x_BxTxD)
        table_VxD = (self.embed if self.unembed is None else self.unembed)[...].astype(self.dtype)
        scaled_BxTxD = self.norm(x_BxTxD) * jnp.asarray(self.logit_scale, self.dtype)
        return jnp.einsum("btd,vd->btv", scaled_BxTxD, table_VxD, preferred_element_type=jnp.float32)


def rotate(x_BxTxHxC: jax.Array, theta: float) -> jax.Array:
    """Rotary positions (Su et al., arXiv 2104.09864): halves of each head turned by position · theta^(-2i/C)."""
    T, C = x_BxTxHxC.shape[1], x_BxTxHxC.shape[3]
    frequency_c = theta ** (-jnp.arange(0, C, 2, dtype=jnp.float32) / C)
    angle_Tx1xc = jnp.arange(T, dtype=jnp.float32)[:, None, None] * frequency_c
    cos, sin = jnp.cos(angle_Tx1xc), jnp.sin(angle_Tx1xc)
    a, b = jnp.split(x_BxTxHxC.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1).astype(x_BxTxHxC.dtype)


def hidden_width(config: Model) -> int:
    """Width of the SwiGLU: as given, or 8/3 of d_model rounded up to a multiple of 16."""
    return config.d_ff or -(-8 * config.d_model // 3 // 16) * 16


def check(config: Model) -> None:
    """Raises InputError where the shape is impossible."""
    if config.d_model % config.heads or (config.d_model // config.heads) % 2:
        raise InputError(
            f"d_model {config.d_model} over {config.heads} heads is {config.d_model / config.heads:g} wide; "
            "heads must divide d_model into an even width"
        )
    if config.heads % config.kv_heads:
        raise InputError(f"kv_heads {config.kv_heads} does not divide heads {config.heads}")


def count_parameters(config: Model, vocab: int) -> tuple[int, int]:
    """(N without embeddings, all parameters)."""
    check(config)
    D, F = config.d_model, hidden_width(config)
    C = D // config.heads
    attention = 2 * D * D + 2 * D * config.kv_heads * C + 2 * C
    body = config.layers * (attention + 3 * D * F + 2 * D) + D
    return body, body + vocab * D * (1 if config.tie_embeddings else 2)


def flops_per_token(config: Model, vocab: int, context: int) -> float:
    """Training FLOPs a token: six per weight that multiplies (logits included), and causal attention.

    Kaplan et al., arXiv 2001.08361, with 6·L·T·D for the scores and sums over the causal half.
    """
    body, _ = count_parameters(config, vocab)
    return 6.0 * (body + vocab * config.d_model) + 6.0 * config.layers * context * config.d_model
