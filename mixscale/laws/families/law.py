"""What a law is: a pure function, its parameters with bounds and priors, and the points where it is evaluated.

Knows nothing of tables, fitting or intervals, and of no formula either. Losses are in units of a typical loss of the
target (the engine scales them), so every parameter is of order one; `n` and `d` are model size and tokens over their
geometric means in the table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
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

    @property
    def log_epochs_RxK(self) -> np.ndarray:
        """Log of how often each domain is read, zero where that is once or less."""
        return np.log(np.maximum(self.h_RxK * self.d_R[:, None] / self.u_RxK, 1.0))

    def padded(self, multiple: int) -> Points:
        """With copies of the last row up to a multiple, so that few shapes are ever compiled."""
        extra = -self.count % multiple
        return Points(*(np.pad(x, [(0, extra)] + [(0, 0)] * (x.ndim - 1), "edge") for x in self))


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
        source: formula, where it was published, and what was changed.
        f: `f(theta_P, points) -> loss_R`, float64, differentiable everywhere on the simplex.
        blocks: the parameters in the order of theta_P.
        uses_scale: whether n and d matter.
        uses_mixture: whether the weights matter where nothing is repeated.
        uses_unique: whether it matters how many unique tokens a domain has.
        exposures: whether weights and tokens enter only as the tokens of each domain, `h_j d`, and the loss falls
            and is convex in them; then repeats keep it convex, and without scale `h` need not sum to one.
        convex: whether the loss is convex in h for every theta within bounds, so that a local optimum is global.
        linear: whether it is even linear in h.
        auto: whether 'auto' compares it; the others are there to be asked for by name.
    """

    name: str
    source: str
    f: Callable[..., jax.Array]
    blocks: tuple[Block, ...]
    uses_scale: bool
    convex: bool = True
    linear: bool = False
    uses_mixture: bool = True
    uses_unique: bool = False
    exposures: bool = False
    auto: bool = False

    def bound(self, points: Points) -> Law:
        """The law for a table of these points: itself, since a formula keeps nothing of them."""
        return self

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
"""Every family by name, in the order they were defined; those with repeats are made when asked for."""
ALIASES: dict[str, str] = {}
"""Other names of a family: published under another name, but the same set of functions."""


def register(law: Law, *aliases: str) -> Law:
    LAWS[law.name] = law
    ALIASES.update(dict.fromkeys(aliases, law.name))
    return law
