"""`predict` and `design` of the Python interface: they accept mixtures as dicts, tables or `Mixture` objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from mixscale.errors import InputError
from mixscale.laws.result import LawFit
from mixscale.mixture import Mixture
from mixscale.mixture_file import as_mixture, table_weights
from mixscale.mixtures.acquisition import law_prior, next_runs
from mixscale.mixtures.designs import optimal_design, optimal_subset

Weights = Mapping[str, float]


def predict(
    fit: LawFit,
    mixtures: Weights | Iterable[Weights] | pd.DataFrame,
    n_params: float | None = None,
    n_tokens: float | None = None,
    level: float = 0.9,
) -> pd.DataFrame:
    """Predictions for new runs, with intervals.

    Args:
        mixtures: one mixture, several, or a table with columns `mix/<domain>`. A mixture may omit domains of weight
            zero; a table may not. One that cannot be predicted has missing values and a column `note` that says why.
        n_params, n_tokens: N and D of the runs, for a law with scale; they replace columns of a table.
        level: coverage of the interval for runs with the fitted seeds; a new seed adds its noise.

    Returns:
        a row for each mixture: its weights, and `pred/<target>`, `lo/<target>` and `hi/<target>` in the target's unit.

    Raises:
        InputError: no mixture can be predicted, a table lacks a domain of the fit, or a scale is missing.
    """
    problems: dict[int, str] = {}
    if isinstance(mixtures, pd.DataFrame):
        frame = mixtures.copy()
    else:
        several = [mixtures] if isinstance(mixtures, Mapping) else list(mixtures)
        if not several:
            raise InputError("there is no mixture to predict; give one at least")
        rows: list[Weights] = []
        for i, written in enumerate(several):
            try:
                rows.append(as_mixture(written, f"mixture {i}"))
            except InputError as error:
                problems[i] = str(error)
                rows.append({})
        others = [d for row in rows for d, weight in row.items() if weight > 0 and d not in fit.domains]
        names = [*fit.domains, *dict.fromkeys(others)]
        frame = pd.DataFrame({f"mix/{d}": [row.get(d, 0.0 if row else np.nan) for row in rows] for d in names})
    scale = {name: value for name, value in (("n_params", n_params), ("n_tokens", n_tokens)) if value is not None}
    return fit.predict_table(frame.assign(**scale), level, problems)


def design(
    around: LawFit | Sequence[str] | None = None,
    runs: int = 8,
    *,
    candidates: pd.DataFrame | None = None,
    natural: Weights | None = None,
    weights: Weights | None = None,
    lower: Weights | None = None,
    upper: Weights | None = None,
    budget_flops: float | None = None,
    sizes: Sequence[float] = (),
    tokens: Sequence[float] = (),
    n_params: float | None = None,
    n_tokens: float | None = None,
    anywhere: bool = False,
    seed: int = 0,
) -> pd.DataFrame:
    """The mixtures to run first, from the names of domains, or next, to locate a fit's optimum.

    Args:
        around: a fit, or the domains' names; None: the domains of `natural` or `candidates`.
        runs: most mixtures.
        candidates: table of the mixtures to choose from, in columns `mix/<domain>`; None: any mixture.
        natural: without a fit, the mixture around which the design spreads.
        lower, upper: bounds of domains.
        weights, budget_flops, sizes, tokens, n_params, n_tokens, anywhere: with a fit, as in `acquisition.next_runs`.
        seed: of the candidates.

    Returns:
        one row for each run, most informative first, with `mix/<domain>`. With a fit, `standard_error` of the
        objective's differences near the optimum after the run; without one, `uncertainty`: the share of the average
        variance that remains, and the other columns of `candidates`.

    Raises:
        InputError: an option has no effect, or as in `next_runs` and `optimal_design`.
    """
    if isinstance(around, str):
        raise InputError(f"design('{around}') is a text; give a fit, or names of domains such as ['web', 'code']")
    if isinstance(around, LawFit):
        _refuse("with a fit", natural=natural)
        h_NxK = None if candidates is None else _weights(candidates, around.domains)
        return next_runs(
            around, runs, budget_flops, h_NxK, sizes, tokens, weights, lower, upper, n_params, n_tokens,
            seed=seed, anywhere=anywhere,
        )  # fmt: skip
    _refuse(
        "without a fit", weights=weights, budget_flops=budget_flops, sizes=sizes, tokens=tokens, n_params=n_params,
        n_tokens=n_tokens, anywhere=anywhere,
    )  # fmt: skip
    if candidates is None:
        return optimal_design(tuple(around or natural or ()), runs, natural, lower, upper, seed)
    _refuse("with candidates", domains=around, natural=natural, lower=lower, upper=upper)
    chosen, remaining_R = optimal_subset(_weights(candidates, None), runs, prior=law_prior(seed=seed))
    return candidates.iloc[chosen].reset_index(drop=True).assign(uncertainty=remaining_R)


def _weights(candidates: pd.DataFrame, domains: Sequence[str] | None) -> np.ndarray:
    """Mixtures of a table, (N, K), in the order of `domains` or of its columns."""
    weights = table_weights(candidates, "candidates", domains)
    if weights.shape[1] < 2:
        raise InputError("candidates has one domain; a design needs at least two")
    return np.stack([Mixture.from_array(tuple(weights), h_K).array() for h_K in weights.to_numpy()])


def _refuse(where: str, **options: object) -> None:
    """Raises InputError if an option was given that has no effect."""
    for name, value in options.items():
        if value:
            raise InputError(f"{name} has no effect {where}; leave it out")
