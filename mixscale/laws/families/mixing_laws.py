"""M1, M2 and M3: the candidates that Data Mixing Laws (arXiv 2403.16952) compared with its M4, which it chose.

Kept to be asked for by name. Each is written with the change from `h = 0`, so that its constant and its factors do
not trade against each other; their natural values are those of the published formula.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from mixscale.laws.families.law import Block, Law, register
from mixscale.laws.families.shapes import as_is, log_term


def m1(theta, x):
    """`c + Σ_j k_j e^{t_j h_j}`, theta = c + Σ_j k_j, log k (K,), t (K,)."""
    k = x.h_RxK.shape[-1]
    return theta[0] + jnp.expm1(x.h_RxK * theta[1 + k :]) @ jnp.exp(theta[1 : 1 + k])


def m2(theta, x):
    """`c + k Σ_j e^{t_j h_j}`, theta = c + K k, log k, t (K,)."""
    return theta[0] + jnp.exp(theta[1]) * jnp.expm1(x.h_RxK * theta[2:]).sum(axis=-1)


def m3(theta, x):
    """`c + k exp(T K^K Π_j h_j)`, theta = c + k, log k, T; the product is one at the uniform mixture."""
    k = x.h_RxK.shape[-1]
    return theta[0] + jnp.exp(theta[1]) * jnp.expm1(theta[2] * jnp.prod(k * x.h_RxK, axis=-1))


def _log_loss_factor(block, theta, units):
    return np.exp(block) * units["loss"]


def _start(name: str, natural) -> Block:
    """The loss with every exponent at zero."""
    return Block(name, False, -5.0, 8.0, 1.5, 1.0, natural)


# Convex only for k_j > 0, which is what the logs say: a sum of exponentials of one weight each.
_RATE = Block("t", True, -60.0, 6.0, -1.0, 3.0, as_is)

M1 = register(
    Law(
        "m1",
        "`c + Σ k_j e^{t_j h_j}`, k_j > 0: M1 of Data Mixing Laws (arXiv 2403.16952)",
        m1,
        (
            _start("c", lambda c, theta, units: (c - np.exp(theta[1:].reshape(2, -1)[0]).sum()) * units["loss"]),
            log_term("k", mean=-1.5, natural=_log_loss_factor),
            _RATE,
        ),
        uses_scale=False,
    )
)

M2 = register(
    Law(
        "m2",
        "`c + k Σ e^{t_j h_j}`, k > 0: M2 of Data Mixing Laws (arXiv 2403.16952)",
        m2,
        (
            _start("c", lambda c, theta, units: (c - (len(theta) - 2) * np.exp(theta[1])) * units["loss"]),
            Block("k", False, -12.0, 6.0, -1.5, 2.0, _log_loss_factor),
            _RATE,
        ),
        uses_scale=False,
    )
)

M3 = register(
    Law(
        "m3",
        "`c + k exp(T Π K h_j)`, k > 0: M3 of Data Mixing Laws (arXiv 2403.16952), whose `Π t_j h_j` knows the t_j "
        "only by their product `T K^K`; blind wherever one weight is zero",
        m3,
        (
            Block("c", False, -5.0, 8.0, 1.0, 1.0, lambda c, theta, units: (c - np.exp(theta[1])) * units["loss"]),
            Block("k", False, -12.0, 6.0, -1.0, 2.0, _log_loss_factor),
            Block("T", False, -60.0, 6.0, -0.5, 2.0, as_is),
        ),
        uses_scale=False,
        convex=False,  # a product of weights is neither convex nor concave
    )
)
