"""Laws of mixture, size N and tokens D, for tables with several sizes or token counts.

As in `mixture`. `n` and `d` are over the table's geometric means, so a factor is the value of its term there.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from mixscale.laws.families.law import (
    Block,
    as_is,
    exponent,
    floor,
    log_term,
    power,
    power_mean,
    register,
    scale_term,
    times_power,
    vertex_weights,
)
from mixscale.laws.families.mixture import ADDITIVE_BLOCKS, additive


# Convex: constant in h; with repeats x^-beta of effective tokens, which are concave in h.
@register(
    "chinchilla",
    floor(),
    *scale_term("A", "alpha", "n", 1),
    *scale_term("B", "beta", "d", 3),
    uses_scale=True,
    size_at=1,
    uses_mixture=False,
    exposures=True,
)
def chinchilla(theta, x):
    """`E + A/N^alpha + B/D^beta`: Chinchilla (arXiv 2203.15556), without the mixture."""
    return theta[0] + jnp.exp(theta[1]) * x.n_R ** -theta[2] + jnp.exp(theta[3]) * x.d_R ** -theta[4]


# Convex: exp of a linear function.
@register(
    "exponential-scale",
    floor(),
    *scale_term("A", "alpha", "n", 1),
    exponent("beta"),
    log_term("t", lower=-1000.0, std=30.0, natural=lambda t, p, u: t + np.log(u["loss"]) + p[3] * np.log(u["d"])),
    uses_scale=True,
    size_at=1,
    auto=True,
)
def exponential_scale(theta, x):
    """`E + A/N^alpha + exp(Σ t_j h_j)/D^beta`: own; M4 of Data Mixing Laws (arXiv 2403.16952) in the token term."""
    return theta[0] + jnp.exp(theta[1]) * x.n_R ** -theta[2] + x.d_R ** -theta[3] * jnp.exp(x.h_RxK @ theta[4:])


# Convex: x^-beta of a linear function.
@register(
    "effective-scale",
    floor(),
    *scale_term("A", "a", "n", 1),
    exponent("beta"),
    log_term("w", natural=lambda v_K, theta, units: vertex_weights(3)(v_K, theta, units) / units["d"]),
    uses_scale=True,
    size_at=1,
    exposures=True,
    auto=True,
)
def effective_scale(theta, x):
    """`E + A N^-a + (D Σ w_j h_j)^-beta`: effective data with size and tokens; its factor B is absorbed in w."""
    beta = theta[3]
    return theta[0] + jnp.exp(theta[1]) * x.n_R ** -theta[2] + x.d_R**-beta * power_mean(theta[4:], beta, x.h_RxK)


# Convex: as additive, the other terms are constant in h.
@register(
    "additive-scale",
    *scale_term("A", "alpha", "n", 0),
    *scale_term("B", "beta", "d", 2),
    *ADDITIVE_BLOCKS,
    uses_scale=True,
    size_at=0,
    auto=True,
)
def additive_scale(theta, x):
    """`E + 1/(Σ C_j h_j^gamma_j) + A/N^alpha + B/D^beta`, gamma <= 1: Scaling Laws for Optimal Data Mixtures (arXiv
    2507.09404)."""
    return additive(theta[4:], x) + jnp.exp(theta[0]) * x.n_R ** -theta[1] + jnp.exp(theta[2]) * x.d_R ** -theta[3]


# Convex: the additive law plus powers >= 1 of a positive linear function.
@register(
    "joint",
    exponent("alpha"),
    exponent("beta"),
    Block("p", False, 1.0, 20.0, 1.0, 2.0, as_is),
    Block("q", False, 1.0, 20.0, 1.0, 2.0, as_is),
    log_term("A", upper=4.0, mean=-2.0, std=1.5, natural=vertex_weights(2, "n", 0, sign=1.0)),
    log_term("B", upper=4.0, mean=-2.0, std=1.5, natural=vertex_weights(3, "d", 1, sign=1.0)),
    *ADDITIVE_BLOCKS,
    uses_scale=True,
    auto=True,
)
def joint(theta, x):
    """`E + 1/(Σ C_j h_j^gamma_j) + (Σ A_j h_j)^p / N^alpha + (Σ B_j h_j)^q / D^beta`, gamma <= 1: the joint law of
    Scaling Laws for Optimal Data Mixtures (arXiv 2507.09404), with p, q >= 1 so that it stays convex."""
    k = x.h_RxK.shape[-1]
    a_R = power_mean(theta[4 : 4 + k], -theta[2], x.h_RxK)
    b_R = power_mean(theta[4 + k : 4 + 2 * k], -theta[3], x.h_RxK)
    return additive(theta[4 + 2 * k :], x) + a_R * x.n_R ** -theta[0] + b_R * x.d_R ** -theta[1]


# Convex: as power-additive, the other terms are constant in h.
@register(
    "power-additive-scale",
    floor(),
    *scale_term("A", "a", "n", 1),
    *scale_term("B", "b", "d", 3),
    Block("alpha", False, 0.02, 10.0, 0.5, 0.5, as_is),
    Block("delta", False, 0.0, 2.0, 0.1, 0.2, as_is),
    log_term("C", natural=vertex_weights(5, "d", 6)),
    Block("gamma", True, 0.02, 1.0, 1.0, 0.4, as_is),
    uses_scale=True,
    size_at=1,
    auto=True,
)
def power_additive_scale(theta, x):
    """`E + A/N^a + B/D^b + D^-delta (Σ C_j h_j^gamma_j)^-alpha`, gamma <= 1: own; includes additive-scale (alpha = 1,
    delta = 0) and effective-scale (gamma = 1, delta = alpha, B = 0)."""
    k = x.h_RxK.shape[-1]
    mixed_R = power_mean(theta[7 : 7 + k], theta[5], power(x.h_RxK, theta[7 + k :]))
    return chinchilla(theta[:5], x) + x.d_R ** -theta[6] * mixed_R


# BiMix and D-CPT are published for the weight of the domain that the target belongs to. Here it is an exposure
# `Σ_j w_j h_j` with w fitted, so that a target needs no domain of its own; one nonzero w_j gives the published form.


def _exposure_factor(block, theta, units):
    """B of `B r^eta / D^beta` with r in the unit of the natural w."""
    mean_exposure = vertex_weights(6)(theta[7:], theta, units).mean()
    return times_power(4, "d")(block, theta, units) * mean_exposure ** -theta[5]


def _autoscale_factor(v_K, theta, units):
    log_a_K, gamma_K = theta[3:].reshape(3, -1)[1:]
    return np.exp(v_K + gamma_K * (log_a_K + np.log(units["d"]))) * units["loss"]


# Convex: x^-alpha of a linear function, times a constant in h.
@register(
    "bimix",
    Block("B", False, -12.0, 4.0, -1.5, 1.5, lambda b, theta, units: np.exp(b) * units["d"] ** theta[1]),
    exponent("beta"),
    Block("alpha", False, 0.005, 5.0, 0.2, 0.3, as_is),
    log_term("w", mean=0.0, std=1.0, natural=vertex_weights(2)),
    uses_scale=True,
)
def bimix(theta, x):
    """`(Σ w_j h_j)^-alpha (B/D^beta + 1)`: BiMix (arXiv 2405.14908), `A/h_i^alpha (B/D^beta + C)` with the weight of
    the target's domain replaced by an exposure; A and C are absorbed; no floor, no size."""
    return power_mean(theta[3:], theta[2], x.h_RxK) * (jnp.exp(theta[0]) * x.d_R ** -theta[1] + 1.0)


# r^eta is concave for eta < 1.
@register(
    "d-cpt",
    floor(),
    *scale_term("A", "alpha", "n", 1),
    *scale_term("B", "beta", "d", 3, _exposure_factor),
    Block("eta", False, 0.0, 5.0, 0.3, 0.5, as_is),
    Block("gamma", False, 0.02, 10.0, 0.5, 0.5, as_is),
    log_term("w", natural=vertex_weights(6)),
    uses_scale=True,
    size_at=1,
    convex=False,
)
def d_cpt(theta, x):
    """`E + A/N^alpha + B r^eta/D^beta + r^-gamma`: D-CPT (arXiv 2406.01375), with its share r of the one domain, and
    its epsilon, replaced by an exposure `r = Σ w_j h_j`; its factor C is absorbed."""
    gamma, v_K = theta[6], theta[7:]
    term_R = power_mean(v_K, gamma, x.h_RxK)
    mean_term = power_mean(v_K, gamma, jnp.full((1, len(v_K)), 1 / len(v_K)))[0]
    ratio_R = (term_R / mean_term) ** (-theta[5] / gamma)
    tokens_R = jnp.exp(theta[3]) * ratio_R * x.d_R ** -theta[4]
    return theta[0] + jnp.exp(theta[1]) * x.n_R ** -theta[2] + tokens_R + term_R


# Convex: a sum of falling convex functions of one weight each.
@register(
    "autoscale-scale",
    floor("c"),
    *scale_term("A", "alpha", "n", 1),
    log_term("s", mean=-2.0, natural=_autoscale_factor),
    Block("a", True, -9.0, 5.0, -2.0, 2.0, lambda block, theta, units: np.exp(block) * units["d"]),
    Block("gamma", True, 0.02, 5.0, 0.5, 0.5, as_is),
    uses_scale=True,
    exposures=True,
)
def autoscale_scale(theta, x):
    """`c + A/N^alpha + Σ s_j (h_j D + a_j)^-gamma_j`: AutoScale (arXiv 2407.20177) over tokens of each domain; its
    published form has no size."""
    v_K, log_a_K, gamma_K = theta[3:].reshape(3, -1)  # v_j = log(s_j a_j^-gamma_j), the term without the domain
    read_RxK = x.h_RxK * x.d_R[:, None] * jnp.exp(-log_a_K)
    terms_R = jnp.exp(v_K - gamma_K * jnp.log1p(read_RxK)).sum(axis=-1)
    return theta[0] + jnp.exp(theta[1]) * x.n_R ** -theta[2] + terms_R
