"""Where the time of a step goes: its matrix products measured alone, by XLA and by PyTorch, and the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mixscale.models.kernels import multiply, over_rows
from mixscale.models.transformer import hidden_width
from training.ours import job, timed
from training.shapes import Shape


class Product(NamedTuple):
    """One kind of product of a step, gradients included."""

    times: int
    """in a step"""
    form: str
    """as einsum has it"""
    function: Callable[..., jax.Array]
    operands: tuple[jax.Array, ...]
    flops: float
    """of one"""


def account(shape: Shape, dtype: str, rounds: int) -> dict[str, float | None]:
    """Milliseconds of a step, of its products alone, the GFLOP/s of both, and those of the same products in PyTorch.

    Attention's products are counted whole, though half of each is above the diagonal and thrown away.
    """
    step_ms = 1e3 * timed(job(shape, dtype), rounds) / shape.steps
    found = products(shape, dtype)
    flops = sum(p.times * p.flops for p in found)
    ours_ms = sum(p.times * _alone_ms(jax.jit(p.function), p.operands, jax.block_until_ready, rounds) for p in found)
    theirs_ms = _in_torch_ms(found, rounds)
    return {
        "step_ms": step_ms,
        "products_ms": ours_ms,
        "share": ours_ms / step_ms,
        "product_gflops": flops / ours_ms / 1e6,
        "step_gflops": flops / step_ms / 1e6,
        "torch_gflops": flops / theirs_ms / 1e6 if theirs_ms else None,
    }


def _in_torch_ms(found: Sequence[Product], rounds: int) -> float:
    """Milliseconds of all products in PyTorch; 0 where there is none."""
    try:
        import torch
    except ImportError:
        return 0.0
    total = 0.0
    for p in found:
        dtype = getattr(torch, str(p.operands[0].dtype))
        operands = [torch.ones(x.shape, dtype=dtype) for x in p.operands]
        total += p.times * _alone_ms(lambda *x, form=p.form: torch.einsum(form, *x), operands, lambda _: None, rounds)
    return total


def _alone_ms(
    function: Callable[..., object], operands: Sequence[object], wait: Callable[[object], object], rounds: int
) -> float:
    return 1e3 * timed(lambda: wait([function(*operands) for _ in range(8)]), rounds) / 8


def products(shape: Shape, dtype: str) -> list[Product]:
    """Every product of a step."""
    config, B, T, V = shape.model, shape.batch, shape.context, shape.vocab
    L, D, G, M = config.layers, config.d_model, config.kv_heads, config.heads // config.kv_heads
    C, F, N = D // config.heads, hidden_width(config), shape.batch * shape.context
    found = []
    for times, width_in, width_out in ((L, D, G * (M + 2) * C), (L, D, D), (2 * L, D, F), (L, F, D), (1, D, V)):
        x, w, y = (jnp.ones(s, dtype) for s in ((N, width_in), (width_in, width_out), (N, width_out)))
        for form, operands in (("nd,df->nf", (x, w)), ("nf,df->nd", (y, w))):
            function = partial(multiply, form, out=jnp.float32)
            found.append(Product(times, form, function, operands, 2.0 * N * width_in * width_out))
        found.append(Product(times, "nd,nf->df", over_rows, (x, y), 2.0 * N * width_in * width_out))
    rows, keys, scores = (jnp.ones(s) for s in ((B, G, M * T, C), (B, G, T, C), (B, G, M * T, T)))
    for form, operands in (
        ("bgsc,bgtc->bgst", (rows, keys)),
        ("bgst,bgtc->bgsc", (scores, keys)),
        ("bgsc,bgst->bgct", (rows, scores)),
    ):
        found.append(Product(2 * L, form, partial(jnp.einsum, form), operands, 2.0 * B * G * M * T * T * C))
    return found
