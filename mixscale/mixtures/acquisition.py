"""Which runs come next: given a fit and a budget, the runs after which the optimum is least uncertain.

What is uncertain is which mixture is best, not every loss. So the quantities of interest are differences: the
objective at mixtures that may be the optimum, minus the objective at the present optimum. Their covariance with a
candidate's losses comes from the fit's draws, for each target, and from a smooth random function for the error of the
law itself, which no draw includes. The chosen runs minimize the variance of the differences (Bayesian experimental
design: Chaloner and Verdinelli 1995, section 4; a linear-Gaussian knowledge gradient: Frazier, Powell and Dayanik
2009). Only draws of a fit are used, so any predictor will do, smooth and convex or not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mixscale.constraints import bounds
from mixscale.errors import InputError
from mixscale.laws.catalogue import get_law
from mixscale.laws.families import Points
from mixscale.laws.least_squares import MAD_TO_STD
from mixscale.laws.result import LawFit
from mixscale.mixture import Mixture
from mixscale.mixtures.candidates import around, corners, distinct, near_hull, within
from mixscale.mixtures.designs import Prior, rounded, smooth_covariance
from mixscale.mixtures.information import Uncertainty, choose
from mixscale.objective import BoundObjective

FLOPS = 6.0  # for each parameter and token, forward and backward (Kaplan et al. 2020)
OFFERED = 400  # size that sets how many mixtures are generated, if no candidates are given
RUNNERS_UP = 5  # next-best mixtures of each draw that are samples of the optimum, together as much as its best
MAX_SAMPLES = 150  # of the optimum; those that most draws prefer
SEARCH_ROUNDS, CHILDREN = 3, 400  # and new mixtures in each, of the search for the optimum of every draw
MAX_ENTRIES = 3e7  # of all covariances; beyond it only the most informative single runs are candidates
MISFIT_SHARE = 0.5  # share of the residual variance that is the law's own error, if no run was repeated
# Extra noise of a run where the law is uncertain, over the standard deviation of the draws there: a far corner is less
# informative about mixtures near the optimum than the draws of a true law imply.
SPREAD_NOISE = 0.7
MIN_RESIDUAL = 0.2  # smallest share of the variance of held-out residuals due to runs and to the law's own error


@dataclass(frozen=True)
class Query:
    """Of the optimum: the objective, its bounds, and size and tokens for a law with scale."""

    objective: BoundObjective  # the mean of the targets
    low_K: np.ndarray
    high_K: np.ndarray
    n_params: float | None
    n_tokens: float | None

    @classmethod
    def of(cls, fit: LawFit, weights, lower, upper, n_params, n_tokens) -> Query:
        """Checked; a domain that no run used has an upper bound of zero, because its effect is unknown."""
        unused = {d: 0.0 for d, unused in zip(fit.domains, fit.dataset.never_used_K, strict=True) if unused}
        low_K, high_K = bounds(fit.domains, lower, {**(upper or {}), **unused})
        for name, value in (("n_params", n_params), ("n_tokens", n_tokens)):
            if fit.uses_scale and value is None:
                raise InputError(f"law '{fit.law}' uses scale; give {name} of the target run")
        return cls(fit.mean_objective(weights), low_K, high_K, n_params, n_tokens)

    def values(self, fit: LawFit, h_QxK: np.ndarray) -> np.ndarray:
        """Objective of each mixture by each draw, shape (S, Q)."""
        return self.objective.mean(fit.draws(h_QxK, self.n_params, self.n_tokens))


def next_runs(
    fit: LawFit,
    runs: int,
    budget_flops: float | None = None,
    candidates: np.ndarray | None = None,
    sizes: Sequence[float] = (),
    tokens: Sequence[float] = (),
    weights: Mapping[str, float] | None = None,
    lower: Mapping[str, float] | None = None,
    upper: Mapping[str, float] | None = None,
    n_params: float | None = None,
    n_tokens: float | None = None,
    among: np.ndarray | None = None,
    seed: int = 0,
    anywhere: bool = False,
) -> pd.DataFrame:
    """The runs after which the optimum is least uncertain.

    Args:
        runs: most runs. budget_flops: their total cost at most, 6 N D each; None: no limit.
        candidates: mixtures that can be run, (Q, K) in the order of `fit.domains`; a trained one is less informative.
            None: generated within the bounds, half of them near the present optimum, and not far outside the hull of
            the trained mixtures, where an imperfect law is unreliable.
        sizes, tokens: N and D that can be run, in every pair; empty: those of the table, for a law with scale. For a
            law without scale, at most one of each, to count FLOPs.
        weights: of the targets, as in `optimize`. lower, upper: bounds of the optimum and of generated mixtures.
        n_params, n_tokens: of the optimum, for a law with scale.
        among: mixtures of which the optimum is one, (Q, K); None: any within the bounds.
        seed: of the search and the candidates. anywhere: generate mixtures far outside the hull too.

    Returns:
        one row for each run, most informative first: `mix/<domain>`, `candidate` (its row in `candidates`),
        `n_params`, `n_tokens` and `flops` (NaN if unknown), `standard_error` of the differences between mixtures near
        the optimum after this run and those above it, in the objective's unit, and `reduction`, the share of their
        variance that these runs remove. `attrs["standard_error"]` is the standard error before any run.

    Raises:
        InputError: no run is allowed or affordable, a budget without sizes and tokens to count it, several sizes for a
            law without scale, contradictory bounds, a negative seed, or candidates off the simplex.
    """
    if runs < 1:
        raise InputError(f"runs is {runs}; it must be 1 or more")
    if seed < 0:
        raise InputError(f"seed is {seed}; it must not be negative")
    query = Query.of(fit, weights, lower, upper, n_params, n_tokens)
    rng = np.random.default_rng(seed)
    optimum_QxK, share_Q = optimum_samples(fit, query, among, rng)
    offered_CxK = _offered(fit, query, optimum_QxK, candidates, anywhere, rng)
    row_C, n_N, d_N = _paired(fit, sizes, tokens, len(offered_CxK))
    h_NxK, cost_N = offered_CxK[row_C], FLOPS * n_N * d_N
    if budget_flops is not None and not np.isfinite(cost_N).all():
        raise InputError("a budget in FLOPs needs the size and the tokens of a run; give sizes and tokens")
    if budget_flops is not None and not budget_flops >= cost_N.min():
        raise InputError(
            f"a budget of {budget_flops:.3g} FLOPs is below that of the cheapest run ({cost_N.min():.3g}); raise it, "
            "or offer smaller sizes or fewer tokens"
        )
    uncertainty, kept_N = differences(fit, query, optimum_QxK, share_Q, h_NxK, n_N, d_N)
    # An unknown cost limits nothing, because then there is no budget.
    known_N = np.where(np.isfinite(cost_N), cost_N, 1.0)[kept_N]
    before = uncertainty.variance
    chosen, remaining_R = choose(uncertainty, runs, known_N, np.inf if budget_flops is None else budget_flops)
    at_R = kept_N[chosen]
    frame = pd.DataFrame(h_NxK[at_R], columns=[f"mix/{d}" for d in fit.domains]).assign(
        candidate=row_C[at_R], n_params=n_N[at_R], n_tokens=d_N[at_R], flops=cost_N[at_R],
        standard_error=np.sqrt(remaining_R), reduction=1 - remaining_R / max(before, 1e-300),
    )  # fmt: skip
    frame.attrs["standard_error"] = float(np.sqrt(before))
    return frame


def law_prior(law: str = "effective", seed: int = 0, draws: int = 6) -> Prior:
    """Covariances of relative losses by a law, linearised at draws from its prior, for `designs.optimal_subset`.

    Without a table the effect of a domain is unknown, so a design is averaged over draws (Bayesian design; Chaloner
    and Verdinelli 1995). `effective` is the best prior for several laws together (analysis/next_runs.py). Without a
    pool it would put a third of the mixtures on one domain alone, so `optimal_design` uses no law.
    """
    import jax

    family = get_law(law)

    def covariances(h_AxK: np.ndarray) -> np.ndarray:
        points, std_P = Points.of(h_AxK), family.priors(h_AxK.shape[1])[3]
        theta_MxP = family.starts(np.random.default_rng(seed), h_AxK.shape[1], draws)
        with jax.enable_x64(True):
            loss_MxA = np.asarray(jax.vmap(family.f, in_axes=(0, None))(theta_MxP, points))
            slope_MxAxP = np.asarray(jax.vmap(jax.jacfwd(family.f), in_axes=(0, None))(theta_MxP, points))
        relative_MxAxP = slope_MxAxP * std_P / loss_MxA[..., None]
        return np.einsum("map,mbp->mab", relative_MxAxP, relative_MxAxP)

    return covariances


def optimum_samples(fit: LawFit, query: Query, among, rng) -> tuple[np.ndarray, np.ndarray]:
    """Mixtures that may be the optimum, the present one first, and the share of draws that prefer each."""
    if among is not None:
        h_QxK = distinct(np.atleast_2d(np.asarray(among, dtype=np.float64)), 9)
        value_SxQ, spread = query.values(fit, h_QxK), len(h_QxK)
    else:
        h_QxK, value_SxQ, spread = _searched(fit, query, rng)
    # Runners-up count as well: if all draws agree on the best, it is compared with them.
    near_SxB = np.argsort(value_SxQ[:, :spread], axis=1, kind="stable")[:, :RUNNERS_UP]
    near_SxB = np.column_stack([np.tile(value_SxQ.argmin(axis=1)[:, None], RUNNERS_UP), near_SxB])
    first = int(value_SxQ.mean(axis=0).argmin())
    count_Q = np.bincount(near_SxB.reshape(-1), minlength=len(h_QxK))
    often_Q = np.argsort(-count_Q, kind="stable")[: min(MAX_SAMPLES, int((count_Q > 0).sum()))]
    kept_Q = np.concatenate([[first], often_Q[often_Q != first]])
    return h_QxK[kept_Q], count_Q[kept_Q] / count_Q[kept_Q].sum()


def _searched(fit: LawFit, query: Query, rng) -> tuple[np.ndarray, np.ndarray, int]:
    """Mixtures, their values (S, Q), and how many of them are spread out; the others approach, round by round, the
    optimum of every draw."""
    low_K, high_K = query.low_K, query.high_K
    middle_K = within(np.full((1, len(low_K)), 1 / len(low_K)), low_K, high_K)[0]
    trained_RxK = within(distinct(fit.dataset.points.h_RxK), low_K, high_K)
    corner_QxK = corners(middle_K, low_K, high_K, rng)
    h_QxK = np.concatenate([corner_QxK, trained_RxK, around(middle_K, low_K, high_K, 2 * CHILDREN, rng)])
    value_SxQ, spread = query.values(fit, h_QxK), len(h_QxK)
    for generation in range(SEARCH_ROUNDS):
        parents_PxK = h_QxK[value_SxQ.argmin(axis=1)]
        pair_2xB = rng.integers(len(parents_PxK), size=(2, CHILDREN))
        share_Bx1 = rng.uniform(0, 1, (CHILDREN, 1))
        child_BxK = share_Bx1 * parents_PxK[pair_2xB[0]] + (1 - share_Bx1) * parents_PxK[pair_2xB[1]]
        # Weights change by factors, so that a domain of one percent is searched as finely as one of fifty.
        child_BxK *= np.exp(2.0**-generation * rng.standard_normal(child_BxK.shape))
        child_BxK = within(child_BxK / child_BxK.sum(axis=1, keepdims=True), low_K, high_K)
        h_QxK = np.concatenate([h_QxK, child_BxK])
        value_SxQ = np.concatenate([value_SxQ, query.values(fit, child_BxK)], axis=1)
    return h_QxK, value_SxQ, spread


def differences(fit: LawFit, query: Query, optimum_QxK, share_Q, h_NxK, n_N, d_N) -> tuple[Uncertainty, np.ndarray]:
    """Uncertainty of the differences from the first of `optimum_QxK`, and the candidates in it, shape (N',).

    Each target is an unknown of its own, weighted by the square of its weight: their errors count as independent.

    Args:
        share_Q: weight of each difference, summing to one. n_N, d_N: size and tokens of each candidate.
    """
    counts_T = query.objective.counted_T
    value_MxSxQ = _spread(fit, counts_T, optimum_QxK, query.n_params, query.n_tokens)
    value_MxSxQ = value_MxSxQ - value_MxSxQ[:, :, :1]
    run_MxSxN = _spread(fit, counts_T, h_NxK, n_N, d_N)
    noise_M, misfit_M = (value_T[counts_T] for value_T in _errors(fit))
    misfit_Mx1x1 = misfit_M[:, None, None] ** 2
    scale_MxQ = query.objective.weight_T[counts_T][:, None] * np.sqrt(share_Q)

    smooth_QxQ, smooth_QxN = _misfit(fit, optimum_QxK, optimum_QxK), _misfit(fit, optimum_QxK, h_NxK)
    cross_MxQxN = value_MxSxQ.transpose(0, 2, 1) @ run_MxSxN + misfit_Mx1x1 * (smooth_QxN - smooth_QxN[0])
    cross_MxQxN *= scale_MxQ[:, :, None]
    smooth_Q = np.diag(smooth_QxQ) + smooth_QxQ[0, 0] - 2 * smooth_QxQ[0]
    variance_MxQ = (value_MxSxQ**2).sum(axis=1) + misfit_M[:, None] ** 2 * smooth_Q
    variance = float((variance_MxQ * scale_MxQ**2).sum())

    spread_MxN = (run_MxSxN**2).sum(axis=1)
    noise_MxN = noise_M[:, None] ** 2 + SPREAD_NOISE**2 * spread_MxN
    own_MxN = spread_MxN + misfit_M[:, None] ** 2 + noise_MxN
    alone_N = (cross_MxQxN**2 / own_MxN[:, None, :]).sum(axis=(0, 1))
    kept_N = np.sort(np.argsort(-alone_N, kind="stable")[: int(np.sqrt(MAX_ENTRIES / len(noise_M)))])
    run_MxSxN = run_MxSxN[:, :, kept_N]
    cov_MxNxN = run_MxSxN.transpose(0, 2, 1) @ run_MxSxN + misfit_Mx1x1 * _misfit(fit, h_NxK[kept_N], h_NxK[kept_N])
    return Uncertainty(cov_MxNxN, cross_MxQxN[:, :, kept_N], variance, noise_MxN[:, kept_N]), kept_N


def _spread(fit: LawFit, counts_T: np.ndarray, h_QxK, n_params, n_tokens) -> np.ndarray:
    """Draws of the losses of weighted targets minus their mean; squares sum to variances, shape (M, S, Q)."""
    scale = (n_params, n_tokens) if fit.uses_scale else (None, None)
    draws_MxSxQ = fit.draws(h_QxK, *scale)[:, :, counts_T].transpose(2, 0, 1)
    return (draws_MxSxQ - draws_MxSxQ.mean(axis=1, keepdims=True)) / np.sqrt(draws_MxSxQ.shape[1] - 1)


def _errors(fit: LawFit) -> tuple[np.ndarray, np.ndarray]:
    """Standard deviations of a run about its law, and of the law about the truth, in the targets' units, (T,).

    From out-of-fold residuals, minus the variance of the draws that lack the mixture too.
    """
    tested_R = np.isfinite(fit.oof_pred_TxR[0])
    residual_TxR = np.abs(fit.dataset.y_TxR - fit.oof_pred_TxR)[:, tested_R]
    robust_T = np.maximum(MAD_TO_STD * np.median(residual_TxR, axis=1), 1e-6 * np.abs(fit.dataset.y_TxR).max(axis=1))
    drawn_T = np.median(fit.oof_bootstrap_VxTxR[:, :, tested_R].var(axis=0, ddof=1), axis=1)
    residual_T = np.sqrt(np.maximum(robust_T**2 - drawn_T, MIN_RESIDUAL * robust_T**2))
    seed_T = [fit.noise[t] for t in fit.targets]
    if any(s is None for s in seed_T):
        return residual_T * np.sqrt(1 - MISFIT_SHARE), residual_T * np.sqrt(MISFIT_SHARE)
    noise_T = np.maximum(np.array(seed_T, dtype=np.float64), 1e-3 * residual_T)
    return noise_T, np.sqrt(np.maximum(residual_T**2 - noise_T**2, 0.0))


def _misfit(fit: LawFit, h_GxK: np.ndarray, h_NxK: np.ndarray) -> np.ndarray:
    """Covariance of the law's own error at two sets of mixtures, given those that were trained, shape (G, N)."""
    h_RxK = distinct(fit.dataset.points.h_RxK, 9)
    factor_RxR = np.linalg.cholesky(smooth_covariance(h_RxK) + MISFIT_SHARE * np.eye(len(h_RxK)))
    part_RxG, part_RxN = (np.linalg.solve(factor_RxR, smooth_covariance(h_RxK, h_AxK)) for h_AxK in (h_GxK, h_NxK))
    return smooth_covariance(h_GxK, h_NxK) - part_RxG.T @ part_RxN


def _offered(fit: LawFit, query: Query, optimum_QxK, candidates, anywhere: bool, rng) -> np.ndarray:
    """Mixtures that can be run, shape (C, K): the candidates, or generated ones, half of them near the optimum."""
    if candidates is not None:
        given_CxK = np.atleast_2d(np.asarray(candidates, dtype=np.float64))
        fit.points(given_CxK, *((1.0, 1.0) if fit.uses_scale else (None, None)))
        return given_CxK / given_CxK.sum(axis=1, keepdims=True)
    low_K, high_K, names = query.low_K, query.high_K, fit.domains
    near_QxK = np.concatenate([around(h_K, low_K, high_K, OFFERED // 20, rng) for h_K in optimum_QxK[:10]])
    wide_QxK = around(optimum_QxK.mean(axis=0), low_K, high_K, OFFERED // 4, rng)
    corner_QxK = corners(optimum_QxK[0], low_K, high_K, rng)
    all_QxK = distinct(np.concatenate([optimum_QxK[: OFFERED // 4], near_QxK, wide_QxK, corner_QxK]))
    if not anywhere:
        all_QxK = within(near_hull(all_QxK, distinct(fit.dataset.points.h_RxK, 9)), low_K, high_K)
    return distinct(np.stack([rounded(Mixture.from_array(names, h_K)).array(names) for h_K in all_QxK]))


def _paired(fit: LawFit, sizes, tokens, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every candidate at every size and token count: row of the mixture, N and D, shapes (N,)."""
    axes, scale = [np.arange(count)], fit.dataset.scale
    for name, values, column, centre in (("sizes", sizes, "n_R", scale.n), ("tokens", tokens, "d_R", scale.d)):
        if len(values) > 1 and not fit.uses_scale:
            raise InputError(f"{name} has {len(values)} values, but law '{fit.law}' does not use scale; give one")
        if wrong := [v for v in values if not (np.isfinite(v) and v > 0)]:
            raise InputError(f"{name} has {wrong[0]:g}; every value must be positive")
        if len(values):
            axes.append(np.asarray(values, dtype=np.float64))
        else:
            axes.append(_table_scales(fit, column, centre) if fit.uses_scale else np.array([np.nan]))
    row_N, n_N, d_N = (axis.reshape(-1) for axis in np.meshgrid(*axes, indexing="ij"))
    return row_N, n_N, d_N


def _table_scales(fit: LawFit, column: str, centre: float) -> np.ndarray:
    """Sizes or token counts at which runs of the table ended; of more than four, the ends and the middle."""
    last_R = pd.Series(getattr(fit.dataset.points, column)).groupby(fit.dataset.run_R).max().to_numpy()
    values = np.unique(np.round(last_R * centre, -int(np.log10(centre)) + 3))
    return values if len(values) <= 4 else np.quantile(values, [0.0, 0.5, 1.0], method="nearest")
