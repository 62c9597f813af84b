"""Laws of the mixture alone, for tables of one model size and token count.

Every function takes `theta_P`, the blocks of its decorator in order, and points of R rows, and returns losses of shape
(R,) in units of a typical loss. A block of `log_term` is `v_j`, the log of the term at the vertex of domain j.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from mixscale.laws.families.law import (
    Block,
    as_is,
    floor,
    log_term,
    loss,
    power,
    power_mean,
    register,
    vertex_weights,
)


def _log_loss(block, theta, units):
    return block + np.log(units["loss"])


def _log_factor(block, theta, units):
    return np.exp(block) * units["loss"]


def _autoscale_factor(v_K, theta, units):
    """s_j from the term at zero weight."""
    log_a_K, gamma_K = theta[1:].reshape(3, -1)[1:]
    return np.exp(v_K + gamma_K * log_a_K) * units["loss"]


ADDITIVE_BLOCKS = (
    floor(),
    log_term("C", natural=lambda v, theta, units: np.exp(-v) / units["loss"]),
    Block("gamma", True, 0.02, 1.0, 0.5, 0.4, as_is),
)


@register("linear", Block("t", True, -10.0, 10.0, 1.0, 1.0, loss), linear=True, auto=True)
def linear(theta, x):
    """`Σ t_j h_j`: RegMix (arXiv 2407.01492); its constant c is absorbed, since the weights sum to one."""
    return x.h_RxK @ theta


# Convex: exp of a linear function.
@register(
    "exponential",
    Block("c", False, -5.0, 2.0, 0.5, 0.5, loss),
    log_term("t", lower=-1000.0, std=30.0, natural=_log_loss),
    aliases=("m4", "static-lmo"),
    auto=True,
)
def exponential(theta, x):
    """`c + exp(Σ t_j h_j)`: M4 of Data Mixing Laws (arXiv 2403.16952); its factor k is absorbed in t. The static law
    of Aioli (arXiv 2411.05735), `c + b exp(-Σ A_j h_j)`, is the same with t_j = log b - A_j."""
    return theta[0] + jnp.exp(x.h_RxK @ theta[1:])


# Convex: exp of a linear function.
@register(
    "log-linear",
    Block("c", False, -8.0, 0.7, -0.7, 1.0, _log_loss),
    log_term("A", lower=-1000.0, std=30.0, natural=_log_loss),
    aliases=("olmix",),
)
def log_linear(theta, x):
    """`e^c + exp(Σ A_j h_j)`: olmix (github allenai/olmix); the exponential law with a floor above zero."""
    return jnp.exp(theta[0]) + jnp.exp(x.h_RxK @ theta[1:])


# Convex: x^-alpha of a linear function.
@register(
    "effective",
    floor(),
    Block("alpha", False, 0.02, 10.0, 0.5, 0.5, as_is),
    log_term("w", natural=vertex_weights(1)),
    exposures=True,
    auto=True,
)
def effective(theta, x):
    """`E + (Σ w_j h_j)^-alpha`: a simple power of effective exposure; its factor b is absorbed in w."""
    return theta[0] + power_mean(theta[2:], theta[1], x.h_RxK)


# Convex: 1/x is convex and falls, a sum of h^gamma with gamma <= 1 is concave.
@register("additive", *ADDITIVE_BLOCKS, exposures=True, auto=True)
def additive(theta, x):
    """`E + 1/(Σ C_j h_j^gamma_j)`, gamma <= 1: mixture term of Scaling Laws for Optimal Data Mixtures (arXiv
    2507.09404)."""
    k = x.h_RxK.shape[-1]
    return theta[0] + 1.0 / (power(x.h_RxK, theta[1 + k :]) @ jnp.exp(-theta[1 : 1 + k]))


# Convex: x^-alpha is convex and falls, its argument is concave as in additive.
@register(
    "power-additive",
    floor(),
    Block("alpha", False, 0.02, 10.0, 0.5, 0.5, as_is),
    log_term("C", natural=vertex_weights(1)),
    Block("gamma", True, 0.02, 1.0, 1.0, 0.4, as_is),
    exposures=True,
    auto=True,
)
def power_additive(theta, x):
    """`E + (Σ C_j h_j^gamma_j)^-alpha`, gamma <= 1: own; includes effective (gamma = 1) and additive (alpha = 1)."""
    k = x.h_RxK.shape[-1]
    return theta[0] + power_mean(theta[2 : 2 + k], theta[1], power(x.h_RxK, theta[2 + k :]))


# Convex: a sum of falling convex functions of one weight each.
@register(
    "autoscale",
    floor("c"),
    log_term("s", mean=-2.0, natural=_autoscale_factor),
    Block("a", True, -7.0, 3.0, -2.0, 1.5, lambda block, theta, units: np.exp(block)),
    Block("gamma", True, 0.02, 5.0, 0.5, 0.5, as_is),
    exposures=True,
)
def autoscale(theta, x):
    """`c + Σ s_j (h_j + a_j)^-gamma_j`: AutoScale (arXiv 2407.20177) at one token count; s_j > 0, and a_j, the head
    start that other domains give, is positive."""
    v_K, log_a_K, gamma_K = theta[1:].reshape(3, -1)  # v_j = log(s_j a_j^-gamma_j), the term at zero weight
    return theta[0] + jnp.exp(v_K - gamma_K * jnp.log1p(x.h_RxK * jnp.exp(-log_a_K))).sum(axis=-1)


# M1, M2 and M3: the other candidates of Data Mixing Laws (arXiv 2403.16952). Each is written as the change from
# `h = 0`, so that the constant and the factors stay identifiable: theta[0] is the loss where every exponent is zero.
# M1 and M2 are convex for k_j > 0, which the logs ensure: sums of exponentials of one weight each.
_RATE = Block("t", True, -60.0, 6.0, -1.0, 3.0, as_is)


def _constant(mean: float, natural) -> Block:
    return Block("c", False, -5.0, 8.0, mean, 1.0, natural)


@register(
    "m1",
    _constant(1.5, lambda c, theta, units: (c - np.exp(theta[1:].reshape(2, -1)[0]).sum()) * units["loss"]),
    log_term("k", mean=-1.5, natural=_log_factor),
    _RATE,
)
def m1(theta, x):
    """`c + Σ k_j e^{t_j h_j}`, k_j > 0: M1 of Data Mixing Laws (arXiv 2403.16952)."""
    k = x.h_RxK.shape[-1]
    return theta[0] + jnp.expm1(x.h_RxK * theta[1 + k :]) @ jnp.exp(theta[1 : 1 + k])


@register(
    "m2",
    _constant(1.5, lambda c, theta, units: (c - (len(theta) - 2) * np.exp(theta[1])) * units["loss"]),
    Block("k", False, -12.0, 6.0, -1.5, 2.0, _log_factor),
    _RATE,
)
def m2(theta, x):
    """`c + k Σ e^{t_j h_j}`, k > 0: M2 of Data Mixing Laws (arXiv 2403.16952)."""
    return theta[0] + jnp.exp(theta[1]) * jnp.expm1(x.h_RxK * theta[2:]).sum(axis=-1)


# A product of weights is neither convex nor concave.
@register(
    "m3",
    _constant(1.0, lambda c, theta, units: (c - np.exp(theta[1])) * units["loss"]),
    Block("k", False, -12.0, 6.0, -1.0, 2.0, _log_factor),
    Block("T", False, -60.0, 6.0, -0.5, 2.0, as_is),
    convex=False,
)
def m3(theta, x):
    """`c + k exp(T Π K h_j)`, k > 0: M3 of Data Mixing Laws (arXiv 2403.16952), whose `Π t_j h_j` has the t_j only in
    their product `T K^K`; constant wherever one weight is zero."""
    k = x.h_RxK.shape[-1]  # the product is one at the uniform mixture
    return theta[0] + jnp.exp(theta[1]) * jnp.expm1(theta[2] * jnp.prod(k * x.h_RxK, axis=-1))
