"""Matrix products with their gradients, put in the forms that XLA computes fastest.

On a GPU or TPU this is what JAX would do alone. XLA for the CPU has quick kernels for some forms of a product only:
operands that are not turned, and bfloat16 operands only where the sum is float32. So activations stay float32 there,
operands are rounded on the way in, and what a gradient needs turned is turned first.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp


def on_cpu() -> bool:
    """Whether programs are compiled for the CPU."""
    return jax.default_backend() == "cpu"


def activation_dtype(dtype: str) -> jnp.dtype:
    """Dtype of what lies between products of `dtype`."""
    return jnp.dtype("float32" if on_cpu() else dtype)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def product(x_NxD: jax.Array, weights_DxF: jax.Array, dtype: str) -> jax.Array:
    """x·weights (N, F) of operands rounded to `dtype`, in x's own; the gradient of float32 weights is float32."""
    return _forward(x_NxD, weights_DxF, dtype)[0]


def _forward(x_NxD: jax.Array, weights_DxF: jax.Array, dtype: str):
    rounded = x_NxD.astype(dtype), weights_DxF.astype(dtype)
    return multiply("nd,df->nf", *rounded, x_NxD.dtype), (*rounded, jnp.zeros((0,), weights_DxF.dtype))


def _backward(dtype: str, kept: tuple[jax.Array, jax.Array, jax.Array], dy_NxF: jax.Array):
    x_NxD, weights_DxF, like_weights = kept
    rounded_NxF = dy_NxF.astype(dtype)
    dx_NxD = multiply("nf,df->nd", rounded_NxF, weights_DxF, dy_NxF.dtype)
    return dx_NxD, over_rows(x_NxD, rounded_NxF).astype(like_weights.dtype)


product.defvjp(_forward, _backward)


def multiply(form: str, a: jax.Array, b: jax.Array, out: jnp.dtype) -> jax.Array:
    """einsum in `out`, summed in float32."""
    # Asked for in float32, the CPU multiplies bfloat16 as it is; else it would make copies in float32 first.
    return jnp.einsum(form, a, b, preferred_element_type=jnp.float32 if on_cpu() else out).astype(out)


def over_rows(x_NxD: jax.Array, dy_NxF: jax.Array) -> jax.Array:
    """xᵀ·dy, float32 (D, F): the gradient of weights."""
    sums = partial(jnp.einsum, preferred_element_type=jnp.float32)
    if not on_cpu():
        return sums("nd,nf->df", x_NxD, dy_NxF)
    if x_NxD.shape[1] > dy_NxF.shape[1]:
        # The narrower operand is turned. XLA would put the two transposes together again, but for the barrier.
        return jax.lax.optimization_barrier(over_rows(dy_NxF, x_NxD)).T
    if x_NxD.dtype == jnp.float32:
        return sums("nd,nf->df", x_NxD, dy_NxF)
    # As one long row XLA does not see through to the transpose, which would take the kernel for bfloat16 away.
    turned = jax.lax.optimization_barrier(x_NxD.T.reshape(-1)).reshape(x_NxD.shape[::-1])
    return sums("dn,nf->df", turned, dy_NxF)
