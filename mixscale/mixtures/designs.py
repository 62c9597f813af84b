"""Which mixtures to train before there is a table: the methods of a `Design`, and the I-optimal design.

An I-optimal design (also V-optimal; Kiefer 1959; Atkinson, Donev and Tobias 2007, chapter 10) takes the candidates
after which the average variance of a prediction is smallest. The prior for losses over mixtures is a smooth random
function; `acquisition` has the prior of a law. This module knows nothing of fits or laws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mixscale.config import Design
from mixscale.constraints import bounds
from mixscale.errors import InputError, listed
from mixscale.mixture import Mixture
from mixscale.mixture_file import read_mixtures
from mixscale.mixtures.candidates import around, corners, distinct
from mixscale.mixtures.information import Uncertainty, choose
from mixscale.registry import Registry

UNITS = 10_000  # weights are whole multiples of 1 / UNITS, so that a table shows exactly what was trained
TRIES = 100  # draws for each new mixture, after which a design without enough of them is an error
SHIFT, ROOT = 3e-4, 0.25  # the smooth prior has distances of (h + SHIFT)^ROOT: from 0 to .001 is as far as .2 to .3
LENGTH = 3.0  # length scale in these roots: as wide as the simplex, so that distant runs are informative too
NOISE = 0.1  # standard deviation of a run about the smooth function, relative to that of the losses
REGION, CANDIDATES = 400, 800  # mixtures over which the variance is averaged, and candidates, if no pool is given

Method = Callable[[Design, Mixture], list[Mixture]]  # from the natural mixture to mixtures to fit, in a fixed order
# By the origin that a run table records. The field that switches a method on is in `config/design.py`.
METHODS: Registry[Method] = Registry("design method")
Prior = Callable[[np.ndarray], np.ndarray]  # from mixtures (A, K) to covariances of losses under M unknowns (M, A, A)


@dataclass(frozen=True)
class Drawn:
    """A mixture to train."""

    mixture: Mixture
    role: str  # `fit` or `held_out`
    origin: str  # a name in `METHODS`, or `dirichlet`


def draw(design: Design, natural: Mixture, prior: Mixture | None = None) -> list[Drawn]:
    """The design's mixtures over the domains of `natural`, each once, the fitted before the held out.

    The same design and seed give the same mixtures; larger numbers append to each kind.

    Args:
        prior: centre of the Dirichlet draws; None: the natural mixture.

    Raises:
        InputError: the design has no mixture to fit, or its Dirichlet draws repeat themselves.
    """
    drawn: dict[Mixture, Drawn] = {}
    for origin, method in METHODS.items():
        for mixture in map(rounded, method(design, natural)):
            drawn.setdefault(mixture, Drawn(mixture, "fit", origin))
    for role, count, stream in (("fit", design.dirichlet, 0), ("held_out", design.held_out, 1)):
        if role == "held_out" and not drawn:
            raise InputError("the design has no mixture to fit; raise design.dirichlet or design.sobol")
        enough = len(drawn) + count
        for tries, mixture in enumerate(map(rounded, _dirichlet(design, prior or natural, stream))):
            if len(drawn) == enough:
                break
            if tries > TRIES * (count + 1):
                raise InputError(
                    f"{tries} draws gave fewer than {count} new mixtures of {len(natural)} domains; "
                    "widen design.strength, or lower the number of mixtures"
                )
            drawn.setdefault(mixture, Drawn(mixture, role, "dirichlet"))
    return list(drawn.values())


METHODS.register("vertex")(lambda design, natural: [Mixture.vertex(natural, d) for d in natural if design.vertices])
METHODS.register("centre")(lambda design, natural: [Mixture.uniform(natural)] if design.centre else [])
METHODS.register("natural")(lambda design, natural: [natural] if design.natural else [])


@METHODS.register("sobol")
def _sobol(design: Design, natural: Mixture) -> list[Mixture]:
    """Points spread evenly over the simplex: scrambled Sobol points through the exponential's quantile function."""
    if not (count := design.sobol):
        return []
    from scipy.stats import qmc

    sampler = qmc.Sobol(len(natural), rng=np.random.default_rng(design.seed))
    cube_NxK = sampler.random_base2(int(np.ceil(np.log2(count))))
    gaps_NxK = -np.log1p(-cube_NxK[:count]) + 1e-12
    return [Mixture.normalized(dict(zip(natural, gaps_K, strict=True))) for gaps_K in gaps_NxK]


@METHODS.register("optimal")
def _optimal(design: Design, natural: Mixture) -> list[Mixture]:
    """An I-optimal design around the natural mixture."""
    if not design.optimal:
        return []
    frame = optimal_design(natural.domains, design.optimal, natural, seed=design.seed)
    return [Mixture.from_array(natural.domains, h_K) for h_K in frame.drop(columns="uncertainty").to_numpy()]


@METHODS.register("given")
def _given(design: Design, natural: Mixture) -> list[Mixture]:
    """The mixtures of a file; a domain that it does not name has weight zero."""
    if not design.given:
        return []
    mixtures, domains = read_mixtures(design.given, "design.given"), natural.domains
    if unknown := [d for d in mixtures[0] if d not in domains]:
        raise InputError(
            f"design.given '{design.given}' names {listed(unknown)}; the domains are {listed([*domains])}"
        )
    return [Mixture.from_array(domains, m.array(domains)) for m in mixtures]


def _dirichlet(design: Design, prior: Mixture, stream: int) -> Iterator[Mixture]:
    """Endless draws of Dirichlet(p · s), p the tempered prior, s log-uniform in `design.strength`.

    As in RegMix (arXiv 2407.01492): small s draws mixtures of few domains, large s mixtures near the prior.
    """
    low, high = design.strength
    domains = prior.domains
    prior_K = prior.tempered(design.temperature).array(domains)
    rng = np.random.default_rng([design.seed, stream])
    while True:
        strength = np.exp(rng.uniform(np.log(low), np.log(high)))
        yield Mixture.from_array(domains, rng.dirichlet(prior_K * strength))


def optimal_design(
    domains: tuple[str, ...],
    runs: int,
    natural: Mapping[str, float] | None = None,
    lower: Mapping[str, float] | None = None,
    upper: Mapping[str, float] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """The mixtures to run first, within bounds, the most informative first; the same seed gives the same design.

    Args:
        natural: mixture around which the variance is averaged, flattened by a square root; None: the uniform one.
        lower, upper: bounds of domains, by name; 0 and 1 for the others.

    Returns:
        columns `mix/<domain>`, weights in whole ten-thousandths, and `uncertainty`: the share of the average variance
        that remains after this run and those above it.

    Raises:
        InputError: fewer than two domains or one twice, no run, a negative seed, contradictory bounds, or more runs
            than there are distinct mixtures within them.
    """
    if len(domains) < 2:
        raise InputError(f"a design needs at least two domains; it has {len(domains)} ({', '.join(domains)})")
    if twice := [d for d in domains if domains.count(d) > 1]:
        raise InputError(f"domain '{twice[0]}' is named twice; names are unique")
    if runs < 1:
        raise InputError(f"runs is {runs}; it must be 1 or more")
    if seed < 0:
        raise InputError(f"seed is {seed}; it must not be negative")
    low_K, high_K = bounds(domains, lower, upper)
    rng = np.random.default_rng(seed)
    centre_K = np.full(len(domains), 1 / len(domains))
    if natural:
        centre_K = Mixture.normalized(dict.fromkeys(domains, 0.0) | dict(natural)).tempered(0.5).array(domains)
    region_QxK = around(centre_K, low_K, high_K, REGION, rng)
    corner_QxK = corners(centre_K, low_K, high_K, rng)
    pool_NxK = np.concatenate([corner_QxK, region_QxK, around(centre_K, low_K, high_K, CANDIDATES - REGION, rng)])
    pool_NxK = distinct(np.stack([rounded(Mixture.from_array(domains, h_K)).array(domains) for h_K in pool_NxK]))
    if len(pool_NxK) < runs:
        raise InputError(
            f"the bounds leave {len(pool_NxK)} distinct mixtures for {runs} runs; widen the bounds or "
            "lower the number of runs"
        )
    chosen, remaining_R = optimal_subset(pool_NxK, runs, region_QxK)
    return pd.DataFrame(pool_NxK[chosen], columns=[f"mix/{d}" for d in domains]).assign(uncertainty=remaining_R)


def smooth_prior(h_AxK: np.ndarray) -> np.ndarray:
    """A smooth random function of unit variance as the one unknown, shape (1, A, A)."""
    return smooth_covariance(h_AxK)[None]


def optimal_subset(
    pool_NxK: np.ndarray, runs: int, region_QxK: np.ndarray | None = None, prior: Prior = smooth_prior
) -> tuple[list[int], np.ndarray]:
    """Indices of the `runs` mixtures of a pool that leave the least average variance over a region.

    Args:
        region_QxK: mixtures of which predictions matter equally; None: the pool itself.
        prior: covariances of losses, such as `smooth_prior` or `acquisition.law_prior()`.

    Returns:
        indices, most informative first, and the share of the variance that remains after each, shape (runs,).

    Raises:
        InputError: the pool has fewer mixtures than runs.
    """
    pool = len(pool_NxK)
    if not 1 <= runs <= pool:
        raise InputError(f"{runs} runs cannot be chosen from a pool of {pool} mixtures; choose 1 to {pool}")
    cov_MxAxA = prior(np.concatenate([pool_NxK, pool_NxK if region_QxK is None else region_QxK]))
    region_MxQxQ = cov_MxAxA[:, pool:, pool:]
    # Each unknown counts in units of its own mean variance over the region.
    unit_Mx1x1 = 1 / (np.einsum("mqq->m", region_MxQxQ) / region_MxQxQ.shape[1])[:, None, None]
    cov_MxNxN = cov_MxAxA[:, :pool, :pool] * unit_Mx1x1
    cross_MxQxN = cov_MxAxA[:, pool:, :pool] * unit_Mx1x1 / np.sqrt(region_MxQxQ.shape[1])
    before = float(len(cov_MxAxA))
    uncertainty = Uncertainty(cov_MxNxN, cross_MxQxN, before, np.full(cov_MxNxN.shape[:2], NOISE**2))
    chosen, remaining_R = choose(uncertainty, runs)
    return chosen, remaining_R / before


def smooth_covariance(h_AxK: np.ndarray, other_BxK: np.ndarray | None = None) -> np.ndarray:
    """Covariance of a smooth random function of unit variance at mixtures, shape (A, B): Matérn 3/2 of the roots."""
    x_AxK = (h_AxK + SHIFT) ** ROOT
    y_BxK = x_AxK if other_BxK is None else (other_BxK + SHIFT) ** ROOT
    square_AxB = (x_AxK**2).sum(axis=1)[:, None] + (y_BxK**2).sum(axis=1) - 2 * x_AxK @ y_BxK.T
    far_AxB = np.sqrt(3 * np.maximum(square_AxB, 0.0)) / LENGTH
    return (1 + far_AxB) * np.exp(-far_AxB)


def rounded(mixture: Mixture) -> Mixture:
    """Nearest mixture in whole ten-thousandths; the largest remainders are rounded up."""
    exact_K = mixture.array() * UNITS
    units_K = np.floor(exact_K + 1e-9)
    missing = UNITS - int(units_K.sum())
    units_K[np.argsort(units_K - exact_K, kind="stable")[:missing]] += 1
    return Mixture({d: u / UNITS for d, u in zip(mixture.domains, units_K, strict=True)})
