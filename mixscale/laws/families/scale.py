"""Laws of mixture, size N and tokens D, for tables with several sizes or token counts.

Every function takes `theta_P` and points of R rows and returns losses of shape (R,) in units of a typical loss;
`n` and `d` are over the table's geometric means, so a factor is what its term is worth there.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from mixscale.laws.families.law import Block, Law, register
from mixscale.laws.families.mixture import ADDITIVE_BLOCKS, additive
from mixscale.laws.families.shapes import (
    as_is,
    exponent,
    floor,
    log_factor,
    log_term,
    power,
    power_mean,
    times_power,
)


def chinchilla(theta, x):
    """`E + A/N^alpha + B/D^beta`, theta = E, log A, alpha, log B, beta."""
    return theta[0] + jnp.exp(theta[1]) * x.n_R ** -theta[2] + jnp.exp(theta[3]) * x.d_R ** -theta[4]


def exponential_scale(theta, x):
    """`E + A/N^alpha + exp(Σ_j t_j h_j)/D^beta`, theta = E, log A, alpha, beta, t (K,)."""
    return theta[0] + jnp.exp(theta[1]) * x.n_R ** -theta[2] + x.d_R ** -theta[3] * jnp.exp(x.h_RxK @ theta[4:])


def effective_scale(theta, x):
    """`E + A/N^a + (D Σ_j w_j h_j)^-beta`, theta = E, log A, a, beta, v (K,) with w_j = e^{-v_j/beta}."""
    floor, log_a, a, beta = theta[0], theta[1], theta[2], theta[3]
    return floor + jnp.exp(log_a) * x.n_R**-a + x.d_R**-beta * power_mean(theta[4:], beta, x.h_RxK)


def additive_scale(theta, x):
    """`E + 1/(Σ_j C_j h_j^gamma_j) + A/N^alpha + B/D^beta`.

    theta = log A, alpha, log B, beta, then that of additive: E, v (K,), gamma (K,).
    """
    log_a, alpha, log_b, beta = theta[0], theta[1], theta[2], theta[3]
    return additive(theta[4:], x) + jnp.exp(log_a) * x.n_R**-alpha + jnp.exp(log_b) * x.d_R**-beta


def joint(theta, x):
    """`E + 1/(Σ_j C_j h_j^gamma_j) + A(h)/N^alpha + B(h)/D^beta` with `A(h) = (Σ_j A_j h_j)^p`, B(h) alike with q.

    theta = alpha, beta, p, q, log A_j^p (K,), log B_j^q (K,), E, v (K,), gamma (K,).
    """
    k = x.h_RxK.shape[-1]
    alpha, beta, p, q = theta[0], theta[1], theta[2], theta[3]
    a_R = power_mean(theta[4 : 4 + k], -p, x.h_RxK)
    b_R = power_mean(theta[4 + k : 4 + 2 * k], -q, x.h_RxK)
    return additive(theta[4 + 2 * k :], x) + a_R * x.n_R**-alpha + b_R * x.d_R**-beta


def power_additive_scale(theta, x):
    """`E + A/N^a + B/D^b + D^-delta (Σ_j C_j h_j^gamma_j)^-alpha`.

    theta = E, log A, a, log B, b, alpha, delta, v (K,), gamma (K,) with C_j = e^{-v_j/alpha}.
    """
    k = x.h_RxK.shape[-1]
    mixed_R = power_mean(theta[7 : 7 + k], theta[5], power(x.h_RxK, theta[7 + k :]))
    return chinchilla(theta[:5], x) + x.d_R ** -theta[6] * mixed_R


def _log_loss_over_tokens(t_K, theta, units):
    return t_K + np.log(units["loss"]) + theta[3] * np.log(units["d"])


def _exposure_of_tokens(v_K, theta, units):
    return np.exp(-(v_K + np.log(units["loss"])) / theta[3]) / units["d"]


def _powered(base_at: int, power_at: int, scale: str):
    """Natural `A_j` of `(Σ A_j h_j)^p / N^alpha` from the logs of the term at the vertices."""

    def natural(v_K, theta, units):
        return np.exp((v_K + np.log(units["loss"]) + theta[base_at] * np.log(units[scale])) / theta[power_at])

    return natural


def _exposure_beside_tokens(v_K, theta, units):
    return np.exp(-(v_K + np.log(units["loss"]) + theta[6] * np.log(units["d"])) / theta[5])


CHINCHILLA = register(
    Law(
        "chinchilla",
        "`E + A/N^alpha + B/D^beta`: Chinchilla (arXiv 2203.15556), blind to the mixture",
        chinchilla,
        (
            floor(),
            log_factor("A", times_power(2, "n")),
            exponent("alpha"),
            log_factor("B", times_power(4, "d")),
            exponent("beta"),
        ),
        uses_scale=True,  # convex: constant in h; with repeats x^-beta of effective tokens, which are concave in h
        uses_mixture=False,
        exposures=True,
    )
)

EXPONENTIAL_SCALE = register(
    Law(
        "exponential-scale",
        "`E + A/N^alpha + exp(Σ t_j h_j)/D^beta`: own; M4 of Data Mixing Laws (arXiv 2403.16952) as what tokens lower",
        exponential_scale,
        (
            floor(),
            log_factor("A", times_power(2, "n")),
            exponent("alpha"),
            exponent("beta"),
            log_term("t", lower=-1000.0, std=30.0, natural=_log_loss_over_tokens),
        ),
        uses_scale=True,  # convex: exp of a linear function
        auto=True,
    )
)

EFFECTIVE_SCALE = register(
    Law(
        "effective-scale",
        "`E + A N^-a + (D Σ w_j h_j)^-beta`: effective data with size and tokens; its factor B is absorbed in w",
        effective_scale,
        (
            floor(),
            log_factor("A", times_power(2, "n")),
            exponent("a"),
            exponent("beta"),
            log_term("w", natural=_exposure_of_tokens),
        ),
        uses_scale=True,  # convex: x^-beta of a linear function
        exposures=True,
        auto=True,
    )
)

_SCALE_TERMS = (
    log_factor("A", times_power(1, "n")),
    exponent("alpha"),
    log_factor("B", times_power(3, "d")),
    exponent("beta"),
)

ADDITIVE_SCALE = register(
    Law(
        "additive-scale",
        "`E + 1/(Σ C_j h_j^gamma_j) + A/N^alpha + B/D^beta`, gamma <= 1: Scaling Laws for Optimal Data Mixtures "
        "(arXiv 2507.09404)",
        additive_scale,
        (*_SCALE_TERMS, *ADDITIVE_BLOCKS),
        uses_scale=True,  # convex: as additive, the rest is constant in h
        auto=True,
    )
)

JOINT = register(
    Law(
        "joint",
        "`E + 1/(Σ C_j h_j^gamma_j) + (Σ A_j h_j)^p / N^alpha + (Σ B_j h_j)^q / D^beta`, gamma <= 1: the joint law of "
        "Scaling Laws for Optimal Data Mixtures (arXiv 2507.09404), with p, q >= 1 so that it stays convex",
        joint,
        (
            exponent("alpha"),
            exponent("beta"),
            Block("p", False, 1.0, 20.0, 1.0, 2.0, as_is),
            Block("q", False, 1.0, 20.0, 1.0, 2.0, as_is),
            log_term("A", upper=4.0, mean=-2.0, std=1.5, natural=_powered(0, 2, "n")),
            log_term("B", upper=4.0, mean=-2.0, std=1.5, natural=_powered(1, 3, "d")),
            *ADDITIVE_BLOCKS,
        ),
        uses_scale=True,  # convex: powers >= 1 of a positive linear function, beside additive
        auto=True,
    )
)

POWER_ADDITIVE_SCALE = register(
    Law(
        "power-additive-scale",
        "`E + A/N^a + B/D^b + D^-delta (Σ C_j h_j^gamma_j)^-alpha`, gamma <= 1: own; holds additive-scale (alpha = 1, "
        "delta = 0) and effective-scale (gamma = 1, delta = alpha, B = 0)",
        power_additive_scale,
        (
            floor(),
            log_factor("A", times_power(2, "n")),
            exponent("a"),
            log_factor("B", times_power(4, "d")),
            exponent("b"),
            Block("alpha", False, 0.02, 10.0, 0.5, 0.5, as_is),
            Block("delta", False, 0.0, 2.0, 0.1, 0.2, as_is),
            log_term("C", natural=_exposure_beside_tokens),
            Block("gamma", True, 0.02, 1.0, 1.0, 0.4, as_is),
        ),
        uses_scale=True,  # convex: as power-additive, the rest is constant in h
        auto=True,
    )
)
