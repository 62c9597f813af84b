"""The laws themselves: small pure JAX functions from parameters, mixture and scale to a loss.

A family says what its parameters are, where they may lie and what is plausible before any data; it knows nothing of
tables, fitting or intervals, which are written once for all of them. A new family is one function and one `_register`.

Losses are in units of a typical loss of the target (the engine scales them), so every parameter is of order one.
`n` and `d` are model size and tokens over their geometric means in the table. On the simplex a factor before a sum
over domains cannot be told from the domains' own coefficients, so each domain carries the loss it would have alone:
`v_j = log(term at the vertex of domain j)`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

UNLIMITED = 1e9
"""Unique tokens of a domain that is never repeated, in units of a table's mean token count."""


class Points(NamedTuple):
    """Where a law is evaluated: mixtures and, for laws that use them, scaled sizes, token counts and unique tokens.

    Attributes:
        h_RxK: weights. n_R, d_R: size and tokens over the table's geometric means; ones where there is no scale.
        u_RxK: unique tokens of each domain in the unit of d; `UNLIMITED` where nothing is repeated.
    """

    h_RxK: np.ndarray
    n_R: np.ndarray
    d_R: np.ndarray
    u_RxK: np.ndarray

    @classmethod
    def of(cls, h_RxK, n_R=None, d_R=None, u_RxK=None) -> Points:
        """Points with ones for a size or token count that is not given, and unlimited text."""
        ones_R = np.ones(len(h_RxK))
        return cls(
            h_RxK,
            ones_R if n_R is None else n_R,
            ones_R if d_R is None else d_R,
            np.full(h_RxK.shape, UNLIMITED) if u_RxK is None else u_RxK,
        )

    @property
    def count(self) -> int:
        return len(self.h_RxK)

    def padded(self, multiple: int) -> Points:
        """With copies of the last row up to a multiple, so that few shapes are ever compiled."""
        extra = -self.count % multiple
        return Points(*(np.pad(x, [(0, extra)] + [(0, 0)] * (x.ndim - 1), "edge") for x in self))


SMALL = 1e-5
"""Weight below which a power of a weight leaves the formula, so that its slope at zero stays finite."""


@dataclass(frozen=True)
class Block:
    """Some parameters with one meaning: a scalar, or one per domain."""

    name: str
    per_domain: bool
    lower: float
    upper: float
    mean: float
    """centre of the weak Gaussian prior, and of the starts"""
    std: float
    natural: Callable[[np.ndarray, np.ndarray, dict[str, float]], np.ndarray]
    """physical value from (this block, whole theta_P, units with keys loss, n, d)"""


@dataclass(frozen=True)
class Law:
    """A parametric family of losses.

    Attributes:
        name: how it is asked for.
        source: where it was published, and what was changed.
        f: `f(theta_P, points) -> loss_R`, float64, differentiable everywhere on the simplex.
        blocks: the parameters in the order of theta_P.
        uses_scale: whether n and d matter.
        convex: whether the loss is convex in h for every theta within bounds, so that a local optimum is global.
        linear: whether it is even linear in h.
    """

    name: str
    source: str
    f: Callable[..., jax.Array]
    blocks: tuple[Block, ...]
    uses_scale: bool
    convex: bool = True
    linear: bool = False

    def n_params(self, n_domains: int) -> int:
        return sum(n_domains if b.per_domain else 1 for b in self.blocks)

    def names(self, domains: Sequence[str]) -> list[str]:
        """Name of each parameter, `C/web` for one of a domain."""
        return [n for b in self.blocks for n in ([f"{b.name}/{d}" for d in domains] if b.per_domain else [b.name])]

    def spread(self, field: str, n_domains: int) -> np.ndarray:
        """`lower`, `upper`, `mean` or `std` of every parameter, shape (P,)."""
        sizes = [n_domains if b.per_domain else 1 for b in self.blocks]
        return np.repeat([getattr(b, field) for b in self.blocks], sizes).astype(np.float64)

    def starts(self, rng: np.random.Generator, n_domains: int, count: int) -> np.ndarray:
        """Starting points, shape (count, P): the prior's centre, then draws around it, of width one at most."""
        mean_P, std_P = self.spread("mean", n_domains), self.spread("std", n_domains)
        theta_SxP = mean_P + np.minimum(0.5 * std_P, 1.0) * rng.standard_normal((count, len(mean_P)))
        theta_SxP[0] = mean_P
        return np.clip(theta_SxP, self.spread("lower", n_domains), self.spread("upper", n_domains))

    def natural(self, theta_P: np.ndarray, n_domains: int, units: dict[str, float]) -> np.ndarray:
        """Parameters in the units of the published formula (losses in the target's own, N and D as counts)."""
        parts, at = [], 0
        for block in self.blocks:
            size = n_domains if block.per_domain else 1
            parts.append(np.atleast_1d(block.natural(theta_P[at : at + size], theta_P, units)))
            at += size
        return np.concatenate(parts)


LAWS: dict[str, Law] = {}


def _register(law: Law) -> Law:
    LAWS[law.name] = law
    return law


def _power(h_RxK: jax.Array, gamma_K: jax.Array) -> jax.Array:
    """`h^gamma` with a finite slope at zero: below `SMALL` a parabola that joins it in value and slope.

    Concave for gamma <= 1, like the power itself.
    """
    x_RxK = jnp.minimum(h_RxK / SMALL, 1.0)
    low_RxK = SMALL**gamma_K * ((2 - gamma_K) * x_RxK - (1 - gamma_K) * x_RxK**2)
    return jnp.where(h_RxK < SMALL, low_RxK, jnp.maximum(h_RxK, SMALL) ** gamma_K)


def _power_mean(v_K: jax.Array, alpha: jax.Array, h_RxK: jax.Array) -> jax.Array:
    """`(Σ_j h_j e^{-v_j/alpha})^{-alpha}`: e^{v_j} at vertex j, shape (R,); stable for large v/alpha."""
    x_K = -v_K / alpha
    top = jax.lax.stop_gradient(jnp.max(x_K))
    # A mixture may hold only domains far below the top one, so the sum may underflow without a floor.
    return jnp.exp(-alpha * (top + jnp.log(jnp.maximum(h_RxK @ jnp.exp(x_K - top), 1e-300))))


def _linear(theta, x):
    return x.h_RxK @ theta


def _exponential(theta, x):
    return theta[0] + jnp.exp(x.h_RxK @ theta[1:])


def _effective(theta, x):
    return theta[0] + _power_mean(theta[2:], theta[1], x.h_RxK)


def _additive(theta, x):
    k = x.h_RxK.shape[-1]
    return theta[0] + 1.0 / (_power(x.h_RxK, theta[1 + k :]) @ jnp.exp(-theta[1 : 1 + k]))


def _effective_scale(theta, x):
    floor, log_a, a, beta = theta[0], theta[1], theta[2], theta[3]
    return floor + jnp.exp(log_a) * x.n_R**-a + x.d_R**-beta * _power_mean(theta[4:], beta, x.h_RxK)


def _additive_scale(theta, x):
    log_a, alpha, log_b, beta = theta[0], theta[1], theta[2], theta[3]
    return _additive(theta[4:], x) + jnp.exp(log_a) * x.n_R**-alpha + jnp.exp(log_b) * x.d_R**-beta


def _loss(block, theta, units):
    return block * units["loss"]


def _as_is(block, theta, units):
    return block


def _log_term(name, lower=-12.0, upper=6.0, mean=-1.0, std=2.0, natural=None):
    """One log-term per domain: e^v is what that domain alone would leave above the floor."""
    return Block(name, True, lower, upper, mean, std, natural)


def _floor(name="E"):
    return Block(name, False, 0.0, 2.0, 0.5, 0.5, _loss)


def _times_power(exponent_at: int, scale: str):
    """Physical factor A of `A / N^a` from its log at the table's mean N (or D)."""
    return lambda block, theta, units: np.exp(block) * units["loss"] * units[scale] ** theta[exponent_at]


LINEAR = _register(
    Law(
        "linear",
        "`Σ t_j h_j`: RegMix (arXiv 2407.01492); its constant c is absorbed, since the weights sum to one",
        _linear,
        (Block("t", True, -10.0, 10.0, 1.0, 1.0, _loss),),
        uses_scale=False,
        linear=True,
    )
)

EXPONENTIAL = _register(
    Law(
        "exponential",
        "`c + exp(Σ t_j h_j)`: M4 of Data Mixing Laws (arXiv 2403.16952); its factor k is absorbed in t",
        _exponential,
        (
            Block("c", False, -5.0, 2.0, 0.5, 0.5, _loss),
            _log_term("t", lower=-1000.0, std=30.0, natural=lambda block, theta, units: block + np.log(units["loss"])),
        ),
        uses_scale=False,
    )
)

EFFECTIVE = _register(
    Law(
        "effective",
        "`E + (Σ w_j h_j)^-alpha`: a simple power of effective exposure; its factor b is absorbed in w",
        _effective,
        (
            _floor(),
            Block("alpha", False, 0.02, 10.0, 0.5, 0.5, _as_is),
            _log_term("w", natural=lambda v, theta, units: np.exp(-(v + np.log(units["loss"])) / theta[1])),
        ),
        uses_scale=False,
    )
)

_ADDITIVE_BLOCKS = (
    _floor(),
    _log_term("C", natural=lambda v, theta, units: np.exp(-v) / units["loss"]),
    Block("gamma", True, 0.02, 1.0, 0.5, 0.4, _as_is),
)

ADDITIVE = _register(
    Law(
        "additive",
        "`E + 1/(Σ C_j h_j^gamma_j)`, gamma <= 1: mixture term of Scaling Laws for Optimal Data Mixtures "
        "(arXiv 2507.09404)",
        _additive,
        _ADDITIVE_BLOCKS,
        uses_scale=False,
    )
)

_LOG_A = Block("A", False, -12.0, 4.0, -2.0, 1.5, _times_power(2, "n"))
_EXPONENT = (False, 0.01, 2.0, 0.3, 0.3)

EFFECTIVE_SCALE = _register(
    Law(
        "effective-scale",
        "`E + A N^-a + (D Σ w_j h_j)^-beta`: effective data with size and tokens; its factor B is absorbed in w",
        _effective_scale,
        (
            _floor(),
            _LOG_A,
            Block("a", *_EXPONENT, _as_is),
            Block("beta", *_EXPONENT, _as_is),
            _log_term(
                "w", natural=lambda v, theta, units: np.exp(-(v + np.log(units["loss"])) / theta[3]) / units["d"]
            ),
        ),
        uses_scale=True,
    )
)

ADDITIVE_SCALE = _register(
    Law(
        "additive-scale",
        "`E + 1/(Σ C_j h_j^gamma_j) + A/N^alpha + B/D^beta`, gamma <= 1: Scaling Laws for Optimal Data Mixtures "
        "(arXiv 2507.09404)",
        _additive_scale,
        (
            Block("A", False, -12.0, 4.0, -2.0, 1.5, _times_power(1, "n")),
            Block("alpha", *_EXPONENT, _as_is),
            Block("B", False, -12.0, 4.0, -2.0, 1.5, _times_power(3, "d")),
            Block("beta", *_EXPONENT, _as_is),
            *_ADDITIVE_BLOCKS,
        ),
        uses_scale=True,
    )
)
