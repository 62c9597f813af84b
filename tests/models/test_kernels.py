"""Attention and products with explicit gradients, against JAX's own."""

import jax
import jax.numpy as jnp
import pytest

from mixscale.models.kernels import attend, product


def close(found: jax.Array, expected: jax.Array, tolerance: float) -> bool:
    return bool(jnp.abs(found - expected).max() <= tolerance * jnp.abs(expected).max())


@pytest.mark.parametrize(("T", "H", "G"), [(64, 4, 2), (33, 2, 2), (34, 4, 1)])
def test_attention_and_its_gradient_equal_those_of_jax(T, H, G):
    q, k, v, dy = (jax.random.normal(jax.random.key(i), (2, T, heads, 8)) for i, heads in enumerate((H, G, G, H)))

    @jax.jit
    def both(q, k, v, dy):
        ours, pull = jax.vjp(lambda q, k, v: attend(q, k, v, "xla"), q, k, v)
        theirs, back = jax.vjp(lambda q, k, v: jax.nn.dot_product_attention(q, k, v, is_causal=True), q, k, v)
        return (ours, *pull(dy)), (theirs, *back(dy))

    for found, expected in zip(*both(q, k, v, dy), strict=True):
        assert close(found, expected, 1e-5)


@pytest.mark.parametrize("widths", [(16, 48), (48, 16)])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 1e-2)])
def test_a_product_and_its_gradient_equal_those_of_jax(widths, dtype, tolerance):
    shapes = (32, widths[0]), widths, (32, widths[1])
    x, w, dy = (jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate(shapes))

    @jax.jit
    def both(x, w, dy):
        ours, pull = jax.vjp(lambda x, w: product(x, w, dtype), x, w)
        theirs, back = jax.vjp(jnp.matmul, x, w)
        return (ours, *pull(dy)), (theirs, *back(dy))

    for found, expected in zip(*both(x, w, dy), strict=True):
        assert found.dtype == jnp.float32
        assert close(found, expected, tolerance)
        assert dtype == "float32" or not close(found, expected, 1e-6)
