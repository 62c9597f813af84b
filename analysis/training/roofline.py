"""Where the time of a step goes: its matrix products measured alone, and the rest."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp

from mixscale.model.products import multiply, over_rows
from mixscale.model.shape import hidden_width
from training.ours import job, timed
from training.shapes import Shape


def account(shape: Shape, dtype: str, rounds: int) -> dict[str, float]:
    """Milliseconds of a step, of its products alone, and the GFLOP/s of both.

    Attention's products are counted whole, though half of each is above the diagonal and thrown away.
    """
    step_ms = 1e3 * timed(job(shape, dtype), rounds) / shape.steps
    flops, product_ms = 0.0, 0.0
    for times, function, operands, of_one in products(shape, dtype):
        compiled = jax.jit(lambda *x, f=function: f(*x))
        seconds = timed(lambda c=compiled, x=operands: jax.block_until_ready([c(*x) for _ in range(8)]), rounds) / 8
        flops += times * of_one
        product_ms += 1e3 * times * seconds
    return {
        "step_ms": step_ms,
        "products_ms": product_ms,
        "share": product_ms / step_ms,
        "product_gflops": flops / product_ms / 1e6,
        "step_gflops": flops / step_ms / 1e6,
    }


def products(shape: Shape, dtype: str) -> Iterator[tuple[int, object, tuple[jax.Array, ...], float]]:
    """(how often in a step, function, operands, FLOPs) of every product, gradients included."""
    config, B, T, V = shape.model, shape.batch, shape.context, shape.vocab
    L, D, G, M = config.layers, config.d_model, config.kv_heads, config.heads // config.kv_heads
    C, F, N = D // config.heads, hidden_width(config), shape.batch * shape.context
    for times, width_in, width_out in ((L, D, G * (M + 2) * C), (L, D, D), (2 * L, D, F), (L, F, D), (1, D, V)):
        x, w, y = (jnp.ones(s, dtype) for s in ((N, width_in), (width_in, width_out), (N, width_out)))
        flops = 2.0 * N * width_in * width_out
        yield times, lambda x, w: multiply("nd,df->nf", x, w, jnp.float32), (x, w), flops
        yield times, lambda y, w: multiply("nf,df->nd", y, w, jnp.float32), (y, w), flops
        yield times, over_rows, (x, y), flops
    rows, keys, scores = (jnp.ones(s) for s in ((B, G, M * T, C), (B, G, T, C), (B, G, M * T, T)))
    flops = 2.0 * B * G * M * T * T * C
    yield 2 * L, lambda a, b: jnp.einsum("bgsc,bgtc->bgst", a, b), (rows, keys), flops
    yield 2 * L, lambda a, b: jnp.einsum("bgst,bgtc->bgsc", a, b), (scores, keys), flops
    yield 2 * L, lambda a, b: jnp.einsum("bgsc,bgst->bgct", a, b), (rows, scores), flops
