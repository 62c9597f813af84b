"""Which runs next: given a fit and a budget, the runs after which the least doubt about the optimum is left.

What is in doubt is not every loss but which mixture is best, so the goals are contrasts: the objective at the mixtures
that may be the optimum, less that at the one that now seems so. Their covariance with a candidate's losses comes from
the fit's own draws, for each target, and from a smooth random function that stands for what no draw of a law can say.
What is reduced is the variance of contrasts (Bayesian experimental design: Chaloner and Verdinelli 1995, section 4; a
linear-Gaussian knowledge gradient: Frazier, Powell and Dayanik 2009). It asks a fit for draws and nothing else, so any
predictor will do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mixscale.errors import InputError
from mixscale.laws.result import LawFit
from mixscale.mixtures.candidates import around, corners, covered, distinct, within
from mixscale.mixtures.contrasts import contrasts
from mixscale.mixtures.doubt import choose
from mixscale.mixtures.rivals import Place, rivals

FLOPS = 6.0
"""FLOPs a parameter and token, forward and backward (Kaplan et al. 2020)."""
OFFERED = 400
"""Mixtures offered, where no candidates are given."""


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
    """The runs after which the least doubt about the optimum is left.

    Args:
        runs: how many at most. budget_flops: what they may cost together, 6 N D each; None: no limit.
        candidates: mixtures that can be run, (Q, K) in the order of `fit.domains`; None: generated within the bounds,
            some near the present optimum, and where the bounds allow it not far outside of the mixtures that were run,
            since a law that is not quite true says little of what lies beyond them. A mixture that was run already may
            be among them; it is worth less.
        sizes, tokens: N and D that can be run, every pair; empty: those of the table, for a law with scale. For a law
            without, one of each at most, to count FLOPs.
        weights: of the targets, as for `optimum.solve`. lower, upper: bounds of the optimum and of generated mixtures.
        n_params, n_tokens: where the optimum is wanted, for a law with scale.
        among: mixtures of which the optimum is one, (Q, K); None: any within the bounds.
        seed: of the search and the candidates. anywhere: whether mixtures far outside are generated as well.

    Returns:
        a row a run, those that teach most first: `mix/<domain>`, `candidate` (its row of `candidates`), `n_params`,
        `n_tokens` and `flops` (NaN where unknown), `doubt`, the standard deviation, in the objective's unit, of the
        contrasts between mixtures near the optimum after this run and those above it, and `reduction`, the share of
        their variance gone by then. `attrs["doubt"]` is the doubt before any.

    Raises:
        InputError: no run is asked for or affordable, a budget without sizes and tokens to count it by, several sizes
            for a law without scale, bounds that contradict each other, or candidates off the simplex.
    """
    place = _place(fit, weights, lower, upper, n_params, n_tokens)
    rng = np.random.default_rng(_checked_seed(seed))
    goal_QxK, share_Q = rivals(fit, place, among, rng)
    offered_CxK = _offered(place, goal_QxK, candidates, fit, rng, anywhere)
    row_C, n_N, d_N = _paired(fit, sizes, tokens, len(offered_CxK))
    cost_N = FLOPS * n_N * d_N
    _check_budget(runs, budget_flops, cost_N)
    h_NxK = offered_CxK[row_C]
    doubt, kept_N = contrasts(fit, place, goal_QxK, share_Q, h_NxK, n_N, d_N)
    limit = np.inf if budget_flops is None else budget_flops
    # A cost that nobody knows limits nothing; `_check_budget` has refused a budget then.
    known_N = np.where(np.isfinite(cost_N), cost_N, 1.0)[kept_N]
    before = doubt.left
    chosen, left_R = choose(doubt, runs, known_N, limit)
    at_R = kept_N[chosen]
    frame = pd.DataFrame(h_NxK[at_R], columns=[f"mix/{d}" for d in fit.domains])
    frame = frame.assign(
        candidate=row_C[at_R], n_params=n_N[at_R], n_tokens=d_N[at_R], flops=cost_N[at_R], doubt=np.sqrt(left_R)
    )
    frame["reduction"] = 1 - left_R / max(before, 1e-300)
    frame.attrs["doubt"] = float(np.sqrt(before))
    return frame


def _offered(place: Place, goal_QxK, candidates, fit: LawFit, rng, anywhere: bool) -> np.ndarray:
    """Mixtures that can be run, shape (C, K): as given, or half of them near where the optimum may lie."""
    if candidates is not None:
        given_CxK = np.atleast_2d(np.asarray(candidates, dtype=np.float64))
        fit.points(given_CxK, *((1.0, 1.0) if fit.uses_scale else (None, None)))
        return given_CxK / given_CxK.sum(axis=1, keepdims=True)
    from mixscale.mixture import Mixture
    from mixscale.mixtures.mixtures import rounded

    low_K, high_K = place.low_K, place.high_K
    near_QxK = np.concatenate([around(h_K, low_K, high_K, OFFERED // 20, rng) for h_K in goal_QxK[:10]])
    wide_QxK = around(goal_QxK.mean(axis=0), low_K, high_K, OFFERED // 4, rng)
    all_QxK = np.concatenate([goal_QxK[: OFFERED // 4], near_QxK, wide_QxK, corners(goal_QxK[0], low_K, high_K, rng)])
    all_QxK = distinct(all_QxK)
    if not anywhere:
        all_QxK = within(covered(all_QxK, distinct(fit.dataset.points.h_RxK, 9)), low_K, high_K)
    names = fit.domains
    return distinct(np.stack([rounded(Mixture.from_array(names, h_K)).array(names) for h_K in all_QxK]))


def _paired(fit: LawFit, sizes, tokens, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every candidate at every size and token count: row of the mixture, N and D, shapes (N,)."""
    if not fit.uses_scale:
        for name, values in (("sizes", sizes), ("tokens", tokens)):
            if len(values) > 1:
                raise InputError(f"{len(values)} {name} are offered, but law '{fit.law}' has no scale; give one")
        n = _positive("sizes", sizes)[0] if len(sizes) else np.nan
        d = _positive("tokens", tokens)[0] if len(tokens) else np.nan
        return np.arange(count), np.full(count, n), np.full(count, d)
    size_A = _positive("sizes", sizes) if len(sizes) else _seen_scales(fit, "n_R", fit.dataset.scale.n)
    token_B = _positive("tokens", tokens) if len(tokens) else _seen_scales(fit, "d_R", fit.dataset.scale.d)
    row_CxAxB, n_CxAxB, d_CxAxB = np.meshgrid(np.arange(count), size_A, token_B, indexing="ij")
    return row_CxAxB.reshape(-1), n_CxAxB.reshape(-1), d_CxAxB.reshape(-1)


def _seen_scales(fit: LawFit, which: str, centre: float) -> np.ndarray:
    """Sizes or token counts at which runs of the table ended; of more than four, least, middle and greatest."""
    last_R = pd.Series(getattr(fit.dataset.points, which)).groupby(fit.dataset.run_R).max().to_numpy()
    values = np.unique(np.round(last_R * centre, -int(np.log10(centre)) + 3))
    return values if len(values) <= 4 else np.quantile(values, [0.0, 0.5, 1.0], method="nearest")


def _positive(name: str, values: Sequence[float]) -> np.ndarray:
    for value in values:
        if not (np.isfinite(value) and value > 0):
            raise InputError(f"{name} hold {value:g}; they must be positive")
    return np.asarray(values, dtype=np.float64)


def _place(fit: LawFit, weights, lower, upper, n_params, n_tokens) -> Place:
    from mixscale.constraints import bounds

    # A law says nothing of a domain that no run used, so the optimum cannot be sought there.
    unused_K = fit.dataset.never_used_K
    upper = dict(upper or {}) | {d: 0.0 for d, unused in zip(fit.domains, unused_K, strict=True) if unused}
    low_K, high_K = bounds(fit.domains, lower, upper)
    for name, value in (("n_params", n_params), ("n_tokens", n_tokens)):
        if fit.uses_scale and value is None:
            raise InputError(f"law '{fit.law}' uses scale, so say for which {name} the optimum is wanted")
    return Place(fit.signs_T * fit.target_weights(weights), low_K, high_K, n_params, n_tokens)


def _check_budget(runs: int, budget_flops: float | None, cost_N: np.ndarray) -> None:
    if runs < 1:
        raise InputError(f"{runs} runs are asked for; ask for 1 or more")
    if budget_flops is None:
        return
    if not np.isfinite(cost_N).all():
        raise InputError("a budget in FLOPs needs the size and the tokens of a run to count by; give sizes and tokens")
    if not budget_flops >= cost_N.min():
        raise InputError(
            f"a budget of {budget_flops:.3g} FLOPs does not pay for the cheapest run, which costs {cost_N.min():.3g}; "
            "raise it, or offer smaller sizes or fewer tokens"
        )


def _checked_seed(seed: int) -> int:
    if seed < 0:
        raise InputError(f"seed is {seed}; seeds are not negative")
    return seed
