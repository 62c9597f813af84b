"""What is trained and how. Every field changes the results of a run, so all of them are part of its id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mixscale.errors import InputError
from mixscale.validation import Validated, setting


@dataclass(frozen=True)
class Model(Validated, section="model"):
    """Shape of a decoder-only transformer."""

    d_model: int = setting(64, least=1)  # width of the residual stream
    layers: int = setting(3, least=1)  # transformer blocks
    heads: int = setting(4, least=1)  # attention heads; d_model / heads must be an even number
    kv_heads: int = setting(2, least=1)  # key/value heads; must divide `heads`
    d_ff: int = setting(0, least=0)  # hidden width of the SwiGLU; 0: 8/3 of d_model, rounded up to a multiple of 16
    tie_embeddings: bool = True  # use the token embedding as the output matrix too
    rope_theta: float = setting(10_000.0, above=0)  # base of the rotary position embedding
    qk_norm: bool = True  # RMSNorm on each head's queries and keys; without it the model is exactly Llama's

    def check(self) -> None:
        if self.d_model % (2 * self.heads):
            raise InputError(
                f"model.d_model is {self.d_model}; with {self.heads} heads it must be a multiple of {2 * self.heads}, "
                "so that each head has an even width"
            )
        if self.heads % self.kv_heads:
            raise InputError(f"model.kv_heads is {self.kv_heads}; it must divide model.heads, which is {self.heads}")


@dataclass(frozen=True)
class Optimizer(Validated, section="optimizer"):
    """Optimizer and learning-rate schedule."""

    name: Literal["adamw", "muon"] = "adamw"  # `muon`: orthogonalized momentum for hidden matrices, AdamW for the rest
    learning_rate: float = setting(0.01, least=0)  # peak, the same for all widths: matrices scale it by 1/fan-in (µP)
    warmup: float = setting(0.05, least=0, below=1)  # share of the steps in the warm-up
    schedule: Literal["wsd", "cosine", "linear"] = "wsd"
    """`wsd`: warm-up, stable, linear decay to zero; `cosine`: decay to a tenth; `linear`: decay to zero"""
    decay: float = setting(0.25, least=0, below=1)  # share of the steps in the decay (wsd)
    b1: float = setting(0.9, least=0, below=1)  # decay rate of AdamW's first moment
    b2: float = setting(0.95, least=0, below=1)  # decay rate of AdamW's second moment
    momentum: float = setting(0.95, least=0, below=1)  # momentum of Muon
    weight_decay: float = setting(0.1, least=0)  # decoupled weight decay of matrices; not scaled with the width
    clip: float = setting(1.0, above=0)  # gradients are clipped to this norm
    ema: float = setting(0.0, least=0, below=1)  # decay of averaged weights; if set, held-out losses use them


@dataclass(frozen=True)
class Train(Validated, section="train"):
    """Data and length of a run."""

    tokens: int = setting(500_000, least=1)  # D: training tokens of each run, rounded down to whole steps
    batch: int = setting(16, least=1)  # sequences per step
    measure_at: tuple[int, ...] = setting((), least=1)  # earlier token counts to measure; wsd decays a branch for each
    validation_rows: int = setting(48, least=1)  # held-out rows per domain, at most; drawn with the corpus seed
    like_tokens: int | None = setting(None, least=1)
    """D of the target run; if set, each domain is cut to `tokens / like_tokens` of its rows,
    so that this run repeats its data as often as the target run will"""
    parent: str = ""
    """folder DIR/runs/ID of a run whose weights before the decay are this run's initial weights, or of a Hugging Face
    model in the Llama or Qwen3 layout"""
    dtype: Literal["float32", "bfloat16"] = "float32"  # compute precision; weights and optimizer state are float32

    def check(self) -> None:
        if self.measure_at and max(self.measure_at) > self.tokens:
            raise InputError(
                f"train.measure_at has {max(self.measure_at)}, more than train.tokens, which is {self.tokens}; "
                "measure earlier or train longer"
            )
