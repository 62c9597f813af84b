"""Which mixtures to run before there is any table: those that leave the least doubt about all others.

An I-optimal design (also V-optimal; Kiefer 1959; Atkinson, Donev and Tobias 2007, chapter 10): of the candidates, take
the runs after which the average variance of a prediction is smallest. A variance needs a prior for losses over
mixtures: that of a law, linearised at draws of its parameters and averaged over them (Chaloner and Verdinelli 1995),
or a smooth random function that leans on no law.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from mixscale.errors import InputError
from mixscale.mixture import Mixture
from mixscale.mixtures.candidates import around, centre, corners, distinct
from mixscale.mixtures.doubt import Doubt, choose

PRIOR = "effective"
"""The law whose prior is taken where a pool is given: of priors compared by choosing 40 of half of RegMix's runs and
predicting the other half (analysis/next_runs.py), the best for several laws together. Where any mixture can be had it
would run a third of them on one domain alone, which only pays if the law is true, so there no law is leant on."""
SHIFT, ROOT = 3e-4, 0.25
"""A mixture's place in the prior is (h + SHIFT)^ROOT: from 0 to .001 of a domain moves as far as from .2 to .3."""
LENGTH = 3.0
"""Distance in these roots over which losses are alike: as wide as the simplex, so that far runs teach as well."""
NOISE = 0.1
"""Standard deviation of a run about the smooth function, over that of the losses."""
REGION, CANDIDATES = 400, 800
"""Mixtures over which the doubt is averaged, and which are offered, where no pool is given."""


def optimal_design(
    domains: tuple[str, ...],
    runs: int,
    natural: Mapping[str, float] | None = None,
    lower: Mapping[str, float] | None = None,
    upper: Mapping[str, float] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """The mixtures to run first, within bounds; the same seed gives the same design.

    Args:
        natural: a mixture around which the doubt is averaged, flattened by a square root; None: all domains equally.
        lower, upper: bounds of domains, by name; 0 and 1 where nothing is said.

    Returns:
        columns `mix/<domain>`, weights in whole ten-thousandths, and `doubt`: the share of the average variance left
        after this run and those above it, which are the ones that teach most.

    Raises:
        InputError: fewer than two domains or one twice, no run, a negative seed, bounds that contradict each other, or
            more runs than there are distinct mixtures within them.
    """
    from mixscale.constraints import bounds
    from mixscale.mixtures.mixtures import rounded

    _check(domains, runs, seed)
    low_K, high_K = bounds(domains, lower, upper)
    rng = np.random.default_rng(seed)
    middle_K = centre(domains, Mixture.normalized({d: 0.0 for d in domains} | dict(natural)) if natural else None)
    region_QxK = around(middle_K, low_K, high_K, REGION, rng)
    offered_NxK = np.concatenate(
        [corners(middle_K, low_K, high_K, rng), region_QxK, around(middle_K, low_K, high_K, CANDIDATES - REGION, rng)]
    )
    offered_NxK = np.stack([rounded(Mixture.from_array(domains, h_K)).array(domains) for h_K in offered_NxK])
    offered_NxK = distinct(offered_NxK)
    if len(offered_NxK) < runs:
        raise InputError(
            f"{runs} runs are asked for, but the bounds leave {len(offered_NxK)} distinct mixtures; widen the "
            "bounds or ask for fewer"
        )
    chosen, left_R = optimal_subset(offered_NxK, runs, region_QxK, law=None)
    return pd.DataFrame(offered_NxK[chosen], columns=[f"mix/{d}" for d in domains]).assign(doubt=left_R)


def optimal_subset(
    pool_NxK: np.ndarray,
    runs: int,
    region_QxK: np.ndarray | None = None,
    law: str | None = PRIOR,
    seed: int = 0,
) -> tuple[list[int], np.ndarray]:
    """Indices of the `runs` mixtures of a pool that leave the least average doubt about a region.

    Args:
        region_QxK: mixtures whose predictions matter, all alike; None: the pool itself.
        law: a law without scale whose prior is taken; None: a smooth random function. seed: of the prior's draws.

    Returns:
        indices, those that teach most first, and the share of the variance that is left after each, shape (runs,).

    Raises:
        InputError: the pool has fewer mixtures than are asked for.
    """
    if not 1 <= runs <= len(pool_NxK):
        raise InputError(f"{runs} runs are to be chosen from a pool of {len(pool_NxK)}; ask for 1 to {len(pool_NxK)}")
    region_QxK = pool_NxK if region_QxK is None else region_QxK
    both_AxK = np.concatenate([pool_NxK, region_QxK])
    prior_MxAxA = smooth_covariance(both_AxK)[None] if law is None else law_covariances(law, both_AxK, seed)
    doubt = average_doubt(prior_MxAxA, len(pool_NxK))
    before = doubt.left
    chosen, left_R = choose(doubt, runs)
    return chosen, left_R / before


def average_doubt(prior_MxAxA: np.ndarray, pool: int) -> Doubt:
    """The average variance over the mixtures behind the first `pool` of A, with a unit for each unknown's own mean."""
    goal_MxQxQ = prior_MxAxA[:, pool:, pool:]
    mean_M = np.einsum("mqq->m", goal_MxQxQ) / goal_MxQxQ.shape[1]
    unit_Mx1x1 = 1 / mean_M[:, None, None]
    runs_MxNxN = prior_MxAxA[:, :pool, :pool] * unit_Mx1x1
    goals_MxQxN = prior_MxAxA[:, pool:, :pool] * unit_Mx1x1 / np.sqrt(goal_MxQxQ.shape[1])
    return Doubt(runs_MxNxN, goals_MxQxN, float(len(mean_M)), np.full(runs_MxNxN.shape[:2], NOISE**2))


def smooth_covariance(h_AxK: np.ndarray, other_BxK: np.ndarray | None = None) -> np.ndarray:
    """Covariance of a smooth random function of unit variance at mixtures, shape (A, B): Matérn 3/2 of the roots."""
    x_AxK = (h_AxK + SHIFT) ** ROOT
    y_BxK = x_AxK if other_BxK is None else (other_BxK + SHIFT) ** ROOT
    square_AxB = (x_AxK**2).sum(axis=1)[:, None] + (y_BxK**2).sum(axis=1) - 2 * x_AxK @ y_BxK.T
    far_AxB = np.sqrt(3 * np.maximum(square_AxB, 0.0)) / LENGTH
    return (1 + far_AxB) * np.exp(-far_AxB)


def law_covariances(law: str, h_AxK: np.ndarray, seed: int = 0, draws: int = 6) -> np.ndarray:
    """Covariances of relative losses by a law linearised at draws from its prior, shape (draws, A, A).

    Which domain serves a target is unknown before a table, so the design is averaged over draws (Bayesian design;
    Chaloner and Verdinelli 1995).
    """
    import jax

    from mixscale.laws import selection
    from mixscale.laws.families import Points

    family, points = selection.named(law), Points.of(h_AxK)
    std_P = family.spread("std", h_AxK.shape[1])
    theta_MxP = family.starts(np.random.default_rng(seed), h_AxK.shape[1], draws)
    with jax.enable_x64(True):
        loss_MxA = np.asarray(jax.vmap(family.f, in_axes=(0, None))(theta_MxP, points))
        slope_MxAxP = np.asarray(jax.vmap(jax.jacfwd(family.f), in_axes=(0, None))(theta_MxP, points))
    relative_MxAxP = slope_MxAxP * std_P / loss_MxA[..., None]
    return np.einsum("map,mbp->mab", relative_MxAxP, relative_MxAxP)


def _check(domains: tuple[str, ...], runs: int, seed: int) -> None:
    if len(domains) < 2:
        raise InputError(f"a design needs two domains or more, and has {len(domains)} ({', '.join(domains)})")
    if twice := [d for d in domains if domains.count(d) > 1]:
        raise InputError(f"domain '{twice[0]}' is named twice; names are unique")
    if runs < 1:
        raise InputError(f"{runs} runs are asked for; ask for 1 or more")
    if seed < 0:
        raise InputError(f"seed is {seed}; seeds are not negative")
