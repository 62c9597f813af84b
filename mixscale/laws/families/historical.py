"""Published laws of mixture and scale that were made for one setting, widened to any target, to be asked for by name.

BiMix and D-CPT take the weight of the one domain that the target belongs to. Here that weight is an exposure,
`Σ_j w_j h_j` with w fitted, so that a target needs no domain of its own and a weight may be zero; where only one w_j
is left it is the published form.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from mixscale.laws.families.law import Block, Law, register
from mixscale.laws.families.shapes import (
    as_is,
    exponent,
    floor,
    log_factor,
    log_term,
    power_mean,
    times_power,
    vertex_weights,
)


def bimix(theta, x):
    """`(Σ_j w_j h_j)^-alpha (B/D^beta + 1)`, theta = log B, beta, alpha, v (K,) with w_j = e^{-v_j/alpha}."""
    return power_mean(theta[3:], theta[2], x.h_RxK) * (jnp.exp(theta[0]) * x.d_R ** -theta[1] + 1.0)


def d_cpt(theta, x):
    """`E + A/N^alpha + B r^eta/D^beta + r^-gamma` with exposure `r = Σ_j w_j h_j`.

    theta = E, log A, alpha, log B, beta, eta, gamma, v (K,) with w_j = e^{-v_j/gamma}; B is at the mean exposure of
    the vertices.
    """
    gamma, v_K = theta[6], theta[7:]
    lacking_R = power_mean(v_K, gamma, x.h_RxK)
    lacking = power_mean(v_K, gamma, jnp.full((1, len(v_K)), 1 / len(v_K)))[0]
    taught_R = (lacking_R / lacking) ** (-theta[5] / gamma)
    learnt_R = jnp.exp(theta[3]) * taught_R * x.d_R ** -theta[4]
    return theta[0] + jnp.exp(theta[1]) * x.n_R ** -theta[2] + learnt_R + lacking_R


def autoscale_scale(theta, x):
    """`c + A/N^alpha + Σ_j s_j (h_j D + a_j)^-gamma_j`.

    theta = c, log A, alpha, v (K,), log a (K,), gamma (K,); e^{v_j} = s_j a_j^-gamma_j is the term without the domain.
    """
    k = x.h_RxK.shape[-1]
    v_K, log_a_K, gamma_K = theta[3 : 3 + k], theta[3 + k : 3 + 2 * k], theta[3 + 2 * k :]
    seen_RxK = x.h_RxK * x.d_R[:, None] * jnp.exp(-log_a_K)
    terms_R = jnp.exp(v_K - gamma_K * jnp.log1p(seen_RxK)).sum(axis=-1)
    return theta[0] + jnp.exp(theta[1]) * x.n_R ** -theta[2] + terms_R


def _times_tokens(block, theta, units):
    return np.exp(block) * units["d"] ** theta[1]


def _taught_factor(block, theta, units):
    """B of `B r^eta / D^beta` with r in the unit of the natural w."""
    mean_exposure = np.exp(-(theta[7:] + np.log(units["loss"])) / theta[6]).mean()
    return times_power(4, "d")(block, theta, units) * mean_exposure ** -theta[5]


def _autoscale_factor(v_K, theta, units):
    log_a_K, gamma_K = theta[3:].reshape(3, -1)[1:]
    return np.exp(v_K + gamma_K * (log_a_K + np.log(units["d"]))) * units["loss"]


BIMIX = register(
    Law(
        "bimix",
        "`(Σ w_j h_j)^-alpha (B/D^beta + 1)`: BiMix (arXiv 2405.14908), `A/h_i^alpha (B/D^beta + C)` with the weight "
        "of the target's domain widened to an exposure, A and C absorbed; no floor, no size",
        bimix,
        (
            Block("B", False, -12.0, 4.0, -1.5, 1.5, _times_tokens),
            exponent("beta"),
            Block("alpha", False, 0.005, 5.0, 0.2, 0.3, as_is),
            log_term("w", mean=0.0, std=1.0, natural=vertex_weights(2)),
        ),
        uses_scale=True,  # convex: x^-alpha of a linear function, times a constant in h
    )
)

D_CPT = register(
    Law(
        "d-cpt",
        "`E + A/N^alpha + B r^eta/D^beta + r^-gamma`: D-CPT (arXiv 2406.01375), with its share r of the one domain, "
        "and the epsilon added to it, widened to an exposure `r = Σ w_j h_j`; its factor C is absorbed",
        d_cpt,
        (
            floor(),
            log_factor("A", times_power(2, "n")),
            exponent("alpha"),
            log_factor("B", _taught_factor),
            exponent("beta"),
            Block("eta", False, 0.0, 5.0, 0.3, 0.5, as_is),
            Block("gamma", False, 0.02, 10.0, 0.5, 0.5, as_is),
            log_term("w", natural=vertex_weights(6)),
        ),
        uses_scale=True,
        convex=False,  # r^eta is concave for eta < 1
    )
)

AUTOSCALE_SCALE = register(
    Law(
        "autoscale-scale",
        "`c + A/N^alpha + Σ s_j (h_j D + a_j)^-gamma_j`: AutoScale (arXiv 2407.20177) over tokens of each domain; its "
        "published form has no size",
        autoscale_scale,
        (
            floor("c"),
            log_factor("A", times_power(2, "n")),
            exponent("alpha"),
            log_term("s", mean=-2.0, natural=_autoscale_factor),
            Block("a", True, -9.0, 5.0, -2.0, 2.0, lambda block, theta, units: np.exp(block) * units["d"]),
            Block("gamma", True, 0.02, 5.0, 0.5, 0.5, as_is),
        ),
        uses_scale=True,  # convex: a sum of falling convex functions of one weight each
        exposures=True,
    )
)
