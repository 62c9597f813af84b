"""Text that is read more than once is worth less each time: a form of `REPEATS` gives a law the tokens that count.

The saturation of Scaling Data-Constrained Language Models (arXiv 2305.16264), for each domain of a mixture:
`constrained` as it was published, where parameters in excess of what the text can feed count less too, and `repeated`
with an R* of its own, which falls with size and grows with unique text, for any law. Neither predicts best on every
table, so both are compared. A third form is one function and one line of `REPEATS`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from mixscale.laws.families.law import Block, Law, Points
from mixscale.laws.families.shapes import as_is

SIZE_AT = {
    "chinchilla": 1,
    "exponential-scale": 1,
    "effective-scale": 1,
    "additive-scale": 0,
    "power-additive-scale": 1,
    "d-cpt": 1,
}
"""Place in theta of log A, with alpha behind it, in laws where size is one `A/N^alpha` beside powers of tokens."""


def worth(d: jax.Array, unique: jax.Array, decay: jax.Array) -> jax.Array:
    """What `d` counts for where `unique` of it is new; tokens or parameters, of any one shape.

    `d` up to u, then `u + u R* (1 - e^{-(d/u - 1)/R*})` with `R* = decay`: concave in d, with one slope at u.
    """
    unique = jnp.maximum(unique, 1e-9)
    again = jnp.maximum(d / unique - 1.0, 0.0)
    return jnp.minimum(d, unique) - unique * decay * jnp.expm1(-again / decay)


@functools.cache
def repeated(law: Law) -> Law:
    """The law with tokens that count, D'_j, in place of the tokens h_j D of each domain.

    A law of scale gets their sum for D and their shares for h. One without scale has no D to lower: if it rests on
    exposures it gets `D'_j / D` for h, which then sum to less than one; any other gets their shares.
    Extra parameters: `R*_j = R* U_j^m / N^k`, the published constant for m = k = 0; without scale there is no k.
    """
    extra = _blocks(law)
    own = -len(extra)

    def f(theta, x):
        log_decay_RxK = theta[own] + theta[own + 1] * jnp.log(jnp.maximum(x.u_RxK, 1e-9))
        if law.uses_scale:
            log_decay_RxK -= theta[-1] * jnp.log(x.n_R)[:, None]
        d_RxK = worth(x.h_RxK * x.d_R[:, None], x.u_RxK, jnp.exp(log_decay_RxK))
        over_R = x.d_R if law.exposures and not law.uses_scale else None
        return law.f(theta[:own], _of_tokens(x, d_RxK, over_R))

    about = "with `D' = U + U R* (1 - e^(-(D/U - 1)/R*))` of each domain, R* times U^m / N^k (arXiv 2305.16264; m and "
    return _widened(law, "+repeats", about + "k own)", f, extra)


@functools.cache
def constrained(law: Law) -> Law | None:
    """The law with tokens D' and parameters N' that count, as published; None for a law that is not in `SIZE_AT`.

    `D'_j = U_j + U_j R*_D (1 - e^{-(D_j/U_j - 1)/R*_D})` of each domain, with `D_j = h_j D` and U_j no more than it,
    and `N' = U_N + U_N R*_N (1 - e^{-(N/U_N - 1)/R*_N})` with `U_N = min(N, N_opt)`, N_opt the best size for the
    text that is read, each token once. So a model too large for its text counts less even where nothing repeats.
    """
    if law.name not in SIZE_AT:
        return None
    at = SIZE_AT[law.name]

    def f(theta, x):
        read_RxK = x.h_RxK * x.d_R[:, None]
        once = _of_tokens(x, jnp.minimum(read_RxK, x.u_RxK))
        counted = _of_tokens(x, worth(read_RxK, x.u_RxK, jnp.exp(theta[-2])))
        log_a, alpha = theta[at], theta[at + 1]
        excess_R = jnp.log(x.n_R) - _log_best_size(log_a, alpha, _to_gain(law, theta[:-2], once))
        # A/N'^alpha - A/N^alpha, in logs: for a small alpha the best size may be no number.
        lost_R = jnp.exp(log_a) * x.n_R**-alpha * jnp.expm1(alpha * _log_idle(excess_R, jnp.exp(theta[-1])))
        return law.f(theta[:-2], counted) + lost_R

    about = (
        "with `D' = U + U R*_D (1 - e^(-(D/U - 1)/R*_D))` of each domain, and N' alike of the best size for U "
        "(arXiv 2305.16264)"
    )
    return _widened(law, "+constrained", about, f, PUBLISHED)


REPEATS: dict[str, Callable[[Law], Law | None]] = {"+repeats": repeated, "+constrained": constrained}
"""What may stand behind a law's name, and the law that it makes of it: None where the form does not apply."""


def _of_tokens(x: Points, d_RxK: jax.Array, over_R: jax.Array | None = None) -> Points:
    """The points with these tokens of each domain, and with their shares (of their sum, or of `over`) for weights."""
    total_R = d_RxK.sum(axis=-1)
    return Points(d_RxK / (total_R if over_R is None else over_R)[:, None], x.n_R, total_R, x.u_RxK)


def _to_gain(law: Law, theta: jax.Array, x: Points) -> jax.Array:
    """`-dL/dlog D`: `beta B / D^beta` of a law with one power of tokens, shape (R,)."""

    def loss_R(log_times_R):
        return law.f(theta, x._replace(d_R=x.d_R * jnp.exp(log_times_R)))

    zeros_R = jnp.zeros_like(x.d_R)
    return -jax.jvp(loss_R, (zeros_R,), (zeros_R + 1.0,))[1]


def _log_best_size(log_a: jax.Array, alpha: jax.Array, to_gain_R: jax.Array) -> jax.Array:
    """Log of the N that is best at its compute `6 N D`, where `alpha A / N^alpha = -dL/dlog D`, shape (R,).

    The published `(D G)^{beta/alpha} G` with `G = (alpha A / (beta B))^{1/(alpha + beta)}` for `B / D^beta`.
    """
    return (jnp.log(alpha) + log_a - jnp.log(jnp.maximum(to_gain_R, 1e-300))) / alpha


def _log_idle(excess_R: jax.Array, decay: jax.Array) -> jax.Array:
    """`log(N / N')` from `log(N / N_opt)`, shape (R,): zero up to N_opt."""
    excess_R = jnp.maximum(excess_R, 0.0)
    return excess_R - jnp.log(worth(jnp.exp(jnp.minimum(excess_R, 30.0)), 1.0, decay))


def _widened(law: Law, suffix: str, about: str, f: Callable[..., jax.Array], extra: tuple[Block, ...]) -> Law:
    """The law with parameters of repeats appended to its own.

    It stays convex where it is one of exposures: D'_j is concave in h_j, and such a law falls and is convex in them
    all. So is A/N'^alpha of the published form: U_N goes as y^{beta/alpha} of an exposure y of unique tokens, concave
    in h. With the slope e(y) >= 0 of log N' over log U_N, which falls, A/N'^alpha has the slope -beta e over log y,
    so it falls, and its second derivative by y is `(beta e + (beta e)^2 - beta y e') A/N'^alpha / y^2 >= 0`.
    """
    own = -len(extra)
    return dataclasses.replace(
        law,
        name=law.name + suffix,
        source=f"{law.source}; {about}",
        f=f,
        blocks=(*(_before(block, own) for block in law.blocks), *extra),
        convex=law.convex and law.exposures,
        linear=False,
        uses_unique=True,
    )


def _before(block: Block, own: int) -> Block:
    """A law's block, which reads the law's own theta where parameters of repeats are appended."""
    return dataclasses.replace(block, natural=lambda values, theta, units: block.natural(values, theta[:own], units))


def _decay(block, theta, units):
    """R* of `R* U^m / N^k` with U and N as counts."""
    return np.exp(block) * units["n"] ** theta[-1] / units["d"] ** theta[-2]


def _decay_at_one_size(block, theta, units):
    return np.exp(block) / units["d"] ** theta[-1]


def _exp(block, theta, units):
    return np.exp(block)


# Centred on a larger model tiring of less text sooner, by the square root of tokens over size.
_FIRST = Block("R*", False, -1.0, 7.0, float(np.log(15.0)), 1.0, _decay)
_POWER_OF_TEXT, _POWER_OF_SIZE = (Block(name, False, -1.0, 3.0, 0.5, 0.3, as_is) for name in ("m", "k"))

PUBLISHED = (
    Block("R*_D", False, -1.0, 7.0, float(np.log(15.4)), 1.0, _exp),
    Block("R*_N", False, -1.0, 7.0, float(np.log(5.3)), 1.0, _exp),
)
"""Centred on what the paper found."""


def _blocks(law: Law) -> tuple[Block, ...]:
    if law.uses_scale:
        return _FIRST, _POWER_OF_TEXT, _POWER_OF_SIZE
    return dataclasses.replace(_FIRST, natural=_decay_at_one_size), _POWER_OF_TEXT
