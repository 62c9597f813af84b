"""From mixtures to predict to the points of a law: what can be predicted, and why the rest cannot.

A mixture that cannot be predicted does not keep the others from it: `Query` holds the reason of each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mixscale.errors import InputError
from mixscale.laws.dataset import USED, Dataset, scaled_unique
from mixscale.laws.families import UNLIMITED, Law, Points
from mixscale.mixture import ROUNDING, unknown_domain
from mixscale.mixture_file import table_weights
from mixscale.run_table import off_simplex
from mixscale.table_file import numeric

UNKNOWN = "which no fitted run used, so its effect is unknown; set it to 0, or add runs that use it"


@dataclass(frozen=True)
class Query:
    """Points to predict, and why some of them cannot be predicted; their own values mean nothing."""

    points: Points
    problems: dict[int, str]  # a sentence by the number of the mixture

    def checked(self) -> Points:
        """All points.

        Raises:
            InputError: one of them cannot be predicted.
        """
        if self.problems:
            raise InputError(self.problems[min(self.problems)])
        return self.points


def build_query(
    law: Law, dataset: Dataset, h_QxK: np.ndarray, n_params=None, n_tokens=None, unique_tokens=None
) -> Query:
    """Query points of a law that is fitted to these rows.

    A mixture cannot be predicted if its weights are off the simplex, or above zero for a domain that no fitted row
    used, or if a size or a number of tokens is not positive.

    Args:
        n_params, n_tokens: a number or shape (Q,); needed by laws with scale. A law with repeats and without scale
            uses n_tokens too, by default the table's mean.
        unique_tokens: of each domain, by name or of shape (K,) or (Q, K); used by laws with repeats. The default of
            a domain (no name, or NaN) is its amount in the table, or no limit if runs had different amounts.

    Raises:
        InputError: the number of weights is wrong, the law uses a scale that is not given, or unique tokens name no
            domain.
    """
    h_QxK, domains = np.atleast_2d(np.asarray(h_QxK, dtype=np.float64)), dataset.domains
    if h_QxK.shape[1] != len(domains):
        raise InputError(
            f"a mixture has {h_QxK.shape[1]} weights; the fit has {len(domains)} domains ({', '.join(domains)})"
        )
    problems: dict[int, str] = {}

    def refuse(bad_QxN: np.ndarray, why: Callable[[int, int], str]) -> None:
        """Notes the first problem of each mixture."""
        for q, k in np.argwhere(bad_QxN):
            problems.setdefault(int(q), f"mixture {q}{why(q, k)}")

    def weight(q: int, k: int) -> str:
        return f" has {h_QxK[q, k]:g} of '{domains[k]}'"

    refuse(~(np.isfinite(h_QxK) & (h_QxK >= 0)), lambda q, k: f"{weight(q, k)}; weights are non-negative numbers")
    sums_Q = h_QxK.sum(axis=1)
    off_Q = ~(np.abs(sums_Q - 1) <= ROUNDING)
    off_Q[list(problems)] = False
    refuse(off_Q[:, None], lambda q, _: str(off_simplex("", domains, h_QxK[q])))
    if law.uses_mixture:
        unknown_QxK = (h_QxK > USED) & dataset.never_used_K
        refuse(unknown_QxK, lambda q, k: f"{weight(q, k)}, {UNKNOWN}")
    with np.errstate(divide="ignore", invalid="ignore"):  # sums of rows that are refused
        h_QxK = np.where(np.abs(sums_Q - 1) > 1e-6, 1 / sums_Q, 1.0)[:, None] * h_QxK

    def scaled(value, name: str, unit: float) -> np.ndarray:
        """Sizes or token counts over their geometric mean in the table, shape (Q,)."""
        if value is None:
            raise InputError(f"law '{law.name}' uses scale, so a prediction needs '{name}'")
        v_Q = np.broadcast_to(np.asarray(value, dtype=np.float64), (len(h_QxK),))
        bad_Q = ~(np.isfinite(v_Q) & (v_Q > 0))
        refuse(bad_Q[:, None], lambda q, _: f": '{name}' is {v_Q[q]:g}; it must be positive")
        return v_Q / unit

    n_Q = d_Q = u_QxK = None
    if law.uses_scale:
        n_Q = scaled(n_params, "n_params", dataset.scale.n)
    if law.uses_scale or (law.uses_unique and n_tokens is not None):
        d_Q = scaled(n_tokens, "n_tokens", dataset.scale.d)
    if law.uses_unique:
        given_QxK = _given_unique(unique_tokens, h_QxK, domains)
        refuse(
            (given_QxK <= 0) & (h_QxK > 0),
            lambda q, k: f": unique tokens of '{domains[k]}' are {given_QxK[q, k]:g}; they must be positive",
        )
        u_QxK = _row_unique(given_QxK, dataset)
    return Query(Points.of(h_QxK, n_Q, d_Q, u_QxK), problems)


def query_columns(law: Law, domains: tuple[str, ...], frame: pd.DataFrame) -> tuple[tuple, dict[int, str]]:
    """From a table: the arguments of `build_query` after the dataset, None if not given, and problems of its rows.

    The table may have domains that the fit does not have; rows that use them cannot be predicted.

    Raises:
        InputError: a domain of the fit is missing, there is no row, or a value is not a number.
    """
    found = [str(c).removeprefix("mix/") for c in frame.columns if str(c).startswith("mix/")]
    others = [d for d in found if d not in domains] if set(domains) <= set(found) else []
    weights = table_weights(frame, "the table of mixtures", [*domains, *others])
    problems = {}
    for domain in others:
        for q, weight in enumerate(weights[domain]):
            if not abs(weight) <= USED:
                problems.setdefault(q, f"mixture {q} has {weight:g} of '{domain}', {UNKNOWN}")
    n_params, n_tokens = (
        numeric(frame[c]).to_numpy(dtype=np.float64) if used and c in frame else None
        for c, used in (("n_params", law.uses_scale), ("n_tokens", law.uses_scale or law.uses_unique))
    )
    u_QxK = None
    if law.uses_unique:  # an empty cell is no limit, a missing column is unknown
        names = (f"unique_tokens/{d}" for d in domains)
        columns = [numeric(frame[c]).fillna(np.inf) if c in frame else np.full(len(frame), np.nan) for c in names]
        u_QxK = np.column_stack(columns)
    return (weights[list(domains)].to_numpy(), n_params, n_tokens, u_QxK), problems


def _given_unique(value, h_QxK: np.ndarray, domains: tuple[str, ...]) -> np.ndarray:
    """Unique tokens as they are given, shape (Q, K), NaN where they are not."""
    value = {} if value is None else value
    if isinstance(value, Mapping):
        if unknown := [d for d in value if d not in domains]:
            raise unknown_domain("the number of unique tokens", unknown[0], domains)
        value = [value.get(d, np.nan) for d in domains]
    return np.broadcast_to(np.asarray(value, dtype=np.float64), h_QxK.shape)


def _row_unique(u_QxK: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Unique tokens over the unit of d, shape (Q, K); NaN becomes the amount that every fitted run had, if it did."""
    u_RxK = dataset.points.u_RxK
    same_K = np.ptp(u_RxK, axis=0) <= 1e-9 * u_RxK.max(axis=0)
    default_K = np.where(same_K, u_RxK[0], UNLIMITED)
    return np.where(np.isnan(u_QxK), default_K, scaled_unique(u_QxK, dataset.scale.d))
