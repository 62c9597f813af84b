"""Parameters: their initial values, what they tell the optimizer and the mesh, and how many a shape has.

Width transfer follows µP for Adam (Yang et al., arXiv 2203.03466, table 8): a hidden matrix starts with standard
deviation 1/sqrt(fan-in) and learns at a rate proportional to 1/fan-in; embeddings and norms start and learn the same
at every width; logits are scaled by 1/width. Scales are relative to `BASE_WIDTH`, at which all of them are one.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from mixscale.config import Model

BASE_WIDTH = 64
EMBEDDING_STD = 0.1

Axes = tuple[str | None, ...]


class Param(nnx.Param):
    """A weight with what others must know about it.

    `lr_scale` is a factor on the learning rate. `decay` is true exactly for hidden matrices: weight decay and Muon
    apply to them. `axes` names each dimension of the stored array (layers, embed, heads, kv_heads, mlp, vocab or
    None); the mesh decides over which devices a name is spread.
    """


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
    """Training FLOPs per token: six per weight that multiplies (logits included), and causal attention.

    Kaplan et al., arXiv 2001.08361, with 6·L·T·D for the scores and sums over the causal half.
    """
    body, _ = count_parameters(config, vocab)
    return 6.0 * (body + vocab * config.d_model) + 6.0 * config.layers * context * config.d_model
