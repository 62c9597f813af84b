"""What a shape comes to: its widths, parameters and FLOPs, without building it."""

from __future__ import annotations

from mixscale.config import Model


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
    """Training FLOPs a token: six per weight that multiplies (logits included), and causal attention.

    Kaplan et al., arXiv 2001.08361, with 6·L·T·D for the scores and sums over the causal half.
    """
    body, _ = count_parameters(config, vocab)
    return 6.0 * (body + vocab * config.d_model) + 6.0 * config.layers * context * config.d_model
