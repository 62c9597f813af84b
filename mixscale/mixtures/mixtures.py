"""The mixtures of a design: which to fit, which to hold out, each with the name of where it came from.

Weights are rounded to whole ten-thousandths, so that a table shows exactly what was trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mixscale.config import Design
from mixscale.errors import InputError
from mixscale.mixture import Mixture
from mixscale.mixtures.given import given

UNITS = 10_000
BARREN = 100
"""Draws for each mixture asked for, after which a design that gives no new ones is refused."""


@dataclass(frozen=True)
class Drawn:
    """A mixture to train, what it is for, and where it came from."""

    mixture: Mixture
    role: str
    """`fit` or `held_out`"""
    origin: str
    """`vertex`, `centre`, `natural`, `sobol`, `optimal`, `given` or `dirichlet`"""


def draw(design: Design, natural: Mixture, prior: Mixture | None = None) -> list[Drawn]:
    """The design's mixtures over the domains of `natural`, each once, the fitted before the held out.

    The same design and seed give the same mixtures; asking for more appends to each kind.

    Args:
        prior: what the Dirichlet draws spread around; the natural mixture where none is given.

    Raises:
        InputError: the design asks for no mixture to fit, or its Dirichlet parameters are not positive.
    """
    domains = natural.domains
    fixed: list[tuple[Mixture, str]] = []
    if design.vertices:
        fixed += [(Mixture.vertex(domains, d), "vertex") for d in domains]
    if design.centre:
        fixed.append((Mixture.uniform(domains), "centre"))
    if design.natural:
        fixed.append((natural, "natural"))
    fixed += [(m, "sobol") for m in sobol(domains, design.sobol, design.seed)]
    fixed += [(m, "optimal") for m in informative(natural, design.optimal, design.seed)]
    fixed += [(m, "given") for m in given(design.given, domains)]
    drawn: dict[Mixture, Drawn] = {}
    for mixture, origin in fixed:
        drawn.setdefault(rounded(mixture), Drawn(rounded(mixture), "fit", origin))
    for role, count, stream in (("fit", design.dirichlet, 0), ("held_out", design.held_out, 1)):
        if role == "held_out" and not drawn:
            raise InputError("the design asks for no mixture to fit; raise design.dirichlet or design.sobol")
        enough = len(drawn) + count
        for tries, mixture in enumerate(map(rounded, dirichlet(design, prior or natural, stream))):
            if len(drawn) == enough:
                break
            if tries > BARREN * (count + 1):
                raise InputError(
                    f"{tries} draws gave fewer than {count} new mixtures of {len(domains)} domains; "
                    "widen design.strength, or ask for fewer"
                )
            drawn.setdefault(mixture, Drawn(mixture, role, "dirichlet"))
    return list(drawn.values())


def dirichlet(design: Design, prior: Mixture, stream: int) -> Iterator[Mixture]:
    """Endless draws of Dirichlet(p · s), p the tempered prior, s log-uniform in `design.strength`.

    The way of RegMix (arXiv 2407.01492); small s draws mixtures of few domains, large s mixtures near the prior.
    """
    low, high = design.strength
    if not 0 < low <= high:
        raise InputError(f"design.strength is {low:g} to {high:g}; give two positive numbers, the smaller first")
    domains = prior.domains
    prior_K = prior.tempered(design.temperature).array(domains)
    rng = np.random.default_rng([design.seed, stream])
    while True:
        strength = np.exp(rng.uniform(np.log(low), np.log(high)))
        yield Mixture.from_array(domains, rng.dirichlet(prior_K * strength))


def sobol(domains: tuple[str, ...], count: int, seed: int) -> list[Mixture]:
    """Points spread evenly over the simplex: scrambled Sobol points through the exponential's quantile function."""
    if not count:
        return []
    from scipy.stats import qmc

    cube_NxK = qmc.Sobol(len(domains), rng=np.random.default_rng(seed)).random_base2(int(np.ceil(np.log2(count))))
    gaps_NxK = -np.log1p(-cube_NxK[:count]) + 1e-12
    return [Mixture.normalized(dict(zip(domains, gaps_K, strict=True))) for gaps_K in gaps_NxK]


def informative(natural: Mixture, count: int, seed: int) -> list[Mixture]:
    """An I-optimal design around the natural mixture."""
    if not count:
        return []
    from mixscale.mixtures.optimal import optimal_design

    frame = optimal_design(natural.domains, count, natural, seed=seed)
    weights_RxK = frame[[f"mix/{d}" for d in natural.domains]].to_numpy()
    return [Mixture.from_array(natural.domains, h_K) for h_K in weights_RxK]


def rounded(mixture: Mixture) -> Mixture:
    """Nearest mixture in whole ten-thousandths; the largest remainders are rounded up."""
    exact_K = mixture.array() * UNITS
    units_K = np.floor(exact_K + 1e-9)
    missing = UNITS - int(units_K.sum())
    units_K[np.argsort(units_K - exact_K, kind="stable")[:missing]] += 1
    return Mixture({d: u / UNITS for d, u in zip(mixture.domains, units_K, strict=True)})
