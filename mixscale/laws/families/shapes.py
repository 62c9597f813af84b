"""Shapes and parameters that several laws share.

On the simplex a factor before a sum over domains cannot be told from the domains' own coefficients, so each domain
carries the loss it would leave alone: `v_j = log(term at the vertex of domain j)`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from mixscale.laws.families.law import Block

SMALL = 1e-5
"""Weight below which a power of a weight leaves the formula, so that its slope at zero stays finite."""


def power(h_RxK: jax.Array, gamma_K: jax.Array) -> jax.Array:
    """`h^gamma` with a finite slope at zero: below `SMALL` a parabola that joins it in value and slope.

    Concave for gamma <= 1, like the power itself.
    """
    x_RxK = jnp.minimum(h_RxK / SMALL, 1.0)
    low_RxK = SMALL**gamma_K * ((2 - gamma_K) * x_RxK - (1 - gamma_K) * x_RxK**2)
    return jnp.where(h_RxK < SMALL, low_RxK, jnp.maximum(h_RxK, SMALL) ** gamma_K)


def power_mean(v_K: jax.Array, alpha: jax.Array, x_RxK: jax.Array) -> jax.Array:
    """`(Σ_j x_j e^{-v_j/alpha})^{-alpha}`: e^{v_j} where x_j is one and the others zero, shape (R,).

    Stable for large v/alpha; a negative alpha turns it into `(Σ_j x_j e^{v_j/|alpha|})^{|alpha|}`.
    """
    log_K = -v_K / alpha
    top = jax.lax.stop_gradient(jnp.max(log_K))
    # A mixture may hold only domains far below the top one, so the sum may underflow without a floor.
    return jnp.exp(-alpha * (top + jnp.log(jnp.maximum(x_RxK @ jnp.exp(log_K - top), 1e-300))))


def loss(block, theta, units):
    """Natural value of a parameter that is a loss."""
    return block * units["loss"]


def as_is(block, theta, units):
    """Natural value of a parameter without a unit."""
    return block


def vertex_weights(exponent_at: int):
    """Natural `w_j` of `(Σ w_j h_j)^-alpha` from log-terms at the vertices, with alpha at that place in theta."""
    return lambda v, theta, units: np.exp(-(v + np.log(units["loss"])) / theta[exponent_at])


def times_power(exponent_at: int, scale: str):
    """Natural factor A of `A / N^a` from its log at the table's mean N (or D)."""
    return lambda block, theta, units: np.exp(block) * units["loss"] * units[scale] ** theta[exponent_at]


def log_term(name: str, lower=-12.0, upper=6.0, mean=-1.0, std=2.0, natural=None) -> Block:
    """One log-term per domain: e^v is what that domain alone would leave above the floor."""
    return Block(name, True, lower, upper, mean, std, natural)


def floor(name: str = "E") -> Block:
    """The loss that is left when everything else is gone."""
    return Block(name, False, 0.0, 2.0, 0.5, 0.5, loss)


def log_factor(name: str, natural) -> Block:
    """Log of a term that falls with scale, at the table's mean size or tokens."""
    return Block(name, False, -12.0, 4.0, -2.0, 1.5, natural)


def exponent(name: str) -> Block:
    """Exponent of size or tokens."""
    return Block(name, False, 0.01, 2.0, 0.3, 0.3, as_is)
