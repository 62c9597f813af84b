"""Text that is read more than once is worth less each time: `repeated(law)` gives any law the tokens that count.

The saturation of Scaling Data-Constrained Language Models (arXiv 2305.16264), for each domain of a mixture. Its
second half, parameters in excess of what the text can feed, is not taken: it needs a law's own compute-optimal ratio,
and on the paper's runs an R* that falls with size and grows with unique text does more.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from mixscale.laws.families.law import Block, Law, Points
from mixscale.laws.families.shapes import as_is

SUFFIX = "+repeats"


def worth(d_RxK: jax.Array, u_RxK: jax.Array, decay_RxK: jax.Array) -> jax.Array:
    """Tokens that count of `d` tokens of a domain with `u` unique ones, shape (R, K).

    `d` up to u, then `u + u R* (1 - e^{-(d/u - 1)/R*})` with `R* = decay`: concave in d, with one slope at u.
    """
    unique_RxK = jnp.maximum(u_RxK, 1e-9)
    again_RxK = jnp.maximum(d_RxK / unique_RxK - 1.0, 0.0)
    return jnp.minimum(d_RxK, unique_RxK) - unique_RxK * decay_RxK * jnp.expm1(-again_RxK / decay_RxK)


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
        total_R = d_RxK.sum(axis=-1)
        over_R = x.d_R if law.exposures and not law.uses_scale else total_R
        return law.f(theta[:own], Points(d_RxK / over_R[:, None], x.n_R, total_R, x.u_RxK))

    return dataclasses.replace(
        law,
        name=law.name + SUFFIX,
        source=f"{law.source}; with `D' = U + U R* (1 - e^(-(D/U - 1)/R*))` of each domain, R* times U^m / N^k "
        "(arXiv 2305.16264; m and k own)",
        f=f,
        blocks=(*(_before(block, own) for block in law.blocks), *extra),
        convex=law.convex and law.exposures,  # D'_j is concave in h_j, and such a law falls and is convex in all D'_j
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


# Centred on a larger model tiring of less text sooner, by the square root of tokens over size.
_FIRST = Block("R*", False, -1.0, 7.0, float(np.log(15.0)), 1.0, _decay)
_POWER_OF_TEXT, _POWER_OF_SIZE = (Block(name, False, -1.0, 3.0, 0.5, 0.3, as_is) for name in ("m", "k"))


def _blocks(law: Law) -> tuple[Block, ...]:
    if law.uses_scale:
        return _FIRST, _POWER_OF_TEXT, _POWER_OF_SIZE
    return dataclasses.replace(_FIRST, natural=_decay_at_one_size), _POWER_OF_TEXT
