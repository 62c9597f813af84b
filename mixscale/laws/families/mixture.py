"""Laws of the mixture alone, for tables of one model size and token count.

Every function takes `theta_P` and points of R rows and returns losses of shape (R,) in units of a typical loss.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from mixscale.laws.families.law import Block, Law, register
from mixscale.laws.families.shapes import as_is, floor, log_term, loss, power, power_mean, vertex_weights


def linear(theta, x):
    """`Σ_j t_j h_j`, t (K,) losses at the vertices."""
    return x.h_RxK @ theta


def exponential(theta, x):
    """`c + exp(Σ_j t_j h_j)`, theta = c, t (K,); t_j is the log of what domain j alone leaves above c."""
    return theta[0] + jnp.exp(x.h_RxK @ theta[1:])


def log_linear(theta, x):
    """`e^c + exp(Σ_j A_j h_j)`, theta = c, A (K,)."""
    return jnp.exp(theta[0]) + jnp.exp(x.h_RxK @ theta[1:])


def effective(theta, x):
    """`E + (Σ_j w_j h_j)^-alpha`, theta = E, alpha, v (K,) with w_j = e^{-v_j/alpha}."""
    return theta[0] + power_mean(theta[2:], theta[1], x.h_RxK)


def additive(theta, x):
    """`E + 1/(Σ_j C_j h_j^gamma_j)`, theta = E, v (K,), gamma (K,) with C_j = e^{-v_j}."""
    k = x.h_RxK.shape[-1]
    return theta[0] + 1.0 / (power(x.h_RxK, theta[1 + k :]) @ jnp.exp(-theta[1 : 1 + k]))


def power_additive(theta, x):
    """`E + (Σ_j C_j h_j^gamma_j)^-alpha`, theta = E, alpha, v (K,), gamma (K,) with C_j = e^{-v_j/alpha}."""
    k = x.h_RxK.shape[-1]
    return theta[0] + power_mean(theta[2 : 2 + k], theta[1], power(x.h_RxK, theta[2 + k :]))


def autoscale(theta, x):
    """`c + Σ_j s_j (h_j + a_j)^-gamma_j`, theta = c, v (K,), log a (K,), gamma (K,); e^{v_j} = s_j a_j^-gamma_j."""
    k = x.h_RxK.shape[-1]
    v_K, log_a_K, gamma_K = theta[1 : 1 + k], theta[1 + k : 1 + 2 * k], theta[1 + 2 * k :]
    return theta[0] + jnp.exp(v_K - gamma_K * jnp.log1p(x.h_RxK * jnp.exp(-log_a_K))).sum(axis=-1)


def _log_loss(block, theta, units):
    return block + np.log(units["loss"])


def _autoscale_factor(v_K, theta, units):
    """s_j from the term at zero weight."""
    log_a_K, gamma_K = theta[1:].reshape(3, -1)[1:]
    return np.exp(v_K + gamma_K * log_a_K) * units["loss"]


LINEAR = register(
    Law(
        "linear",
        "`Σ t_j h_j`: RegMix (arXiv 2407.01492); its constant c is absorbed, since the weights sum to one",
        linear,
        (Block("t", True, -10.0, 10.0, 1.0, 1.0, loss),),
        uses_scale=False,
        linear=True,
        auto=True,
    )
)

# On the simplex `c + b exp(-Σ A_j h_j)` is this law with t_j = log b - A_j: the very same set of functions.
EXPONENTIAL = register(
    Law(
        "exponential",
        "`c + exp(Σ t_j h_j)`: M4 of Data Mixing Laws (arXiv 2403.16952); its factor k is absorbed in t. The static "
        "law of Aioli (arXiv 2411.05735), `c + b exp(-Σ A_j h_j)`, is the same with t_j = log b - A_j",
        exponential,
        (
            Block("c", False, -5.0, 2.0, 0.5, 0.5, loss),
            log_term("t", lower=-1000.0, std=30.0, natural=_log_loss),
        ),
        uses_scale=False,  # convex: exp of a linear function
        auto=True,
    ),
    "m4",
    "static-lmo",
)

LOG_LINEAR = register(
    Law(
        "log-linear",
        "`e^c + exp(Σ A_j h_j)`: olmix (github allenai/olmix); the exponential law with a floor above zero",
        log_linear,
        (
            Block("c", False, -8.0, 0.7, -0.7, 1.0, _log_loss),
            log_term("A", lower=-1000.0, std=30.0, natural=_log_loss),
        ),
        uses_scale=False,  # convex: exp of a linear function
    ),
    "olmix",
)

EFFECTIVE = register(
    Law(
        "effective",
        "`E + (Σ w_j h_j)^-alpha`: a simple power of effective exposure; its factor b is absorbed in w",
        effective,
        (
            floor(),
            Block("alpha", False, 0.02, 10.0, 0.5, 0.5, as_is),
            log_term("w", natural=vertex_weights(1)),
        ),
        uses_scale=False,  # convex: x^-alpha of a linear function
        exposures=True,
        auto=True,
    )
)

ADDITIVE_BLOCKS = (
    floor(),
    log_term("C", natural=lambda v, theta, units: np.exp(-v) / units["loss"]),
    Block("gamma", True, 0.02, 1.0, 0.5, 0.4, as_is),
)

ADDITIVE = register(
    Law(
        "additive",
        "`E + 1/(Σ C_j h_j^gamma_j)`, gamma <= 1: mixture term of Scaling Laws for Optimal Data Mixtures "
        "(arXiv 2507.09404)",
        additive,
        ADDITIVE_BLOCKS,
        uses_scale=False,  # convex: 1/x is convex and falls, a sum of h^gamma with gamma <= 1 is concave
        exposures=True,
        auto=True,
    )
)

POWER_ADDITIVE = register(
    Law(
        "power-additive",
        "`E + (Σ C_j h_j^gamma_j)^-alpha`, gamma <= 1: own; holds effective (gamma = 1) and additive (alpha = 1)",
        power_additive,
        (
            floor(),
            Block("alpha", False, 0.02, 10.0, 0.5, 0.5, as_is),
            log_term("C", natural=vertex_weights(1)),
            Block("gamma", True, 0.02, 1.0, 1.0, 0.4, as_is),
        ),
        uses_scale=False,  # convex: x^-alpha is convex and falls, its argument is concave as in additive
        exposures=True,
        auto=True,
    )
)

AUTOSCALE = register(
    Law(
        "autoscale",
        "`c + Σ s_j (h_j + a_j)^-gamma_j`: AutoScale (arXiv 2407.20177) at one token count; s_j > 0, and a_j, the "
        "head start that other domains give, is positive",
        autoscale,
        (
            floor("c"),
            log_term("s", mean=-2.0, natural=_autoscale_factor),
            Block("a", True, -7.0, 3.0, -2.0, 1.5, lambda block, theta, units: np.exp(block)),
            Block("gamma", True, 0.02, 5.0, 0.5, 0.5, as_is),
        ),
        uses_scale=False,  # convex: a sum of falling convex functions of one weight each
        exposures=True,
    )
)
