"""`Compute`: how the model is computed; nothing here changes what it computes beyond rounding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import jax


def anywhere(x: jax.Array, axes: tuple[str | None, ...]) -> jax.Array:
    """Leaves it to the compiler where `x` lives."""
    return x


@dataclass(frozen=True)
class Compute:
    """Precision, memory and placement of the model's computation."""

    dtype: str = "float32"
    """of products and activations; parameters, norms, softmax and loss are float32"""
    remat: bool = False
    """keep only each layer's input for the gradient, and compute the rest again"""
    scan: bool = False
    """one compiled layer in a loop, not one a layer"""
    attention: Literal["auto", "xla", "cudnn"] = "auto"
    shards: int = 1
    """devices that a batch is spread over"""
    loss_chunk: int = 0
    """positions whose logits are held at a time; 0 chooses by their size"""
    constrain: Callable[[jax.Array, tuple[str | None, ...]], jax.Array] = anywhere
    """places an activation, given the name of each of its axes: batch, length, heads, mlp, vocab or None"""
