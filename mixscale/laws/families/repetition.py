"""Repeated text: each further epoch adds less, so a form of `REPEATS` replaces a law's tokens by effective tokens.

Both forms apply the saturation of Scaling Data-Constrained Language Models (arXiv 2305.16264) to each domain.
`constrained` is the published form, in which excess parameters count less too. `repeated` applies to any law, with an
R* that falls with size and grows with unique text. Neither predicts best on every table; 'auto' compares both.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from mixscale.laws.families.law import Block, Law, Points, as_is


def effective(d: jax.Array, unique: jax.Array, decay: jax.Array) -> jax.Array:
    """Effective amount of `d` tokens (or parameters) of which `unique` are new; arrays of one shape.

    `d` up to u, then `u + u R* (1 - e^{-(d/u - 1)/R*})` with `R* = decay`: concave in d, with a continuous slope at u.
    """
    unique = jnp.maximum(unique, 1e-9)
    again = jnp.maximum(d / unique - 1.0, 0.0)
    return jnp.minimum(d, unique) - unique * decay * jnp.expm1(-again / decay)


@functools.cache
def repeated(law: Law) -> Law:
    """The law with effective tokens D'_j in place of the tokens h_j D of each domain.

    A law with scale takes their sum as D and their shares as h. A law without scale has no D: if it is one of
    exposures it takes `D'_j / D` as h, which then sum to less than one; any other takes the shares.
    Extra parameters: `R*_j = R* U_j^m / N^k`, the published constant for m = k = 0; without scale there is no k.
    """
    extra = (_FIRST, *_POWERS) if law.uses_scale else (_FIRST_AT_ONE_SIZE, _POWERS[0])
    own = -len(extra)

    def f(theta, x):
        log_decay_RxK = theta[own] + theta[own + 1] * jnp.log(jnp.maximum(x.u_RxK, 1e-9))
        if law.uses_scale:
            log_decay_RxK -= theta[-1] * jnp.log(x.n_R)[:, None]
        d_RxK = effective(x.h_RxK * x.d_R[:, None], x.u_RxK, jnp.exp(log_decay_RxK))
        over_R = x.d_R if law.exposures and not law.uses_scale else None
        return law.f(theta[:own], _of_tokens(x, d_RxK, over_R))

    about = "with `D' = U + U R* (1 - e^(-(D/U - 1)/R*))` of each domain, R* times U^m / N^k (arXiv 2305.16264; m and "
    return _widened(law, "+repeats", about + "k own)", f, extra)


@functools.cache
def constrained(law: Law) -> Law | None:
    """The law with effective tokens D' and parameters N' as published; None for a law without `size_at`.

    `D'_j = U_j + U_j R*_D (1 - e^{-(D_j/U_j - 1)/R*_D})` of each domain, with `D_j = h_j D` and U_j no more than it,
    and `N' = U_N + U_N R*_N (1 - e^{-(N/U_N - 1)/R*_N})` with `U_N = min(N, N_opt)`, N_opt the best size for one
    epoch over the text. So the excess parameters of a model too large for its text count less even without repeats.
    """
    if law.size_at is None:
        return None
    at = law.size_at

    def f(theta, x):
        read_RxK = x.h_RxK * x.d_R[:, None]
        once = _of_tokens(x, jnp.minimum(read_RxK, x.u_RxK))
        counted = _of_tokens(x, effective(read_RxK, x.u_RxK, jnp.exp(theta[-2])))
        # In logs: for a small alpha the best size itself may overflow. It has `alpha A / N^alpha = -dL/dlog D`, the
        # published `(D G)^{beta/alpha} G` with `G = (alpha A / (beta B))^{1/(alpha + beta)}` for `B / D^beta`.
        log_a, alpha = theta[at], theta[at + 1]
        gain_R = _token_gain(law, theta[:-2], once)
        log_best_R = (jnp.log(alpha) + log_a - jnp.log(jnp.maximum(gain_R, 1e-300))) / alpha
        excess_R = jnp.maximum(jnp.log(x.n_R) - log_best_R, 0.0)
        log_ratio_R = excess_R - jnp.log(effective(jnp.exp(jnp.minimum(excess_R, 30.0)), 1.0, jnp.exp(theta[-1])))
        lost_R = jnp.exp(log_a) * x.n_R**-alpha * jnp.expm1(alpha * log_ratio_R)  # A/N'^alpha - A/N^alpha
        return law.f(theta[:-2], counted) + lost_R

    about = (
        "with `D' = U + U R*_D (1 - e^(-(D/U - 1)/R*_D))` of each domain, and N' likewise of the best size for U "
        "(arXiv 2305.16264)"
    )
    return _widened(law, "+constrained", about, f, _PUBLISHED)


# By the suffix of a law's name; None where a law has no such form.
REPEATS: dict[str, Callable[[Law], Law | None]] = {"+repeats": repeated, "+constrained": constrained}


def _of_tokens(x: Points, d_RxK: jax.Array, over_R: jax.Array | None = None) -> Points:
    """The points with these tokens of each domain; weights are their shares of their sum, or of `over`."""
    total_R = d_RxK.sum(axis=-1)
    return Points(d_RxK / (total_R if over_R is None else over_R)[:, None], x.n_R, total_R, x.u_RxK)


def _token_gain(law: Law, theta: jax.Array, x: Points) -> jax.Array:
    """`-dL/dlog D`: `beta B / D^beta` of a law with one power of tokens, shape (R,)."""

    def loss_R(log_times_R):
        return law.f(theta, x._replace(d_R=x.d_R * jnp.exp(log_times_R)))

    zeros_R = jnp.zeros_like(x.d_R)
    return -jax.jvp(loss_R, (zeros_R,), (zeros_R + 1.0,))[1]


def _widened(law: Law, suffix: str, about: str, f: Callable[..., jax.Array], extra: tuple[Block, ...]) -> Law:
    """The law with the parameters of repeats after its own.

    It stays convex if the law is one of exposures: D'_j is concave in h_j, and such a law falls and is convex in them.
    A/N'^alpha of the published form is convex too: U_N is proportional to y^{beta/alpha} of an exposure y of unique
    tokens, concave in h. Let e(y) >= 0 be the slope of log N' over log U_N; it falls. Then A/N'^alpha has the slope
    -beta e over log y, so it falls, and its second derivative by y is
    `(beta e + (beta e)^2 - beta y e') A/N'^alpha / y^2 >= 0`.
    """
    own = slice(-len(extra))

    def of_own_theta(block: Block) -> Block:
        return dataclasses.replace(block, natural=lambda part, theta, units: block.natural(part, theta[own], units))

    return dataclasses.replace(
        law,
        name=law.name + suffix,
        source=f"{law.source}; {about}",
        f=f,
        blocks=(*map(of_own_theta, law.blocks), *extra),
        convex=law.convex and law.exposures,
        linear=False,
        uses_unique=True,
    )


def _decay(name: str, centre: float, natural) -> Block:
    return Block(name, False, -1.0, 7.0, float(np.log(centre)), 1.0, natural)


# R* of `R* U^m / N^k` with U and N as counts. In the prior's centre it falls with the root of size over unique tokens.
_FIRST = _decay("R*", 15.0, lambda log, theta, units: np.exp(log) * units["n"] ** theta[-1] / units["d"] ** theta[-2])
_FIRST_AT_ONE_SIZE = _decay("R*", 15.0, lambda log, theta, units: np.exp(log) / units["d"] ** theta[-1])
_POWERS = tuple(Block(name, False, -1.0, 3.0, 0.5, 0.3, as_is) for name in ("m", "k"))
# Priors centred on the paper's values.
_PUBLISHED = (
    _decay("R*_D", 15.4, lambda log, theta, units: np.exp(log)),
    _decay("R*_N", 5.3, lambda log, theta, units: np.exp(log)),
)
