"""Parameters, how they start, and what they say of themselves to the optimizer and to the mesh.

Width transfer follows µP for Adam (Yang et al., arXiv 2203.03466, table 8): a hidden matrix starts with standard
deviation 1/sqrt(fan-in) and learns at a rate proportional to 1/fan-in; embeddings and norms start and learn the same
at every width; logits are scaled by 1/width. Scales are relative to `BASE_WIDTH`, at which all of them are one.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

BASE_WIDTH = 64
EMBEDDING_STD = 0.1

Axes = tuple[str | None, ...]


class Param(nnx.Param):
    """A weight with what others must know about it.

    `lr_scale` is a factor on the learning rate. `decay` is true exactly for hidden matrices: they are decayed, and are
    what Muon takes. `axes` names each dimension of the stored array (layers, embed, heads, kv_heads, mlp, vocab or
    None); the mesh decides what a name is spread over.
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
