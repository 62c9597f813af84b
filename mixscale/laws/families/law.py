"""What a law is: a pure function, its parameters with bounds and priors, and the points at which it is evaluated.

Also the terms and parameter blocks that laws share. It knows no table, no fitting and no intervals. `Dataset` scales
losses by a typical loss, and `n` and `d` by their geometric means, so that every parameter is of order one. On the
simplex a factor before a sum over domains cannot be separated from the domains' coefficients, so each domain has one
parameter `v_j = log(term at the vertex of domain j)`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mixscale.registry import Registry

SMALL = 1e-5  # weight below which `power` leaves the formula, so that its slope at zero stays finite
UNLIMITED = 1e9  # unique tokens of a domain that is never repeated, in units of a table's mean token count


class Points(NamedTuple):
    """Inputs of a law. `of` fills in what a law does not use."""

    h_RxK: np.ndarray  # weights
    n_R: np.ndarray  # sizes over the table's geometric mean; ones for a law without scale
    d_R: np.ndarray  # tokens, likewise
    u_RxK: np.ndarray  # unique tokens of each domain in the unit of d; `UNLIMITED` where nothing is repeated

    @classmethod
    def of(cls, h_RxK, n_R=None, d_R=None, u_RxK=None) -> Points:
        n_R, d_R = (np.ones(len(h_RxK)) if x_R is None else x_R for x_R in (n_R, d_R))
        return cls(h_RxK, n_R, d_R, np.full(h_RxK.shape, UNLIMITED) if u_RxK is None else u_RxK)

    @property
    def count(self) -> int:
        return len(self.h_RxK)

    @property
    def log_epochs_RxK(self) -> np.ndarray:
        """Log of the epochs over each domain; zero for one epoch or less."""
        return np.log(np.maximum(self.h_RxK * self.d_R[:, None] / self.u_RxK, 1.0))

    def rows(self, rows_N: np.ndarray) -> Points:
        """The points at these row numbers, or where a mask is true."""
        return Points(*(x[rows_N] for x in self))

    def padded(self, multiple: int) -> Points:
        """These points and copies of the last row, up to a multiple of rows, so that few shapes are compiled."""
        extra = -self.count % multiple
        return Points(*(np.pad(x, [(0, extra)] + [(0, 0)] * (x.ndim - 1), "edge") for x in self))


@dataclass(frozen=True)
class Block:
    """Parameters with one meaning: a scalar, or one per domain."""

    name: str
    per_domain: bool
    lower: float
    upper: float
    mean: float  # of the weak Gaussian prior and of the starting points
    std: float
    natural: Callable  # (this block, whole theta_P, units with keys loss, n, d) -> value in the published formula


@dataclass(frozen=True)
class Law:
    """A parametric family of losses. `gp.Process` and `stacking.Stack` have the same attributes and methods."""

    name: str
    source: str  # formula, publication, and what was changed
    f: Callable[..., jax.Array]  # f(theta_P, points) -> loss_R, float64, differentiable everywhere on the simplex
    blocks: tuple[Block, ...]  # the parameters in the order of theta_P
    uses_scale: bool = False  # whether the loss depends on n and d
    convex: bool = True  # whether it is convex in h for every theta within bounds, so that a local optimum is global
    linear: bool = False  # whether it is linear in h
    uses_mixture: bool = True  # whether it depends on the weights where nothing is repeated
    uses_unique: bool = False  # whether it depends on the unique tokens of a domain
    # Whether weights and tokens enter only as the tokens of each domain, `h_j d`, and the loss falls and is convex in
    # them. Such a law stays convex with repeats, and without scale its `h` need not sum to one.
    exposures: bool = False
    auto: bool = False  # whether 'auto' compares it
    size_at: int | None = None  # index in theta of log A, followed by alpha, if the only size term is `A/N^alpha`

    def bound(self, points: Points) -> Law:
        """The law for a table with these points; a formula does not depend on them."""
        return self

    def _sizes(self, n_domains: int) -> list[int]:
        return [n_domains if b.per_domain else 1 for b in self.blocks]

    def n_params(self, n_domains: int) -> int:
        return sum(self._sizes(n_domains))

    def names(self, domains: Sequence[str]) -> list[str]:
        """Name of each parameter; `C/web` for the parameter of a domain."""
        return [n for b in self.blocks for n in ([f"{b.name}/{d}" for d in domains] if b.per_domain else [b.name])]

    def priors(self, n_domains: int) -> np.ndarray:
        """Lower and upper bound, and mean and standard deviation of the prior, of every parameter, shape (4, P)."""
        fields = [(b.lower, b.upper, b.mean, b.std) for b in self.blocks]
        return np.repeat(np.array(fields, dtype=np.float64).T, self._sizes(n_domains), axis=1)

    def starts(self, rng: np.random.Generator, n_domains: int, count: int) -> np.ndarray:
        """Starting points, shape (count, P): the prior's centre, then draws around it with a width of at most one."""
        lower_P, upper_P, mean_P, std_P = self.priors(n_domains)
        theta_SxP = mean_P + np.minimum(0.5 * std_P, 1.0) * rng.standard_normal((count, len(mean_P)))
        theta_SxP[0] = mean_P
        return np.clip(theta_SxP, lower_P, upper_P)

    def natural(self, theta_P: np.ndarray, n_domains: int, units: dict[str, float]) -> np.ndarray:
        """Parameters in the units of the published formula (losses in the target's own, N and D as counts)."""
        parts = np.split(theta_P, np.cumsum(self._sizes(n_domains))[:-1])
        values = [b.natural(part, theta_P, units) for b, part in zip(self.blocks, parts, strict=True)]
        return np.concatenate([np.atleast_1d(value) for value in values])


LAWS: Registry[Law] = Registry("law")  # `catalogue.get_law` makes laws with repeats and stacks from these
ALIASES: dict[str, str] = {}  # other published names of the same set of functions


def register(name: str, *blocks: Block, aliases: Sequence[str] = (), **traits: bool | int) -> Callable:
    """Decorator that adds a law to `LAWS`. `traits` are attributes of `Law`; the docstring of `f` is the source."""

    def add(f: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
        source = " ".join((f.__doc__ or "").split()).removesuffix(".")
        LAWS.register(name)(Law(name, source, f, blocks, **traits))
        ALIASES.update(dict.fromkeys(aliases, name))
        return f

    return add


def power(h_RxK: jax.Array, gamma_K: jax.Array) -> jax.Array:
    """`h^gamma` with a finite slope at zero: below `SMALL` a parabola with the same value and slope at `SMALL`.

    Concave for gamma <= 1, like the power itself.
    """
    x_RxK = jnp.minimum(h_RxK / SMALL, 1.0)
    low_RxK = SMALL**gamma_K * ((2 - gamma_K) * x_RxK - (1 - gamma_K) * x_RxK**2)
    return jnp.where(h_RxK < SMALL, low_RxK, jnp.maximum(h_RxK, SMALL) ** gamma_K)


def power_mean(v_K: jax.Array, alpha: jax.Array, x_RxK: jax.Array) -> jax.Array:
    """`(Σ_j x_j e^{-v_j/alpha})^{-alpha}`, shape (R,): e^{v_j} at the vertex of domain j.

    Stable for large v/alpha. A negative alpha gives `(Σ_j x_j e^{v_j/|alpha|})^{|alpha|}`.
    """
    log_K = -v_K / alpha
    top = jax.lax.stop_gradient(jnp.max(log_K))
    # All domains of a mixture may be far below the top one; without a floor their sum underflows.
    return jnp.exp(-alpha * (top + jnp.log(jnp.maximum(x_RxK @ jnp.exp(log_K - top), 1e-300))))


def loss(block, theta, units):
    """Natural value of a parameter that is a loss."""
    return block * units["loss"]


def as_is(block, theta, units):
    """Natural value of a parameter without a unit."""
    return block


def vertex_weights(exponent_at: int, scale: str | None = None, scale_at: int = 0, sign: float = -1.0):
    """Natural `w_j` of `(Σ w_j h_j)^(sign alpha) / D^b` from log-terms at the vertices; `scale` None: without D^b.

    `exponent_at` and `scale_at` are the indices of alpha and b in theta.
    """

    def natural(v, theta, units):
        log_term = v + np.log(units["loss"])
        if scale:
            log_term = log_term + theta[scale_at] * np.log(units[scale])
        return np.exp(sign * log_term / theta[exponent_at])

    return natural


def times_power(exponent_at: int, scale: str):
    """Natural factor A of `A / N^a` from its log at the table's mean N (or D)."""
    return lambda block, theta, units: np.exp(block) * units["loss"] * units[scale] ** theta[exponent_at]


def log_term(name: str, lower=-12.0, upper=6.0, mean=-1.0, std=2.0, natural=None) -> Block:
    """One log-term per domain: e^v is the loss above the floor for that domain alone."""
    return Block(name, True, lower, upper, mean, std, natural)


def floor(name: str = "E") -> Block:
    """The irreducible loss."""
    return Block(name, False, 0.0, 2.0, 0.5, 0.5, loss)


def exponent(name: str) -> Block:
    """Exponent of size or tokens."""
    return Block(name, False, 0.01, 2.0, 0.3, 0.3, as_is)


def scale_term(factor: str, name: str, scale: str, at: int, natural=None) -> tuple[Block, Block]:
    """`A / N^alpha`: the log of A at the table's mean size or tokens, at index `at` of theta, then the exponent."""
    natural = natural or times_power(at + 1, scale)
    return Block(factor, False, -12.0, 4.0, -2.0, 1.5, natural), exponent(name)
