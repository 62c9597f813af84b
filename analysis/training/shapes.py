"""The models that are timed, and rows of random tokens for them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixscale.config import Model


@dataclass(frozen=True)
class Shape:
    """A model and what it is trained on."""

    model: Model
    batch: int
    context: int
    vocab: int
    steps: int
    """of one round of timing"""

    def rows(self) -> np.ndarray:
        """Random tokens, uint16 (64 · batch, T+1)."""
        size = 64 * self.batch, self.context + 1
        return np.random.default_rng(0).integers(0, self.vocab, size).astype(np.uint16)


SMALL = {
    "0.15M": Shape(Model(d_model=64, layers=3, heads=4, kv_heads=2), 16, 128, 1024, 32),
    "0.9M": Shape(Model(d_model=128, layers=5, heads=8, kv_heads=4), 16, 128, 1024, 16),
    "3M": Shape(Model(d_model=256, layers=4, heads=8, kv_heads=4), 16, 128, 1024, 8),
}
"""For a CPU; named by N, without embeddings."""

LARGE = {
    "124M": Shape(Model(d_model=768, layers=12, heads=12, kv_heads=12), 64, 1024, 50304, 10),
    "350M": Shape(Model(d_model=1024, layers=24, heads=16, kv_heads=16), 32, 1024, 50304, 10),
    "1B": Shape(Model(d_model=2048, layers=16, heads=16, kv_heads=16), 16, 1024, 50304, 5),
}
"""For an accelerator, in bfloat16; named by all their parameters, about."""

PROXY = Shape(Model(d_model=128, layers=5, heads=8, kv_heads=4), 16, 128, 1024, 16)
"""RegMix-sized, about 1M without embeddings; for populations."""
