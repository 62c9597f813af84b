"""What is trained, and how: everything here changes a run's numbers and so its id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Model:
    """Shape of a decoder-only transformer."""

    d_model: int = 64
    layers: int = 3
    heads: int = 4
    kv_heads: int = 2
    """heads of keys and values; must divide `heads`"""
    d_ff: int = 0
    """hidden width of the SwiGLU; 0 means 8/3 of d_model, rounded up to a multiple of 16"""
    tie_embeddings: bool = True
    rope_theta: float = 10_000.0
    qk_norm: bool = True
    """RMSNorm on each head's queries and keys; without it the model is Llama's to the letter"""


@dataclass(frozen=True)
class Optimizer:
    name: Literal["adamw", "muon"] = "adamw"
    """`muon` orthogonalises the momentum of hidden matrices, and leaves the other weights to AdamW"""
    learning_rate: float = 0.01
    """peak; transfers over widths, because each matrix scales it by 1/fan-in (µP)"""
    warmup: float = 0.05
    """share of the steps that warm up"""
    schedule: Literal["wsd", "cosine", "linear"] = "wsd"
    """warm-up, stable, linear decay to zero; cosine to a tenth; or linear from the warm-up's end to zero"""
    decay: float = 0.25
    """share of the steps that decay (wsd)"""
    b1: float = 0.9
    b2: float = 0.95
    momentum: float = 0.95
    """of muon's hidden matrices"""
    weight_decay: float = 0.1
    """decoupled, on matrices only; multiplied by the learning rate, but not by its scale for the width"""
    clip: float = 1.0
    """largest norm of the gradient"""
    ema: float = 0.0
    """share of the old average kept at each step; where set, held-out losses are those of the averaged weights"""


@dataclass(frozen=True)
class Train:
    tokens: int = 500_000
    """D: tokens each run trains on, rounded down to whole steps"""
    batch: int = 16
    """sequences a step"""
    measure_at: tuple[int, ...] = ()
    """earlier token counts to measure at too; with wsd each decays from a checkpoint of the stable phase"""
    validation_rows: int = 48
    """held-out rows per domain, chosen by the corpus seed; fewer where a domain has fewer"""
    like_tokens: int | None = None
    """D of the target run: where set, each domain offers only `tokens / like_tokens` of its rows, so that the
    proxy repeats its data as the target run will"""
    parent: str = ""
    """folder of a run, DIR/runs/ID, from whose weights before their decay this one goes on, with steps counted anew"""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """of the computation; weights and optimizer state are float32"""
