"""What `from mixscale import ...` gives beside the classes: the three questions that are asked of a fit.

Thin: each function brings what people have at hand (a mixture, a dict, a table) into the form its room takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from mixscale.constraints import EPOCHS, Constraints, Group
from mixscale.errors import InputError
from mixscale.laws.result import LawFit
from mixscale.mixture_file import Written, as_mixture
from mixscale.mixtures.following import next_runs
from mixscale.mixtures.optimal import optimal_design
from mixscale.objective import Objective
from mixscale.optimization import solve
from mixscale.optimization.result import Optimum

Weights = Mapping[str, float]


def predict(
    fit: LawFit,
    mixtures: Weights | Iterable[Weights] | pd.DataFrame,
    n_params: float | None = None,
    n_tokens: float | None = None,
    level: float = 0.9,
) -> pd.DataFrame:
    """What the fit expects of new runs, with intervals.

    Args:
        mixtures: one mixture, several, or a table with columns `mix/<domain>`; a domain that is not named has weight
            zero where mixtures are given by name.
        n_params, n_tokens: N and D of the runs, for a law with scale; they replace columns of a table.
        level: share of new runs that an interval holds.

    Returns:
        a row a mixture: its weights, and `pred/<target>`, `lo/<target>` and `hi/<target>` in the target's unit.

    Raises:
        InputError: weights are off, domains differ from the fit's, or a scale is missing.
    """
    if isinstance(mixtures, pd.DataFrame):
        frame = mixtures.copy()
    else:
        several = [mixtures] if isinstance(mixtures, Mapping) else list(mixtures)
        if not several:
            raise InputError("there is no mixture to predict; give one at least")
        rows_QxK = [as_mixture(m, f"mixture {i}").array(fit.domains) for i, m in enumerate(several)]
        frame = pd.DataFrame(rows_QxK, columns=[f"mix/{d}" for d in fit.domains])
    scale = {name: value for name, value in (("n_params", n_params), ("n_tokens", n_tokens)) if value is not None}
    return fit.predict_table(frame.assign(**scale), level=level)


def optimize(
    fit: LawFit,
    weights: Weights | None = None,
    *,
    lower: Weights | None = None,
    upper: Weights | None = None,
    fixed: Weights | None = None,
    groups: Mapping[str, Group] | None = None,
    available: Weights | None = None,
    epochs: float | Weights = EPOCHS,
    keep: Weights | Iterable[str] = (),
    prior: Written | None = None,
    max_kl: float | None = None,
    max_tv: float | None = None,
    kl_weight: float = 0.0,
    goal: Objective | None = None,
    current: Written | None = None,
    n_params: float | None = None,
    n_tokens: float | None = None,
    seed: int = 0,
) -> Optimum:
    """The best mixture by a fit, under the constraints that a person has.

    Args:
        weights: of the targets in their mean, by name; all alike where none are given. `goal` says more.
        lower, upper, fixed, groups, available, epochs, prior, max_kl, max_tv, kl_weight: as `Constraints` has them.
        keep: targets that must not be worse than at `current`, or by how much they may be.
        current: the mixture in use, as a dict of weights or the path of a JSON or CSV file; `prior` likewise.
        n_params, n_tokens: where to solve a law with scale; n_tokens also where `available` caps weights.
        seed: of the starts.

    Raises:
        InputError: as `mixscale.optimization.solve`.
    """
    constraints = Constraints(
        lower=lower or {},
        upper=upper or {},
        fixed=fixed or {},
        groups=groups or {},
        available=available or {},
        epochs=epochs,
        keep=keep if isinstance(keep, Mapping) else dict.fromkeys(keep, 0.0),
        prior=as_mixture(prior, "prior"),
        max_kl=max_kl,
        max_tv=max_tv,
        kl_weight=kl_weight,
    )
    return solve(
        fit,
        weights,
        n_params=n_params,
        n_tokens=n_tokens,
        seed=seed,
        goal=goal,
        constraints=constraints,
        current=as_mixture(current, "current"),
    )


def design(
    around: LawFit | Sequence[str],
    runs: int = 8,
    *,
    natural: Weights | None = None,
    weights: Weights | None = None,
    lower: Weights | None = None,
    upper: Weights | None = None,
    budget_flops: float | None = None,
    sizes: Sequence[float] = (),
    tokens: Sequence[float] = (),
    n_params: float | None = None,
    n_tokens: float | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """The mixtures to run: first, from names of domains alone, or next, to settle the optimum of a fit.

    Args:
        around: the domains' names, or a fit.
        runs: how many mixtures, at most.
        natural: without a fit, a mixture to spread around.
        lower, upper: bounds of domains.
        weights, budget_flops, sizes, tokens, n_params, n_tokens: with a fit, as `mixscale.mixtures.next_runs`.
        seed: of the candidates.

    Returns:
        a row a run with `mix/<domain>`, those that teach most first, and `doubt`, what is left in doubt after it.

    Raises:
        InputError: an option means nothing here, or as the two designs have it.
    """
    if isinstance(around, LawFit):
        if natural:
            raise InputError("natural means nothing with a fit; leave it out")
        return next_runs(
            around, runs, budget_flops=budget_flops, sizes=sizes, tokens=tokens, weights=weights, lower=lower,
            upper=upper, n_params=n_params, n_tokens=n_tokens, seed=seed,
        )  # fmt: skip
    if isinstance(around, str):
        raise InputError(f"design('{around}') is a text; give a fit, or names of domains such as ['web', 'code']")
    asked = {"weights": weights, "budget_flops": budget_flops, "sizes": sizes, "tokens": tokens,
             "n_params": n_params, "n_tokens": n_tokens}  # fmt: skip
    if odd := [name for name, value in asked.items() if value]:
        raise InputError(f"{odd[0]} means nothing without a fit; leave it out")
    return optimal_design(tuple(around), runs, natural, lower, upper, seed)
