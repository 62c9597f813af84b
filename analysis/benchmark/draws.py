"""The optimum under all constraints beside the best of a million random mixtures that keep them.

Whether a draw keeps them is judged here, from what each constraint says and the law's predictions, and not by the
solver's own code. Draws lie around the optimum itself as well as around the uniform mixture, so that random search is
given the best chance.
"""

from __future__ import annotations

import time

import numpy as np

from mixscale.laws import LawFit
from mixscale.optimization import Constraints, optimize

COUNT = 1_000_000
PART = 100_000


def against_draws(fit: LawFit, constraints: Constraints, current: dict[str, float], n_tokens: float) -> dict:
    """The optimum's objective minus that of the best draw as `excess`, and the number of draws as `trials`."""
    began = time.perf_counter()
    best = optimize(fit, constraints=constraints, current=current, n_tokens=n_tokens)
    current_K = np.array([current[domain] for domain in fit.domains])
    limit_T = fit.predict(current_K[None])[0]
    optimum_K = best.mixture.array()
    rng, kept, least = np.random.default_rng(0), 0, np.inf
    while kept < COUNT:
        h_QxK = _around(rng, optimum_K, current_K)
        h_QxK = _with_fixed(h_QxK, fit.domains, constraints)
        h_QxK = h_QxK[_linear(h_QxK, fit.domains, constraints, n_tokens)]
        h_QxK = h_QxK[_near(h_QxK, fit.domains, constraints)]
        predicted_QxT = fit.predict(h_QxK)
        for target, slack in constraints.keep.items():
            t = fit.targets.index(target)
            inside_Q = predicted_QxT[:, t] <= limit_T[t] + slack
            h_QxK, predicted_QxT = h_QxK[inside_Q], predicted_QxT[inside_Q]
        if len(h_QxK):
            kept, least = kept + len(h_QxK), min(least, float(predicted_QxT.mean(axis=1).min()))
    excess = float(fit.predict(optimum_K[None])[0].mean()) - least
    return {"excess": excess, "trials": kept, "seconds": time.perf_counter() - began}


def _around(rng: np.random.Generator, optimum_K: np.ndarray, prior_K: np.ndarray) -> np.ndarray:
    """Half of them between the two mixtures, half near the optimum, from far to very near."""
    share_Qx1 = rng.random((PART, 1))
    centre_QxK = np.where(rng.random((PART, 1)) < 0.5, share_Qx1 * optimum_K + (1 - share_Qx1) * prior_K, optimum_K)
    drawn_QxK = rng.standard_gamma(10 ** rng.uniform(1, 5, (PART, 1)) * centre_QxK)
    return drawn_QxK / drawn_QxK.sum(axis=1, keepdims=True)


def _with_fixed(h_QxK: np.ndarray, domains: tuple[str, ...], constraints: Constraints) -> np.ndarray:
    free_K = np.array([domain not in constraints.fixed for domain in domains])
    rest = 1 - sum(constraints.fixed.values())
    h_QxK = np.where(free_K, h_QxK, 0)
    h_QxK *= rest / h_QxK.sum(axis=1, keepdims=True)
    return h_QxK + np.array([constraints.fixed.get(domain, 0.0) for domain in domains])


def _linear(h_QxK: np.ndarray, domains: tuple[str, ...], constraints: Constraints, n_tokens: float) -> np.ndarray:
    """Bounds, groups and text that there is."""
    low_K = np.array([constraints.lower.get(domain, 0.0) for domain in domains])
    high_K = np.array([constraints.upper.get(domain, 1.0) for domain in domains])
    for domain, tokens in constraints.available.items():
        k = domains.index(domain)
        high_K[k] = min(high_K[k], tokens * constraints.epochs / n_tokens)
    inside_Q = ((h_QxK >= low_K) & (h_QxK <= high_K)).all(axis=1)
    for group in constraints.groups.values():
        sum_Q = h_QxK[:, [domains.index(domain) for domain in group.domains]].sum(axis=1)
        inside_Q &= (sum_Q >= group.low) & (sum_Q <= group.high)
    return inside_Q


def _near(h_QxK: np.ndarray, domains: tuple[str, ...], constraints: Constraints) -> np.ndarray:
    """Kullback-Leibler divergence and total variation from the prior."""
    prior_K = np.array([constraints.prior[domain] for domain in domains])
    kl_Q = (h_QxK * np.log(np.maximum(h_QxK, 1e-300) / prior_K)).sum(axis=1)
    return (kl_Q <= constraints.max_kl) & (np.abs(h_QxK - prior_K).sum(axis=1) / 2 <= constraints.max_tv)
